"""Phases of the examples' CIF files, with a calibration that looks at the cosine alone."""

from pathlib import Path

import numpy as np

from imitation_refinement.phases.candidates import Calibration
from imitation_refinement.phases.evidence import FEATURES
from imitation_refinement.phases.posterior import Posterior
from imitation_refinement.phases.stacking import FIGURES, LEADERS, Stack

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
    half = LEADERS * len(FIGURES) + LEADERS + 2
    stack = Stack(
        np.zeros(2 * half), np.ones(2 * half), np.zeros((1, 2 * half, 2)), np.zeros((1, 2)),
        np.zeros((1, 2)), np.array([none]),
    )  # fmt: skip
    return Calibration(posterior, posterior, stack, stack, np.full((2, 2), level))
