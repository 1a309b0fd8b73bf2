"""Which examples make up the batch of a step: a pure function of (seed, step).

Everything random about a batch -- the order of the examples and the view that is rendered of
each -- is computed from the seed and the position in the stream, so a resumed run needs no saved
iterator and one process, eight devices or two hosts train on the same examples. Grain does the
reading: threads, prefetching and per-example random generators. No files, no JAX computation here.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache

import grain
import numpy as np

Example = dict[str, np.ndarray]


def class_counts(batch_size: int, class_sizes: np.ndarray) -> np.ndarray:
    """Returns how many examples of each class a balanced batch holds, int64 `[K]`.

    Every class gets `batch_size // K`; the remainder goes to the largest class. For the paper's
    batch of 512 and seven classes that is 73 each and one more cubic (Bai et al. 2019, XRD
    implementation details).

    Args:
        batch_size: global batch size B.
        class_sizes: number of examples of each class, int `[K]`.

    Raises:
        ValueError: the batch is smaller than the number of classes, or a class is empty.
    """
    number = len(class_sizes)
    if batch_size < number:
        raise ValueError(f"a balanced batch of {batch_size} cannot hold {number} classes")
    if np.any(class_sizes == 0):
        raise ValueError(f"classes {np.flatnonzero(class_sizes == 0).tolist()} have no example")
    counts = np.full(number, batch_size // number, dtype=np.int64)
    counts[np.argmax(class_sizes)] += batch_size - counts.sum()
    return counts


class BatchIndices:
    """Position in the stream -> index of an example, with fixed class counts in every batch.

    Behaves as a sequence of `steps * batch_size` integers, row by row of each batch. Each group
    (class) is walked through in its own random order, drawn anew for each pass through it.

    Args:
        groups: for each group the indices of its examples.
        counts: how many rows of each batch come from each group; their sum is the batch size.
        steps: number of batches.
        seed: the stream's seed.
    """

    def __init__(self, groups: list[np.ndarray], counts: np.ndarray, steps: int, seed: int):
        self._groups = [np.asarray(group, dtype=np.int64) for group in groups]
        self._counts = np.asarray(counts, dtype=np.int64)
        self._group_of_row = np.repeat(np.arange(len(groups)), self._counts)
        self._rank_in_group = np.concatenate([np.arange(count) for count in self._counts])
        self._steps = steps
        self._seed = seed
        self._order = lru_cache(maxsize=4 * len(groups))(self._draw_order)

    def _draw_order(self, group: int, epoch: int) -> np.ndarray:
        rng = np.random.default_rng(np.random.SeedSequence((self._seed, group, epoch)))
        return rng.permutation(self._groups[group])

    def __len__(self) -> int:
        """Returns the number of rows of all batches."""
        return self._steps * len(self._group_of_row)

    def __getitem__(self, position: int) -> int:
        """Returns the index of the example at this position of the stream."""
        step, row = divmod(position, len(self._group_of_row))
        group = int(self._group_of_row[row])
        rank = step * int(self._counts[group]) + int(self._rank_in_group[row])
        epoch, offset = divmod(rank, len(self._groups[group]))
        return int(self._order(group, epoch)[offset])

    def batch(self, step: int) -> np.ndarray:
        """Returns the indices of the examples of one batch, int64 `[B]`."""
        size = len(self._group_of_row)
        return np.array([self[position] for position in range(step * size, (step + 1) * size)])


def balanced_indices(labels: np.ndarray, batch_size: int, steps: int, seed: int) -> BatchIndices:
    """Returns class-balanced batches over all examples (Algorithm 1, lines 3-4).

    Args:
        labels: class of each example, int `[n]`, with every class 0..K-1 present.
        batch_size: global batch size.
        steps: number of batches.
        seed: seed of the order.
    """
    sizes = np.bincount(labels)
    groups = [np.flatnonzero(labels == k) for k in range(len(sizes))]
    return BatchIndices(groups, class_counts(batch_size, sizes), steps, seed)


def uniform_indices(count: int, batch_size: int, steps: int, seed: int) -> BatchIndices:
    """Returns batches that walk through `count` examples in random order (Algorithm 2, line 2)."""
    return BatchIndices([np.arange(count)], np.array([batch_size]), steps, seed)


def batch_stream(
    indices: BatchIndices,
    example: Callable[[int, np.random.Generator], Example],
    *,
    batch_size: int,
    seed: int,
    start_step: int,
    process_index: int,
    process_count: int,
    threads: int,
) -> Iterator[Example]:
    """Yields this process's rows of the batches from `start_step` on.

    Args:
        indices: the examples of all batches.
        example: `(index, rng) -> arrays`; the only source of randomness it may use is `rng`.
        batch_size: global batch size, a multiple of `process_count`.
        seed: seed of the generators that `example` is given.
        start_step: first batch; a stream started at s equals the tail of one started at 0.
        process_index: which process this is.
        process_count: how many processes share a batch.
        threads: reading threads; 0 reads in the calling thread. The stream does not depend on it.
    """
    rows = grain.MapDataset.source(indices).seed(seed)
    # The view is drawn before rows are dealt to processes, so it does not depend on their number.
    rows = rows.random_map(lambda index, rng: example(int(index), rng))
    rows = rows[process_index::process_count].batch(batch_size // process_count)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=4 if threads else 0)
    iterator = iter(rows.to_iter_dataset(options))
    iterator.set_state({"next_index": start_step})
    yield from iterator


def padded_rows(count: int, batch_size: int) -> Iterator[np.ndarray]:
    """Yields the row numbers 0..count-1 in batches of one size, for one compiled function.

    The last batch is filled up by repeating its first row; the caller drops what stands beyond
    `count`.
    """
    for start in range(0, count, batch_size):
        rows = np.arange(start, start + batch_size)
        yield np.where(rows < count, rows, start)
