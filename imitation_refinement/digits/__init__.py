"""Handwritten digits, the paper's second application: typeset digits refine handwritten ones."""
