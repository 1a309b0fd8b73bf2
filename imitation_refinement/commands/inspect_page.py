"""The page about files that were looked into: a row and a small picture for each pattern.

Belongs here: looks. What is said of a pattern comes from `inspect_scans`. The page has no script
and loads nothing, which its content security policy enforces; all text is escaped.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imitation_refinement.commands.scan_results import thinned
from imitation_refinement.report.page import render_page
from imitation_refinement.runtime.files import atomic_write_text
from imitation_refinement.xrd.scans import Scan

ROWS = 2000  # of the page; more make a browser slow
WIDTH, HEIGHT = 220, 48  # of a picture, pixels
_STRETCHES = WIDTH // 2  # smallest and largest of each are drawn


class InspectPage:
    """Collects what was found, up to ROWS patterns, and writes the page.

    Args:
        command: shown at the foot.
    """

    def __init__(self, command: str):
        self._command, self._rows, self._total = command, list[dict[str, Any]](), 0

    def add(self, found: Mapping[str, Any], drawn: Mapping[str, Any] | None) -> None:
        """Takes one pattern and its picture."""
        self._total += 1
        if len(self._rows) < ROWS:
            self._rows.append({**found, "picture": drawn})

    def write(self, path: Path, left_out: Sequence[tuple[Path, str]], notes: Sequence[str]) -> None:
        """Writes the page, atomically.

        Raises:
            UserError: it cannot be written.
        """
        page = render_page(
            "inspect.html.j2",
            rows=self._rows,
            total=self._total,
            left_out=[(str(name), reason) for name, reason in left_out],
            notes=list(notes),
            command=self._command,
            width=WIDTH,
            height=HEIGHT,
        )
        atomic_write_text(path, page)


def picture(scan: Scan) -> dict[str, Any]:
    """Returns a scan as a curve of WIDTH by HEIGHT: the points of an SVG polyline, and its gaps.

    The square root of the counts is drawn, over 2 theta; `gaps` are (left, width) in pixels.
    """
    angle, counts = thinned(scan.two_theta, scan.counts, _STRETCHES)
    first, last = scan.two_theta[0], scan.two_theta[-1]
    root = np.sqrt(counts)
    x = WIDTH * (angle - first) / (last - first)
    y = HEIGHT - 1 - (HEIGHT - 2) * root / max(float(root.max()), 1e-30)
    gaps = [
        (round(float(WIDTH * (a - first) / (last - first)), 1),
         round(float(WIDTH * (b - a) / (last - first)), 1))
        for a, b in scan.unmeasured
    ]  # fmt: skip
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return {"points": points, "gaps": gaps}
