"""Phases: the library of known crystal structures, and the matching of patterns with it."""
