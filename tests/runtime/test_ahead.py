"""Who compiles, who waits, and what a thread that fails does not do."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imitation_refinement.runtime import ahead
from imitation_refinement.runtime.ahead import WAITED, Jitted, compiled_ahead

SECONDS = 20  # no test takes them


@pytest.fixture(autouse=True)
def two_processors(monkeypatch):
    monkeypatch.setattr(ahead, "available", lambda: 2)


@pytest.fixture
def events():
    """What `jax.monitoring` is told meanwhile: name of the event, name of the thread."""
    told = []

    def listen(event, seconds, **_):
        told.append((event.rsplit("/", 1)[-1], threading.current_thread().name))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield told
    jax.monitoring.unregister_event_duration_listener(listen)


class Slow:
    """In the place of a jitted function: `begun` is set when it is entered, `go` lets it end."""

    def __init__(self):
        self.begun, self.go, self.done = threading.Event(), threading.Event(), []

    def _take(self, what):
        self.begun.set()
        assert self.go.wait(SECONDS)
        self.done.append(what)

    def __call__(self, x):
        self._take("called")
        return x + 1

    def lower(self, x):
        return self

    def compile(self):
        self._take("compiled")


def run_beside(function, *arguments):
    thread = threading.Thread(target=function, args=arguments)
    thread.start()
    return thread


def test_what_the_thread_compiled_is_what_is_called(events):
    program = Jitted(jax.jit(lambda x, seed: (x * 3 + seed, x.sum()), donate_argnums=0))
    like = jax.ShapeDtypeStruct((5,), jnp.float32)
    assert [leaf.shape for leaf in program.result(like, 7)] == [(5,), ()]
    compiled = threading.Event()

    def compile():
        program.compile(like, 7)
        compiled.set()

    with compiled_ahead([compile]):
        assert compiled.wait(SECONDS)
        values, total = program(jnp.ones(5), 4)
    np.testing.assert_array_equal(values, np.full(5, 7.0))
    assert total == 5
    compilers = [thread for event, thread in events if event == "backend_compile_duration"]
    assert "compiled ahead" in compilers
    events.clear()
    program(jnp.ones(5), 9)
    assert events == []  # neither traced nor compiled


def test_a_call_waits_for_the_thread_that_compiles(events):
    slow = Slow()
    program = Jitted(slow)
    compiling = run_beside(program.compile, 1)
    assert slow.begun.wait(SECONDS)
    threading.Timer(0.05, slow.go.set).start()
    assert program(1) == 2
    compiling.join()
    assert slow.done == ["compiled", "called"]
    assert [event for event, _ in events] == [WAITED.rsplit("/", 1)[-1]]


def test_what_is_being_called_is_left_alone(events):
    slow = Slow()
    program = Jitted(slow)
    calling = run_beside(program, 1)
    assert slow.begun.wait(SECONDS)
    program.compile(1)  # returns at once
    assert slow.done == []
    slow.go.set()
    calling.join()
    assert slow.done == ["called"] and events == []
    program.compile(1)
    assert slow.done == ["called", "compiled"]


def test_a_call_that_fails_lets_others_go_on():
    program = Jitted(jax.jit(lambda x: x.reshape(3)))
    like = jax.ShapeDtypeStruct((4,), jnp.float32)
    for use in (program, program.compile):
        with pytest.raises(TypeError, match="reshape"):
            use(like if use == program.compile else jnp.ones(4))
    assert program(jnp.ones(3)).shape == (3,)


def test_a_program_that_cannot_be_compiled_is_said_and_passed_over(caplog):
    caplog.set_level("INFO", logger="absl")
    over = threading.Event()

    def fail():
        raise ValueError("no such shape\nand a long story")

    with compiled_ahead([fail, over.set]):
        assert over.wait(SECONDS)
    assert "not compiled ahead: no such shape" in caplog.messages


def test_after_the_block_no_other_program_is_begun():
    slow, late = Slow(), []
    before = set(threading.enumerate())
    with pytest.raises(KeyError), compiled_ahead([slow.compile, lambda: late.append(1)]):
        assert slow.begun.wait(SECONDS)
        raise KeyError  # the block's error is the one that is seen
    (thread,) = set(threading.enumerate()) - before
    slow.go.set()
    thread.join(SECONDS)
    assert not thread.is_alive() and slow.done == ["compiled"] and late == []


@pytest.mark.parametrize(
    ("backend", "processes", "processors"), [("gpu", 1, 2), ("cpu", 2, 2), ("cpu", 1, 1)]
)
def test_nothing_is_compiled_ahead_where_it_would_hurt(monkeypatch, backend, processes, processors):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(jax, "process_count", lambda: processes)
    monkeypatch.setattr(ahead, "available", lambda: processors)
    before = threading.active_count()
    with compiled_ahead([lambda: threading.Event().wait(0.2)]):
        assert threading.active_count() == before
