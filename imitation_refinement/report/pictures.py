"""The pictures of a report that every application has: which to show, and what to say of them.

Belongs here: titles and captions. How the figures in them are drawn is in `figures`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import ArrayLike

from imitation_refinement.evaluation.inputs import EvaluationInputs
from imitation_refinement.report import figures
from imitation_refinement.tasks import Picture


def shared_pictures(
    inputs: EvaluationInputs,
    results: Mapping[str, Any],
    *,
    prototypes: ArrayLike | None = None,
    metrics: Sequence[Mapping[str, Any]] = (),
    seed: int = 0,
) -> dict[str, Picture]:
    """The pictures of the report that every application has, by name.

    Args:
        inputs: what was evaluated.
        results: what evaluate made of it: class names, noun and confusion matrices are read.
        prototypes: [K, D]; without them, or without embeddings, there is no embedding map.
        metrics: records of metrics.jsonl; without loss terms there are no learning curves.
        seed: of the t-SNE and its choice of examples.
    """
    class_names, noun = results["class_names"], results["noun"]
    confusion = {kind: results["confusion"][kind] for kind in ("raw", "refined")}
    pictures = {
        "confusion": Picture(
            "What is taken for what",
            f"Confusion matrices of the frozen classifier on raw and on refined {noun}, in per "
            "cent of each true class.",
            figures.confusion_matrices(confusion, class_names),
        )
    }
    if prototypes is not None and inputs.embedding_raw is not None:
        assert inputs.embedding_refined is not None
        pictures["embedding"] = Picture(
            "Embedding",
            f"t-SNE of the classifier's embeddings of raw and refined {noun}, computed jointly, "
            "with the class prototypes as large outlined symbols. Distances between far clusters "
            "mean nothing in such a map.",
            figures.embedding_map(
                inputs.embedding_raw, inputs.embedding_refined, prototypes, inputs.labels,
                class_names, seed=seed,
            ),
        )  # fmt: skip
    if figures.curves_of(metrics):
        pictures["learning_curves"] = Picture(
            "Learning curves",
            "Every loss term of every stage against the step.",
            figures.learning_curves(metrics),
        )
    return pictures
