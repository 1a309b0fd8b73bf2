"""Simulated mixtures: what a sample of some phases shows, and how much of each."""

import numpy as np
import pytest
from test_phases_match import library

from imitation_refinement.phases.fitting import Atoms
from imitation_refinement.phases.prototypes import MEASURED
from imitation_refinement.phases.samples import Laboratory
from imitation_refinement.phases.simulated_mixtures import _lines, simulated_mixture

SALT = Atoms(
    5.64 * np.eye(3), np.array([11] * 4 + [17] * 4),
    np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]] * 2)
    + np.repeat([[0, 0, 0], [0.5, 0, 0]], 4, axis=0),
)  # fmt: skip
IRON = Atoms(2.87 * np.eye(3), np.array([26, 26]), np.array([[0, 0, 0], [0.5, 0.5, 0.5]]))
CUBIC = 6


def doubled(one: Atoms) -> Atoms:
    """The same crystal in a cell twice as long."""
    half = one.positions / [2.0, 1.0, 1.0]
    return Atoms(
        one.lattice * [[2.0], [1.0], [1.0]], np.tile(one.numbers, 2),
        np.concatenate([half, half + [0.5, 0.0, 0.0]]),
    )  # fmt: skip


def test_intensities_for_equal_masses_do_not_depend_on_the_cell_that_is_chosen():
    laboratory = Laboratory(textured=0.0)
    own, twice = (
        _lines(cell, CUBIC, MEASURED, laboratory, np.random.default_rng(3))
        for cell in (SALT, doubled(SALT))
    )
    strong = own.intensity > 1e-3 * own.intensity.max()
    again = twice.intensity > 1e-3 * own.intensity.max()
    np.testing.assert_allclose(twice.q[again], own.q[strong], rtol=1e-6)
    np.testing.assert_allclose(twice.intensity[again], own.intensity[strong], rtol=1e-3)


@pytest.mark.parametrize("number", [1, 2])
def test_both_phases_are_in_the_scan_and_draws_depend_on_the_number_alone(number):
    made = ([SALT, IRON], [CUBIC, CUBIC], [MEASURED, MEASURED], library(2), number, 4)
    scan, strongest = simulated_mixture(*made)
    again, _ = simulated_mixture(*made)
    np.testing.assert_array_equal(scan.pattern, again.pattern)
    assert strongest.shape == (2,) and strongest.max() == 1.0 and strongest.min() > 0.01
    other, _ = simulated_mixture(*made[:4], number + 2, 4)
    assert np.abs(other.pattern - scan.pattern).max() > 0.05


def test_of_one_phase_the_strongest_line_is_its_own():
    _, strongest = simulated_mixture([SALT], [CUBIC], [MEASURED], library(2), 0, 0)
    assert strongest.tolist() == [1.0]
