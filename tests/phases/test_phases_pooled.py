"""Two looks at one scan taken together, against probabilities worked out by hand."""

import numpy as np
import pytest

from imitation_refinement.phases.match import Match, pooled


def look(entry, probability, vote, none):
    """A match of one scan of which only these figures matter."""
    rest = np.zeros((1, len(entry)))
    logs = np.log([probability])
    return Match(
        np.array([entry]), logs, rest, rest + np.array(entry), rest, rest, rest, rest, rest, logs,
        np.array([vote]), np.array([none]),
    )  # fmt: skip


def test_two_looks_together_give_the_mean_of_their_probabilities():
    first = look([3, 5], [0.6, 0.3], [0.8, 0.2], 0.1)
    second = look([5, 7], [0.5, 0.1], [0.5, 0.5], 0.4)
    both = pooled(first, second)
    # 5: (0.3 + 0.5) / 2 = 0.40; 3: 0.6 / 2 = 0.30; 7: 0.1 / 2 = 0.05; none: (0.1 + 0.4) / 2.
    found = np.bincount(both.entry[0], np.exp(both.log_probability[0]), 8)
    np.testing.assert_allclose(found, [0, 0, 0, 0.3, 0, 0.4, 0, 0.05], atol=1e-12)
    votes = np.bincount(both.entry[0], both.vote[0], 8)
    np.testing.assert_allclose(votes, [0, 0, 0, 0.4, 0, 0.35, 0, 0.25])
    assert both.not_in_library == pytest.approx([0.25])
    assert both.entry[0].tolist() == [3, 5, 5, 7]  # likeliest first
    assert both.shift[0].tolist() == [3, 5, 5, 7]  # each figure stays with its prototype


def test_two_equal_looks_say_what_one_says():
    first = look([3, 5], [0.6, 0.3], [0.8, 0.2], 0.1)
    both = pooled(first, first)
    found = np.bincount(both.entry[0], np.exp(both.log_probability[0]), 6)
    np.testing.assert_allclose(found, [0, 0, 0, 0.6, 0, 0.3])
    assert both.not_in_library == pytest.approx([0.1])
