"""Cells fitted to the places of peaks: what symmetry leaves free, and changes that are found."""

import numpy as np
import pytest

from imitation_refinement.phases.cell_fit import fit_cell, invariant_metrics
from imitation_refinement.phases.prototypes import GRID, scan_roots
from imitation_refinement.xrd.imperfections import displaced
from imitation_refinement.xrd.profiles import ideal_pattern
from imitation_refinement.xrd.structures.settings import operations
from imitation_refinement.xrd.symmetry import lattice_vectors

# (Hall number of spglib, free components): P-1, C2/m, Pnma, P4/mmm, R-3m (hexagonal axes),
# R-3m (rhombohedral axes), P6/mmm, Fm-3m.
SETTINGS = [(2, 6), (63, 4), (292, 3), (400, 2), (458, 2), (459, 2), (485, 2), (523, 1)]


@pytest.mark.parametrize("hall, free", SETTINGS)
def test_what_a_group_leaves_free_of_a_metric(hall, free):
    rotations = operations(hall)[:, :, :3]
    basis = invariant_metrics(rotations)
    assert len(basis) == free
    for metric in basis:
        for rotation in rotations:
            np.testing.assert_allclose(rotation @ metric @ rotation.T, metric, atol=1e-12)


def lines_of(cell, rng):
    """q and heights of a cell's reflections, one for each distance; weak and strong at random."""
    inverse = np.linalg.inv(lattice_vectors(np.asarray(cell, float)))
    hkl = np.stack(np.meshgrid(*[np.arange(-4, 5)] * 3), axis=-1).reshape(-1, 3)
    q = 2.0 * np.pi * np.linalg.norm(hkl @ inverse.T, axis=1)
    q, first = np.unique(np.round(q[q > 0.7], 9), return_index=True)
    return hkl[q_index(hkl, inverse, q)], q, rng.uniform(0.2, 1.0, len(q))


def q_index(hkl, inverse, q):
    """One reflection of each distance."""
    all_q = 2.0 * np.pi * np.linalg.norm(hkl @ inverse.T, axis=1)
    return np.array([int(np.abs(all_q - one).argmin()) for one in q])


@pytest.mark.parametrize(
    "hall, cell, changed",
    [
        (523, (4.2, 4.2, 4.2, 90, 90, 90), (4.21, 4.21, 4.21, 90, 90, 90)),
        (400, (3.8, 3.8, 5.1, 90, 90, 90), (3.81, 3.81, 5.09, 90, 90, 90)),
        (292, (4.1, 5.2, 6.1, 90, 90, 90), (4.115, 5.19, 6.105, 90, 90, 90)),
        (63, (6.1, 3.4, 4.7, 90, 104.0, 90), (6.12, 3.395, 4.71, 90, 104.3, 90)),
    ],
)
def test_axes_that_change_apart_are_found(hall, cell, changed):
    rng = np.random.default_rng(0)
    hkl, q, height = lines_of(cell, rng)
    inverse = np.linalg.inv(lattice_vectors(np.asarray(changed, float)))
    moved = 2.0 * np.pi * np.linalg.norm(hkl @ inverse.T, axis=1)
    moved = displaced(moved, 3e-4, 1.54184)
    root = scan_roots(ideal_pattern(moved, height, GRID)[None], np.ones((1, 2000), bool), 1)[0][0]
    found = fit_cell(
        np.array(cell, float), operations(hall)[:, :, :3], q, height, root, shift=0.0,
        displacement=0.0,
    )  # fmt: skip
    np.testing.assert_allclose(found.cell[:3], changed[:3], rtol=6e-4)
    np.testing.assert_allclose(found.cell[3:], changed[3:], atol=0.06)
    assert found.lines > 8 and (found.deviation >= 0).all()
    before = np.abs(np.asarray(cell) - changed)[:3].max()
    assert np.abs(found.cell - changed)[:3].max() < 0.25 * before


def test_a_pattern_without_its_lines_gives_no_cell():
    rng = np.random.default_rng(0)
    cell = np.array([4.2, 4.2, 4.2, 90.0, 90.0, 90.0])
    _, q, height = lines_of(cell, rng)
    found = fit_cell(cell, operations(523)[:, :, :3], q, height, np.zeros(2000), shift=0.0,
                     displacement=0.0)  # fmt: skip
    assert found is None


def test_axes_that_no_line_depends_on_give_no_cell():
    cell = np.array([1.0, 1.0, 12.0, 90.0, 90.0, 90.0])  # only 00l lie on the grid
    q = 2.0 * np.pi / 12.0 * np.arange(2, 11)
    height = np.linspace(1.0, 0.5, len(q))
    root = scan_roots(ideal_pattern(q, height, GRID)[None], np.ones((1, 2000), bool), 1)[0][0]
    found = fit_cell(cell, operations(292)[:, :, :3], q, height, root, shift=0.0, displacement=0.0)
    assert found is None
