"""Batches are a pure function of (seed, step)."""

import numpy as np
import pytest

from imitation_refinement.runtime.batches import (
    balanced_indices,
    batch_stream,
    class_counts,
    padded_rows,
    uniform_indices,
)

LABELS = np.repeat([0, 1, 2], [5, 9, 30])


def test_class_counts_of_the_paper():
    sizes = np.array([14, 44, 46, 34, 26, 24, 52])  # thousands; cubic last and largest
    assert class_counts(512, sizes).tolist() == [73, 73, 73, 73, 73, 73, 74]


@pytest.mark.parametrize("batch_size, sizes", [(2, [1, 1, 1]), (8, [4, 0, 4])])
def test_class_counts_refuses_what_cannot_be_balanced(batch_size, sizes):
    with pytest.raises(ValueError):
        class_counts(batch_size, np.array(sizes))


def test_balanced_batches_have_fixed_class_counts():
    indices = balanced_indices(LABELS, batch_size=7, steps=20, seed=1)
    rows = np.array([indices[i] for i in range(len(indices))]).reshape(20, 7)
    for batch in rows:
        assert np.bincount(LABELS[batch], minlength=3).tolist() == [2, 2, 3]


def test_a_batch_is_its_rows_of_the_stream():
    indices = balanced_indices(LABELS, batch_size=7, steps=20, seed=1)
    assert indices.batch(13).tolist() == [indices[i] for i in range(13 * 7, 14 * 7)]


def test_each_pass_visits_every_example_once_in_a_new_order():
    indices = uniform_indices(count=6, batch_size=4, steps=6, seed=0)
    passes = np.array([indices[i] for i in range(24)]).reshape(4, 6)
    assert all(sorted(one) == list(range(6)) for one in passes.tolist())
    assert len({tuple(one) for one in passes.tolist()}) > 1


def noisy(index, rng):
    return {"index": np.int64(index), "noise": rng.normal()}


def read(start_step=0, index=0, count=1, threads=0, steps=10, seed=3):
    indices = balanced_indices(LABELS, batch_size=8, steps=steps, seed=seed)
    stream = batch_stream(
        indices, noisy, batch_size=8, seed=seed, start_step=start_step,
        process_index=index, process_count=count, threads=threads,
    )  # fmt: skip
    return [{name: np.asarray(value) for name, value in batch.items()} for batch in stream]


def test_a_resumed_stream_is_the_tail_of_the_whole():
    whole, tail = read(), read(start_step=6)
    assert len(whole) == 10 and len(tail) == 4
    for expected, got in zip(whole[6:], tail, strict=True):
        np.testing.assert_array_equal(expected["index"], got["index"])
        np.testing.assert_array_equal(expected["noise"], got["noise"])


def test_the_stream_depends_on_the_seed_and_not_on_threads():
    noise = [
        np.concatenate([b["noise"] for b in read(**kw)]) for kw in ({}, {"threads": 2}, {"seed": 4})
    ]
    np.testing.assert_array_equal(noise[0], noise[1])
    assert not np.array_equal(noise[0], noise[2])


def test_processes_share_each_batch_without_overlap():
    whole = read()
    parts = [read(index=i, count=4) for i in range(4)]
    for step, expected in enumerate(whole):
        got = np.concatenate([part[step]["noise"] for part in parts])
        np.testing.assert_array_equal(np.sort(got), np.sort(expected["noise"]))


def test_padded_rows_hold_every_row_once_and_have_one_size():
    batches = list(padded_rows(10, 4))
    assert [batch.tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 8, 8]]
