"""Entries of a library that are the same phase.

Belongs here: finding them. Two entries are one phase if formula (main element of each site) and
space group are the same, volumes per atom are within 5 percent, and their patterns agree.
"""

import numpy as np

from imitation_refinement.phases.library import MEASURED, Library
from imitation_refinement.phases.lines import Q_MAX, Q_MIN

COSINE = 0.97  # of two patterns of one phase
VOLUME = 0.05  # relative difference of their volumes per atom
_POINTS = 1000  # of ln q
_FADE = 20  # points at either end


def first_of_each_phase(library: Library) -> tuple[np.ndarray, np.ndarray]:
    """Chooses one entry of each phase: measured before computed, then the earlier one.

    Entries of one source with the same identifier are the same too.

    Returns:
        (indices of the chosen entries, ascending; the index of the entry [n] that stands for each).
    """
    keys = [f"{f} {g}" for f, g in zip(library.formula, library.space_group, strict=True)]
    _, group = np.unique(np.array(keys), return_inverse=True)
    order = np.lexsort((np.arange(len(library)), library.computed != MEASURED, group))
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    same_as = _first_of_each(library)
    for members in np.split(order, starts[1:]):
        if len(members) > 1:
            _assign(library, members, same_as)
    same_as = same_as[same_as]
    return np.flatnonzero(same_as == np.arange(len(library))), same_as


def pattern(library: Library, index: int) -> np.ndarray:
    """Root pattern of an entry on a grid of ln q, float64 [1000], of unit length.

    Lines are Gaussians of one step, 0.28 percent of q: patterns whose lines are 0.1 percent apart
    have a cosine of 0.97.
    """
    q, amplitude = library.lines(index)
    place = np.log(q / Q_MIN) / np.log(Q_MAX / Q_MIN) * (_POINTS - 1)
    near = np.rint(place)[:, None] + np.arange(-4, 5)
    # Faded out at both ends, where a line of one pattern may lie just outside for the other.
    amplitude = amplitude * np.clip(np.minimum(place, _POINTS - 1 - place) / _FADE, 0.0, 1.0)
    height = amplitude[:, None] * np.exp(-0.5 * (near - place[:, None]) ** 2)
    inside = (near >= 0) & (near < _POINTS)
    root = np.bincount(near[inside].astype(int), height[inside], minlength=_POINTS)
    return root / np.linalg.norm(root)


def _first_of_each(library: Library) -> np.ndarray:
    """The first entry of the same source and identifier, for each entry."""
    first: dict[tuple[int, str], int] = {}
    pairs = zip(library.source.tolist(), library.source_id.tolist(), strict=True)
    return np.array([first.setdefault(pair, i) for i, pair in enumerate(pairs)], np.int64)


def _assign(library: Library, members: np.ndarray, same_as: np.ndarray) -> None:
    chosen: list[int] = []
    patterns: list[np.ndarray] = []
    volumes = library.volume_per_atom
    for index in members[same_as[members] == members].tolist():
        own = pattern(library, index)
        for other, theirs in zip(chosen, patterns, strict=True):
            near = abs(volumes[index] / volumes[other] - 1.0) < VOLUME
            if near and float(own @ theirs) > COSINE:
                same_as[index] = other
                break
        else:
            chosen.append(index)
            patterns.append(own)
