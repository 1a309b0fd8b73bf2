"""The one command, on digits."""

import numpy as np
import pytest
from program import ROOT, stages

from configs.digits import get_config
from imitation_refinement.applications import check_config
from imitation_refinement.digits.handwritten import load_uci
from imitation_refinement.errors import UserError
from imitation_refinement.runtime.files import read_json, read_npz

SMOKE = f"--config={ROOT / 'configs' / 'digits.py'}:smoke"


@pytest.mark.parametrize("preset", ["", "uci", "smoke", "paper", "sweep", "sweep_smoke"])
def test_every_preset_is_valid(preset):
    check_config(get_config(preset))


def test_an_unknown_preset_names_the_known_ones():
    with pytest.raises(ValueError, match="no preset 'big'; there are .*'paper'"):
        get_config("big")


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("images_per_class", 51, "images_per_class = 51: must be a whole number"),
        ("source", "svhn", "one of 'mnist', 'uci'"),
        ("fonts", ("kalam", "comic"), "'comic' is none of kalam"),
    ],
)
def test_a_bad_field_is_one_line(field, value, message):
    config = get_config("smoke")
    config.data[field] = value
    with pytest.raises(UserError, match=message):
        check_config(config)


def test_networks_for_patterns_do_not_take_images():
    config = get_config("smoke")
    config.refiner.network = "unet_34k"
    with pytest.raises(UserError, match="config.refiner.network = 'unet_34k': .*unet_flow_digits"):
        check_config(config)


@pytest.mark.slow
def test_one_command_refines_digits_offline(program, tmp_path):
    workdir = tmp_path / "run"
    program(workdir, config=SMOKE)
    assert stages(workdir) == {
        "classifier", "judge/other_seed", "judge/other_network", "judge/reader",
        "refiner/fold_0", "evaluate", "report",
    }  # fmt: skip
    arrays = read_npz(workdir / "evaluation" / "arrays.npz")
    np.testing.assert_array_equal(np.round(255 * arrays["raw"]), load_uci().test_image)
    assert arrays["refined"].min() >= 0 and arrays["refined"].max() <= 1
    results = read_json(workdir / "evaluation" / "results.json")
    assert results["quality"] == {}
    assert 0 < results["measures"]["off_stroke"]["value"] < 1
    assert results["accuracy"]["judges"]["reader"]["reader"] is True
    page = (workdir / "report.html").read_text()
    assert "What refinement does to each digit" in page
    output = program(workdir, config=SMOKE)
    assert "nothing left to do" in output
