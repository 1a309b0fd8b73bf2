"""The sketch of the coarse patterns, the rows that are kept, and work in threads."""

import os

import numpy as np
import pytest

from imitation_refinement.phases.kept import KeptRows
from imitation_refinement.phases.side_by_side import processors, side_by_side
from imitation_refinement.phases.sketch import PARTS, likely, sketch_of

POINTS = 50


def coarse_patterns(count, seed=0, rank=8):
    """Patterns that few components explain, int8."""
    rng = np.random.default_rng(seed)
    rows = rng.uniform(size=(count, rank)) @ rng.uniform(size=(rank, POINTS)) ** 6
    return np.rint(127.0 * rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.int8)


def asked(coarse, n=3, shifts=2, seed=1):
    """Scans at each shift, masks of a part of the range, and penalties by kind."""
    rng = np.random.default_rng(seed)
    scans = coarse[rng.integers(0, len(coarse), shifts * n)] + rng.normal(
        0, 2, (shifts * n, POINTS)
    )
    inside = np.ones((n, POINTS), np.float32)
    inside[1, 40:] = 0.0
    scans = (scans.reshape(shifts, n, POINTS) * inside).astype(np.float32)
    scans /= np.linalg.norm(scans, axis=2, keepdims=True)
    return scans, inside, rng.uniform(-0.1, 0.0, (shifts, 3)).astype(np.float32)


def in_full(coarse, kind, scan, inside, penalty):
    """The score of one prototype for one scan, `scan` `[S, Q]`, without any sketch."""
    row = coarse.astype(float)
    norm = np.sqrt((row**2 * inside).sum())
    return max(float(row @ scan[s]) / norm + penalty[s, kind] for s in range(len(scan)))


def test_likely_ones_are_the_best_of_all_prototypes():
    coarse = coarse_patterns(3000)
    kind = np.arange(3000) % 3
    scans, inside, penalty = asked(coarse)
    found = likely(sketch_of(coarse), scans, inside, penalty, kind, count=320)
    for i, rows in enumerate(found):
        score = [in_full(coarse[k], kind[k], scans[:, i], inside[i], penalty) for k in range(3000)]
        best = np.argsort(score)[::-1][:50]
        assert set(best.tolist()) <= set(rows.tolist())
        assert 160 <= len(rows) < 640  # the level is estimated from one in sixteen


def test_where_few_are_allowed_all_of_them_are_likely():
    coarse = coarse_patterns(400)
    scans, inside, penalty = asked(coarse)
    allowed = np.zeros((3, 400), bool)
    allowed[0, 5:300] = True
    allowed[1, ::50] = True
    found = likely(sketch_of(coarse), scans, inside, penalty, np.zeros(400, int), allowed, count=64)
    assert 0 < len(found[0]) < 295 and found[0].min() >= 5 and found[0].max() < 300
    assert found[1].tolist() == list(range(0, 400, 50))
    assert found[2].tolist() == []


def test_the_power_of_a_sketch_is_the_squared_norm_of_parts():
    coarse = coarse_patterns(7)
    power = sketch_of(coarse).power
    assert power.shape == (7, PARTS)
    np.testing.assert_allclose(power[:, 3], (coarse[:, 6:8].astype(float) ** 2).sum(axis=1))


@pytest.mark.parametrize("room", [100, 7])
def test_rows_that_are_kept_are_those_that_were_drawn(room):
    rng = np.random.default_rng(0)
    rows = rng.uniform(size=(100, 20)).astype(np.float32)
    drawn = []

    def draw(chosen):
        drawn.extend(chosen.tolist())
        return rows[chosen]

    kept = KeptRows(100, 20, memory=room * 40)
    for _ in range(30):
        chosen = rng.permutation(100)[: rng.integers(1, 12)]
        np.testing.assert_allclose(kept.rows(chosen, draw), rows[chosen], atol=0.51 / 65535)
    assert (len(drawn) == len(set(drawn))) == (room == 100)


def test_results_come_in_the_order_of_the_items():
    assert side_by_side(lambda x: x * x, range(20)) == [x * x for x in range(20)]


def test_threads_are_those_that_were_given(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert processors() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 5}, raising=False)
    assert processors() == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert processors() == 7
    assert side_by_side(lambda x: x * x, range(20)) == [x * x for x in range(20)]
