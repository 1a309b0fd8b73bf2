"""The shipped configs against the table of fields, and the rules that join two fields."""

import ast
import runpy
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from imitation_refinement.applications import APPLICATIONS, check_config
from imitation_refinement.config import fields
from imitation_refinement.errors import UserError
from imitation_refinement.stages.fields import spec

get_config = runpy.run_path(str(Path(__file__).parents[2] / "configs" / "xrd.py"))["get_config"]
TABLES = ("tables", "tables_smoke", "tables_paper", "tables_measured")
PRESETS = ("", "smoke", "paper", "vgg", "measured", *TABLES)


def changed(changes: dict[str, object]) -> ConfigDict:
    config = get_config()
    config.update_from_flattened_dict(changes)
    return config


def test_these_are_all_presets():
    with pytest.raises(ValueError, match="no preset 'other'") as error:
        get_config("other")
    named = ast.literal_eval(str(error.value).partition("there are ")[2])
    assert sorted(PRESETS) == named


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_valid_and_has_exactly_the_fields_of_the_table(preset):
    config = get_config(preset)
    check_config(config)
    assert set(fields(config)) == set(spec(APPLICATIONS[config.task].fields, config.judges))


@pytest.mark.parametrize("preset", ["paper", "vgg"])
def test_presets_of_the_paper_leave_out_every_extension(preset):
    config = get_config(preset)
    assert not config.data.ideal.augment
    for name in ("pair_weight", "pair_recognition", "pretrain_steps"):
        assert config.refiner[name] == 0


def test_an_unknown_task_is_named():
    with pytest.raises(
        UserError,
        match=r"^config\.task = 'mnist': must be one of xrd, xrd_tables, digits, digits_sweep$",
    ):
        check_config(changed({"task": "mnist"}))


JUDGE = "judges.other_network"
COSINE = {"refiner.schedule": "cosine"}
NO_PAIRS = {"refiner.pair_weight": 0.0, "refiner.pair_recognition": 0.0}


@pytest.mark.parametrize(
    ("field", "value", "others", "mend"),
    [
        ("data.grid.q_min", 5.9, {"data.grid.q_max": 5.9}, "below config.data.grid.q_max = 5.9"),
        ("data.grid.length", 1000, {}, "multiple of 16, such as 1008, for config.refiner.network"),
        (
            "data.grid.length",
            1008,
            {f"{JUDGE}.network": "vgg19"},
            f"must be 1024 or more for config.{JUDGE}.network = 'vgg19'",
        ),
        ("evaluate.run_folds", 4, {"evaluate.folds": 3}, "at most config.evaluate.folds = 3"),
        ("refiner.pretrain_steps", 1, NO_PAIRS, "config.refiner.pair_weight"),
        (
            "refiner.pairs_after_pretraining",
            False,
            {"refiner.pretrain_steps": 0},
            "config.refiner.pretrain_steps above",
        ),
        ("refiner.steps", 0, {"refiner.pretrain_steps": 0}, "config.refiner.pretrain_steps above"),
        *(
            (
                f"{section}.warmup_steps",
                9,
                {f"{section}.steps": 9, f"{section}.schedule": "cosine"},
                f"below config.{section}.steps = 9",
            )
            for section in ("classifier", "judges.other_seed", "refiner")
        ),
        (
            "refiner.pretrain_steps",
            7,
            COSINE | {"refiner.warmup_steps": 7},
            "above config.refiner.warmup_steps = 7",
        ),
    ],
)
def test_a_broken_rule_names_its_field_and_the_mend(field, value, others, mend):
    with pytest.raises(UserError) as error:
        check_config(changed(others | {field: value}))
    message = str(error.value)
    assert message.startswith(f"config.{field} = {value}: ")
    assert mend in message and "\n" not in message


@pytest.mark.parametrize(
    "changes",
    [
        {"data.grid.q_min": 5.8, "data.grid.q_max": 5.9},
        {"data.grid.length": 1024, f"{JUDGE}.network": "vgg19"},
        {"evaluate.run_folds": 3, "evaluate.folds": 3},
        NO_PAIRS | {"refiner.pretrain_steps": 0},
        {"refiner.pretrain_steps": 60, "refiner.pair_weight": 0.0, "refiner.pair_recognition": 1.0},
        {"refiner.pretrain_steps": 60, "refiner.pair_weight": 1.0, "refiner.pair_recognition": 0.0},
        {f"{JUDGE}.warmup_steps": 8, f"{JUDGE}.steps": 9},
        {f"{JUDGE}.warmup_steps": 9, f"{JUDGE}.steps": 9, f"{JUDGE}.schedule": "constant"},
        COSINE | {"refiner.pretrain_steps": 8, "refiner.warmup_steps": 7},
        COSINE | {"refiner.pretrain_steps": 0, "refiner.warmup_steps": 7},
        {
            "refiner.pretrain_steps": 7,
            "refiner.warmup_steps": 7,
            "refiner.schedule": "constant",
        },
    ],
)
def test_the_last_allowed_values_pass(changes):
    check_config(changed(changes))


def test_there_may_be_no_judge_or_others():
    config = get_config()
    config.judges = ConfigDict()
    check_config(config)
    config.judges.reader = ConfigDict(get_config().judges.other_seed.to_dict())
    config.judges.reader.data = "imperfect"
    check_config(config)


@pytest.mark.parametrize("name", ["Reader", "a/b", "1st", "a b"])
def test_a_judge_whose_name_makes_no_folder_is_refused(name):
    config = get_config()
    config.judges[name] = ConfigDict(config.judges.other_seed.to_dict())
    with pytest.raises(UserError, match=f"^config.judges.{name}: the name of a judge must be"):
        check_config(config)


def test_a_judge_trained_on_anything_else_is_refused():
    with pytest.raises(
        UserError, match=r"^config\.judges\.other_seed\.data = 'mnist': must be one"
    ):
        check_config(changed({"judges.other_seed.data": "mnist"}))


@pytest.mark.parametrize(
    ("field", "value"),
    [("classifier.network", "cnn_digits"), ("refiner.network", "unet_digits"),
     ("judges.other_seed.network", "cnn_digits")],
)  # fmt: skip
def test_networks_for_images_are_none_for_patterns(field, value):
    with pytest.raises(UserError, match=rf"^config\.{field} = '{value}': must be one of"):
        check_config(changed({field: value}))
