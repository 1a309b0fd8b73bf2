"""What an application gives to the pipeline: ideal data, imperfect data, and how to show them.

The training loop, losses, checkpoints and report know nothing of diffraction or digits; they see a
`Task`. A new application writes one class and names it in `run.TASKS`.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

TRAIN, SEEN, UNSEEN = 0, 1, 2


class IdealData(NamedTuple):
    """Cheap perfect examples.

    Attributes:
        label: int32 `[n]`.
        split: int8 `[n]`: TRAIN, SEEN (held-out examples of kinds that training has) or UNSEEN
            (kinds that it has not).
        view: `(index, rng) -> float32 [*spatial, C]`, a random training view of one example.
        fixed: `index -> float32 [*spatial, C]`, the plain view for prototypes and evaluation.
    """

    label: np.ndarray
    split: np.ndarray
    view: Callable[[int, np.random.Generator], np.ndarray]
    fixed: Callable[[int], np.ndarray]


class ImperfectData(NamedTuple):
    """Examples as they are measured, with what is known of them.

    Attributes:
        pattern: float32 `[n, *spatial, C]`.
        truth: the true ideal pattern of each, same shape; for evaluation alone.
        label: int32 `[n]`.
        group: int32 `[n]`; examples of one group are never split between training and test.
    """

    pattern: np.ndarray
    truth: np.ndarray
    label: np.ndarray
    group: np.ndarray


class Task(Protocol):
    """An application of imitation refinement.

    Attributes:
        class_names: K names, in label order.
        input_shape: shape of one example, `[*spatial, C]`.
        axis: coordinate of each element of a pattern, float64 `[L]`.
        axis_name: what `axis` is, with its unit.
        ideal: the ideal data.
        imperfect: the imperfect data.
    """

    class_names: tuple[str, ...]
    input_shape: tuple[int, ...]
    axis: np.ndarray
    axis_name: str

    @property
    def ideal(self) -> IdealData:
        """Generated or read when first asked for."""

    @property
    def imperfect(self) -> ImperfectData:
        """Generated or read when first asked for."""

    def pair(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.integer]:
        """Returns a simulated imperfect example, its true ideal one, and their class."""
