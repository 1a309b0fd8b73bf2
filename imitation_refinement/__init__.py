"""Imitation refinement (Bai et al., AAAI 2019): make imperfect patterns recognisable, and true.

Importing the package imports nothing heavy: worker processes that simulate data do without JAX.
"""

__version__ = "0.1.0"
