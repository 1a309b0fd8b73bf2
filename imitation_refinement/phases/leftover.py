"""What is left of a scan when phases that were named are taken off, and in which shares they fit.

Belongs here: patterns of structures laid under a scan. Which phases these are is `further`'s.
"""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import nnls

from imitation_refinement.phases.evidence import SIZES
from imitation_refinement.phases.named import Moved
from imitation_refinement.phases.prototypes import Prototypes, draw_roots
from imitation_refinement.xrd.imperfections import K_ALPHA, displaced

# Times what a phase predicts that is taken off: texture makes lines stronger than predicted, and
# their tails are longer than those that are drawn. Chosen on simulated mixtures: see docs/mixtures.
TAKEN = 2.5
_STRONG = 0.1  # of the largest value, from which on points give the scale
_FLOOR = 0.03  # of the largest value: what a fit may miss everywhere
_COPPER = (2.0 * K_ALPHA[0] + K_ALPHA[1]) / 3.0  # angstrom, for which `evidence` fits displacements


def moved_lines(prototypes: Prototypes, one: Moved) -> tuple[np.ndarray, np.ndarray]:
    """Returns q (ascending, 1/angstrom) and height of a structure's lines as the scan has them."""
    own = slice(prototypes.offsets[one.entry], prototypes.offsets[one.entry + 1])
    q = prototypes.q[own].astype(np.float64) * np.exp(one.shift)
    return displaced(q, one.displacement, _COPPER), prototypes.height[own].astype(np.float64)


def predicted(
    pattern: np.ndarray, mask: np.ndarray, prototypes: Prototypes, one: Moved
) -> np.ndarray:
    """Returns what a structure predicts of a scan, float64 `[L]`, with peaks as wide as suits.

    The scale is the median ratio on its strong points, which some lines of a textured phase, or
    lines of others, do not change.

    Args:
        pattern: nonnegative, `[L]`.
        mask: bool `[L]`.
        prototypes: N of them, of the same grid.
        one: see there.
    """
    q, height = moved_lines(prototypes, one)
    many = np.tile(q, len(SIZES)), np.tile(height, len(SIZES)), len(q) * np.arange(len(SIZES) + 1)
    drawn = draw_roots(
        *many, np.arange(len(SIZES)), prototypes.grid, size_nm=np.asarray(SIZES), fold=1
    )
    drawn *= mask
    cosine = drawn @ np.sqrt(np.where(mask, pattern, 0.0))
    cosine /= np.sqrt(np.maximum(np.einsum("sl,sl->s", drawn, drawn), 1e-12))
    model = np.square(drawn[int(cosine.argmax())].astype(np.float64))
    strong = model > _STRONG * max(float(model.max()), 1e-12)
    return model * float(np.median(pattern[strong] / model[strong])) if strong.any() else model


def residual(
    pattern: np.ndarray, mask: np.ndarray, prototypes: Prototypes, one: Moved
) -> np.ndarray:
    """Returns what is left of a pattern without a structure, float32 `[L]`, not rescaled.

    Args: see `predicted`.
    """
    model = TAKEN * predicted(pattern, mask, prototypes, one)
    return np.maximum(pattern - model, 0.0).astype(np.float32)


def shares(
    pattern: np.ndarray, mask: np.ndarray, prototypes: Prototypes, phases: Sequence[Moved]
) -> np.ndarray:
    """Returns which share of the calculated intensity each of k phases has, float64 `[k]`.

    The phases are fitted together by nonnegative least squares of the differences, each over the
    root of the pattern, which is what counting makes uncertain. This is no share of mass: it
    grows with what a phase scatters, and sources give no common scale.

    Args:
        pattern: see `predicted`, as the next two.
        mask: bool `[L]`.
        prototypes: N of them.
        phases: k of them.
    """
    models = np.stack([predicted(pattern, mask, prototypes, one) for one in phases])
    seen = np.where(mask, pattern, 0.0).astype(np.float64)
    weight = 1.0 / np.sqrt(seen + _FLOOR * seen.max(initial=1e-12))
    scale, _ = nnls((weight * models).T, weight * seen)
    area = scale * models.sum(axis=1)
    return np.asarray(area / max(float(area.sum()), 1e-12))
