"""The config fields of the digits, and the rules that join them."""

from collections.abc import Mapping

from ml_collections import ConfigDict

from imitation_refinement.baselines.fields import ADDA, GTA
from imitation_refinement.config import (
    Check,
    boolean,
    choice,
    integer,
    number,
    possibly_empty_text,
    sequence,
    text,
)
from imitation_refinement.digits.augment import Changes
from imitation_refinement.digits.fonts import find_fonts
from imitation_refinement.digits.handwritten import FEWEST, MOST
from imitation_refinement.method.networks import classifier_names
from imitation_refinement.stages.fields import CLASSIFIER, EVALUATE, TaskFields, any_number

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


_OF_IMAGES = {"network": choice(*classifier_names(2))} | CLASSIFIER


DIGITS_SWEEP: dict[str, Mapping[str, Check]] = {
    "sweep": {
        "seeds": integer(1),
        "images_per_class": sequence(integer(FEWEST, MOST)),
        "one_font": boolean(),
        "adapted": any_number(choice("adda", "adda_labels", "gta", "gta_labels")),
        "adapted_images_per_class": sequence(integer(FEWEST, MOST)),
        "label_weight": number(above=0.0),
    },
    "sweep.adda": ADDA,
    "sweep.gta": GTA,
    "sweep.scratch_as_paper": _OF_IMAGES,
    "sweep.scratch": _OF_IMAGES,
    "sweep.fine_tuned": _OF_IMAGES,
}


def digits_rules(config: ConfigDict) -> None:
    """Checks a config of digits; UserError names the field."""
    find_fonts(config.data.fonts)


DIGITS = TaskFields(2, DIGITS_DATA, DIGITS_EVALUATE, digits_rules)
SWEEP = DIGITS._replace(sections=DIGITS_SWEEP)
