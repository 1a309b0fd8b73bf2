"""What refining finds out about some scans, as it is shown in a notebook: figure and table.

Belongs here: the HTML of records. It has no script and loads nothing; all text is escaped.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from imitation_refinement.commands.batch_page import laid_over, table_row
from imitation_refinement.commands.scan_figure import ScanFigure
from imitation_refinement.commands.scan_outputs import picture
from imitation_refinement.commands.scan_results import Failed, Refined, in_counts, on_input_points
from imitation_refinement.phases.identify import Phases
from imitation_refinement.report.page import render_page
from imitation_refinement.xrd.grid import Grid, grid_q, two_theta_from_q

SHOWN = 20  # scans with figure and table in a notebook; all are in `records`
_CANDIDATES = 5


@dataclass(frozen=True, eq=False)
class Analysis:
    """Refined patterns, their phases, and figure and table of each in Jupyter.

    Attributes:
        records: of the scans, in order; see `scan_results`.
        grid: of the model.
        phases: what they were compared with.
    """

    records: Sequence[Refined | Failed]
    grid: Grid
    phases: Phases | None

    def _repr_html_(self) -> str:
        draw = ScanFigure(with_candidate=self.phases is not None)
        shown = [self._shown(one, draw) for one in self.records[:SHOWN]]
        return render_page(
            "analysis.html.j2", shown=shown, more=len(self.records) - len(shown),
            most=_CANDIDATES,
        )  # fmt: skip

    def _shown(self, one: Refined | Failed, draw: ScanFigure) -> dict[str, Any]:
        drawn = self._picture(one, draw) if isinstance(one, Refined) else b""
        return {
            "row": table_row(one),
            "png": base64.b64encode(drawn).decode("ascii"),
        }

    def _picture(self, result: Refined, draw: ScanFigure) -> bytes:
        if not result.has_pattern:
            return b""
        candidate = None
        if self.phases and result.candidates:
            (laid,) = laid_over(result, self.grid, self.phases, result.candidates[:1])
            mask = result.placed.mask
            two_theta = two_theta_from_q(grid_q(self.grid)[mask], result.scan.wavelength)
            candidate = two_theta, np.asarray(in_counts(laid.pattern[mask], result, two_theta))
        return picture(result, on_input_points(result, self.grid), draw, candidate)
