"""Configs: overrides on the command line, validation against one table, comparison of two runs.

Belongs here: everything about a ConfigDict that does not depend on what its fields mean. The
fields with their defaults are in `configs/`; the table of what they may be is given to `validate`.
"""

import difflib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags
from ml_collections import ConfigDict, config_flags

from imitation_refinement.errors import UserError

ABSENT = "(absent)"
# Fields that change how a run is done and not what it computes.
MAY_DIFFER = ("run",)


class Check(NamedTuple):
    """What a field may be.

    Attributes:
        allowed: in words; completes "must be ...".
        accepts: the test.
    """

    allowed: str
    accepts: Callable[[Any], bool]


def boolean() -> Check:
    """Allows True and False."""
    return Check("True or False", lambda value: isinstance(value, bool))


def integer(minimum: int | None = None, maximum: int | None = None) -> Check:
    """Allows whole numbers within inclusive limits."""
    return Check(
        "a whole number" + _limits(minimum, maximum, None, None),
        lambda value: _is_int(value) and _within(value, minimum, maximum, None, None),
    )


def number(
    minimum: float | None = None,
    maximum: float | None = None,
    *,
    above: float | None = None,
    below: float | None = None,
    infinite: bool = False,
) -> Check:
    """Allows numbers within inclusive (minimum, maximum) or exclusive (above, below) limits.

    Never NaN, and infinite ones only if so said.
    """
    return Check(
        "a number" + _limits(minimum, maximum, above, below),
        lambda value: (
            (_is_int(value) or isinstance(value, float))
            and (math.isfinite(value) or (infinite and not math.isnan(value)))
            and _within(value, minimum, maximum, above, below)
        ),
    )


def text() -> Check:
    """Allows strings that are not empty."""
    return Check("a string", lambda value: isinstance(value, str) and value != "")


def possibly_empty_text() -> Check:
    """Allows strings."""
    return Check("a string, which may be empty", lambda value: isinstance(value, str))


def choice(*values: Any) -> Check:
    """Allows some values."""
    return Check(
        "one of " + ", ".join(map(repr, values)),
        lambda value: any(type(value) is type(other) and value == other for other in values),
    )


def sequence(check: Check, length: int | None = None) -> Check:
    """Allows lists and tuples of allowed values, not empty, of `length` if it is given."""
    return Check(
        f"a sequence of {length or 'one or more'} values, each {check.allowed}",
        lambda value: (
            isinstance(value, list | tuple)
            and len(value) > 0
            and length in (None, len(value))
            and all(map(check.accepts, value))
        ),
    )


def optional(check: Check) -> Check:
    """Allows None beside what `check` allows."""
    return Check(f"{check.allowed}, or None", lambda value: value is None or check.accepts(value))


def fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """Flattens a nested config to {'section.field': value}, in its order (ConfigDict: by name)."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping | ConfigDict):
            flat |= {f"{name}.{inner}": leaf for inner, leaf in fields(value).items()}
        else:
            flat[name] = value
    return flat


def validate(config: Mapping[str, Any], spec: Mapping[str, Check]) -> None:
    """Checks every field of a config.

    Args:
        config: nested config.
        spec: 'section.field' -> what it may be, for exactly the fields that the config must have.

    Raises:
        UserError: names the field, the value given and what is allowed.
    """
    given = fields(config)
    for name in given:
        if name not in spec:
            raise UserError(f"config.{name} is no field of this program{_nearest(name, spec)}")
    for name, check in spec.items():
        if name not in given:
            raise UserError(f"config.{name} is missing: must be {check.allowed}")
        if not check.accepts(given[name]):
            raise UserError(f"config.{name} = {given[name]!r}: must be {check.allowed}")


def first_difference(
    old: Mapping[str, Any], new: Mapping[str, Any], may_differ: Sequence[str] = ()
) -> tuple[str, Any, Any] | None:
    """Returns the first field in which two configs differ, in the order of the new one.

    Args:
        old: nested config or its JSON; a tuple equals a list, 1 equals 1.0.
        new: the other one.
        may_differ: fields or whole sections ('run.workers', 'run') that are not compared.

    Returns:
        (field, old value, new value), ABSENT for the value of a field that one of them lacks;
        None if they are equal.
    """
    old_fields, new_fields = fields(_plain(old)), fields(_plain(new))
    for name in [*new_fields, *(name for name in old_fields if name not in new_fields)]:
        if any(name == free or name.startswith(f"{free}.") for free in may_differ):
            continue
        values = old_fields.get(name, ABSENT), new_fields.get(name, ABSENT)
        if values[0] != values[1]:
            return name, *values
    return None


def to_json(config: Mapping[str, Any]) -> str:
    """Returns the resolved config as indented JSON, fields in the order of `fields`."""
    return json.dumps(_plain(config), indent=2) + "\n"


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Parses the command line; for `app.run(main, flags_parser=parse_flags)`.

    The flag `config` must be defined by `config_flags.DEFINE_config_file`. Each
    `--config.section.field` is looked up before ml_collections sees it, because there a mistyped
    one ends in a traceback.

    Raises:
        UserError: in one line: an unknown flag or field with the nearest name, a value of the
            wrong type, a config file that is missing or refuses its preset.
    """
    overrides = [match[1] for arg in argv if (match := re.match(r"--?(?:no)?config\.([^=]+)", arg))]
    try:
        path = _config_path(argv) or flags.FLAGS["config"].default
        # Without overrides ml_collections would load a file that is not there only when it is read.
        if path and not Path(path.partition(":")[0]).is_file():
            raise UserError(f"--config={path}: there is no such file")
        if overrides and path:
            known = fields(_load(path))
            for name in overrides:
                if name not in known:
                    raise UserError(
                        f"--config.{name}: this config has no such field{_nearest(name, known)}"
                    )
        return flags.FLAGS(list(argv))
    except (flags.Error, ValueError, TypeError, OSError) as error:
        # ml_collections puts a traceback into the message; what was raised stands in its last line.
        raise UserError(str(error).strip().splitlines()[-1]) from error


def _config_path(argv: Sequence[str]) -> str | None:
    for arg, following in zip(argv, [*argv[1:], None], strict=True):
        if match := re.fullmatch(r"--?config(?:=(.*))?", arg):
            return match[1] if "=" in arg else following
    return None


def _load(path: str) -> ConfigDict:
    values = flags.FlagValues()
    argv = ["load", f"--config={path}"]
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=argv)
    values(argv)
    return values.config


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    """Names the nearest field, if any is near; the right last part in a wrong section is near."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    if not close:
        tails: dict[str, str] = {}
        for field in known:
            tails.setdefault(field.rsplit(".", 1)[-1], field)
        tail = difflib.get_close_matches(name.rsplit(".", 1)[-1], tails, n=1, cutoff=0.6)
        close = [tails[near] for near in tail] or difflib.get_close_matches(name, known, n=1)
    return f"; the nearest is config.{close[0]}" if close else ""


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping | ConfigDict):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


Limit = float | None


def _within(value: float, minimum: Limit, maximum: Limit, above: Limit, below: Limit) -> bool:
    return (
        (minimum is None or value >= minimum)
        and (maximum is None or value <= maximum)
        and (above is None or value > above)
        and (below is None or value < below)
    )


def _limits(minimum: Limit, maximum: Limit, above: Limit, below: Limit) -> str:
    words = {"at least": minimum, "at most": maximum, "above": above, "below": below}
    parts = [f"{word} {limit}" for word, limit in words.items() if limit is not None]
    return ", " + " and ".join(parts) if parts else ""
