"""The page and the pictures of a benchmark.

Belongs here: wording and looks. Numbers come from `benchmark_scores`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from imitation_refinement.commands.benchmark_scores import KINDS, Compared
from imitation_refinement.evaluation.calibration import Reliability
from imitation_refinement.evaluation.metrics import METRICS, l1
from imitation_refinement.report.figures import (
    RAW_COLOR,
    REFINED_COLOR,
    confusion_matrices,
    overlays,
    pick_examples,
)
from imitation_refinement.report.page import render_page
from imitation_refinement.report.plots import (
    new_figure,
    png,
    reliability_axes,
    reliability_curve,
    styled,
)
from imitation_refinement.runtime.files import atomic_write_text
from imitation_refinement.tasks import Picture
from imitation_refinement.xrd.grid import Q_LABEL, Grid, grid_q

_COLORS = {"raw": RAW_COLOR, "refined": REFINED_COLOR}


def write_page(
    path: Path, results: Mapping[str, Any], compared: Compared | None, grid: Grid
) -> None:
    """Writes the page of a benchmark, atomically.

    Args:
        path: the file.
        results: what `benchmark_scores.score` returned, with `model` and `manifest` (text),
            `left_out` (counts by kind), `unreadable` and `not_compared` (sentences).
        compared: the patterns beside their simulated ones, for pictures.
        grid: of the patterns.

    Raises:
        UserError: it cannot be written.
    """
    pictures = [
        Picture(
            "The surer, the better?",
            "Accuracy of the share of patterns that the model is surest of: at the right all are "
            "answered, at the left only the surest. A model that knows when it is wrong falls "
            "from left to right.",
            risk_coverage_curve(results["risk_coverage"]),
        ),
        Picture(
            "Is the confidence what it says?",
            "Accuracy of the patterns of each bin of confidence; on the diagonal the confidence is "
            "honest. Sizes of the dots: numbers of patterns.",
            reliability_diagrams(results["calibration"]),
        ),
        Picture(
            "What is taken for what",
            "Confusion matrices, in per cent of each true class.",
            confusion_matrices(results["confusion"], results["class_names"]),
        ),
    ]
    if compared is not None:
        pictures.append(_examples(compared, grid))
    page = render_page(
        "benchmark.html.j2",
        r=results,
        kinds=KINDS,
        metrics={name: METRICS[name] for name in (results["quality"] or {}).get("distances", {})},
        pictures=pictures,
    )
    atomic_write_text(path, page)


@styled
def risk_coverage_curve(curves: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Accuracy against coverage of each kind, as PNG bytes."""
    figure = new_figure(8, 4.2)
    panel = figure.subplots()
    for kind, curve in curves.items():
        panel.plot(curve["coverage"], curve["accuracy"], color=_COLORS[kind], label=kind)
        panel.axhline(curve["accuracy"][-1], color=_COLORS[kind], lw=0.8, ls=":")
    panel.axvline(0.5, color="#5b6675", lw=0.8, ls="--")
    panel.set(
        xlim=(0, 1), ylim=(0, 1),
        xlabel="coverage: share of patterns answered, surest first",
        ylabel="accuracy of the answers",
    )  # fmt: skip
    panel.legend(frameon=False)
    return png(figure)


@styled
def reliability_diagrams(calibration: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Reliability of each kind (rows of dots) before and after scaling (panels), as PNG bytes."""
    figure = new_figure(10, 4.6)
    panels = figure.subplots(1, 2, sharey=True)
    for panel, when in zip(panels, ("before", "after"), strict=True):
        reliability_axes(panel)
        for kind, both in calibration.items():
            table = both[when]["reliability"]
            bins = Reliability(
                *(np.array(table[name]) for name in ("confidence", "accuracy", "patterns"))
            )
            _, dots = reliability_curve(panel, bins, _COLORS[kind])
            dots.set_label(kind)
        panel.set_title(f"{when} temperature scaling")
    panels[0].set_ylabel("accuracy")
    panels[0].legend(frameon=False)
    return png(figure)


def _examples(compared: Compared, grid: Grid) -> Picture:
    before, after = (l1(x, compared.truth) for x in (compared.raw, compared.refined))
    picked = pick_examples(before, after)
    rows = list(picked.values())
    titles = [
        f"{name}: ℓ1 to the simulated pattern {before[i]:.1f} → {after[i]:.1f}"
        for name, i in picked.items()
    ]
    return Picture(
        "Patterns beside their crystals",
        "Raw (orange) and refined (blue) over the pattern simulated from the CIF file (grey): "
        "best, median and worst change. Zero where nothing was measured.",
        overlays(
            grid_q(grid),
            compared.raw[rows],
            compared.refined[rows],
            compared.truth[rows],
            titles,
            Q_LABEL,
        ),
    )
