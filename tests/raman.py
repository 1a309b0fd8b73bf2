"""A third application, as a newcomer would write one: Raman-like spectra of made-up compounds.

One class, one table of fields, one line (`APPLICATION`): what `applications.py` says is enough.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from presets import preset

from imitation_refinement.applications import Application
from imitation_refinement.config import integer, number
from imitation_refinement.evaluation.inputs import EvaluationInputs
from imitation_refinement.stages.fields import EVALUATE, TaskFields, check_length, trained
from imitation_refinement.tasks import (
    SEEN,
    TRAIN,
    IdealData,
    ImperfectData,
    Measure,
    Picture,
)

# Bands of each compound, shares of the axis.
COMPOUNDS = {"alphene": (0.2, 0.5), "betane": (0.3, 0.6, 0.8), "gammol": (0.4, 0.75)}


class RamanTask:
    """Spectra with maximum 1, float32 `[L, 1]`; ideal ones are sharp, imperfect ones fluoresce."""

    class_names = tuple(COMPOUNDS)
    noun, group_noun = "spectra", "samples"
    reading = None

    def __init__(self, config: ConfigDict, cache_dir: Path, workers: int):
        self._data = config.data
        self.input_shape = (config.data.length, 1)
        label = np.arange(config.data.count, dtype=np.int32) % len(COMPOUNDS)
        split = np.where(np.arange(len(label)) % 5 == 4, SEEN, TRAIN).astype(np.int8)
        self.ideal = IdealData(
            label,
            split,
            lambda index, rng: self._spectrum(label[index], rng.normal(0.0, 0.01)),
            lambda index: self._spectrum(label[index], 0.0),
        )
        made = [self.pair(np.random.default_rng((config.seed, i)), i) for i in range(len(label))]
        pattern, truth, label = map(np.array, zip(*made, strict=True))
        self.imperfect = ImperfectData(pattern, truth, label, np.arange(len(label)) // 3)

    def pair(
        self, rng: np.random.Generator, index: int | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.integer]:
        """An ideal spectrum on a background with noise, the spectrum, and its class."""
        index = int(rng.integers(self._data.count)) if index is None else index
        label = np.int32(index % len(COMPOUNDS))
        truth = self._spectrum(label, 0.0)
        slope = np.linspace(0.5, 0.0, len(truth), dtype=np.float32)[:, None]
        noise = self._data.noise * rng.random(truth.shape, np.float32)
        return (truth + slope + noise) / (truth + slope + noise).max(), truth, label

    def measures(self, inputs: EvaluationInputs) -> Mapping[str, Measure]:
        """How much background is left at the end where there are no bands."""
        return {"left": Measure("Background that is left", float(inputs.refined[:, :8].mean()))}

    def pictures(
        self, inputs: EvaluationInputs, results: Mapping[str, Any]
    ) -> Mapping[str, Picture]:
        """None of its own."""
        return {}

    def _spectrum(self, label: int, shift: float) -> np.ndarray:
        axis = np.linspace(0.0, 1.0, self._data.length)
        places = np.array(COMPOUNDS[self.class_names[label]]) + shift
        bands = 1.0 / (1.0 + ((axis[:, None] - places) / 0.015) ** 2)
        spectrum = bands.sum(axis=1, keepdims=True)
        return (spectrum / spectrum.max()).astype(np.float32)


def raman_rules(config: ConfigDict) -> None:
    """Checks what joins two fields; UserError names the field."""
    check_length("config.data.length", config.data.length, trained(config))


FIELDS = TaskFields(
    1, {"length": integer(32), "count": integer(15), "noise": number(0.0)}, EVALUATE, raman_rules
)
APPLICATION = Application(RamanTask, FIELDS)


def raman_config(cache_dir: Path) -> ConfigDict:
    """The smoke preset of X-ray patterns with other data."""
    config = preset("smoke")
    config.task = "raman"
    del config.data
    config.data = ConfigDict({"length": 128, "count": 45, "noise": 0.05})
    config.run.cache_dir = str(cache_dir)
    return config
