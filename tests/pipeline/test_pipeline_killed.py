"""A run that is made stage by stage and killed on its way, beside one that was not.

What is killed is a process of its own, the rest runs in this one. All share generated data and
compiled programs.
"""

import signal
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from program import JUDGES, STAGES, contents, stages, trained

from imitation_refinement.runtime.files import read_npz


class Step(NamedTuple):
    """One command of the run that is killed: what came of it, and the folder afterwards."""

    status: int
    output: str
    stages: set[str]
    files: dict[str, str]


def below(files: dict[str, str], folder: str) -> dict[str, str]:
    return {path: digest for path, digest in files.items() if path.startswith(f"{folder}/")}


@pytest.fixture(scope="module")
def by_stages(program, here, tmp_path_factory) -> dict[str, Step]:
    """A run made stage by stage and killed twice; the key is the mode, or the mode and 'killed'."""
    workdir = tmp_path_factory.mktemp("by_stages") / "run"
    done: dict[str, Step] = {}

    def record(key: str, status: int, output: str) -> None:
        done[key] = Step(status, output, stages(workdir), contents(workdir))

    def run(mode: str) -> None:
        record(mode, 0, here(workdir, mode))

    run("data")
    # The handler is in place by then, and answers when the compilation is over.
    when = "classifier: compiling"
    killed = program.interrupt(workdir, "--mode=classifier", when=when, number=signal.SIGTERM)
    record("classifier killed", *killed)
    run("classifier")
    killed = program.interrupt(
        workdir, "--mode=refiner", "--config.run.checkpoint_every=1",
        when="refiner/fold_0: step 4/8", number=signal.SIGKILL,
    )  # fmt: skip
    record("refiner killed", *killed)
    for mode in ("refiner", "judge", "train", "evaluate", "report"):
        run(mode)
    done["end"] = Step(0, str(workdir), set(), {})
    return done


def test_sigterm_saves_a_checkpoint_and_exits_with_143(by_stages):
    step = by_stages["classifier killed"]
    assert step.status == 143
    assert step.output.endswith(
        "classifier: saved at step 1 of 8; the same command goes on from there\n"
    )
    assert "classifier/1/commit_success.txt" in step.files
    assert "classifier: resumed at step 1 of 8" in by_stages["classifier"].output


def test_a_killed_refiner_goes_on_from_its_checkpoint(by_stages):
    step = by_stages["refiner killed"]
    assert step.status == -signal.SIGKILL
    assert "refiner/fold_1" not in step.stages
    assert "refiner/pretrained" in step.stages
    assert "refiner/fold_0: resumed at step" in by_stages["refiner"].output
    assert "refiner/fold_1: first step" in by_stages["refiner"].output


def test_a_run_killed_twice_ends_with_the_bits_of_one_that_was_not(by_stages, reference):
    workdir = Path(by_stages["end"].output)
    arrays, expected = (read_npz(w / "evaluation" / "arrays.npz") for w in (workdir, reference))
    assert arrays.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(arrays[name], expected[name], strict=True, err_msg=name)
    for name in (
        "evaluation/results.json",
        "stages/classifier.json",
        "stages/judge/other_seed.json",
    ):
        assert (workdir / name).read_bytes() == (reference / name).read_bytes()

    def rows(folder: Path) -> list[str]:
        return (folder / "metrics.jsonl").read_text().splitlines()

    assert rows(workdir) == rows(reference)


def test_each_mode_does_its_stages_and_no_other(by_stages):
    done = {"data": set(), "classifier killed": set(), "classifier": {"classifier"}}
    done["refiner"] = done["classifier"] | {
        f"refiner/{n}" for n in ("pretrained", "fold_0", "fold_1")
    }
    done["judge"] = done["train"] = done["refiner"] | JUDGES
    done["evaluate"] = done["train"] | {"evaluate"}
    done["report"] = STAGES
    for mode, expected in done.items():
        assert by_stages[mode].stages == expected, mode
    for mode in ("classifier", "refiner", "judge"):
        assert trained(by_stages[mode].output), mode
    for mode in ("data", "train", "evaluate", "report"):
        assert not trained(by_stages[mode].output), mode
    assert by_stages["data"].output.endswith("data: 126 ideal and 40 imperfect\n")
    assert "report.html" not in by_stages["evaluate"].files
    assert "report.html" in by_stages["report"].files


def test_the_frozen_classifier_keeps_its_bytes(by_stages):
    frozen = below(by_stages["classifier"].files, "classifier")
    assert any(path.startswith("classifier/trained/8/classifier/") for path in frozen)
    for mode in ("refiner", "judge", "evaluate", "report"):
        assert below(by_stages[mode].files, "classifier") == frozen, mode
