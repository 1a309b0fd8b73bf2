"""Scans made of lines of the shipped library, with a smooth background and counting noise.

For measuring speed: they are quickly made and all differ; for accuracy see `phases/simulated.py`.
"""

from pathlib import Path

import numpy as np

from imitation_refinement.phases.library import load_library
from imitation_refinement.phases.simulated import peaks
from imitation_refinement.xrd.grid import two_theta_from_q

WAVELENGTH = 1.54184
_MADE = 256  # scans made at once


def made_samples(count: int, points: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns 2 theta `[points]` and the counts expected of library entries `[count, points]`."""
    library, rng = load_library(), np.random.default_rng(seed)
    axis = np.linspace(10.0, 90.0, points)
    rows = []
    while len(rows) < count:
        q, amplitude = (np.asarray(a, float) for a in library.lines(rng.integers(len(library))))
        seen = q * WAVELENGTH < 0.98 * 4.0 * np.pi
        position = two_theta_from_q(q[seen], WAVELENGTH)
        theta = np.radians(position / 2.0)
        lorentz = (1.0 + np.cos(2.0 * theta) ** 2) / (np.sin(theta) ** 2 * np.cos(theta))
        width = np.full(len(position), rng.uniform(0.08, 0.3))
        profile = peaks(axis, position, amplitude[seen] ** 2 * lorentz, width, 0.5, 0.0 * width)
        if profile.max() > 0.0:
            expected = profile / profile.max() + 0.05 + 0.1 * np.exp(-axis / 20.0)
            rows.append(expected * 10.0 ** rng.uniform(2.5, 4.5))
    return axis, np.stack(rows)


def made_counts(count: int, points: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns 2 theta `[points]` and counts `[count, points]` of scans of library entries."""
    axis, expected = made_samples(count, points, seed)
    return axis, np.random.default_rng([seed, 1]).poisson(expected)


def write_scan(path: Path, axis: np.ndarray, counts: np.ndarray) -> None:
    """Writes a scan as text."""
    lines = [f"{t:.4f} {c}\n" for t, c in zip(axis, counts, strict=True)]
    path.write_text(f"# wavelength {WAVELENGTH}\n" + "".join(lines))


def make_files(folder: Path, count: int, points: int, *, kinds: int = 0) -> Path:
    """Writes so many scans as text and returns their folder; all differ, or so many `kinds` do."""
    folder.mkdir(parents=True)
    for first in range(0, count, _MADE):
        some = min(_MADE, count - first)
        if not first or not kinds:
            axis, rows = made_counts(min(some, kinds or some), points, seed=first // _MADE)
        for number in range(some):
            write_scan(folder / f"scan_{first + number}.xy", axis, rows[number % len(rows)])
    return folder
