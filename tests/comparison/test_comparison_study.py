from pathlib import Path

import numpy as np
import pytest

from imitation_refinement.comparison.methods import Job
from imitation_refinement.comparison.study import Cell, Result, Study

A, B = ("c", "a"), ("c", "b")


def result(hit, group=None, **arrays):
    group = np.arange(len(hit)) if group is None else np.asarray(group)
    found = {name: np.asarray(values) for name, values in arrays.items()}
    return Result({}, {"hit": np.asarray(hit, bool), "group": group} | found, Path())


def study(a, b=(), **options):
    done = {Job(seed, *A): each for seed, each in enumerate(a)}
    done |= {Job(seed, *B): each for seed, each in enumerate(b)}
    return Study(done, **options)


def test_mean_and_deviation_over_seeds_by_hand():
    found = study([result([1, 1, 0, 0]), result([1, 1, 1, 0])])
    cell = found.mean(A, "hit")
    assert cell.value == pytest.approx(0.625)
    assert cell.sd == pytest.approx(0.125 * np.sqrt(2))
    assert cell.text == "62.5 ± 17.7"
    assert found.seeds(A) == [0, 1] and found.seeds(B) == []


def test_what_is_not_done_is_a_dash():
    found = study([result([1, 0])])
    assert found.mean(A, "hit").text == "50.0"  # one seed: no deviation
    for cell in (
        found.mean(B, "hit"), found.mean(A, "l1"), found.median(B, "l1"),
        found.difference(A, B, "hit"), found.improvement(A, B, "l1", False, "change"),
        found.ratio(A, "peaks_lost", "peaks_truth"),
    ):  # fmt: skip
        assert cell.value is None and cell.text == "–"


def test_only_seeds_of_both_are_compared():
    found = study([result([1, 1]), result([1, 1])], [result([0, 1])])
    assert found.difference(A, B, "hit").value == pytest.approx(0.5)


def test_unknown_truths_are_left_out():
    nan = np.nan
    a = result([1, 1, 1], l1=[1.0, nan, 3.0], peaks_lost=[1, -1, 2], peaks_truth=[4, -1, 2])
    b = result([1, 1, 1], l1=[2.0, nan, 6.0])
    found = study([a], [b])
    assert found.mean(A, "l1", "number").value == pytest.approx(2.0)
    assert found.median(B, "l1").value == pytest.approx(4.0)
    assert found.difference(A, B, "l1").value == pytest.approx(-2.0)
    assert found.ratio(A, "peaks_lost", "peaks_truth").value == pytest.approx(0.5)
    change = found.improvement(A, B, "l1", False, "change")
    assert change.value == pytest.approx(-0.5) and change.text == "−50.0"


def test_improvement_of_median_and_as_difference():
    a, b = result([1] * 3, ncc=[0.1, 0.8, 0.9]), result([1] * 3, ncc=[0.0, 0.5, 1.0])
    found = study([a], [b])
    assert found.improvement(A, B, "ncc", True, "signed").value == pytest.approx(0.3)
    assert found.improvement(A, B, "ncc", True, "signed").text == "+0.300"


def test_intervals_over_groups_and_over_seeds():
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(20), 5)
    a = [result(rng.random(100) < 0.8, group) for _ in range(3)]
    b = [result(rng.random(100) < 0.4, group) for _ in range(3)]
    cell = study(a, b).difference(A, B, "hit")
    assert cell.low is not None and 0 < cell.low < cell.value < cell.high < 1
    per_seed = np.array([x.arrays["hit"].mean() - y.arrays["hit"].mean()
                         for x, y in zip(a, b, strict=True)])  # fmt: skip
    t = study(a, b).difference(A, B, "hit", over_seeds=True)
    half = 4.302653 * per_seed.std(ddof=1) / np.sqrt(3)  # Student's t, 2 degrees of freedom
    assert (t.low, t.high) == pytest.approx((per_seed.mean() - half, per_seed.mean() + half))


def test_the_same_examples_stay_together_over_seeds():
    # One hard group for all seeds: drawn together its luck does not average out over seeds.
    group = np.repeat(np.arange(10), 4)
    hit = group < 5
    a, b = [result(hit, group)] * 4, [result(np.zeros(40), group)] * 4
    own, same = (study(a, b, same_examples=x).difference(A, B, "hit") for x in (False, True))
    assert same.value == own.value == pytest.approx(0.5)
    assert same.high - same.low > 1.5 * (own.high - own.low)


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (Cell(0.2, 0.012, 0.18, 0.22, "points"), "+20.0 ± 1.2 (+18.0 to +22.0)"),
        (Cell(-0.05, None, -0.1, 0.0, "points"), "−5.0 (−10.0 to +0.0)"),
        (Cell(38.99, 1.5), "39.0 ± 1.5"),
        (Cell(0.9621, 0.0038), "0.962 ± 0.004"),
        (Cell(-0.00702, 0.00135, form="signed"), "−0.00702 ± 0.00135"),
        (Cell(497.0, 13.2), "497 ± 13"),
        (Cell(3e-5, 2e-6), "3.00e−05 ± 2.00e−06"),
        (Cell(-0.4, None, -0.5, -0.3, "signed"), "−0.400 (−0.500 to −0.300)"),
        (Cell(), "–"),
    ],
)
def test_cells_as_text(cell, text):
    assert cell.text == text
