"""What all stages share: seeds by name, and the rule for when a stage is finished."""

import numpy as np
import pytest
from ml_collections import ConfigDict

from imitation_refinement.errors import UserError
from imitation_refinement.runtime.workdir import WorkDir
from imitation_refinement.stages.finished import finished, keep
from imitation_refinement.stages.run import STREAMS, Run


def new_run(folder, seed=0):
    return Run(ConfigDict({"seed": seed}), WorkDir(folder), None)


def test_seed_streams_are_those_of_every_result_so_far(tmp_path):
    assert STREAMS == {
        "classifier": 1, "judge": 2, "refiner": 3, "folds": 4, "held_out": 5, "pretraining": 6,
        "calibration": 7, "other": 8, "adda": 9, "gta": 10,
    }  # fmt: skip
    seeds = {new_run(tmp_path, 7).seed(name) for name in STREAMS}
    assert len(seeds) == len(STREAMS)
    by_hand = np.random.SeedSequence((7, 3, 2)).generate_state(1)[0] // 2
    assert new_run(tmp_path, 7).seed("refiner", 2) == by_hand < 2**31
    with pytest.raises(KeyError):
        new_run(tmp_path).seed("refiners")


def test_a_kept_stage_is_found_and_no_other(tmp_path):
    run = new_run(tmp_path)
    tree = {"w": np.arange(6, dtype=np.float32).reshape(2, 3)}
    asked = []

    def like():
        asked.append(True)
        return {"tree": {"w": np.zeros((2, 3), np.float32)}}

    assert finished(run, "some/stage", 4, like) is None
    keep(run, "some/stage", 4, {"tree": tree}, {"seen": 0.5})
    np.testing.assert_array_equal(finished(run, "some/stage", 4, like)["tree"]["w"], tree["w"])
    assert run.workdir.stage_summary("some/stage") == {"seen": 0.5}
    asked.clear()
    assert finished(run, "some/stage", 5, like) is None  # of another number of steps
    assert finished(run, "some/other", 4, like) is None
    (tmp_path / "stages" / "some" / "stage.json").unlink()
    assert finished(run, "some/stage", 4, like) is None  # killed before it was marked
    assert asked == []


def test_a_kept_stage_of_other_shapes_is_refused(tmp_path):
    run = new_run(tmp_path)
    keep(run, "stage", 1, {"tree": {"w": np.zeros(3, np.float32)}})
    with pytest.raises(UserError, match="not the arrays that this config needs"):
        finished(run, "stage", 1, lambda: {"tree": {"w": np.zeros(4, np.float32)}})
