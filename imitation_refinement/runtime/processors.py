"""How many processors there are for this process."""

import os


def available() -> int:
    """Returns how many processors this process may use."""
    ours = getattr(os, "sched_getaffinity", None)  # not on all platforms
    return len(ours(0)) if ours else os.cpu_count() or 1
