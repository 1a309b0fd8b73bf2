"""Figures of merit as pure functions of arrays, and the answer that they give."""
