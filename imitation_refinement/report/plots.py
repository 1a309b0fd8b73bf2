"""What all figures have in common: their style, pieces of panels and the way to PNG bytes.

The only door to matplotlib's drawing (`digits.fonts` asks it for the place of a font), by its
object interface: no display, no global state.
"""

import io
from typing import Literal

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from imitation_refinement.evaluation.calibration import Reliability

__all__ = [
    "Axes", "few_ticks", "new_figure", "png", "reliability_axes", "reliability_curve",
    "rows_of_patterns", "styled",
]  # fmt: skip

DPI = 120
# Decorates whatever draws: most settings act when an artist is made.
styled = rc_context({"font.size": 10, "axes.titlesize": 11, "legend.fontsize": 9.5})


def new_figure(
    width: float, height: float, layout: Literal["constrained"] | None = "constrained"
) -> Figure:
    """An empty figure, sizes in inches; without a layout its panels stay where they are put."""
    return Figure(figsize=(width, height), layout=layout)


def few_ticks(panel: Axes, intervals: int, *, whole: bool = False) -> None:
    """Divides the x axis into at most so many intervals, at whole numbers if wanted."""
    panel.xaxis.set_major_locator(MaxNLocator(intervals, integer=whole))


def reliability_axes(panel: Axes) -> None:
    """Makes a panel that of a reliability diagram: the diagonal, on which confidence is honest."""
    panel.plot([0, 1], [0, 1], color="#5b6675", lw=0.8, ls="--")
    panel.set(xlim=(0, 1), ylim=(0, 1), xlabel="mean confidence")


def reliability_curve(
    panel: Axes, bins: Reliability, color: str, fewest: int = 1
) -> tuple[Line2D, PathCollection]:
    """Draws the accuracy of bins of at least `fewest` examples; returns line and dots, unlabelled.

    The larger a dot, the larger the share of the examples in its bin.
    """
    shown = bins.size >= fewest
    confidence, accuracy = bins.confidence[shown], bins.accuracy[shown]
    (line,) = panel.plot(confidence, accuracy, color=color, lw=1)
    size = 12 + 260 * bins.size[shown] / bins.size.sum()
    return line, panel.scatter(confidence, accuracy, s=size, color=color, alpha=0.8)


def rows_of_patterns(panel: Axes, axis: NDArray, rows: NDArray, pixels: int) -> QuadMesh:
    """Draws patterns `[n, L]`, 0 to 1, from top to bottom as rows of colour, on a root scale.

    A pixel along the axis `[L]` shows the maximum of its points, so that no narrow peak falls
    between pixels.
    """
    starts = np.unique(np.linspace(0, len(axis), pixels, endpoint=False).astype(int))
    panel.set_ylim(len(rows), 0)
    return panel.pcolormesh(
        axis[starts], np.arange(len(rows)) + 0.5, np.maximum.reduceat(rows, starts, axis=1),
        cmap="magma", norm=PowerNorm(0.5, 0, 1, clip=True), shading="nearest", rasterized=True,
    )  # fmt: skip


def png(figure: Figure) -> bytes:
    """A figure as PNG bytes, the same for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()
