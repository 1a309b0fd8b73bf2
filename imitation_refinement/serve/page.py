"""The first page and its files: what a browser is given before anything is dropped.

Belongs here: the closed list of files that are served. All of them are of this package or of
plotly's, by names that stand here.
"""

from collections.abc import Callable
from functools import cache, partial
from importlib import resources

from imitation_refinement.commands.batch_page import get_plotlyjs, packed_floats
from imitation_refinement.model.model import Model
from imitation_refinement.phases.identify import Phases
from imitation_refinement.report.page import render_page
from imitation_refinement.serve.answers import LARGEST_CHANGE, LARGEST_DISPLACEMENT
from imitation_refinement.xrd.crystals import CRYSTAL_SYSTEMS
from imitation_refinement.xrd.formats import SUFFIXES
from imitation_refinement.xrd.formula import SYMBOLS
from imitation_refinement.xrd.grid import grid_q

ANODES = ("CuKa", "CoKa", "MoKa")  # whose wavelengths are offered
_SCRIPTS = ("batch_plot.js", "batch_pattern.js", "live.js", "live_look.js", "live_elements.js")
_STYLES = ("batch.css", "live.css")


def render(secret: str, model: Model, phases: Phases | None) -> str:
    """Returns the page.

    Args:
        secret: of its session.
        model: that refines.
        phases: what scans are compared with.
    """
    return render_page(
        "live.html.j2",
        live=True,
        secret=secret,
        model=model.describe(),
        library=phases.describe() if phases else None,
        scripts=("plotly.js", *_SCRIPTS),
        styles=_STYLES,
        most_cell=100.0 * LARGEST_CHANGE,
        most_displacement=1000.0 * LARGEST_DISPLACEMENT,
        data={
            "classes": model.class_names,
            "systems": CRYSTAL_SYSTEMS if phases else model.class_names,
            "q": packed_floats(grid_q(model.grid)),
            "symbols": SYMBOLS,
            "anodes": ANODES,
            "endings": sorted({*SUFFIXES, ".cif"}),
            "library": bool(phases),
        },
    )


def _file(name: str, kind: str) -> tuple[bytes, str]:
    place = resources.files("imitation_refinement.report") / "templates" / name
    return place.read_bytes(), kind


@cache
def _plotly() -> tuple[bytes, str]:
    return get_plotlyjs().encode(), "text/javascript"


STATIC: dict[str, Callable[[], tuple[bytes, str]]] = {
    "plotly.js": _plotly,
    **{name: partial(_file, name, "text/javascript") for name in _SCRIPTS},
    **{name: partial(_file, name, "text/css") for name in _STYLES},
}
