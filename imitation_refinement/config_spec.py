"""Every config field and what it may be: the one table that `config.validate` is given.

Meanings and defaults stand beside the fields in `configs/`.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from ml_collections import ConfigDict

from imitation_refinement.comparison.methods import METHODS
from imitation_refinement.config import (
    Check,
    boolean,
    choice,
    integer,
    number,
    optional,
    possibly_empty_text,
    sequence,
    text,
    validate,
)
from imitation_refinement.config_rules import digits_rules, shared_rules, tables_rules, xrd_rules
from imitation_refinement.digits.augment import Changes
from imitation_refinement.digits.handwritten import FEWEST, MOST
from imitation_refinement.errors import UserError
from imitation_refinement.method.networks import classifier_names, refiner_names

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
# Methods that are compared with ours; meanings are in `baselines`.
ADDA: dict[str, Check] = {
    "steps": integer(1),
    "batch_size": integer(1),  # of each domain
    "learning_rate": number(above=0.0),  # of the target encoder
    "discriminator_learning_rate": number(above=0.0),
    "discriminator_steps": integer(0),  # of `steps`, the first, without the target encoder
    "batch_norm": choice("eval", "train"),
    "label_weight": number(0.0),
}
GTA: dict[str, Check] = {
    "steps": integer(1),
    "batch_size": integer(1),  # of each domain
    "learning_rate": number(above=0.0),
    "decay": number(0.0),  # the rate of D, F and C is learning_rate / (1 + decay * step)
    "adversarial_weight": number(0.0),
    "target_weight": number(0.0),
    "noise": integer(1),
    "generator_features": integer(8),
    "discriminator_features": integer(1),
    "warm_start": boolean(),  # whether F and C start from the source classifier
    "label_weight": number(0.0),
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
XRD_DATA: dict[str, Check] = {
    "wavelength": number(above=0.0),
    "b_iso": number(0.0),
    "grid.axis": choice("geometric_q", "q", "two_theta"),
    "grid.q_min": number(above=0.0),
    "grid.q_max": number(above=0.0),
    "grid.length": integer(16),
    "cif_dir": possibly_empty_text(),
    "structures": possibly_empty_text(),
    "materials_project": possibly_empty_text(),
    "label": choice("crystal_system", "space_group", "phase"),
    "ideal.prototypes": integer(7),
    "ideal.members": integer(1),
    "ideal.unseen_fraction": number(0.0, 0.9),
    "ideal.seen_fraction": number(0.0, 0.9),
    "ideal.strain": number(0.0, 0.05),
    "ideal.smallest_class": integer(1),
    "ideal.store": choice("memory", "records"),
    "ideal.size_nm": sequence(number(above=0.0), 2),
    "ideal.lorentzian": number(0.0, 1.0),
    "ideal.coverage": sequence(number(0.0, 0.6), 2),
    "ideal.augment": boolean(),
    "ideal.texture": number(0.0),
    "imperfect.measured": possibly_empty_text(),
    "imperfect.wavelength": possibly_empty_text(),
    "imperfect.count": integer(2),
    "imperfect.profile": choice("clean", "mild", "paper_like", "hard"),
    "imperfect.severity": optional(number(0.0, 3.0)),
    "imperfect.ranges.spread": optional(number(0.0)),
    "imperfect.ranges.size_nm": optional(sequence(number(above=0.0), 2)),
    "imperfect.ranges.microstrain": optional(number(0.0)),
    "imperfect.ranges.texture": optional(number(0.0)),
    "imperfect.ranges.strain": optional(sequence(number(above=0.0), 2)),
    "imperfect.ranges.background": optional(sequence(number(above=0.0), 2)),
    "imperfect.ranges.hump": optional(sequence(number(0.0), 2)),
    "imperfect.ranges.counts": optional(sequence(number(above=0.0), 2)),
    "imperfect.ranges.residual": optional(number(0.0, 1.0)),
    "imperfect.ranges.floor": optional(number(0.0)),
    "imperfect.ranges.zero_error": optional(number(0.0)),
    "imperfect.ranges.bleed": optional(number(0.0, 1.0)),
    "imperfect.ranges.fewer": optional(number(0.0, 0.5)),
    "imperfect.ranges.more": optional(number(0.0, 0.5)),
    "imperfect.k_alpha2": number(0.0, 1.0),
    "imperfect.spikes": number(0.0),
    "imperfect.missing": number(0.0, 0.9),
    "imperfect.displacement": number(0.0),
    "imperfect.impurity": number(0.0, 1.0),
    "imperfect.chebyshev": number(0.0),
    "imperfect.lorentzian": number(0.0, 1.0),
    "imperfect.coverage": sequence(number(0.0, 0.6), 2),
}


CHANGES: dict[str, Check] = {name: number(0.0) for name in Changes._fields} | {
    "thicker": number(0.0, 2.0),
    "thinner": number(0.0, 2.0),
    "blur": number(0.0, 1.0),
}
DIGITS_DATA: dict[str, Check] = {
    "source": choice("mnist", "uci"),
    "mnist_dir": possibly_empty_text(),
    "images_per_class": integer(FEWEST, MOST),
    "test": choice("test", "validation"),
    "fonts": sequence(text()),
    **{
        f"{images}.{name}": check
        for images in ("ideal", "views", "pairs")
        for name, check in CHANGES.items()
    },
    "pairs.clean": number(0.0, 1.0),
}
# The data say which images are tested: there is one fold.
DIGITS_EVALUATE = EVALUATE | {"folds": choice(1), "run_folds": choice(1)}


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


_OF_IMAGES = {"network": choice(*classifier_names(2))} | CLASSIFIER


def _any_number(check: Check) -> Check:
    """Allows sequences of allowed values, and an empty one."""
    some = sequence(check)
    return Check(f"() or {some.allowed}", lambda value: value in ((), []) or some.accepts(value))


DIGITS_SWEEP: dict[str, Mapping[str, Check]] = {
    "sweep": {
        "seeds": integer(1),
        "images_per_class": sequence(integer(FEWEST, MOST)),
        "one_font": boolean(),
        "adapted": _any_number(choice("adda", "adda_labels", "gta", "gta_labels")),
        "adapted_images_per_class": sequence(integer(FEWEST, MOST)),
        "label_weight": number(above=0.0),
    },
    "sweep.adda": ADDA,
    "sweep.gta": GTA,
    "sweep.scratch_as_paper": _OF_IMAGES,
    "sweep.scratch": _OF_IMAGES,
    "sweep.fine_tuned": _OF_IMAGES,
}
_OF_PATTERNS = {"network": choice(*classifier_names(1))} | CLASSIFIER
_METHODS = _any_number(choice(*METHODS))
XRD_TABLES: dict[str, Mapping[str, Check]] = {
    "tables": {
        "seeds": integer(1),
        "methods": _METHODS,
        "standard_methods": _METHODS,
        "other_methods": _METHODS,
        "other_standard_methods": _METHODS,
        "alphas": _any_number(number(0.0)),
        "betas": _any_number(number(0.0)),
        "norms": _any_number(number(1.0)),
        "psis": _any_number(choice("first_conv", "second_conv")),
        "lambdas": _any_number(number(above=0.0)),
        "label_weight": number(above=0.0),
        "non_targeted_alpha": number(0.0),
    },
    "tables.other_classifier": _OF_PATTERNS,
    "tables.scratch": CLASSIFIER,  # of the network of the classifier, as the next
    "tables.fine_tuned": CLASSIFIER,
    "tables.simulated": CLASSIFIER,
    "tables.paper_refiner": {"network": choice(*refiner_names(1))}
    | REFINER
    | {"steps": integer(1)},
    "tables.adda": ADDA,
    "tables.gta": GTA,
}
DIGITS = TaskFields(2, DIGITS_DATA, DIGITS_EVALUATE, digits_rules)
XRD = TaskFields(1, XRD_DATA, EVALUATE, xrd_rules)
TASKS = {
    "xrd": XRD,
    "xrd_tables": XRD._replace(rules=tables_rules, sections=XRD_TABLES),
    "digits": DIGITS,
    "digits_sweep": DIGITS._replace(sections=DIGITS_SWEEP),
}

# Fields that change how a run is done and not what it computes.
MAY_DIFFER = ("run",)


def spec(task: str, judges: Iterable[str] = ()) -> dict[str, Check]:
    """Returns 'section.field' -> check for the configs of a task with judges of these names."""
    fields = TASKS[task]
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
    flat = {"task": choice(*TASKS), "seed": integer(0, 2**31 - 1)}
    for section, checks in sections.items():
        flat |= {f"{section}.{name}": check for name, check in checks.items()}
    return flat


def check_config(config: ConfigDict) -> None:
    """Checks every field, and the few rules that join two of them.

    Raises:
        UserError: names the field, the value given and what is allowed.
    """
    task = config.get("task")
    if task not in TASKS:
        raise UserError(f"config.task = {task!r}: must be one of {', '.join(TASKS)}")
    judges = config.get("judges", ConfigDict())
    for name in judges:
        if not re.fullmatch("[a-z][a-z0-9_]*", name):
            raise UserError(
                f"config.judges.{name}: the name of a judge must be of a-z, 0-9 and _, a letter "
                "first"
            )
    validate(config, spec(task, judges))
    TASKS[task].rules(config)
    shared_rules(config)
