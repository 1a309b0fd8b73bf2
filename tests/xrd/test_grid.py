from functools import partial

import numpy as np
import pytest

from imitation_refinement.xrd.grid import (
    Grid,
    d_from_q,
    grid_q,
    q_from_two_theta,
    two_theta_from_q,
)


@pytest.mark.parametrize("axis", ["geometric_q", "q", "two_theta"])
def test_axis_is_uniform_in_what_it_says_and_has_the_ends(axis):
    grid = Grid(axis=axis)
    q = grid_q(grid)
    coordinate = {
        "geometric_q": np.log(q),
        "q": q,
        "two_theta": 2 * np.degrees(np.arcsin(q * 1.54184 / (4 * np.pi))),
    }[axis]
    assert q.shape == (2000,) and q.dtype == np.float64
    np.testing.assert_allclose(q[[0, -1]], [1.1, 5.9], rtol=1e-12)
    np.testing.assert_allclose(np.diff(coordinate), np.ptp(coordinate) / 1999, rtol=1e-8)


def test_scaling_of_the_cell_is_a_shift_on_the_default_axis():
    log_step = np.log(5.9 / 1.1) / 1999
    q = grid_q(Grid())
    np.testing.assert_allclose(q[:-7] * np.exp(7 * log_step), q[7:], rtol=1e-12)


def test_bragg_angle_of_the_first_silicon_line():
    # d(111) = a / sqrt 3; 28.4660 degrees with the mean Cu K-alpha wavelength.
    q = 2 * np.pi * np.sqrt(3) / 5.4309
    assert two_theta_from_q(q, 1.54184) == pytest.approx(28.4660, abs=1e-3)
    assert d_from_q(q) == pytest.approx(5.4309 / np.sqrt(3))


def test_conversions_are_inverse():
    q = np.linspace(0.5, 7.5, 50)
    np.testing.assert_allclose(q_from_two_theta(two_theta_from_q(q, 1.6), 1.6), q, rtol=1e-12)


def test_what_cannot_be_reached_is_refused():
    assert two_theta_from_q(4 * np.pi / 2.0, 2.0) == pytest.approx(180.0)
    # The limit is 4 pi / 2.5.
    message = "^q up to 5.900 1/angstrom cannot be reached at 2.5 angstrom: the limit is 5.027$"
    with pytest.raises(ValueError, match=message):
        grid_q(Grid(axis="two_theta", wavelength=2.5))
    with pytest.raises(ValueError, match="^axis 'theta' is none of geometric_q, q, two_theta$"):
        grid_q(Grid(axis="theta"))


def test_single_precision_is_taken_as_double():
    for convert in (partial(two_theta_from_q, wavelength=1.6),
                    partial(q_from_two_theta, wavelength=1.6), d_from_q):  # fmt: skip
        found = convert(np.float32([0.7, 1.3]))
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, convert(np.float32([0.7, 1.3]).astype(float)))
