"""The config fields that stages read, whatever the application, and the rules that join them.

Meanings and defaults stand beside the fields in `configs/`. What an application adds are its
`TaskFields`, in its own `fields.py`.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from ml_collections import ConfigDict

from imitation_refinement.config import (
    Check,
    boolean,
    choice,
    integer,
    number,
    possibly_empty_text,
    sequence,
    text,
    validate,
)
from imitation_refinement.errors import UserError
from imitation_refinement.method.networks import (
    build_classifier,
    build_refiner,
    classifier_names,
    refiner_names,
)

TRAINING: dict[str, Check] = {
    "dtype": choice("float32", "bfloat16"),
    "steps": integer(1),
    "batch_size": integer(1),
    "optimizer": choice("adam", "rmsprop"),
    "learning_rate": number(above=0.0),
    "schedule": choice("constant", "cosine"),
    "warmup_steps": integer(0),
    "clip_norm": number(0.0),
}
CLASSIFIER: dict[str, Check] = {
    **TRAINING,
    "prototype_weight": number(0.0),
    "distance": choice("sqeuclidean", "euclidean"),
    "distance_scale": number(0.0),
}
# Trained like the classifier, seen by no refiner. Those trained on imperfect examples are readers.
JUDGE: dict[str, Check] = {"data": choice("ideal", "imperfect"), **CLASSIFIER}
REFINER: dict[str, Check] = {
    "targeted": boolean(),
    **TRAINING,
    "steps": integer(0),
    "prediction_weight": number(0.0),
    "regularization_weight": number(0.0),
    "prototype_weight": number(0.0),
    "norm": number(1.0, infinite=True),
    "psi": choice("identity", "first_conv", "second_conv"),
    "pair_weight": number(0.0),
    "pair_recognition": number(0.0),
    "pretrain_steps": integer(0),
    "pretrain_learning_rate": number(above=0.0),
    "pairs_after_pretraining": boolean(),
    "ema_decay": number(0.0, 1.0),
}
EVALUATE: dict[str, Check] = {
    "folds": integer(2),
    "run_folds": integer(1),
    "batch_size": integer(1),
    "ideal_count": integer(1),
    "bootstrap": integer(10),
}
RUN: dict[str, Check] = {
    "workers": integer(0),
    "threads": integer(0),
    "log_every": integer(1),
    "checkpoint_every": integer(1),
    "tensorboard": boolean(),
    "cache_dir": possibly_empty_text(),
}


class TaskFields(NamedTuple):
    """What the config fields of a task may be, where tasks differ.

    Attributes:
        ndim: number of spatial axes of an example, which says what networks there are.
        data: of section `data`.
        evaluate: of section `evaluate`.
        rules: checks what joins several fields; raises UserError.
        sections: further sections, by name.
    """

    ndim: int
    data: Mapping[str, Check]
    evaluate: Mapping[str, Check]
    rules: Callable[[ConfigDict], None]
    sections: Mapping[str, Mapping[str, Check]] = {}


def any_number(check: Check) -> Check:
    """Allows sequences of allowed values, and an empty one."""
    some = sequence(check)
    return Check(f"() or {some.allowed}", lambda value: value in ((), []) or some.accepts(value))


def spec(fields: TaskFields, judges: Iterable[str] = ()) -> dict[str, Check]:
    """Returns 'section.field' -> check for an application's configs with judges of these names."""
    classifier = {"network": choice(*classifier_names(fields.ndim))}
    sections: dict[str, Mapping[str, Check]] = {
        "data": fields.data,
        "classifier": classifier | CLASSIFIER,
        **{f"judges.{name}": classifier | JUDGE for name in judges},
        "refiner": {"network": choice(*refiner_names(fields.ndim))} | REFINER,
        "evaluate": fields.evaluate,
        "run": RUN,
        **fields.sections,
    }
    flat = {"task": text(), "seed": integer(0, 2**31 - 1)}
    for section, checks in sections.items():
        flat |= {f"{section}.{name}": check for name, check in checks.items()}
    return flat


def check(config: ConfigDict, fields: TaskFields) -> None:
    """Checks every field of an application's config, and the few rules that join two of them.

    Raises:
        UserError: names the field, the value given and what is allowed.
    """
    judges = config.get("judges", ConfigDict())
    for name in judges:
        if not re.fullmatch("[a-z][a-z0-9_]*", name):
            raise UserError(
                f"config.judges.{name}: the name of a judge must be of a-z, 0-9 and _, a letter "
                "first"
            )
    validate(config, spec(fields, judges))
    fields.rules(config)
    shared_rules(config)


def shared_rules(config: ConfigDict) -> None:
    """Checks a config of any task; UserError names the field."""
    if config.evaluate.run_folds > config.evaluate.folds:
        raise UserError(
            f"config.evaluate.run_folds = {config.evaluate.run_folds}: must be at most "
            f"config.evaluate.folds = {config.evaluate.folds}"
        )
    refiner = config.refiner
    pairs = refiner.pair_weight > 0 or refiner.pair_recognition > 0
    if refiner.steps == 0 and refiner.pretrain_steps == 0:
        raise UserError(
            "config.refiner.steps = 0: the refiner would not be trained; set it or "
            "config.refiner.pretrain_steps above 0"
        )
    if refiner.pretrain_steps > 0 and not pairs:
        raise UserError(
            f"config.refiner.pretrain_steps = {refiner.pretrain_steps}: pre-training needs pairs: "
            "set config.refiner.pair_weight or pair_recognition above 0, or this to 0"
        )
    if pairs and refiner.pretrain_steps == 0 and not refiner.pairs_after_pretraining:
        raise UserError(
            "config.refiner.pairs_after_pretraining = False: without pre-training no pair is ever "
            "seen; set config.refiner.pretrain_steps above 0, or this to True"
        )
    for name, section in trained(config).items():
        check_schedule(name, section)
    if refiner.schedule == "cosine" and 0 < refiner.pretrain_steps <= refiner.warmup_steps:
        raise UserError(
            f"config.refiner.pretrain_steps = {refiner.pretrain_steps}: must be above "
            f"config.refiner.warmup_steps = {refiner.warmup_steps}, or 0"
        )


def trained(config: ConfigDict) -> dict[str, ConfigDict]:
    """Returns the sections of what every task trains, by name."""
    judges = config.get("judges", ConfigDict())
    sections = {"classifier": config.classifier, "refiner": config.refiner}
    return sections | {f"judges.{name}": section for name, section in judges.items()}


def check_length(field: str, length: int, sections: Mapping[str, ConfigDict]) -> None:
    """Checks that the networks of all sections take examples of `length` points, of that field."""
    for name, section in sections.items():
        network = f"config.{name}.network = {section.network!r}"
        if section.network in refiner_names(1):
            multiple = build_refiner(section).axis_multiple
            if length % multiple:
                raise UserError(
                    f"{field} = {length}: must be a multiple of {multiple}, "
                    f"such as {-(-length // multiple) * multiple}, for {network}"
                )
        elif length < (smallest := build_classifier(section, 2).smallest_axis):
            raise UserError(f"{field} = {length}: must be {smallest} or more for {network}")


def check_schedule(name: str, section: ConfigDict) -> None:
    """Checks that warming up ends before training does; UserError names the field."""
    if section.schedule == "cosine" and 0 < section.steps <= section.warmup_steps:
        raise UserError(
            f"config.{name}.warmup_steps = {section.warmup_steps}: must be below "
            f"config.{name}.steps = {section.steps}"
        )
