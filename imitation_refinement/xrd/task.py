"""X-ray diffraction as a task of the pipeline: powder patterns on a grid of q, and their classes.

Belongs here: which data a config asks for. They are made elsewhere: crystals generated or read,
imperfect patterns simulated or measured.
"""

import hashlib
from collections.abc import Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from imitation_refinement.errors import UserError
from imitation_refinement.evaluation.inputs import EvaluationInputs
from imitation_refinement.tasks import TRAIN, IdealData, ImperfectData, Measure, Picture
from imitation_refinement.xrd.crystals import CRYSTAL_SYSTEMS
from imitation_refinement.xrd.device_views import device_views
from imitation_refinement.xrd.grid import Q_LABEL, Grid, grid_q
from imitation_refinement.xrd.ideal import IdealLines, ideal_lines, structure_lines
from imitation_refinement.xrd.imperfect import imperfect_set
from imitation_refinement.xrd.imperfections import corrupt
from imitation_refinement.xrd.measured import measured_set
from imitation_refinement.xrd.pictures import pattern_pictures
from imitation_refinement.xrd.profiles import IdealViews, ideal_view
from imitation_refinement.xrd.ranges import imperfections_of
from imitation_refinement.xrd.records import RecordLines, stored_records
from imitation_refinement.xrd.structures.classes import (
    Classes,
    classes_of,
    hold_out,
    library_blocks,
    library_phases,
)
from imitation_refinement.xrd.structures.collection import Structures, read_structures
from imitation_refinement.xrd.structures.materials_project import materials_project


class XrdTask:
    """The data sets of a config: powder patterns, max 1, float32 `[L, 1]`; see `tasks.Task`.

    Args:
        config: the whole config; `config.data` and `config.seed` decide every byte of the data.
        cache_dir: folder for generated data.
        workers: processes to generate with; the data do not depend on it.
        imperfect: the imperfect set, where another seed has made the same.
    """

    axis_name = Q_LABEL
    noun = "patterns"
    reading: IdealData | None = None

    def __init__(
        self,
        config: ConfigDict,
        cache_dir: Path,
        workers: int,
        imperfect: ImperfectData | None = None,
    ):
        self._config, self._data, self._seed = config, config.data, config.seed
        self._cache_dir, self._workers, self._given = cache_dir, workers, imperfect
        self._ranges, self._options = imperfections_of(config.data)
        ideal = config.data.ideal
        self._views = IdealViews(**{name: ideal[name] for name in IdealViews._fields})
        self.grid = Grid(**config.data.grid, wavelength=config.data.wavelength)
        self.axis: np.ndarray = grid_q(self.grid)
        self.input_shape: tuple[int, ...] = (self.grid.length, 1)
        self.group_noun = "samples" if config.data.imperfect.measured else "libraries"
        self.class_names: tuple[str, ...] = (
            CRYSTAL_SYSTEMS if self._structures is None else self._classes.names
        )

    @cached_property
    def _structures(self) -> Structures | None:
        """The user's structures; None where crystals are generated."""
        data = self._data
        path = data.cif_dir or data.structures
        if data.materials_project:
            path = materials_project(data.materials_project, self._cache_dir)
        return read_structures(path, self._cache_dir, self._workers) if path else None

    @cached_property
    def _classes(self) -> Classes:
        assert self._structures is not None
        return classes_of(self._structures, self._data.label, self._data.ideal.smallest_class)

    @cached_property
    def _held_out(self) -> np.ndarray:
        """Which structures the ideal set's training does not see, bool [n]."""
        assert self._structures is not None
        ideal, label = self._data.ideal, self._classes.label
        if self._data.label == "phase":  # each phase is a class, and a class must be seen
            return np.zeros(len(label), bool)
        return hold_out(self._structures, label, ideal.unseen_fraction, self._seed)

    @cached_property
    def _lines(self) -> IdealLines | RecordLines:
        where = self._seed, self._cache_dir, self._workers
        if self._structures is None:
            lines = ideal_lines(self._data, *where)
        else:
            chosen = self._structures, self._classes.label, self._held_out
            lines = structure_lines(self._data, self._seed, *chosen, *where[1:])
        if self._data.ideal.store == "records":
            return stored_records(lines, self._cache_dir)
        return lines

    @cached_property
    def _training(self) -> np.ndarray:
        return np.flatnonzero(self._lines.split == TRAIN)

    @cached_property
    def ideal(self) -> IdealData:
        """Simulated patterns of generated crystals or of the user's structures."""
        lines = self._lines
        on_device = None
        if isinstance(lines, IdealLines):  # records are for sets that no memory holds
            on_device = device_views(lines, self.grid, self._views)
        return IdealData(lines.label, lines.split, self._view, self._fixed, on_device)

    @cached_property
    def imperfect(self) -> ImperfectData:
        """Measured patterns, or components of simulated composition-spread libraries."""
        if self._given is not None:
            return self._given
        if self._data.imperfect.measured:
            data = measured_set(
                self._data,
                self.grid,
                kind=self._data.label,
                keys=self.class_names if self._structures is None else self._classes.keys,
                labelled=self._config.refiner.targeted,
            )
            folds = self._config.evaluate.folds
            if (groups := len(np.unique(data.group))) < folds:
                raise UserError(
                    f"config.evaluate.folds = {folds}: there are {groups} groups of measured "
                    "patterns (see config.data.imperfect.measured); lower it or add samples"
                )
            return data
        where = self._data, self._seed, self._cache_dir, self._workers
        if self._structures is None:
            found = imperfect_set(*where)
            label, group = found.label, found.library
        else:
            label, block = self._classes.label, self._blocks
            phases = partial(
                library_phases,
                seed=self._seed,
                structures=self._structures,
                label=label,
                block=block,
            )
            drawn = hashlib.sha256(label.tobytes() + block.tobytes()).hexdigest()
            found = imperfect_set(*where, (f"{self._structures.digest} {drawn}", phases))
            # One block: the classes are the phases, or too few to keep them apart.
            group = block[found.prototype_id] if block.max() > 0 else found.library
            label = label[found.prototype_id]
        return ImperfectData(found.pattern[..., None], found.truth[..., None], label, group)

    @cached_property
    def _blocks(self) -> np.ndarray:
        """Which structures share libraries, int32 [n]; see `library_blocks`."""
        assert self._structures is not None
        label = self._classes.label
        on_grid = np.isin(np.arange(len(label)), self._lines.prototype_id)
        return library_blocks(
            self._structures,
            np.where(on_grid, label, -1),
            self._held_out & on_grid,
            self._config.evaluate.folds,
            self._seed,
        )

    def pair(
        self, rng: np.random.Generator, index: int | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.integer]:
        """Returns an ideal pattern put through the imperfections, its truth and label."""
        return self._pair(rng, self._training, index)

    def held_out_pair(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.integer]:
        """Returns the like of a crystal that training does not see.

        Raises:
            UserError: there is none.
        """
        kept = np.flatnonzero(self._lines.split != TRAIN)
        if not kept.size:
            raise UserError(
                "config.data.ideal.seen_fraction = 0: no crystal is kept out of training, by which "
                "the model could be calibrated; set it above 0"
            )
        return self._pair(rng, kept)

    def _pair(
        self, rng: np.random.Generator, phases: np.ndarray, phase: int | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.integer]:
        phase = rng.choice(phases) if phase is None else phase
        neighbour = rng.choice(phases)
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
