"""What an application gives to the pipeline: ideal data, imperfect data, and how to show them.

The training loop, losses, checkpoints and report know nothing of diffraction or digits; they see a
`Task`. A new application writes one and names it in `applications`. Nothing here computes.
"""

import base64
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from imitation_refinement.evaluation.inputs import EvaluationInputs

TRAIN, SEEN, UNSEEN = 0, 1, 2


class DeviceViews(NamedTuple):
    """Random training views that are made within `jit`, for devices that a host keeps waiting.

    Attributes:
        held: a tree of NumPy arrays, which every device holds whole.
        view: `(held, index, key) -> float32 [*spatial, C]`, pure, of JAX arrays: a view of the same
            distribution as that of `IdealData.view`. One function object for all uses of the data,
            so that it is compiled once.
    """

    held: Any
    view: Callable[[Any, Any, Any], Any]


class IdealData(NamedTuple):
    """Labelled examples that a classifier is trained on; cheap perfect ones as a rule.

    Attributes:
        label: int32 `[n]`.
        split: int8 `[n]`: TRAIN, SEEN (held-out examples of kinds that training has) or UNSEEN
            (kinds that it has not); either of the held-out splits may be empty.
        view: `(index, rng) -> float32 [*spatial, C]`, a random training view of one example.
        fixed: `index -> float32 [*spatial, C]`, the plain view for prototypes and evaluation.
        on_device: what makes training views within `jit`. None: they are made by `view` alone.
    """

    label: np.ndarray
    split: np.ndarray
    view: Callable[[int, np.random.Generator], np.ndarray]
    fixed: Callable[[int], np.ndarray]
    on_device: DeviceViews | None = None


class ImperfectData(NamedTuple):
    """Examples as they are measured, with what is known of them.

    Attributes:
        pattern: float32 `[n, *spatial, C]`.
        truth: the true ideal pattern of each, same shape, for evaluation alone; NaN where it is not
            known of an example, None where it is known of none.
        label: int32 `[n]`; -1 where nobody knows it: not evaluated, and for non-targeted refiners
            only.
        group: int32 `[n]`; examples of one group are never split between training and test, and
            intervals are over groups. Unrelated examples are each their own group.
        fold: int32 `[n]`, the fold in which each is a test example; -1 is never a test example, so
            it trains every refiner. None: folds are made from classes and groups.
        view: `(index, rng) -> float32 [*spatial, C]`, a random training view of one example
            (augmentation). None: the pattern itself. Evaluation always takes the pattern.
    """

    pattern: np.ndarray
    truth: np.ndarray | None
    label: np.ndarray
    group: np.ndarray
    fold: np.ndarray | None = None
    view: Callable[[int, np.random.Generator], np.ndarray] | None = None


class Measure(NamedTuple):
    """A figure of merit of one application, with its 95 % interval where there is one.

    Attributes:
        label: what it is, in a line of plain text.
        value, low, high: the figure and its interval; a fraction if `percent`.
        percent: whether it is shown in per cent.
    """

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    percent: bool = False


class Picture(NamedTuple):
    """A figure with what a report or page says of it.

    Attributes:
        title, caption: plain text.
        png: the file's bytes.
    """

    title: str
    caption: str
    png: bytes

    @property
    def data(self) -> str:
        """The file in base64, for a page that holds its pictures."""
        return base64.b64encode(self.png).decode("ascii")


class Task(Protocol):
    """An application of imitation refinement.

    Attributes:
        class_names: K names, in label order.
        input_shape: shape of one example, `[*spatial, C]`.
        noun: what the report calls examples, in the plural: `patterns`, `images`.
        group_noun: what it calls their groups: `libraries`, `images`.
    """

    class_names: tuple[str, ...]
    input_shape: tuple[int, ...]
    noun: str
    group_noun: str

    @property
    def ideal(self) -> IdealData:
        """Generated or read when first asked for."""

    @property
    def imperfect(self) -> ImperfectData:
        """Generated or read when first asked for."""

    @property
    def reading(self) -> IdealData | None:
        """Labelled imperfect examples, none of which a refiner or a test has, or None.

        Judges whose section says `data = 'imperfect'` (readers) are trained on them: they tell
        whether a refined example is still what it was.
        """

    def pair(
        self, rng: np.random.Generator, index: int | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.integer]:
        """Returns a simulated imperfect example, its true ideal one, and their class.

        Args:
            rng: draws the imperfections.
            index: of the ideal example; None is a random one of the training split.
        """

    def measures(self, inputs: EvaluationInputs) -> Mapping[str, Measure]:
        """Returns figures of merit that only this application has, by name."""

    def pictures(
        self, inputs: EvaluationInputs, results: Mapping[str, Any]
    ) -> Mapping[str, Picture]:
        """Returns pictures that only this application has, by name, in the report's order.

        Args:
            inputs: the test examples.
            results: what `evaluation.evaluate` made of them.
        """
