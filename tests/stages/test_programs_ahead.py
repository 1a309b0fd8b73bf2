"""What is compiled ahead is what a run calls: no program of a stage is compiled a second time."""

import jax
import pytest
from test_tasks import Squares, config, registered  # noqa: F401  a fixture

from imitation_refinement import pipeline
from imitation_refinement.runtime.workdir import WorkDir
from imitation_refinement.stages.ahead import programs_ahead
from imitation_refinement.stages.run import Run

pytestmark = [
    pytest.mark.usefixtures("quick_compilation"),
    pytest.mark.usefixtures("registered"),
]
ALGORITHM_1 = {"init_classifier", "step"}
ALGORITHM_2 = {"init_refiner", "refiner_step"}


@pytest.fixture
def compiled():
    """Names of the programs that are compiled meanwhile, one for each time."""
    names = []

    def listen(event, seconds, fun_name="", **_):
        if event.endswith("/backend_compile_duration"):
            names.append(fun_name.removeprefix("jit(").removesuffix(")"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield names
    jax.monitoring.unregister_event_duration_listener(listen)


def new_run(folder, **refiner):
    changed = config()
    changed.refiner.update(refiner)
    run = Run(changed, WorkDir(folder), Squares)
    run.workdir.claim(changed)
    return run


# Rates that no other test has, so that nothing of Algorithm 2 was compiled before.
@pytest.mark.parametrize(
    ("refiner", "programs"),
    [
        ({"pretrain_steps": 2, "learning_rate": 0.011}, 4),
        ({"pair_weight": 0.0, "learning_rate": 0.012}, 2),
        ({"steps": 0, "pretrain_steps": 2, "pretrain_learning_rate": 0.013}, 2),
    ],
)
def test_no_program_of_a_stage_is_compiled_twice(tmp_path, compiled, refiner, programs):
    run = new_run(tmp_path / "squares", **refiner)
    for compile in programs_ahead(run, "refiner"):
        compile()
    assert sum(name in ALGORITHM_2 for name in compiled) == programs
    compiled.clear()
    pipeline.run_stages(run, "refiner")
    assert not (ALGORITHM_1 | ALGORITHM_2) & set(compiled)
    assert programs_ahead(run, "refiner") == []  # all is done
    run.workdir.close()


def test_a_mode_is_told_the_programs_of_its_stages_alone(tmp_path):
    run = new_run(tmp_path / "squares", pretrain_steps=2)
    counts = {mode: len(programs_ahead(run, mode)) for mode in
              ("data", "classifier", "judge", "refiner", "train", "all")}  # fmt: skip
    assert counts == {
        "data": 0, "classifier": 2, "judge": 4, "refiner": 6, "train": 10, "all": 10,
    }  # fmt: skip
    assert "task" not in vars(new_run(tmp_path / "data")) and "task" in vars(run)
    run.workdir.mark_done("judge/reader")
    assert len(programs_ahead(run, "judge")) == 2
    run.workdir.close()
