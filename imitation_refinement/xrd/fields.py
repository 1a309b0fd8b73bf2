"""The config fields of X-ray patterns, and the rules that join them."""

from collections.abc import Mapping

from ml_collections import ConfigDict

from imitation_refinement.config import (
    Check,
    boolean,
    choice,
    integer,
    number,
    optional,
    possibly_empty_text,
    sequence,
)
from imitation_refinement.errors import UserError
from imitation_refinement.method.networks import build_classifier, build_refiner, refiner_names
from imitation_refinement.stages.fields import EVALUATE, TaskFields, trained
from imitation_refinement.xrd.symmetry import CRYSTAL_SYSTEMS

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


def xrd_rules(config: ConfigDict) -> None:
    """Checks a config of X-ray patterns; UserError names the field."""
    grid = config.data.grid
    if grid.q_min >= grid.q_max:
        raise UserError(
            f"config.data.grid.q_min = {grid.q_min}: must be below "
            f"config.data.grid.q_max = {grid.q_max}"
        )
    check_structures(config.data)
    check_length(grid.length, trained(config))


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


XRD = TaskFields(1, XRD_DATA, EVALUATE, xrd_rules)


def check_length(length: int, sections: Mapping[str, ConfigDict]) -> None:
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
        elif length < (smallest := build_classifier(section, len(CRYSTAL_SYSTEMS)).smallest_axis):
            raise UserError(
                f"config.data.grid.length = {length}: must be {smallest} or more for {network}"
            )
