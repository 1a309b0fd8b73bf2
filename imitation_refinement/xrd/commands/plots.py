"""What pictures of measured patterns have in common.

Belongs here: the style and the way to PNG bytes, by matplotlib's object interface (no display, no
global state). The pictures are in `benchmark_page` and `unmix_page`.
"""

import io

from matplotlib import rc_context
from matplotlib.figure import Figure

from imitation_refinement.figures import DPI

# Decorates whatever draws: most settings act when an artist is made.
styled = rc_context({"font.size": 10, "axes.titlesize": 11, "legend.fontsize": 9.5})


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, sizes in inches."""
    return Figure(figsize=(width, height), layout="constrained")


def png(figure: Figure) -> bytes:
    """A figure as PNG bytes, the same for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()
