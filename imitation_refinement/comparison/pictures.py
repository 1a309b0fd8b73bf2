"""Pictures of a comparison, of its first seed through the main classifier.

Belongs here: which methods are shown and what is said of them. Overlays, heat maps and confusion
matrices are drawn as in the report of a single run.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from ml_collections import ConfigDict

from imitation_refinement.comparison.methods import OURS, OURS_BLIND, Job
from imitation_refinement.comparison.study import Arrays, Result
from imitation_refinement.comparison.tables import main_classifier, method_label
from imitation_refinement.evaluation.calibration import (
    expected_calibration_error,
    reliability,
    softmax_at,
)
from imitation_refinement.evaluation.evaluation import confusion
from imitation_refinement.evaluation.inputs import EvaluationInputs
from imitation_refinement.report.figures import (
    CLASS_COLORS,
    CLASS_MARKERS,
    confusion_matrices,
    tsne,
)
from imitation_refinement.report.plots import (
    new_figure,
    png,
    reliability_axes,
    reliability_curve,
    styled,
)
from imitation_refinement.runtime.files import read_npz
from imitation_refinement.tasks import Picture
from imitation_refinement.xrd.grid import Grid, grid_q
from imitation_refinement.xrd.pictures import pattern_pictures

SHOWN = ("raw", "dwt", "adda", "gta", "simulated", OURS)  # of these whatever is done
POINTS = 400  # of a t-SNE
FEWEST = 10  # patterns in a bin of a reliability diagram: the accuracy of fewer tells nothing


def all_pictures(config: ConfigDict, done: Mapping[Job, Result]) -> dict[str, Picture]:
    """Returns the pictures of a comparison by file name, as far as there are jobs for them.

    Args:
        config: of task `xrd_tables`.
        done: results by job.
    """
    main = main_classifier(config)
    first = {j.method: r for j, r in done.items() if j[:2] == (config.seed, main)}
    shown = {name: first[name] for name in SHOWN if name in first}
    if not shown:
        return {}
    class_names = next(iter(shown.values())).summary["class_names"]
    arrays = {method_label(name): result.arrays for name, result in shown.items()}
    pictures = {
        "confusion": Picture(
            "What is taken for what",
            "Confusion matrices, in per cent of each true class.",
            confusion_matrices(
                {
                    method_label(name): confusion(
                        shown[name].arrays["label"], shown[name].arrays["logits"]
                    )
                    for name in ("raw", "gta", OURS)
                    if name in shown
                },
                class_names,
            ),
        ),
        "reliability": Picture(
            "Is the confidence what it says?",
            "Accuracy of the patterns of each bin of confidence, without any calibration; on the "
            "diagonal the confidence is honest. Sizes of the dots: numbers of patterns; bins of "
            f"fewer than {FEWEST} are left out. ECE: expected calibration error, of all bins.",
            reliability_diagram(arrays),
        ),
        "per_class": Picture(
            "Accuracy by class",
            "Of each true class, with the number of its patterns.",
            per_class(arrays, class_names),
        ),
    }
    kept = {
        name: read_npz(result.folder / "patterns.npz") | dict(result.arrays)
        for name, result in first.items()
        if name in ("raw", "gta", OURS, OURS_BLIND) and (result.folder / "patterns.npz").exists()
    }
    if kept:
        pictures["embedding"] = Picture(
            "Fig. 4: embedding spaces",
            "t-SNE of the embeddings of the test patterns of the first fold, each space by itself: "
            "raw and refined patterns in that of the frozen classifier, GTA in its own. Distances "
            "between far clusters mean nothing in such a map.",
            embedding_maps({method_label(n): a for n, a in kept.items()}, class_names, config.seed),
        )
    if "raw" in kept and OURS in kept:
        grid = Grid(**config.data.grid, wavelength=config.data.wavelength)
        inputs = evaluation_inputs(kept["raw"], kept[OURS])
        pictures |= pattern_pictures(inputs, grid_q(grid), "q (1/Å)", class_names)
    return pictures


def evaluation_inputs(raw: Arrays, refined: Arrays) -> EvaluationInputs:
    """Returns raw and refined patterns as a single run has them; only those of known truth if any.

    Args:
        raw: arrays and what was kept of the method `raw`.
        refined: of a refiner, the same examples.
    """
    truth = raw.get("truth")
    known = np.full(len(raw["label"]), True)
    if truth is not None:
        finite = np.asarray(np.isfinite(truth).all(axis=1))
        known, truth = (finite, truth[finite]) if finite.any() else (known, None)
    return EvaluationInputs(
        raw=raw["pattern"][known],
        refined=refined["pattern"][known],
        truth=truth,
        labels=raw["label"][known],
        groups=raw["group"][known],
        logits_raw=raw["logits"][known],
        logits_refined=refined["logits"][known],
    )


@styled
def reliability_diagram(arrays: Mapping[str, Arrays]) -> bytes:
    """Accuracy against confidence of each method, as PNG bytes."""
    figure = new_figure(7, 5.6)
    panel = figure.subplots()
    reliability_axes(panel)
    for index, (name, found) in enumerate(arrays.items()):
        given = softmax_at(found["logits"], 1.0), found["label"]
        color = CLASS_COLORS[index % len(CLASS_COLORS)]
        line, _ = reliability_curve(panel, reliability(*given), color, FEWEST)
        line.set_label(f"{name}, ECE {expected_calibration_error(*given):.2f}")
    panel.set_ylabel("accuracy")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return png(figure)


@styled
def per_class(arrays: Mapping[str, Arrays], class_names: Sequence[str]) -> bytes:
    """Accuracy of each method on each class that there is, as bars, as PNG bytes."""
    label = next(iter(arrays.values()))["label"]
    present = np.unique(label)
    figure = new_figure(10, 4.6)
    panel = figure.subplots()
    width = 0.8 / len(arrays)
    for index, (name, found) in enumerate(arrays.items()):
        share = [100 * float(found["hit"][found["label"] == k].mean()) for k in present]
        place = np.arange(len(present)) + width * (index - (len(arrays) - 1) / 2)
        panel.bar(place, share, width, label=name, color=CLASS_COLORS[index % len(CLASS_COLORS)])
    names = [f"{class_names[k]}\n{int((label == k).sum())}" for k in present]
    panel.set_xticks(range(len(present)), names)
    panel.set(ylabel="accuracy (%)", ylim=(0, 100))
    figure.legend(loc="outside lower center", ncols=min(len(arrays), 3), frameon=False)
    return png(figure)


@styled
def embedding_maps(kept: Mapping[str, Arrays], class_names: Sequence[str], seed: int = 0) -> bytes:
    """t-SNE of each method's embeddings of the first fold, side by side, as PNG bytes."""
    figure = new_figure(1 + 4.2 * len(kept), 4.8)
    panels = figure.subplots(1, len(kept), squeeze=False)[0]
    for panel, (name, found) in zip(panels, kept.items(), strict=True):
        rows = np.flatnonzero(found["fold"] == 0)[:POINTS]
        flat = tsne(found["embedding"][rows], seed)
        for k, class_name in enumerate(class_names):
            member = found["label"][rows] == k
            panel.scatter(
                *flat[member].T, s=18, alpha=0.7, lw=0, label=class_name,
                color=CLASS_COLORS[k % len(CLASS_COLORS)],
                marker=CLASS_MARKERS[k % len(CLASS_MARKERS)],
            )  # fmt: skip
        panel.set(title=name, xticks=(), yticks=())
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, names, loc="outside lower center", ncols=min(len(names), 8), frameon=False
    )
    return png(figure)
