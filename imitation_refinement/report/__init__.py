"""Plots, figures, pictures, pages: from numbers to what a person looks at."""
