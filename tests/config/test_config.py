import json
import math

import pytest
from absl import flags
from ml_collections import ConfigDict, config_dict, config_flags

from imitation_refinement import config as configs
from imitation_refinement.errors import UserError

FILE = """
from ml_collections import ConfigDict, config_dict

def get_config(preset=""):
    if preset not in ("", "smoke"):
        raise ValueError(f"no preset {preset!r}; there are smoke")
    config = ConfigDict({"seed": 0, "classifier": {"learning_rate": 1e-3, "steps": 10,
                         "blocks": (6, 12)}, "refiner": {"steps": 5}})
    config.refiner.severity = config_dict.placeholder(float)
    if preset:
        config.classifier.steps = 2
    return config
"""
SPEC = {
    "seed": configs.integer(0),
    "classifier.learning_rate": configs.number(above=0),
    "classifier.steps": configs.integer(1),
    "classifier.blocks": configs.sequence(configs.integer(1)),
    "refiner.steps": configs.integer(1),
    "refiner.severity": configs.optional(configs.number(0, 3)),
}


@pytest.fixture
def parse(tmp_path, monkeypatch):
    """Parses a command line as a program with the flag --config would, with flags of its own."""
    file = tmp_path / "some.py"
    file.write_text(FILE)

    def run(*arguments: str, preset: str = "") -> ConfigDict:
        values = flags.FlagValues()
        monkeypatch.setattr(flags, "FLAGS", values)
        argv = ["main.py", f"--config={file}{preset}", *arguments]
        config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=argv)
        flags.DEFINE_enum("mode", "all", ["all", "train"], "", flag_values=values)
        configs.parse_flags(argv)
        return values.config

    return run


def one_line(error) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def test_overrides_and_presets_take_effect(parse):
    config = parse("--config.classifier.learning_rate=1", "--config.classifier.blocks=(1,2,3)")
    assert config.classifier.learning_rate == 1.0
    assert isinstance(config.classifier.learning_rate, float)
    assert config.classifier.blocks == (1, 2, 3)
    assert parse("--config.refiner.severity=1.5", preset=":smoke").to_dict() == {
        "seed": 0,
        "classifier": {"learning_rate": 1e-3, "steps": 2, "blocks": (6, 12)},
        "refiner": {"steps": 5, "severity": 1.5},
    }


@pytest.mark.parametrize(
    ("argument", "asked", "nearest"),
    [
        (
            "--config.classifier.learning_rte=1",
            "classifier.learning_rte",
            "classifier.learning_rate",
        ),
        ("--config.clasifier.steps=1", "clasifier.steps", "classifier.steps"),
        ("--config.learning_rate=1", "learning_rate", "classifier.learning_rate"),
        ("--noconfig.sed", "sed", "seed"),
    ],
)
def test_mistyped_field_names_the_nearest(parse, argument, asked, nearest):
    with pytest.raises(UserError) as error:
        parse(argument)
    assert f"config.{asked}: " in one_line(error)
    assert str(error.value).endswith(f"the nearest is config.{nearest}")


@pytest.mark.parametrize(
    ("argument", "preset", "parts"),
    [
        ("--config.classifier.steps=1e4", "", ["config.classifier.steps=1e4"]),
        ("--config.seed=1", ":quick", ["no preset 'quick'", "smoke"]),
        ("--mdoe=train", "", ["mdoe", "mode"]),
        ("--mode=trian", "", ["trian", "train"]),
    ],
)
def test_other_wrong_arguments_give_one_line(parse, argument, preset, parts):
    with pytest.raises(UserError) as error:
        parse(argument, preset=preset)
    for part in parts:
        assert part in one_line(error)


def test_missing_config_file_is_named(parse):
    with pytest.raises(UserError) as error:
        parse("--config.seed=1", preset=".gone.py")
    assert "some.py.gone.py" in one_line(error)


def valid() -> dict:
    return {
        "seed": 3,
        "classifier": {"learning_rate": 0.1, "steps": 10, "blocks": (6, 12)},
        "refiner": {"steps": 5, "severity": None},
    }


def test_valid_config_passes():
    configs.validate(valid(), SPEC)
    configs.validate(ConfigDict(valid()), SPEC)


@pytest.mark.parametrize(
    ("section", "field", "value", "allowed"),
    [
        ("classifier", "steps", 0, "a whole number, at least 1"),
        ("classifier", "steps", True, "a whole number, at least 1"),
        ("classifier", "steps", 2.0, "a whole number, at least 1"),
        ("classifier", "learning_rate", 0.0, "a number, above 0"),
        ("classifier", "learning_rate", math.nan, "a number, above 0"),
        ("classifier", "learning_rate", math.inf, "a number, above 0"),
        ("classifier", "learning_rate", None, "a number, above 0"),
        ("classifier", "blocks", (), "a sequence of one or more values, each a whole number"),
        ("classifier", "blocks", (6, 0), "a sequence of one or more values, each a whole number"),
        ("refiner", "severity", 3.1, "a number, at least 0 and at most 3, or None"),
    ],
)
def test_wrong_value_names_field_value_and_what_is_allowed(section, field, value, allowed):
    config = valid()
    config[section][field] = value
    with pytest.raises(UserError) as error:
        configs.validate(config, SPEC)
    assert one_line(error).startswith(f"config.{section}.{field} = {value!r}: must be {allowed}")


def test_unknown_and_missing_fields_fail():
    config = valid()
    config["refiner"]["step"] = config["refiner"].pop("steps")
    with pytest.raises(UserError, match=r"^config\.refiner\.step is no .* config\.refiner\.steps$"):
        configs.validate(config, SPEC)
    del config["refiner"]["step"]
    with pytest.raises(UserError, match=r"^config\.refiner\.steps is missing: must be a whole"):
        configs.validate(config, SPEC)


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (configs.boolean(), [True, False], [1, 0, None, "True"]),
        (configs.number(1, infinite=True), [1, 2.5, math.inf], [0.5, -math.inf, math.nan, "1"]),
        (configs.number(above=0, below=1), [0.5], [0, 1, 0.0, 1.0]),
        (configs.choice("adam", "rmsprop", 1), ["adam", 1], ["Adam", True, 1.0, None]),
        (configs.text(), ["a"], ["", None, 1]),
        (configs.possibly_empty_text(), ["a", ""], [None, 1]),
        (configs.sequence(configs.integer(), 2), [(1, 2), [3, 4]], [(1,), (1, 2, 3), "12", 5]),
    ],
)
def test_checks(check, good, bad):
    assert all(map(check.accepts, good))
    assert not any(map(check.accepts, bad))


def test_first_difference():
    old = json.loads(configs.to_json(valid()))
    assert configs.first_difference(old, valid()) is None  # lists and tuples are the same
    new = valid() | {"seed": 4}
    new["refiner"] = {"steps": 6, "severity": None}
    assert configs.first_difference(old, new) == ("seed", 3, 4)
    assert configs.first_difference(old, new, ("seed",)) == ("refiner.steps", 5, 6)
    assert configs.first_difference(old, new, ("seed", "refiner")) is None
    # A name that only begins like an excused one is compared.
    assert configs.first_difference({"run": 1, "runs": 1}, {"run": 2, "runs": 2}, ("run",)) == (
        "runs", 1, 2,
    )  # fmt: skip
    del new["refiner"]["steps"]
    expected = ("refiner.steps", 5, configs.ABSENT)
    assert configs.first_difference(old, new, ("seed",)) == expected
    assert configs.first_difference(new, old, ("seed",)) == (expected[0], expected[2], expected[1])


def test_json_keeps_order_and_resolves_placeholders():
    config = ConfigDict({"z": 1, "a": {"c": (1, 2)}})
    config.severity = config_dict.placeholder(float)
    assert json.loads(configs.to_json(config)) == {"z": 1, "a": {"c": [1, 2]}, "severity": None}
    assert list(json.loads(configs.to_json(valid()))) == ["seed", "classifier", "refiner"]
