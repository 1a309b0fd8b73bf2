"""Digits as a task of the pipeline: typeset ones are ideal, handwritten ones imperfect."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from imitation_refinement.digits import figures
from imitation_refinement.digits.augment import Changes, change
from imitation_refinement.digits.fonts import find_fonts
from imitation_refinement.digits.handwritten import (
    Handwritten,
    first_per_class,
    load_mnist,
    load_uci,
    reading_indices,
)
from imitation_refinement.digits.honesty import off_stroke_change
from imitation_refinement.digits.synz import DIGITS, SIZE, Synz
from imitation_refinement.evaluation.inputs import EvaluationInputs
from imitation_refinement.evaluation.metrics import bootstrap_interval, resampled_ratio
from imitation_refinement.tasks import (
    SEEN,
    TRAIN,
    IdealData,
    ImperfectData,
    Measure,
    Picture,
)

_READERS_HELD_OUT = 11  # every so many images tell how well a reader reads


class DigitsTask:
    """The data sets of a config: images from 0 to 1, float32 `[28, 28, 1]`; see `tasks.Task`.

    Imperfect examples are the first `images_per_class` training images of each class, in the fold
    -1 of what is never tested, and the test images (or those of the validation), each its own
    group, in fold 0.

    Args:
        config: the whole config; `config.data` and `config.seed` decide every byte of the data.
        cache_dir: folder for generated and downloaded data.
        workers: not needed; drawing takes a second.
    """

    class_names: tuple[str, ...] = tuple(map(str, range(DIGITS)))
    input_shape: tuple[int, ...] = (SIZE, SIZE, 1)
    noun = "images"
    group_noun = "images"

    def __init__(self, config: ConfigDict, cache_dir: Path, workers: int):
        data = config.data
        self._data, self._cache_dir, self._seed = data, cache_dir, config.seed
        self._resamples = config.evaluate.bootstrap
        self._ideal_changes = Changes(**data.ideal)
        self._view_changes = Changes(**data.views)
        self._clean = data.pairs.clean
        self._pair_changes = Changes(**{k: v for k, v in data.pairs.items() if k != "clean"})
        self.fonts = find_fonts(data.fonts)

    @cached_property
    def _synz(self) -> Synz:
        return Synz(self.fonts, self._cache_dir)

    @cached_property
    def _synz_training(self) -> np.ndarray:
        return np.flatnonzero(self._synz.split == TRAIN)

    @cached_property
    def handwritten(self) -> Handwritten:
        """The handwritten digits of the config's source."""
        if self._data.source == "uci":
            return load_uci()
        return load_mnist(self._data.mnist_dir, self._cache_dir)

    @cached_property
    def ideal(self) -> IdealData:
        """Typeset digits on the whole grid of shifts and angles."""
        return IdealData(self._synz.label, self._synz.split, self._ideal_view, self._ideal_fixed)

    @cached_property
    def imperfect(self) -> ImperfectData:
        """The few handwritten images of the refiner, then those that it is tested on."""
        data = self.handwritten
        few = first_per_class(data.label, self._data.images_per_class)
        image, label = data.test_image, data.test_label
        if self._data.test == "validation":
            image, label = data.image[data.validation], data.label[data.validation]
        pattern = _unit(np.concatenate([data.image[few], image]))
        count = len(pattern)
        fold = np.where(np.arange(count) < len(few), -1, 0).astype(np.int32)

        def view(index: int, rng: np.random.Generator) -> np.ndarray:
            return change(pattern[index, ..., 0], rng, self._view_changes)[..., None]

        labels = np.concatenate([data.label[few], label])
        return ImperfectData(pattern, None, labels, np.arange(count, dtype=np.int32), fold, view)

    @cached_property
    def reading(self) -> IdealData:
        """Handwritten training images that no refiner and no validation has."""
        data = self.handwritten
        chosen = reading_indices(data)
        split = np.where(np.arange(len(chosen)) % _READERS_HELD_OUT == 0, SEEN, TRAIN)

        def fixed(index: int) -> np.ndarray:
            return _unit(data.image[chosen[index]])

        return IdealData(
            data.label[chosen], split.astype(np.int8), lambda index, rng: fixed(index), fixed
        )

    def pair(
        self, rng: np.random.Generator, index: int | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.integer]:
        """Returns a typeset digit as if written by hand, what it was, and its class.

        One in `config.data.pairs.clean` is not changed: what is ideal shall stay as it is.
        """
        index = int(rng.choice(self._synz_training)) if index is None else index
        truth = self._synz.image(index)
        clean = rng.random() < self._clean
        image = truth if clean else change(truth, rng, self._pair_changes)
        return image[..., None], truth[..., None], self._synz.label[index]

    def measures(self, inputs: EvaluationInputs) -> Mapping[str, Measure]:
        """The share of all change that is more than 2 pixels from every stroke."""
        far, total = off_stroke_change(inputs.raw, inputs.refined)
        if total.sum() == 0:
            return {}
        low, high = bootstrap_interval(
            np.stack([far, total]),
            inputs.groups,
            seed=self._seed,
            resamples=self._resamples,
            statistic=lambda draws, values: resampled_ratio(draws, *np.asarray(values)),
        )
        label = "share of the change that is more than 2 pixels from every stroke"
        return {"off_stroke": Measure(label, far.sum() / total.sum(), low, high, percent=True)}

    def pictures(
        self, inputs: EvaluationInputs, results: Mapping[str, Any]
    ) -> Mapping[str, Picture]:
        """Raw, refined and difference images of each class."""
        before, after = (
            np.argmax(logits, axis=1) == inputs.labels
            for logits in (inputs.logits_raw, inputs.logits_refined)
        )
        png = figures.refinement_sheet(
            inputs.raw, inputs.refined, inputs.labels, before, after, self.class_names
        )
        caption = (
            "Raw, refined and their difference (blue: ink added, red: ink taken away), the first "
            "test images of each kind. Bar below: green, not recognised before and recognised "
            "after; orange, the other way round; grey, neither; none, both."
        )
        return {"refinements": Picture("What refinement does to each digit", caption, png)}

    def _ideal_view(self, index: int, rng: np.random.Generator) -> np.ndarray:
        image = self._synz.image(index)
        if any(self._ideal_changes):
            image = change(image, rng, self._ideal_changes)
        return image[..., None]

    def _ideal_fixed(self, index: int) -> np.ndarray:
        return self._synz.image(index)[..., None]


def _unit(image: np.ndarray) -> np.ndarray:
    """Returns uint8 `[..., 28, 28]` as float32 `[..., 28, 28, 1]` from 0 to 1."""
    return (image.astype(np.float32) / np.float32(255))[..., None]
