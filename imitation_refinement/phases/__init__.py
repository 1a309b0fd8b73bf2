"""Phases: known structures as prototypes, matched with scans to name what was measured."""
