"""X-ray diffraction data: simulated crystals, their patterns, and what measurement adds."""
