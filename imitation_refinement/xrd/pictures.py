"""The report's pictures of diffraction patterns: which of them to show, and what to say of them.

How the figures in them are drawn is in `report.figures`; no files.
"""

from collections.abc import Sequence

import numpy as np

from imitation_refinement.evaluation.inputs import EvaluationInputs
from imitation_refinement.evaluation.metrics import l1, max_normalized, mean_change
from imitation_refinement.report import figures
from imitation_refinement.tasks import Picture


def pattern_pictures(
    inputs: EvaluationInputs, axis: np.ndarray, axis_name: str, class_names: Sequence[str]
) -> dict[str, Picture]:
    """Overlays of picked patterns and heat maps of all.

    Args:
        inputs: patterns [n, L], with or without their truth.
        axis: coordinate of the L grid points.
        axis_name: what axis is, with its unit.
        class_names: K names.
    """
    raw, refined = max_normalized(inputs.raw), max_normalized(inputs.refined)
    truth = None if inputs.truth is None else max_normalized(inputs.truth)
    if truth is None:
        after = mean_change(refined, raw)
        before = np.zeros_like(after)
        measure = [f"mean change {value:.3f}" for value in after]
        order, shown = "the least, the median and the largest change", "three patterns"
    else:
        before, after = l1(raw, truth), l1(refined, truth)
        measure = [f"ℓ1 to the truth {a:.1f} → {b:.1f}" for a, b in zip(before, after, strict=True)]
        order = "the best, the median and the worst change of ℓ1"
        shown = "the true pattern (grey)"
    picked = figures.pick_examples(before, after)
    rows = list(picked.values())

    def recognised(i: int) -> str:
        both = (inputs.logits_raw[i], inputs.logits_refined[i])
        return " → ".join(class_names[int(np.argmax(logits))] for logits in both)

    titles = [
        f"{name}: {class_names[inputs.labels[i]]}, {measure[i]}, recognised as {recognised(i)}"
        for name, i in picked.items()
    ]
    chosen = None if truth is None else truth[rows]
    return {
        "overlays": Picture(
            "Patterns before and after",
            f"Raw (orange, upper) and refined (blue, lower) over {shown} for {order}. The "
            "square-root scale makes weak lines visible.",
            figures.overlays(axis, raw[rows], refined[rows], chosen, titles, axis_name),
        ),
        "heat_maps": Picture(
            "All patterns, sorted by class",
            "Heat maps of raw, refined and, where known, true patterns. The same row is the same "
            "pattern.",
            figures.heat_maps(axis, raw, refined, truth, inputs.labels, class_names, axis_name),
        ),
    }
