"""Reflections of a cell against loops over indices, and the lines that they make up."""

import itertools

import numpy as np
import pytest

from imitation_refinement.phases.reflections import indices_below, members, reflections
from imitation_refinement.xrd.symmetry import lattice_vectors

TRICLINIC = np.array([4.1, 5.3, 6.7, 82.0, 97.0, 104.0])


def q_of(cell, hkl):
    """2 pi |h a* + k b* + l c*|, 1/angstrom."""
    reciprocal = np.linalg.inv(lattice_vectors(cell))
    return 2.0 * np.pi * np.linalg.norm(reciprocal @ np.array(hkl, float))


@pytest.mark.parametrize("cell", [TRICLINIC, np.array([4.0, 4.0, 9.0, 90.0, 90.0, 120.0])])
def test_all_pairs_of_reflections_up_to_the_last_line_are_listed_once_by_q(cell):
    hkl, normal, log_q = reflections(cell, 4.0)
    all_indices = itertools.product(range(-8, 9), repeat=3)
    near = {h for h in all_indices if any(h) and q_of(cell, h) < 4.0}
    found = [tuple(int(i) for i in column) for column in hkl.T]
    listed = set(found) | {tuple(-i for i in h) for h in found}
    assert near <= listed
    assert len(found) == len(set(found)) and 2 * len(found) == len(listed)
    assert all(q_of(cell, h) < 4.0 * 1.001 for h in listed)
    np.testing.assert_allclose(np.exp(log_q), [q_of(cell, h) for h in found], rtol=1e-12)
    assert (np.diff(log_q) >= 0.0).all()
    expected = np.linalg.inv(lattice_vectors(cell)) @ hkl
    np.testing.assert_allclose(normal, expected, rtol=1e-12)


def test_the_largest_indices_hold_all_that_are_near():
    most = indices_below(TRICLINIC, 4.0)
    inside = [h for h in itertools.product(range(-8, 9), repeat=3) if q_of(TRICLINIC, h) < 4.0]
    assert (np.abs(inside).max(axis=0) <= most).all()


def test_a_list_is_kept_and_not_written_to():
    found = reflections(TRICLINIC, 3.0)
    again = reflections(TRICLINIC.copy(), 3.0)
    for kept, array in zip(again, found, strict=True):
        assert kept is array
        with pytest.raises(ValueError, match="read-only"):
            array[..., 0] = 1.0


def test_members_are_the_reflections_within_the_tolerance_of_each_line():
    log_q = np.array([0.0, 0.1, 0.1004, 0.2, 0.5])
    q = np.exp([0.1003, 0.1005, 0.3, 0.5])
    first, last = members(log_q, q, 4e-4)
    # The first two lines share both reflections near them but one; none is at the third.
    assert [list(range(*ends)) for ends in zip(first, last, strict=True)] == [[1, 2], [2], [], [4]]
