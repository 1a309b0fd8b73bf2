"""Counting time at equal recognition, against numbers worked out by hand."""

import numpy as np
import pytest

from imitation_refinement.evaluation.saved_time import counts_needed, shortening

COUNTS = [10, 100, 1000]


@pytest.mark.parametrize(
    ("value", "needed"),
    [
        (0.4, 10.0),  # worse than the first point: that one does
        (0.5, 10.0),
        (0.6, 10 * 10**0.5),  # halfway from 0.5 to 0.7, and so in ln counts
        (0.7, 100.0),
        (0.75, 10**2.25),  # a quarter of the way from 0.7 to 0.9
        (0.9, 1000.0),
        (0.91, np.inf),
    ],
)
def test_counts_needed_are_interpolated_in_the_logarithm(value, needed):
    assert counts_needed(COUNTS, [0.5, 0.7, 0.9], value) == pytest.approx(needed)


def test_a_dip_by_chance_is_no_reason_to_count_longer():
    # 0.7 is reached at 10 counts, whatever happens at 100.
    assert counts_needed(COUNTS, [0.7, 0.6, 0.9], 0.7) == pytest.approx(10)
    assert counts_needed(COUNTS, [0.7, 0.6, 0.9], 0.8) == pytest.approx(10**2.5)


def test_shortening_is_a_ratio_of_counts():
    found = shortening(COUNTS, [0.5, 0.7, 0.9], [0.7, 0.7, 0.95])
    # 0.7 with 10 counts where base needs 100; equal at 100; never reached by base.
    assert found == pytest.approx([10, 1, np.inf])


def test_a_method_that_is_worse_saves_nothing():
    assert shortening(COUNTS, [0.5, 0.7, 0.9], [0.4, 0.6, 0.8]) == pytest.approx([1, 1, 1])
