"""The set of ideal lines as ArrayRecord files, for sizes that should not be held in memory.

Belongs here: the tensorflow-datasets builder that writes an `IdealLines`, and `RecordLines`, which
reads it back behind the same interface (`label`, `prototype_id`, `split`, `len`, `lines(i)`), so
that nothing else knows where the lines come from. TensorFlow is not needed; small sets need no
such detour. What the lines mean is said in `ideal.py`.
"""

import contextlib
import dataclasses
import hashlib
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from imitation_refinement.errors import UserError
from imitation_refinement.runtime.files import atomic_write_npz, read_npz, writing
from imitation_refinement.xrd.ideal import IdealLines

SPLITS = ("train", "seen", "unseen")  # name of each value of `split`
_NAME = "xrd_ideal_lines"
_VERSION = "1.0.0"
_INDEX_FILE = "index.npz"  # arrays of the whole set, beside the records
_INDEX_FIELDS = ("label", "prototype_id", "split")


class IdealLinesBuilder(tfds.core.GeneratorBasedBuilder):
    """Writes one record per pattern, in the order of the set within each split."""

    name = _NAME
    VERSION = tfds.core.Version(_VERSION)

    def __init__(self, source: IdealLines, **kwargs: Any):
        self._source = source
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        def array(dtype: type) -> tfds.features.Tensor:
            return tfds.features.Tensor(shape=(None,), dtype=dtype, encoding="bytes")

        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "q": array(np.float32),
                    "root_intensity": array(np.float16),
                    "label": tfds.features.Scalar(np.int32),
                    "prototype_id": tfds.features.Scalar(np.int32),
                }
            ),
            description="Lines of simulated powder patterns: q in 1/angstrom, sqrt(I / I_max).",
            disable_shuffling=True,  # the index below relies on the order
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict]]]:
        del dl_manager  # nothing is downloaded
        # Written into the folder that becomes the data set when all is done.
        index = {name: getattr(self._source, name) for name in _INDEX_FIELDS}
        atomic_write_npz(Path(self.data_dir) / _INDEX_FILE, index)
        present = [value for value in range(len(SPLITS)) if np.any(self._source.split == value)]
        return {SPLITS[value]: self._generate_examples(value) for value in present}

    def _generate_examples(self, value: int) -> Iterator[tuple[int, dict]]:
        source = self._source
        for index in np.flatnonzero(source.split == value):
            rows = slice(source.offsets[index], source.offsets[index + 1])
            yield (
                int(index),
                {
                    "q": np.asarray(source.q[rows]),
                    "root_intensity": np.asarray(source.root_intensity[rows]),
                    "label": int(source.label[index]),
                    "prototype_id": int(source.prototype_id[index]),
                },
            )


class RecordLines:
    """Ideal lines read from ArrayRecord files, one record at a time.

    Equal, pattern by pattern and bit by bit, to the `IdealLines` that was written.

    Attributes:
        label: crystal system, int32 `[n]`.
        prototype_id: family of the crystal, int32 `[n]`.
        split: 0 train, 1 seen, 2 unseen, int8 `[n]`.
    """

    def __init__(self, folder: str | Path):
        """Opens what `write_records` has left in `folder`.

        Raises:
            UserError: there is no such set in the folder, or it is damaged.
        """
        self._folder = _dataset_folder(folder)
        index = read_npz(self._folder / _INDEX_FILE)
        self.label, self.prototype_id, self.split = (index[name] for name in _INDEX_FIELDS)
        try:
            builder = tfds.builder_from_directory(self._folder)
            self._sources = {
                value: builder.as_data_source(split=name)
                for value, name in enumerate(SPLITS)
                if name in builder.info.splits
            }
        except Exception as error:  # whatever tfds and array_record make of a damaged file
            raise self._damaged(error) from error
        self._position = np.zeros(len(self.split), dtype=np.int64)  # of each pattern in its split
        for value in range(len(SPLITS)):
            members = np.flatnonzero(self.split == value)
            stored = len(self._sources[value]) if value in self._sources else 0
            if stored != len(members):
                raise self._damaged(f"{stored} of {len(members)} {SPLITS[value]} patterns")
            self._position[members] = np.arange(len(members))

    def _damaged(self, reason: object) -> UserError:
        first_line = str(reason).partition("\n")[0]
        return UserError(
            f"{self._folder}: not a readable set of records ({first_line});"
            " delete the folder and write it again"
        )

    def __len__(self) -> int:
        """Returns the number of patterns n."""
        return len(self.split)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Returns q, intensity (see `lines`), label, prototype_id and split of one pattern."""
        q, intensity = self.lines(index)
        fields = {name: getattr(self, name)[index] for name in _INDEX_FIELDS}
        return {"q": q, "intensity": intensity, **fields}

    def lines(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns q (1/angstrom) and intensity (largest is 1), both float64 `[m]`.

        Raises:
            UserError: the record is damaged.
        """
        source = self._sources[int(self.split[index])]
        try:
            record = source[int(self._position[index])]
        except Exception as error:  # array_record reports a bad checksum in several ways
            raise self._damaged(error) from error
        root = record["root_intensity"].astype(np.float64)
        return record["q"].astype(np.float64), root * root


def write_records(source: IdealLines, folder: str | Path) -> RecordLines:
    """Writes a set of ideal lines as ArrayRecord files and returns it as read from there.

    The files appear under their final name only when all of them are written.

    Args:
        source: the set, in memory or memory-mapped.
        folder: where to; must not hold such a set yet.

    Raises:
        UserError: the folder holds a set already, or cannot be written.
    """
    if _dataset_folder(folder).exists():
        raise UserError(f"{folder}: holds a set of records already; delete it or name another one")
    tfds.disable_progress_bar()
    with (
        writing(Path(folder)),
        contextlib.redirect_stdout(io.StringIO()),
    ):  # it prints "Downloading"
        builder = IdealLinesBuilder(source, data_dir=folder, file_format="array_record")
        builder.download_and_prepare()
    return RecordLines(folder)


def stored_records(source: IdealLines, cache_dir: str | Path) -> RecordLines:
    """Returns a set of ideal lines read from ArrayRecord files in the cache, written if absent.

    The folder is named by a hash of the set and appears when it is whole; of several writers at
    once the first one to end wins.

    Args:
        source: the set.
        cache_dir: folder of all caches.

    Raises:
        UserError: cannot be written, or is damaged.
    """
    digest = hashlib.sha256()
    for field in dataclasses.fields(source):
        digest.update(np.ascontiguousarray(getattr(source, field.name)).tobytes())
    folder = Path(cache_dir) / f"records-{digest.hexdigest()[:16]}"
    if not folder.is_dir():
        with writing(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".records-", dir=folder.parent) as temporary:
                whole = Path(temporary) / "set"
                write_records(source, whole)
                try:
                    os.replace(whole, folder)
                except OSError:
                    if not folder.is_dir():  # otherwise somebody else was faster
                        raise
    return RecordLines(folder)


def _dataset_folder(folder: str | Path) -> Path:
    return Path(folder) / _NAME / _VERSION
