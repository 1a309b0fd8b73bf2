import json
import os
import signal
import subprocess
import sys
import zlib
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from imitation_refinement.errors import UserError
from imitation_refinement.runtime import checkpoint, devices
from imitation_refinement.runtime.checkpoint import Checkpoints


class State(NamedTuple):
    step: jax.Array
    params: dict
    batch_stats: dict
    opt_state: tuple


def state(seed: int = 0) -> State:
    rng = np.random.default_rng(seed)
    params = {
        "conv": {"kernel": rng.normal(size=(3, 1, 4)), "bias": rng.normal(size=4)},
        "head": {"kernel": rng.normal(size=(4, 7)), "low": rng.normal(size=5)},
    }
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)
    params["head"]["low"] = params["head"]["low"].astype(jnp.bfloat16)
    adam = optax.adam(optax.cosine_decay_schedule(1e-3, 10)).init(params)
    return State(jnp.int32(seed), params, {}, adam)


def assert_same(tree, other):
    assert jax.tree.structure(tree) == jax.tree.structure(other)
    for leaf, twin in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True):
        assert (leaf.shape, leaf.dtype) == (twin.shape, twin.dtype)
        assert np.asarray(leaf).tobytes() == np.asarray(twin).tobytes()


@pytest.fixture
def saved(tmp_path) -> Path:
    """A folder with steps 1 and 2: states of seeds 1 and 2."""
    with Checkpoints(tmp_path / "run") as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, {"state": state(step)}, {"window": [0.5, step]})
    return tmp_path / "run"


def restore(folder: Path, step: int | None = None, like: State | None = None):
    with Checkpoints(folder) as checkpoints:
        items, meta = checkpoints.restore(step, {"state": like or state()})
        return items["state"], meta


def test_round_trip_is_bit_exact_and_typed(saved):
    loaded, meta = restore(saved)
    assert_same(loaded, state(2))
    assert meta == {"window": [0.5, 2]}
    assert_same(restore(saved, 1)[0], state(1))
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(loaded))


def test_layout_of_the_asked_tree_and_single_items(tmp_path):
    wide = devices.replicate({"a": np.arange(6, dtype=np.float32)})
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(0, {"params": wide, "empty": {}, "other": {"x": np.zeros(3)}})
        checkpoints.wait()
        like = {
            "params": {"a": jax.ShapeDtypeStruct((6,), np.float32, sharding=devices.replicated())},
            "empty": {},
        }
        items, meta = checkpoints.restore(None, like)
        assert items.keys() == like.keys()
        assert items["params"]["a"].sharding == devices.replicated()
        assert items["empty"] == {} and meta == {}
        plain, _ = checkpoints.restore(0, {"other": {"x": jax.ShapeDtypeStruct((3,), np.float64)}})
        assert isinstance(plain["other"]["x"], np.ndarray)


def test_the_last_two_steps_are_kept_and_a_step_is_saved_once(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step() is None
        for step in (3, 5, 9):
            assert checkpoints.save(step, {"state": state(step)})
        assert not checkpoints.save(9, {"state": state(4)})
    assert sorted(entry.name for entry in tmp_path.iterdir() if entry.name.isdigit()) == ["5", "9"]
    assert_same(restore(tmp_path)[0], state(9))


def test_saving_copies_before_the_arrays_are_donated(tmp_path):
    expected = np.arange(1 << 20, dtype=np.float32)
    array = jnp.asarray(expected)
    overwrite = jax.jit(lambda a: a * 0.0 - 1.0, donate_argnums=0)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"a": {"x": array}})
        array = overwrite(array)
        checkpoints.wait()
        items, _ = checkpoints.restore(1, {"a": {"x": array}})
    np.testing.assert_array_equal(items["a"]["x"], expected)


def test_every_flipped_bit_of_a_leaf_is_found(tmp_path):
    rng = np.random.default_rng(0)
    # Large enough to get files of their own (Orbax keeps small leaves in its index, which has a
    # checksum), and random in every bit, so that they are not compressed and can be found there.
    tree = {name: rng.integers(2**32, size=4096, dtype=np.uint32) for name in ("first", "second")}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"params": tree})
        checkpoints.wait()
        for name, leaf in tree.items():
            for position in rng.integers(leaf.nbytes, size=8):
                bad = bytearray(leaf.tobytes())
                bad[position] ^= 1 << int(rng.integers(8))
                assert replace_bytes(tmp_path / "1", leaf.tobytes(), bytes(bad)) > 0
                with pytest.raises(UserError) as error:
                    checkpoints.restore(1, {"params": tree})
                assert str(error.value) == (
                    f"{tmp_path / '1'}: damaged checkpoint: params['{name}'] is not what was saved "
                    f"(CRC-32); delete {tmp_path / '1'} to go on from the start"
                )
                replace_bytes(tmp_path / "1", bytes(bad), leaf.tobytes())
        assert_same(checkpoints.restore(1, {"params": tree})[0]["params"], tree)


def test_flipped_bits_of_compressed_weights_are_damage_or_harmless(tmp_path):
    rng = np.random.default_rng(0)
    tree = {name: rng.normal(size=4096).astype(np.float32) for name in ("first", "second")}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"params": tree})
        checkpoints.wait()
        by_us = by_others = 0
        for path in (tmp_path / "1" / "params").rglob("d/*"):
            good = path.read_bytes()
            for position in rng.integers(len(good), size=10):
                bad = bytearray(good)
                bad[position] ^= 1 << int(rng.integers(8))
                path.write_bytes(bad)
                try:
                    items, _ = checkpoints.restore(1, {"params": tree})
                except UserError as error:
                    by_us += "is not what was saved" in str(error)
                    by_others += "is not what was saved" not in str(error)
                else:
                    assert_same(items["params"], tree)
            path.write_bytes(good)
    assert by_us > 0 and by_others > 0


def test_flipped_bit_in_the_index_is_damage(saved):
    bias = np.asarray(state(2).params["conv"]["bias"]).tobytes()
    assert replace_bytes(saved / "2", bias, bytes([bias[0] ^ 1]) + bias[1:]) > 0
    with pytest.raises(UserError, match="2: damaged checkpoint: .* to go on from step 1$"):
        restore(saved, 2)


def replace_bytes(folder: Path, old: bytes, new: bytes) -> int:
    """Replaces the bytes of a leaf (Orbax does not shrink random ones) in all copies of them."""
    count = 0
    for path in folder.rglob("*"):
        if path.is_file() and old in (content := path.read_bytes()):
            path.write_bytes(content.replace(old, new))
            count += content.count(old)
    return count


def test_truncated_or_missing_files_are_damage_and_the_older_step_is_named(saved):
    files = [path for path in (saved / "2").rglob("*") if path.is_file() and path.stat().st_size]
    reported = 0
    for path in files:
        good = path.read_bytes()
        for half in (good[: len(good) // 2], None):
            path.unlink()
            if half is not None:
                path.write_bytes(half)
            try:
                loaded, meta = restore(saved, 2)
            except UserError as error:
                assert str(error).startswith(f"{saved / '2'}: damaged checkpoint: ")
                assert str(error).endswith(f"delete {saved / '2'} to go on from step 1")
                assert "\n" not in str(error)
                reported += 1
            else:  # a file that only Orbax's listings use
                assert_same(loaded, state(2))
                assert meta == {"window": [0.5, 2]}
            path.write_bytes(good)
    assert reported >= 4
    assert_same(restore(saved, 1)[0], state(1))


def test_changed_meta_is_found(saved):
    (path,) = (saved / "2" / "meta").rglob("metadata")
    text = path.read_text()
    assert text.count("0.5") == 1
    path.write_text(text.replace("0.5", "0.6"))
    with pytest.raises(UserError, match="damaged checkpoint: meta is not what was saved"):
        restore(saved, 2)


def test_format_of_another_version_is_refused(saved):
    (path,) = (saved / "2" / "meta").rglob("metadata")
    body = json.loads(path.read_text())
    del body["crc32"]
    body["format"] = 99
    body["crc32"] = zlib.crc32(json.dumps(body, sort_keys=True).encode())
    path.write_text(json.dumps(body))
    with pytest.raises(UserError, match="format 99, this program reads format 1"):
        restore(saved, 2)


def test_mismatching_tree_prints_the_difference(saved):
    like = state()
    like.params["conv"]["kernel"] = jnp.zeros((5, 1, 4))
    like.params["head"]["low"] = jnp.zeros(5)
    like.params["new"] = jnp.zeros((2, 2))
    del like.params["conv"]["bias"]
    with pytest.raises(UserError) as error:
        restore(saved, 2, like)
    assert str(error.value).splitlines() == [
        f"{saved / '2'}: not the arrays that this config needs (- needed, + in the checkpoint):",
        "  + state.params['conv']['bias'] float32[4]",
        "  - state.params['conv']['kernel'] float32[5, 1, 4]",
        "  + state.params['conv']['kernel'] float32[3, 1, 4]",
        "  - state.params['head']['low'] float32[5]",
        "  + state.params['head']['low'] bfloat16[5]",
        "  - state.params['new'] float32[2, 2]",
    ]


def test_long_differences_are_cut(saved):
    with pytest.raises(UserError) as error, Checkpoints(saved) as checkpoints:
        checkpoints.restore(2, {"state": {str(i): np.zeros(1) for i in range(30)}})
    leaves = len(jax.tree.leaves(state())) + 30
    assert str(error.value).endswith(f"  ... and {leaves - checkpoint.MAX_DIFFERENCES} more")


def test_missing_steps_and_items(saved, tmp_path):
    with pytest.raises(UserError, match=r"run: no checkpoint of step 7; there are steps 1, 2$"):
        restore(saved, 7)
    with pytest.raises(UserError, match=r"new: no checkpoint$"):
        restore(tmp_path / "new")
    with Checkpoints(saved) as checkpoints, pytest.raises(UserError, match=r"  - gone\['a'\]"):
        checkpoints.restore(1, {"gone": {"a": np.zeros(2)}})


def test_unwritable_folder_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/run: cannot write a checkpoint \("):
        Checkpoints(tmp_path / "file" / "run")


SAVER = """
import os, resource, signal, sys, time
import numpy as np
from imitation_refinement.runtime.checkpoint import Checkpoints
from imitation_refinement.errors import UserError

def tree(seed):
    return {"params": {"a": np.random.default_rng(seed).normal(size=SIZE).astype(np.float32)}}

folder, mode = sys.argv[1:]
SIZE = 1 << 22
checkpoints = Checkpoints(folder)
checkpoints.save(1, tree(1))
checkpoints.wait()
if mode == "killed":
    checkpoints.save(2, tree(2))
    os.kill(os.getpid(), signal.SIGKILL)
elif mode == "full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    try:
        checkpoints.save(2, tree(2))
        checkpoints.wait()
    except UserError as error:
        print(error)
"""


def run_saver(folder: Path, mode: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", SAVER, str(folder), mode],
        capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip


def assert_step_one_alone(folder: Path) -> None:
    expected = np.random.default_rng(1).normal(size=1 << 22).astype(np.float32)
    with Checkpoints(folder) as checkpoints:
        assert checkpoints.latest_step() == 1
        items, _ = checkpoints.restore(None, {"params": {"a": expected}})
        np.testing.assert_array_equal(items["params"]["a"], expected)
        assert checkpoints.save(2, {"params": {"a": expected}})


def test_sigkill_while_saving_leaves_the_older_step(tmp_path):
    run = run_saver(tmp_path / "run", "killed")
    assert run.returncode == -signal.SIGKILL
    # Shows that the kill came while the files were being written.
    assert any("tmp" in entry.name for entry in (tmp_path / "run").iterdir())
    assert_step_one_alone(tmp_path / "run")
    assert not any("tmp" in entry.name for entry in (tmp_path / "run").iterdir())


def test_full_disk_while_saving_is_a_user_error_and_leaves_the_older_step(tmp_path):
    run = run_saver(tmp_path / "run", "full")
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(f"{tmp_path / 'run'}: cannot write a checkpoint (")
    assert "complete checkpoints are kept" in run.stdout
    assert run.stdout.count("\n") == 1
    assert_step_one_alone(tmp_path / "run")
