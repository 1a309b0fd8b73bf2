"""Phases of the examples' CIF files, with a calibration that looks at the cosine alone."""

from pathlib import Path

import numpy as np

from imitation_refinement.phases.candidates import Calibration
from imitation_refinement.phases.evidence import FEATURES
from imitation_refinement.phases.posterior import Posterior
from imitation_refinement.phases.stacking import Trees

EXAMPLES = Path(__file__).parents[1] / "examples"


def by_cosine(none: float = -50.0, level: float = 0.8) -> Calibration:
    """Probabilities proportional to exp(40 cosine); `none` is the logit of no prototype at all.

    Two looks together say that it is none with these odds, whatever each says.
    """
    figures = len(FEATURES)
    linear = np.zeros(figures)
    linear[FEATURES.index("cosine")] = 40.0
    posterior = Posterior(
        np.zeros(figures), np.ones(figures), linear, np.zeros((figures, 2)), np.zeros(2),
        np.zeros(2), linear, np.zeros(2), np.zeros((3 * figures + 3, 2)), np.zeros(2), np.zeros(2),
        np.array(none),
    )  # fmt: skip
    leaf = np.zeros((1, 1), np.int32)
    trees = Trees(np.array(none), leaf, np.zeros((1, 1)), leaf, leaf, np.zeros((1, 1)))
    return Calibration(posterior, posterior, trees, trees, np.full((2, 2), level))
