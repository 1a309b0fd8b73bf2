"""X-ray diffraction as a task of the pipeline: the seven crystal systems on a grid of q."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from imitation_refinement.evaluation_inputs import EvaluationInputs
from imitation_refinement.tasks import TRAIN, IdealData, ImperfectData, Measure, Picture
from imitation_refinement.xrd.crystals import CRYSTAL_SYSTEMS
from imitation_refinement.xrd.grid import Grid, grid_q
from imitation_refinement.xrd.ideal import IdealLines, ideal_lines
from imitation_refinement.xrd.imperfect import imperfect_set
from imitation_refinement.xrd.imperfections import corrupt
from imitation_refinement.xrd.pictures import pattern_pictures
from imitation_refinement.xrd.profiles import IdealViews, ideal_view
from imitation_refinement.xrd.ranges import imperfections_of


class XrdTask:
    """The data sets of a config: powder patterns, max 1, float32 `[L, 1]`; see `tasks.Task`.

    Args:
        config: the whole config; `config.data` and `config.seed` decide every byte of the data.
        cache_dir: folder for generated data.
        workers: processes to generate with; the data do not depend on it.
    """

    class_names: tuple[str, ...] = CRYSTAL_SYSTEMS
    axis_name = "q (1/Å)"
    noun, group_noun = "patterns", "libraries"
    reading: IdealData | None = None

    def __init__(self, config: ConfigDict, cache_dir: Path, workers: int):
        self._data, self._seed = config.data, config.seed
        self._cache_dir, self._workers = cache_dir, workers
        self._ranges, self._options = imperfections_of(config.data)
        ideal = config.data.ideal
        self._views = IdealViews(**{name: ideal[name] for name in IdealViews._fields})
        self.grid = Grid(**config.data.grid, wavelength=config.data.wavelength)
        self.axis: np.ndarray = grid_q(self.grid)
        self.input_shape: tuple[int, ...] = (self.grid.length, 1)

    @cached_property
    def _lines(self) -> IdealLines:
        return ideal_lines(self._data, self._seed, self._cache_dir, self._workers)

    @cached_property
    def _training(self) -> np.ndarray:
        return np.flatnonzero(self._lines.split == TRAIN)

    @cached_property
    def ideal(self) -> IdealData:
        """Simulated patterns of generated crystals."""
        return IdealData(self._lines.label, self._lines.split, self._view, self._fixed)

    @cached_property
    def imperfect(self) -> ImperfectData:
        """Components of simulated composition-spread libraries, a library being a group."""
        found = imperfect_set(self._data, self._seed, self._cache_dir, self._workers)
        return ImperfectData(
            found.pattern[..., None], found.truth[..., None], found.label, found.library
        )

    def pair(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.integer]:
        """Returns an ideal training pattern put through the imperfections, its truth and label."""
        phase, neighbour = rng.choice(self._training, 2)
        lines = (*self._lines.lines(phase), *self._lines.lines(neighbour))
        imperfect, truth = corrupt(*lines, self.grid, rng, self._ranges, self._options)
        return imperfect[:, None], truth[:, None], self._lines.label[phase]

    def measures(self, inputs: EvaluationInputs) -> Mapping[str, Measure]:
        """None beyond those that every task has."""
        return {}

    def pictures(
        self, inputs: EvaluationInputs, results: Mapping[str, Any]
    ) -> Mapping[str, Picture]:
        """Overlays and heat maps of patterns."""
        return pattern_pictures(inputs, self.axis, self.axis_name, self.class_names)

    def _view(self, index: int, rng: np.random.Generator) -> np.ndarray:
        lines = self._lines.lines(index)
        return ideal_view(*lines, self.grid, rng, self._views)[:, None]

    def _fixed(self, index: int) -> np.ndarray:
        rng = np.random.default_rng(np.random.SeedSequence((self._seed, index)))
        plain = self._views._replace(augment=False, coverage=(0.0, 0.0))
        return ideal_view(*self._lines.lines(index), self.grid, rng, plain)[:, None]
