"""What all pictures have in common: their style and the way to PNG bytes.

By matplotlib's object interface: no display, no global state.
"""

import io

from matplotlib import rc_context
from matplotlib.figure import Figure

DPI = 120
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
