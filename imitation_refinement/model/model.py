"""A trained model ready for use: one frozen classifier, its refiners, and what their answers mean.

Belongs here: applying a model to arrays, batch by batch. A model needs no work directory, no data
and no training code; it is a value that never changes. How sure it is of an answer is decided in
`acceptance`; where models are found, saved and loaded is in `portable`.

Patterns are float `[n, L, 1]` on the model's grid with maximum 1.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from imitation_refinement.evaluation.calibration import softmax_at
from imitation_refinement.method import networks
from imitation_refinement.method.classifier import Classifier, Prediction, distance_of, predict
from imitation_refinement.method.refiner import refine
from imitation_refinement.model.acceptance import (
    Calibration,
    remoteness,
    shape_statistics,
    verdicts,
)
from imitation_refinement.runtime.batches import padded_rows
from imitation_refinement.xrd.grid import Grid, grid_q

Tree = Any
ROWS = 32  # patterns per device and call; a single pattern costs as much


class Assessment(NamedTuple):
    """What a model makes of n patterns.

    Attributes:
        refined: float32 `[n, L, 1]`, 0 where nothing was measured.
        probabilities: calibrated, of the refined patterns, float64 `[n, K]`.
        raw_probabilities: calibrated, of the patterns as they came, float64 `[n, K]`.
        distances: of the refined pattern's embedding to each prototype, float32 `[n, K]`.
        confidence: the largest of `probabilities`, float64 `[n]`.
        verdict: one of `acceptance.VERDICTS`, str `[n]`.
        reason: why, in words; empty where confident, str `[n]`.
        change: mean |refined - raw| over what was measured, float64 `[n]`.
    """

    refined: np.ndarray
    probabilities: np.ndarray
    raw_probabilities: np.ndarray
    distances: np.ndarray
    confidence: np.ndarray
    verdict: np.ndarray
    reason: np.ndarray
    change: np.ndarray


class ClassifierSpec(NamedTuple):
    """Which classifier network the variables belong to; fields as in the config's section."""

    network: str
    dtype: str
    distance: str
    distance_scale: float


class RefinerSpec(NamedTuple):
    """Which refiner network the parameters belong to; fields as in the config's section."""

    network: str
    dtype: str


@dataclass(frozen=True, eq=False)
class Model:
    """One frozen classifier and its refiners, with all that is needed to use them.

    Attributes:
        class_names: K names, in the order of the columns of every result.
        grid: on which patterns must lie.
        classifier_spec: network of the classifier.
        classifier: its variables and prototypes, NumPy arrays.
        refiner_spec: network of the refiners.
        refiners: parameters of each; a refined pattern is the mean of what they give.
        calibration: what the numbers mean; see `acceptance`.
        origin: `name`, `version`, `config_sha256`, `config` and more of where it comes from.
        shipped: whether it is that of the package and not one that was asked for.
    """

    class_names: tuple[str, ...]
    grid: Grid
    classifier_spec: ClassifierSpec
    classifier: Classifier
    refiner_spec: RefinerSpec
    refiners: tuple[Tree, ...]
    calibration: Calibration
    origin: dict[str, Any]
    shipped: bool = False

    @property
    def input_shape(self) -> tuple[int, int]:
        """Shape of one pattern, (L, 1)."""
        return self.grid.length, 1

    @cached_property
    def q(self) -> np.ndarray:
        """Momentum transfer of each point in 1/angstrom, float64 `[L]`."""
        return grid_q(self.grid)

    def describe(self) -> str:
        """Returns the model's name, version and size in a line."""
        return (
            f"{self.origin.get('name', 'unnamed')} (version {self.origin.get('version', '?')}, "
            f"{len(self.class_names)} classes, {len(self.refiners)} refiners)"
        )

    def refine(self, x: np.ndarray) -> np.ndarray:
        """Returns the mean of what the refiners make of patterns, float32 `[n, L, 1]`.

        Raises:
            ValueError: another shape, or numbers that are not finite.
            TypeError: not real numbers.
        """
        x = self._checked(x)
        parts = [self.refine_with(index, x) for index in range(len(self.refiners))]
        return np.asarray(np.mean(parts, axis=0, dtype=np.float32))

    def refine_with(self, index: int, x: np.ndarray) -> np.ndarray:
        """Returns what one of the refiners makes of patterns; see `refine`."""
        program = _refiner_program(self.refiner_spec)
        return _apply(program, self._placed[1][index], self._checked(x))

    def predict(self, x: np.ndarray) -> Prediction:
        """Classifies patterns as they are, without refining them; raises as `refine`."""
        program = _classifier_program(self.classifier_spec, len(self.class_names))
        return _apply(program, self._placed[0], self._checked(x))

    def assess(self, raw: np.ndarray, mask: np.ndarray | None = None) -> Assessment:
        """Refines and classifies patterns and says how far the answer can be believed.

        Nothing is claimed where nothing was measured: there, both the pattern that goes in and the
        refined one are set to 0, before the latter is classified.

        Args:
            raw: patterns with maximum 1, or all zero where nothing rises above the noise, float
                `[n, L, 1]`.
            mask: where they were measured, bool `[n, L]`; None for everywhere.

        Raises:
            ValueError, TypeError: as `refine`.
        """
        raw = self._checked(raw)
        measured = np.ones(raw.shape[:2], bool) if mask is None else np.asarray(mask, bool)
        if measured.shape != raw.shape[:2]:
            raise ValueError(f"mask: expected shape {raw.shape[:2]}, got {measured.shape}")
        raw = raw * measured[..., None]
        refined = self.refine(raw) * measured[..., None]
        before, after = self.predict(raw), self.predict(refined)
        calibration = self.calibration
        probabilities = softmax_at(after.logits, calibration.temperature)
        statistics = pattern_statistics(raw, refined, measured, after)
        statistics["remoteness"] = remoteness(calibration.cloud, after.embedding)
        signal = raw.any(axis=(1, 2))
        verdict, reason = verdicts(calibration, probabilities, statistics, signal, self.class_names)
        change = np.abs(refined - raw)[..., 0].sum(axis=1, dtype=np.float64)
        return Assessment(
            refined,
            probabilities,
            softmax_at(before.logits, calibration.raw_temperature),
            after.distances,
            probabilities.max(axis=1),
            verdict,
            reason,
            change / np.maximum(measured.sum(axis=1), 1),
        )

    @cached_property
    def _placed(self) -> tuple[Classifier, list[Tree]]:
        """The arrays, whole on every local device."""
        return jax.device_put((self.classifier, list(self.refiners)), _sharding())

    def _checked(self, x: Any) -> np.ndarray:
        x = np.asarray(x)
        if x.dtype.kind not in "fiub":
            raise TypeError(f"patterns: expected real numbers, got {x.dtype}")
        if x.shape[1:] != self.input_shape or x.ndim != 3:
            raise ValueError(
                f"patterns: expected shape [n, {self.grid.length}, 1], got {list(x.shape)}"
            )
        if not np.isfinite(x).all():
            row = int(np.flatnonzero(~np.isfinite(x).all(axis=(1, 2)))[0])
            raise ValueError(f"patterns: pattern {row} holds numbers that are not finite")
        return np.ascontiguousarray(x, np.float32)


def pattern_statistics(
    raw: np.ndarray, refined: np.ndarray, mask: np.ndarray, after: Prediction
) -> dict[str, np.ndarray]:
    """Returns the figures by which a pattern is told from what the model has never seen.

    All of `acceptance.STATISTICS` but `remoteness`, `[n]` each.

    Args:
        raw: float32 `[n, L, 1]`, 0 outside the mask.
        refined: the same patterns, refined.
        mask: where they were measured, bool `[n, L]`.
        after: what the classifier says of the refined patterns.
    """
    distance = after.distances.min(axis=1).astype(np.float64)
    return {**shape_statistics(raw[..., 0], refined[..., 0], mask), "distance": distance}


# ---- Programs ----


def classifier_network(spec: ClassifierSpec, num_classes: int) -> nn.Module:
    """Returns the module that a specification names."""
    return networks.build_classifier(SimpleNamespace(**spec._asdict()), num_classes)


@lru_cache(maxsize=8)
def _classifier_program(spec: ClassifierSpec, num_classes: int) -> Callable[..., Prediction]:
    network = classifier_network(spec, num_classes)
    return jax.jit(partial(predict, network=network, distance=distance_of(spec)))


@lru_cache(maxsize=8)
def _refiner_program(spec: RefinerSpec) -> Callable[..., jax.Array]:
    return jax.jit(partial(refine, network=networks.build_refiner(spec)))


def _sharding(*axes: str) -> NamedSharding:
    # Local devices: each process of several refines patterns of its own.
    mesh = Mesh(np.array(jax.local_devices()), ("data",), axis_types=(AxisType.Auto,))
    return NamedSharding(mesh, PartitionSpec(*axes))


def _apply(program: Callable[..., Tree], tree: Tree, x: np.ndarray) -> Tree:
    """Applies a compiled program to all rows in batches of one size, so that it compiles once."""
    size = ROWS * jax.local_device_count()
    if not len(x):  # shapes and dtypes of the results, for which it need not be compiled
        found = jax.eval_shape(program, tree, jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype))
        return jax.tree.map(lambda leaf: np.zeros((0, *leaf.shape[1:]), leaf.dtype), found)
    by_example = _sharding("data")
    parts = [
        jax.device_get(program(tree, jax.device_put(x[rows], by_example)))
        for rows in padded_rows(len(x), size)
    ]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[: len(x)], *parts)
