"""What touches files, devices, processes and the clock; it knows nothing of what is computed."""
