"""The ideal set as ArrayRecord files is the ideal set."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from imitation_refinement.errors import UserError
from imitation_refinement.tasks import SEEN, TRAIN, UNSEEN
from imitation_refinement.xrd.ideal import IdealLines
from imitation_refinement.xrd.records import SPLITS, RecordLines, stored_records, write_records


def line_set(count: int, splits: tuple[int, ...] = (TRAIN, TRAIN, SEEN, UNSEEN)) -> IdealLines:
    """A set with patterns of 0 to 40 lines in mixed splits."""
    rng = np.random.default_rng(np.random.SeedSequence((0, count)))
    offsets = np.concatenate([[0], np.cumsum(rng.integers(0, 41, count))])
    return IdealLines(
        q=rng.uniform(1.0, 6.2, offsets[-1]).astype(np.float32),
        root_intensity=rng.uniform(0.0, 1.0, offsets[-1]).astype(np.float16),
        offsets=offsets,
        label=rng.integers(0, 7, count).astype(np.int32),
        prototype_id=rng.integers(0, 9, count).astype(np.int32),
        split=rng.choice(splits, count).astype(np.int8),
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    source = line_set(203)
    folder = tmp_path_factory.mktemp("records")
    write_records(source, folder)
    return source, folder


def assert_same(records: RecordLines, source: IdealLines) -> None:
    assert len(records) == len(source)
    for name in ("label", "prototype_id", "split"):
        array = getattr(records, name)
        assert array.dtype == getattr(source, name).dtype
        np.testing.assert_array_equal(array, getattr(source, name))
    for index in range(len(source)):
        for found, expected in zip(records.lines(index), source.lines(index), strict=True):
            assert found.dtype == expected.dtype == np.float64
            np.testing.assert_array_equal(found, expected)


def test_split_names_follow_the_values_of_split():
    assert (SPLITS[TRAIN], SPLITS[SEEN], SPLITS[UNSEEN]) == ("train", "seen", "unseen")


def test_records_equal_the_set_in_memory(written):
    source, folder = written
    assert_same(RecordLines(folder), source)


def test_item_holds_lines_and_labels(written):
    source, folder = written
    item = RecordLines(folder)[7]
    q, intensity = source.lines(7)
    np.testing.assert_array_equal(item["q"], q)
    np.testing.assert_array_equal(item["intensity"], intensity)
    assert item["label"] == source.label[7]
    assert item["prototype_id"] == source.prototype_id[7]
    assert item["split"] == source.split[7]


def test_labels_are_in_the_records_too(written):
    # Whoever reads the files with tensorflow-datasets alone finds the same labels.
    import tensorflow_datasets as tfds

    source, folder = written
    (path,) = folder.glob("*/*/dataset_info.json")
    stored = tfds.builder_from_directory(path.parent).as_data_source(split="seen")
    assert [int(record["label"]) for record in stored] == source.label[
        source.split == SEEN
    ].tolist()


def test_threads_read_the_same(written):
    source, folder = written
    records = RecordLines(folder)
    order = np.random.default_rng(3).permutation(len(source))
    with ThreadPoolExecutor(4) as threads:
        for index, (q, _) in zip(order, threads.map(records.lines, order), strict=True):
            np.testing.assert_array_equal(q, source.lines(index)[0])


def test_a_set_without_held_out_patterns(tmp_path):
    source = line_set(12, splits=(TRAIN,))
    assert_same(write_records(source, tmp_path), source)


def test_order_survives_several_shards(tmp_path, monkeypatch):
    # tensorflow-datasets starts a new file at a size that only large sets reach.
    from tensorflow_datasets.core.utils import shard_utils

    monkeypatch.setattr(
        shard_utils.ShardConfig, "get_number_shards", lambda self, *args, **kwargs: 3
    )
    source = line_set(50, splits=(TRAIN,))
    records = write_records(source, tmp_path)
    assert len(list(tmp_path.glob("*/*/*.array_record-*"))) == 3
    assert_same(records, source)


def test_tensorflow_is_not_needed(tmp_path):
    code = (
        "import sys\n"
        "import numpy as np\n"
        "from imitation_refinement.xrd.ideal import IdealLines\n"
        "from imitation_refinement.xrd.records import write_records\n"
        "one = np.ones(1, np.int32)\n"
        "lines = IdealLines(q=np.ones(1, np.float32), root_intensity=np.ones(1, np.float16),\n"
        "    offsets=np.array([0, 1]), label=one, prototype_id=one, split=np.zeros(1, np.int8))\n"
        "print(write_records(lines, sys.argv[1]).lines(0), 'tensorflow' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "(array([1.]), array([1.])) False\n"  # and nothing about downloading


def test_nothing_is_overwritten(written):
    source, folder = written
    with pytest.raises(UserError, match="holds a set of records already"):
        write_records(source, folder)


def test_missing_set(tmp_path):
    with pytest.raises(UserError, match=str(tmp_path)):
        RecordLines(tmp_path)


def test_a_failed_writer_leaves_no_set(tmp_path):
    source = line_set(30)
    broken = IdealLines(
        **{**vars(source), "label": source.label[:20]}  # ends in an IndexError half-way
    )
    with pytest.raises(IndexError):
        write_records(broken, tmp_path)
    with pytest.raises(UserError):
        RecordLines(tmp_path)
    assert_same(write_records(source, tmp_path), source)


def test_unwritable_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file: cannot write"):
        write_records(line_set(3), tmp_path / "file")


@pytest.mark.parametrize("damage", ["flip", "truncate", "missing", "index"])
def test_damage_is_named(tmp_path, damage):
    source = line_set(60, splits=(TRAIN,))
    write_records(source, tmp_path)
    (record_file,) = tmp_path.glob("*/*/*.array_record-*")
    content = bytearray(record_file.read_bytes())
    if damage == "flip":
        # Inside the first block of data, whose checksum then fails.
        end = len(bytes(content).rstrip(b"\0"))
        content[1000 if end > 2000 else end // 2] ^= 0xFF
        record_file.write_bytes(content)
    elif damage == "truncate":
        record_file.write_bytes(content[: len(content) // 2])
    elif damage == "missing":
        record_file.unlink()
    else:
        (index_file,) = tmp_path.glob("*/*/index.npz")
        index_file.write_bytes(index_file.read_bytes()[:-40])
    with pytest.raises(UserError, match="delete"):
        records = RecordLines(tmp_path)
        for index in range(len(records)):
            records.lines(index)


def test_stored_sets_are_named_by_their_content_and_written_once(tmp_path):
    first, second = line_set(20), line_set(21)
    assert_same(stored_records(first, tmp_path), first)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert_same(stored_records(line_set(20), tmp_path), first)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert_same(stored_records(second, tmp_path), second)
    assert len(list(tmp_path.iterdir())) == 2  # and nothing temporary


def test_threads_that_store_the_same_set_agree(tmp_path):
    source = line_set(30)
    with ThreadPoolExecutor(3) as threads:
        for records in threads.map(lambda _: stored_records(source, tmp_path), range(3)):
            assert_same(records, source)
    assert len(list(tmp_path.iterdir())) == 1
