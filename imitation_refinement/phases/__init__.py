<<<<<<< HEAD
"""Phases: known crystal structures as prototypes, matched with scans to name what was measured."""
=======
"""Phases: the library of known crystal structures, and the matching of patterns with it."""
>>>>>>> phases-match
