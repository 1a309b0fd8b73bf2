"""The config fields of the comparison, and the rules that join them."""

from collections.abc import Mapping

from ml_collections import ConfigDict

from imitation_refinement.comparison.methods import METHODS
from imitation_refinement.config import Check, choice, integer, number
from imitation_refinement.errors import UserError
from imitation_refinement.method.networks import classifier_names, refiner_names
from imitation_refinement.stages.fields import (
    CLASSIFIER,
    REFINER,
    any_number,
    check_schedule,
)
from imitation_refinement.xrd.fields import XRD, check_length, xrd_rules

_OF_PATTERNS = {"network": choice(*classifier_names(1))} | CLASSIFIER
_METHODS = any_number(choice(*METHODS))
XRD_TABLES: dict[str, Mapping[str, Check]] = {
    "tables": {
        "seeds": integer(1),
        "methods": _METHODS,
        "standard_methods": _METHODS,
        "other_methods": _METHODS,
        "other_standard_methods": _METHODS,
        "alphas": any_number(number(0.0)),
        "betas": any_number(number(0.0)),
        "norms": any_number(number(1.0)),
        "psis": any_number(choice("first_conv", "second_conv")),
        "lambdas": any_number(number(above=0.0)),
        "label_weight": number(above=0.0),
        "non_targeted_alpha": number(0.0),
    },
    "tables.other_classifier": _OF_PATTERNS,
    "tables.paper_refiner": {"network": choice(*refiner_names(1))}
    | REFINER
    | {"steps": integer(1)},
    **{
        f"tables.{name}": fields
        for method in METHODS.values()
        for name, fields in method.fields.items()
    },
}


def tables_rules(config: ConfigDict) -> None:
    """Checks a config of a comparison; UserError names the field."""
    xrd_rules(config)
    tables = config.tables
    if tables.other_classifier.network == config.classifier.network:
        raise UserError(
            f"config.tables.other_classifier.network = {config.classifier.network!r}: must differ "
            "from config.classifier.network"
        )
    if config.classifier.prototype_weight == 0:
        raise UserError(
            "config.classifier.prototype_weight = 0.0: must be above 0; the standard classifier is "
            "trained too"
        )
    paper = tables.paper_refiner
    if paper.pair_weight or paper.pair_recognition or paper.pretrain_steps:
        raise UserError("config.tables.paper_refiner: the paper's refiner has no pairs")
    networks = {f"tables.{name}": tables[name] for name in ("other_classifier", "paper_refiner")}
    check_length(config.data.grid.length, networks)
    for name in ("other_classifier", "paper_refiner", "fine_tuned", "scratch", "simulated"):
        check_schedule(f"tables.{name}", tables[name])


TABLES = XRD._replace(rules=tables_rules, sections=XRD_TABLES)
