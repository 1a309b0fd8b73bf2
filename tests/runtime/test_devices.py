import os
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import distributed_worker as worker
import jax
import numpy as np
import portpicker
import pytest

from imitation_refinement.errors import UserError
from imitation_refinement.runtime import devices
from imitation_refinement.runtime.checkpoint import Checkpoints
from imitation_refinement.runtime.files import read_npz
from imitation_refinement.runtime.loop import abstract

WORKER = Path(__file__).parents[1] / "distributed_worker.py"


def start(
    *arguments: object, device_count: int, script: Path = WORKER, **variables: str
) -> subprocess.Popen:
    """Starts a Python program that sees this many CPU devices."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(WORKER.parents[1]),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={device_count}",
        **variables,
    }
    return subprocess.Popen(
        [sys.executable, str(script), *map(str, arguments)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def start_several(mode: str, folder: Path, count: int = 2) -> list[subprocess.Popen]:
    """Starts processes that make up one run of eight devices."""
    coordinator = f"127.0.0.1:{portpicker.pick_unused_port()}"
    devices = 8 // count
    return [start(mode, folder, i, coordinator, count, device_count=devices) for i in range(count)]


def finish(*processes: subprocess.Popen) -> list[str]:
    """Waits for all; their outputs."""
    try:
        outputs = [process.communicate(timeout=300) for process in processes]
    except subprocess.TimeoutExpired:
        for process in processes:
            process.kill()
        outputs = [process.communicate() for process in processes]
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors[-4000:]
    return [output for output, _ in outputs]


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    finish(start("steps", folder, 0, device_count=1))
    assert (folder / "devices.txt").read_text() == "1 process, 1 cpu device"
    return read_npz(folder / "numbers.npz")


def assert_same_numbers(numbers, expected):
    assert numbers.keys() == expected.keys()
    moved = [name for name in expected if "loss" in name]
    assert len({float(expected[name]) for name in moved}) == len(moved) >= 6
    # A gradient is a sum of 1,500 terms of either sign: its rounding error is of their size, not of
    # its own, and the optimizer's momentum keeps it.
    for name, value in expected.items():
        rtol = 2e-6 if name in moved else 1e-4 if ".opt_state" in name else 2e-5
        np.testing.assert_allclose(numbers[name], value, rtol=rtol, atol=2e-6, err_msg=name)


@pytest.mark.slow
def test_eight_devices_give_the_numbers_of_one(one_device, tmp_path):
    finish(start("steps", tmp_path, 0, device_count=8))
    assert (tmp_path / "devices.txt").read_text() == "1 process, 8 cpu devices"
    assert_same_numbers(read_npz(tmp_path / "numbers.npz"), one_device)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_several_processes_give_the_numbers_of_one_device(one_device, tmp_path, count):
    finish(*start_several("steps", tmp_path, count))
    assert (tmp_path / "devices.txt").read_text() == f"{count} processes, 8 cpu devices"
    assert_same_numbers(read_npz(tmp_path / "numbers.npz"), one_device)
    # What they saved, one process with one device restores to the bit.
    numbers = read_npz(tmp_path / "numbers.npz")
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        like = abstract(partial(worker.classifier_program_of_worker().initialize, 0))
        items, saved = checkpoints.restore(3, {"state": like})
    assert saved == {"processes": count}
    leaves = jax.tree_util.tree_leaves_with_path(items["state"])
    assert len(leaves) > 20
    for path, leaf in leaves:
        name = "ClassifierState" + jax.tree_util.keystr(path)
        np.testing.assert_array_equal(leaf, numbers[name], err_msg=name)


@pytest.mark.slow
def test_sigterm_to_one_of_two_processes_stops_both_at_the_same_saved_step(tmp_path):
    processes = start_several("stop", tmp_path)
    while not (tmp_path / "running 1").exists() and processes[1].poll() is None:
        time.sleep(0.05)
    processes[1].send_signal(signal.SIGTERM)
    finish(*processes)
    first, second = (int((tmp_path / f"stopped {i}").read_text()) for i in (0, 1))
    assert first == second > 3
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        items, _ = checkpoints.restore(None, {"count": np.float32(0)})
        assert checkpoints.latest_step() == first
    assert items["count"] == first


def test_processes_find_each_other_by_what_slurm_sets(tmp_path):
    job = 2**20 + portpicker.pick_unused_port()  # JAX takes the port from the number of the job
    finish(*(
        start("who", tmp_path, number, "auto", 2, device_count=2, SLURM_JOB_ID=str(job),
              SLURM_STEP_NODELIST="localhost", SLURM_STEP_NUM_TASKS="2", SLURM_NTASKS="2",
              SLURM_PROCID=str(number), SLURM_LOCALID=str(number))
        for number in range(2)
    ))  # fmt: skip
    told = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert told == {f"process {number}": "2 processes, 4 cpu devices" for number in range(2)}


def test_arrays_come_back_from_devices_as_they_went(tmp_path):
    tree = {"x": np.arange(12, dtype=np.float32).reshape(4, 3), "label": np.arange(4)[:, None] > 1}
    for there in (devices.to_devices(tree), devices.replicate(tree)):
        jax.tree.map(np.testing.assert_array_equal, jax.device_get(there), tree)
    assert devices.to_devices(tree)["x"].sharding.spec == devices.by_example().spec
    assert devices.replicate(tree)["x"].sharding.is_fully_replicated


@pytest.mark.parametrize(
    ("batch_size", "advice"),
    [(12, "multiple of 8, such as 8 or 16"), (3, "such as 8"), (0, "such as 8"), (-8, "such as 8")],
)
def test_batch_that_does_not_divide_is_told_in_the_words_of_the_config(
    monkeypatch, batch_size, advice
):
    monkeypatch.setattr(jax, "device_count", lambda: 8)
    with pytest.raises(UserError) as error:
        devices.local_batch_size(batch_size, "config.judge.batch_size")
    message = str(error.value)
    assert message.startswith(f"config.judge.batch_size = {batch_size} does not divide over 8 dev")
    assert message.endswith(advice)


def test_local_batch_size_and_padding(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 8)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert devices.local_batch_size(48, "batch_size") == 24
    assert [devices.padded_size(size) for size in (1, 8, 9, 16)] == [8, 8, 16, 16]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, 2, None), "need --coordinator"),
        (("", None, 0), "need --coordinator"),
        (("localhost:1", None, 0), "needs --num_processes and --process_id"),
        (("localhost:1", 2, None), "needs --num_processes and --process_id"),
        (("localhost:1", 2, 2), "--process_id = 2: must be from 0 to 1"),
        (("localhost:1", 2, -1), "--process_id = -1: must be from 0 to 1"),
    ],
)
def test_process_flags_that_do_not_go_together(arguments, message):
    with pytest.raises(UserError, match=message):
        devices.initialize_distributed(*arguments)


def test_joining_after_devices_were_used_is_refused():
    jax.block_until_ready(jax.numpy.zeros(1))
    with pytest.raises(UserError, match=r"--coordinator=localhost:1: .*before"):
        devices.initialize_distributed("localhost:1", 1, 0)


def test_one_process_joins_nothing():
    devices.initialize_distributed(None)
    devices.sync("nothing to wait for")
    assert devices.is_main_process()


def test_a_second_process_compiles_nothing(tmp_path):
    """First parameters and a step, with small programs on the way; a network as small as can be."""
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
            import sys

            import jax
            import numpy as np
            from ml_collections import FrozenConfigDict

            from imitation_refinement.method import networks
            from imitation_refinement.runtime import devices
            from imitation_refinement.stages.classifiers import classifier_program, initial_state

            misses = []
            jax.monitoring.register_event_listener(
                lambda event, **_: misses.append(event) if event.endswith("/cache_misses") else None
            )
            print(devices.enable_compilation_cache(sys.argv[1]))
            networks.CLASSIFIERS["tiny"] = (networks.DenseNet, dict(blocks=(1,), growth=2))
            section = FrozenConfigDict(
                dict(network="tiny", dtype="float32", steps=9, optimizer="adam", learning_rate=1e-3,
                     schedule="cosine", warmup_steps=2, clip_norm=0.0, prototype_weight=1.0,
                     distance="sqeuclidean", distance_scale=0.0)
            )
            program = classifier_program(section, (32, 1), 3)
            state = initial_state(program, 5, None)
            batch = {"x": np.ones((4, 32, 1), np.float32), "label": np.zeros(4, np.int32)}
            state, _ = program.step(state, devices.to_devices(batch), 5)
            print(len(misses))
        """)
    )
    folder = tmp_path / "cache" / "jax"
    run = partial(start, folder, device_count=1, script=program, JAX_DISABLE_MOST_OPTIMIZATIONS="1")
    (first,) = finish(run())
    (second,) = finish(run())
    place, count = first.split()
    assert place == str(folder)
    assert int(count) > 0
    assert second.split() == [place, "0"]


def test_compilation_cache_that_cannot_be_written(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    before = jax.config.jax_compilation_cache_dir
    with pytest.raises(UserError, match=r"compilation cache .*file/x: .*; name another folder"):
        devices.enable_compilation_cache(tmp_path / "file" / "x")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert devices.enable_compilation_cache() is None  # the user's own: a run needs none
    assert jax.config.jax_compilation_cache_dir == before


def test_freed_memory_is_used_again():
    """Touching a block for the second time takes no new pages from the system, in any thread."""
    script = """if True:
        import ctypes, resource, sys, threading
        from imitation_refinement.runtime import devices

        def new_pages(size=64 << 20):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            block = libc.malloc(size)
            libc.memset(block, 1, size)
            libc.free(block)
            return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

        libc = ctypes.CDLL(None)
        libc.malloc.restype = ctypes.c_void_p
        libc.free.argtypes = [ctypes.c_void_p]
        libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
        if not hasattr(libc, "mallopt"):
            print("other")
        else:
            given_back = [new_pages() for _ in range(2)][1]
            assert devices.keep_freed_memory()
            kept = [new_pages() for _ in range(2)][1]
            in_thread = []
            thread = threading.Thread(target=lambda: in_thread.extend(
                new_pages(128 << 20) for _ in range(2)))
            thread.start()
            thread.join()
            print(given_back, kept, in_thread[1])
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if done.stdout.strip() == "other":
        pytest.skip("not the GNU C library")
    given_back, kept, kept_in_thread = map(int, done.stdout.split())
    assert max(kept, kept_in_thread) < 100 < given_back


def test_a_program_that_runs_once_is_compiled_otherwise_and_gives_the_same_bits():
    def drawn(seed):
        keys = jax.random.split(jax.random.key(seed), 3)
        return [
            jax.nn.initializers.lecun_normal()(key, (5, 8, 8)) for key in keys
        ] + [jax.random.normal(keys[0], (7, 16))]  # fmt: skip

    plain = jax.jit(drawn)(3)
    quick = jax.jit(drawn, compiler_options=devices.runs_once())(3)
    for one, other in zip(plain, quick, strict=True):
        np.testing.assert_array_equal(one, other)
