"""Scans of anything but crystals: noise, glass, empty detectors and artefacts."""

import numpy as np
from scipy.signal import savgol_filter

from imitation_refinement.xrd.scans import Scan

KINDS = (
    "flat",
    "slope",
    "hump",
    "glass",
    "constant",
    "zero",
    "sawtooth",
    "gaussian noise",
    "running mean",
    "savgol",
    "noise-free glass",
    "rounded",
)


def without_peaks(kind: str, index: int) -> Scan:
    """Returns a scan of anything but crystals, at any level of counts, step and range."""
    rng = np.random.default_rng((KINDS.index(kind), index))
    step = rng.choice([0.01, 0.02, 0.05, 0.1])
    start = rng.uniform(5, 20)
    angle = np.arange(start, rng.uniform(60, 120), step)
    # Smoothing hides how few counts there were.
    level = 10 ** rng.uniform(0.0 if kind in ("running mean", "savgol") else -1.5, 5)
    slope = 1 + rng.uniform(0, 5) * np.exp(-angle / rng.uniform(5, 40))

    def hump(low: float, high: float, width: float) -> np.ndarray:
        return np.exp(-0.5 * ((angle - rng.uniform(low, high)) / width) ** 2)

    one = slope + rng.uniform(0.5, 10) * hump(18, 35, rng.uniform(2.5, 7))
    two = one + rng.uniform(0.2, 3) * hump(36, 70, rng.uniform(4, 12))
    period = rng.uniform(1, 30)
    expected = {
        "flat": np.ones_like(angle),
        "slope": slope,
        "hump": one,
        "sawtooth": ((angle - start) % period) / period + rng.uniform(),
    }.get(kind, two)
    counts = rng.poisson(level * expected).astype(float)
    if kind == "constant":
        counts = np.full_like(angle, level)
    elif kind == "zero":
        counts = np.zeros_like(angle)
    elif kind == "gaussian noise":
        counts = level * (slope + rng.normal(0, rng.uniform(0.001, 0.3), len(angle)))
    elif kind == "running mean":
        width = int(rng.integers(2, 25))
        counts = np.convolve(counts, np.ones(width) / width, "valid")
        angle = angle[: len(counts)]
    elif kind == "savgol":
        counts = savgol_filter(counts, int(rng.choice([7, 11, 21, 31])), 3)
    elif kind == "noise-free glass":
        counts = level * two
    elif kind == "rounded":
        counts = np.round(level * (slope + rng.normal(0, 0.02, len(angle))), int(rng.integers(3)))
    return Scan(angle, np.maximum(counts, 0.0), 1.5406, f"{kind} {index}")
