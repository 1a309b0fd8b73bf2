"""The few rules that join several config fields, which one by one are already what they may be.

What each field may be by itself is in `config_spec`, which calls these.
"""

from collections.abc import Mapping

from ml_collections import ConfigDict

from imitation_refinement.digits.fonts import find_fonts
from imitation_refinement.errors import UserError
from imitation_refinement.method.networks import build_classifier, build_refiner, refiner_names


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
    for name, section in _trained(config).items():
        check_schedule(name, section)
    if refiner.schedule == "cosine" and 0 < refiner.pretrain_steps <= refiner.warmup_steps:
        raise UserError(
            f"config.refiner.pretrain_steps = {refiner.pretrain_steps}: must be above "
            f"config.refiner.warmup_steps = {refiner.warmup_steps}, or 0"
        )


def _trained(config: ConfigDict) -> dict[str, ConfigDict]:
    """Returns the sections of what every task trains, by name."""
    judges = config.get("judges", ConfigDict())
    sections = {"classifier": config.classifier, "refiner": config.refiner}
    return sections | {f"judges.{name}": section for name, section in judges.items()}


def xrd_rules(config: ConfigDict) -> None:
    """Checks a config of X-ray patterns; UserError names the field."""
    grid = config.data.grid
    if grid.q_min >= grid.q_max:
        raise UserError(
            f"config.data.grid.q_min = {grid.q_min}: must be below "
            f"config.data.grid.q_max = {grid.q_max}"
        )
    check_structures(config.data)
    _check_length(grid.length, _trained(config))


def _check_length(length: int, sections: Mapping[str, ConfigDict]) -> None:
    """Checks that the networks of all sections take patterns of `length` points."""
    for name, section in sections.items():
        network = f"config.{name}.network = {section.network!r}"
        if section.network in refiner_names(1):
            multiple = build_refiner(section).axis_multiple
            if length % multiple:
                raise UserError(
                    f"config.data.grid.length = {length}: must be a multiple of {multiple}, "
                    f"such as {-(-length // multiple) * multiple}, for {network}"
                )
        elif length < (smallest := build_classifier(section).smallest_axis):
            raise UserError(
                f"config.data.grid.length = {length}: must be {smallest} or more for {network}"
            )


def digits_rules(config: ConfigDict) -> None:
    """Checks a config of digits; UserError names the field."""
    find_fonts(config.data.fonts)


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
    if tables.paper_refiner.pair_weight or tables.paper_refiner.pair_recognition:
        raise UserError("config.tables.paper_refiner: the paper's refiner has no pairs")
    networks = {f"tables.{name}": tables[name] for name in ("other_classifier", "paper_refiner")}
    _check_length(config.data.grid.length, networks)
    for name in ("other_classifier", "paper_refiner", "fine_tuned", "scratch", "simulated"):
        check_schedule(f"tables.{name}", tables[name])


def check_schedule(name: str, section: ConfigDict) -> None:
    """Checks that warming up ends before training does; UserError names the field."""
    if section.schedule == "cosine" and 0 < section.steps <= section.warmup_steps:
        raise UserError(
            f"config.{name}.warmup_steps = {section.warmup_steps}: must be below "
            f"config.{name}.steps = {section.steps}"
        )


def check_structures(data: ConfigDict) -> None:
    """Checks where crystals come from, and that these can have the labels asked for.

    Raises:
        UserError: names the field.
    """
    sources = [name for name in ("cif_dir", "structures", "materials_project") if data[name]]
    if len(sources) > 1:
        raise UserError(
            f"config.data.{sources[1]} = {data[sources[1]]!r}: config.data.{sources[0]} is given "
            "too; structures come from one of them"
        )
    if data.label != "crystal_system" and not sources:
        raise UserError(
            f"config.data.label = {data.label!r}: generated crystals have crystal systems only; "
            "give structures by config.data.cif_dir, structures or materials_project"
        )
