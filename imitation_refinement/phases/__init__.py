"""Phases: known crystal structures as prototypes, matched with scans to name what was measured."""
