"""What all pictures have in common: their style and the way to PNG bytes.

By matplotlib's object interface: no display, no global state.
"""

import io

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

DPI = 120
# Decorates whatever draws: most settings act when an artist is made.
styled = rc_context({"font.size": 10, "axes.titlesize": 11, "legend.fontsize": 9.5})


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, sizes in inches."""
    return Figure(figsize=(width, height), layout="constrained")


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
