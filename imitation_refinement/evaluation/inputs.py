"""What is evaluated: arrays by name, their checks, and how they lie in a file.

Shapes: n test examples, K classes, D embedding dimensions. No figures of merit, no files.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

KINDS = ("raw", "refined", "truth")
JUDGE = "judge_"


class Scores(NamedTuple):
    """Logits `[n, K]` of one classifier on each kind of example; truth None where there is none."""

    raw: NDArray[Any]
    refined: NDArray[Any]
    truth: NDArray[Any] | None = None


class EvaluationInputs(NamedTuple):
    """What evaluate() needs; every example was refined by a refiner that never saw its group."""

    raw: NDArray[Any]  # [n, *spatial] imperfect examples
    refined: NDArray[Any]  # as raw
    truth: NDArray[Any] | None  # as raw: the true ideal examples, where they are known
    labels: NDArray[Any]  # [n] int
    groups: NDArray[Any]  # [n] int or str: the library of each pattern
    logits_raw: NDArray[Any]  # [n, K] of the frozen classifier that the refiner was trained through
    logits_refined: NDArray[Any]
    logits_truth: NDArray[Any] | None = None
    prototype_raw: NDArray[Any] | None = None  # [n, K] log-probabilities by nearest prototype
    prototype_refined: NDArray[Any] | None = None
    prototype_truth: NDArray[Any] | None = None
    embedding_raw: NDArray[Any] | None = None  # [n, D] of the frozen classifier
    embedding_refined: NDArray[Any] | None = None
    embedding_truth: NDArray[Any] | None = None
    fold: NDArray[Any] | None = None  # [n] int: the fold in which it was a test example
    judges: Mapping[str, Scores] = {}  # by name: classifiers that no refiner ever saw


def scores_of(inputs: EvaluationInputs, head: str) -> Scores | None:
    """Scores of one head of the frozen classifier, 'logits' or 'prototype'; None without it."""
    raw, refined, truth = (getattr(inputs, f"{head}_{kind}") for kind in KINDS)
    return None if raw is None else Scores(raw, refined, truth)


def to_arrays(inputs: EvaluationInputs) -> dict[str, NDArray[Any]]:
    """The arrays by name, a judge's as judge_<name>_raw and so on, without what is None."""
    arrays = inputs._asdict()
    for name, scores in arrays.pop("judges").items():
        arrays |= {f"{JUDGE}{name}_{kind}": values for kind, values in scores._asdict().items()}
    return {name: values for name, values in arrays.items() if values is not None}


def from_arrays(arrays: Mapping[str, NDArray[Any]]) -> EvaluationInputs:
    """The inverse of to_arrays."""
    fields: dict[str, Any] = {"truth": None}
    judges: dict[str, dict[str, NDArray[Any]]] = {}
    for key, values in arrays.items():
        if key.startswith(JUDGE):
            name, _, kind = key.removeprefix(JUDGE).rpartition("_")
            judges.setdefault(name, {})[kind] = values
        else:
            fields[key] = values
    fields["judges"] = {name: Scores(**scores) for name, scores in judges.items()}
    return EvaluationInputs(**fields)


def check(inputs: EvaluationInputs, class_names: Sequence[str] | None) -> list[str]:
    """Class names; ValueError naming the first field that does not fit."""
    spatial = np.shape(inputs.raw)
    count, classes = spatial[0], np.shape(inputs.logits_raw)[1]
    width = 0 if inputs.embedding_raw is None else np.shape(inputs.embedding_raw)[1]
    if not count:
        raise ValueError("no test examples")
    _check_complete(inputs)
    for name, values in to_arrays(inputs).items():
        if name in KINDS:
            expected: tuple[int, ...] = spatial
        elif name.startswith("embedding"):
            expected = (count, width)
        elif name in ("labels", "groups", "fold"):
            expected = (count,)
        else:
            expected = (count, classes)
        if np.shape(values) != expected:
            raise ValueError(f"{name}: expected shape {expected}, got {np.shape(values)}")
        if np.issubdtype(np.asarray(values).dtype, np.floating) and not np.isfinite(values).all():
            raise ValueError(f"{name}: holds numbers that are not finite")
    if np.min(inputs.labels) < 0 or np.max(inputs.labels) >= classes:
        raise ValueError(f"labels: expected 0 to {classes - 1}")
    _check_folds(inputs)
    names = [str(k) for k in range(classes)] if class_names is None else list(class_names)
    if len(names) != classes:
        raise ValueError(f"class_names: expected {classes}, got {len(names)}")
    return names


def _check_complete(inputs: EvaluationInputs) -> None:
    """What is given of raw must be given of refined, and of truth exactly where that is known."""
    given = set(to_arrays(inputs))
    kinds = KINDS if inputs.truth is not None else KINDS[:2]
    heads = ("logits", "prototype", "embedding", *(f"{JUDGE}{name}" for name in inputs.judges))
    for head in heads:
        found = [kind for kind in KINDS if f"{head}_{kind}" in given]
        if found and found != list(kinds):
            wanted = ", ".join(f"{head}_{kind}" for kind in kinds)
            raise ValueError(f"{wanted} belong together; given: {', '.join(found)}")


def _check_folds(inputs: EvaluationInputs) -> None:
    if inputs.fold is None:
        return
    homes: dict[str, str] = {}
    for group, fold in zip(inputs.groups, inputs.fold, strict=True):
        if homes.setdefault(str(group), str(fold)) != str(fold):
            raise ValueError(f"fold: group {group} is in more than one fold")
