"""The method of the paper: losses, networks, and one step of each algorithm, as pure functions."""
