"""One self-contained page about a batch of refined scans: a table, and each pattern to look into.

Belongs here: what the page is given and how it is packed. What it does with it is
`templates/batch.js`. The page loads nothing from elsewhere, which its content security policy
enforces; all text from files is put in as text.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from plotly.offline import get_plotlyjs

from imitation_refinement.commands.peak_table import PeakTable, peak_table
from imitation_refinement.commands.scan_outputs import candidate_file
from imitation_refinement.commands.scan_results import (
    FAILED,
    NOT_RECOGNISED,
    Failed,
    Refined,
    in_counts,
    left_over_peaks,
    runs,
    thinned,
)
from imitation_refinement.phases.candidates import NOT_IN_LIBRARY
from imitation_refinement.phases.cell_fit import CellFit
from imitation_refinement.phases.identify import Phases
from imitation_refinement.phases.named import Named
from imitation_refinement.phases.overlay import Overlay, overlays
from imitation_refinement.report.page import render_page
from imitation_refinement.runtime.files import atomic_write_text
from imitation_refinement.xrd.crystals import CRYSTAL_SYSTEMS
from imitation_refinement.xrd.grid import Grid, grid_q, two_theta_from_q
from imitation_refinement.xrd.scans import q_per_radian
from imitation_refinement.xrd.structures.cif import space_group_symbol

PLOTS = 200  # patterns that can be looked into; about 40 kB each
ROWS = 2000  # rows of the table; more make a browser slow
_ATTENTION = ("ambiguous", NOT_IN_LIBRARY, NOT_RECOGNISED, FAILED)  # these first, then what is sure
_POINTS = 2000  # of the measured curve, twice: the smallest and the largest of each stretch
_PEAKS = 40
_STICKS = 300
_CANDIDATES, _FURTHER = 5, 3  # that are drawn; that are named of what a phase leaves
_LEVELS = 65535  # of a 16-bit number
_EXACT = 1e-7  # standard deviation of what symmetry gives, but for rounding


class BatchPage:
    """Collects the records of a batch, in bounded memory, and writes the page.

    Of more than PLOTS patterns or ROWS rows it keeps those that want attention most: ambiguous
    ones before not recognised, failed and confident ones, each by rising confidence.

    Args:
        grid: of the model.
        class_names: the K classes.
        header: `model` and `command`, shown at the foot, and `library`, what phases are compared
            with, if any are.
    """

    def __init__(self, grid: Grid, class_names: Sequence[str], header: Mapping[str, Any]):
        self._grid, self._classes, self._header = grid, tuple(class_names), header
        self._rows: list[tuple[tuple, dict[str, Any]]] = []
        self._plots: dict[int, dict[str, Any]] = {}
        self._counts: dict[str, int] = {}
        self.left_out: Sequence[tuple[Path, str]] = ()
        self.notes: Sequence[str] = ()

    def add(
        self,
        result: Refined | Failed,
        phases: Phases | None = None,
        written: Sequence[str] = (),
    ) -> None:
        """Takes one record, the phases that its candidates are of, and its files."""
        row = table_row(result, written)  # first: one that cannot be packed leaves nothing behind
        plot = plot_data(result, self._grid, phases) if isinstance(result, Refined) else None
        verdict = result.verdict if isinstance(result, Refined) else FAILED
        number = sum(self._counts.values())
        self._counts[verdict] = self._counts.get(verdict, 0) + 1
        urgency = _ATTENTION.index(verdict) if verdict in _ATTENTION else len(_ATTENTION)
        confidence = result.confidence if isinstance(result, Refined) else 0.0
        key = (urgency, confidence, number)
        self._rows.append((key, {"number": number, **row}))
        if plot is not None:
            self._plots[number] = plot
        if len(self._rows) > 2 * ROWS or len(self._plots) > 2 * PLOTS:
            self._prune()

    def _prune(self) -> None:
        self._rows.sort(key=lambda item: item[0])
        del self._rows[ROWS:]
        with_plot = [row["number"] for _, row in self._rows if row["number"] in self._plots]
        self._plots = {number: self._plots[number] for number in with_plot[:PLOTS]}

    def render(self) -> str:
        """Returns the page."""
        self._prune()
        total, shown = sum(self._counts.values()), len(self._rows)
        return render_page(
            "batch.html.j2",
            counts=self._counts,
            total=total,
            shown=shown,
            plots=self._plots,
            hidden=total - shown,
            left_out=[(str(path), reason) for path, reason in self.left_out],
            notes=list(self.notes),
            without_plot=total - self._counts.get(FAILED, 0) - len(self._plots),
            data={
                "classes": self._classes,
                "systems": CRYSTAL_SYSTEMS if self._header.get("library") else self._classes,
                "q": packed_floats(grid_q(self._grid)),
                "rows": [row for _, row in self._rows],
            },
            plotly=get_plotlyjs(),
            **{"library": None, **self._header},
        )

    def write(self, path: Path) -> None:
        """Writes the page, atomically.

        Raises:
            UserError: it cannot be written.
        """
        atomic_write_text(path, self.render())


def table_row(result: Refined | Failed, written: Sequence[str] = ()) -> dict[str, Any]:
    """Returns what the table shows of a record.

    Args:
        result: the record.
        written: names of the files beside the page that are about it.
    """
    if isinstance(result, Failed):
        return {
            "name": result.name, "input": str(result.path), "verdict": FAILED,
            "notes": result.error.removeprefix(str(result.path)).lstrip(": "),  # beside its name
        }  # fmt: skip
    scan, first_two = result.scan, result.likely[:2]
    row: dict[str, Any] = {
        "name": result.name,
        "input": str(result.path),
        "verdict": result.verdict,
        "refiner": result.refiner,
        "change": _rounded(result.change, 5),
        "wavelength": scan.wavelength,
        "wavelengthSource": scan.wavelength_source,
        "kAlpha2": scan.k_alpha2,
        "range": [_rounded(scan.two_theta[0], 2), _rounded(scan.two_theta[-1], 2)],
        "covered": _rounded(np.mean(result.placed.mask), 3),
        "notes": "; ".join(filter(None, (result.reason, *result.notes))),
        "raw": [_rounded(p, 4) for p in result.raw_probabilities],
        "refined": [_rounded(p, 4) for p in result.probabilities],
        "distances": [_rounded(d, 4) for d in result.distances],
    }
    if result.system:
        row["system"] = result.system
        row["confidence"] = _rounded(result.confidence, 4)
        row["second"] = result.answer_names[first_two[1]]
        row["secondProbability"] = _rounded(result.answer[first_two[1]], 4)
    if result.space_group_number:
        row["spaceGroup"] = result.space_group_number
        row["spaceGroupSymbol"] = space_group_symbol(result.space_group_number)
    if result.identified:
        row["systems"] = [_rounded(p, 4) for p in result.answer]
        row["notInLibrary"] = _rounded(result.identified.answer.not_in_library, 4)
        row["candidates"] = [
            _candidate(one) | {"cif": name if name in written else None}
            for rank, one in enumerate(result.candidates, start=1)
            for name in (candidate_file(result.name, rank),)
        ]
        row["further"] = [
            [_candidate(one) for one in phase[:_FURTHER]]
            for phase in (result.identified.further if result.system else ())
        ]
        row["shares"] = [_rounded(share, 4) for share in result.identified.shares]
        row["leftOver"] = [peak["two_theta"] for peak in left_over_peaks(result) or ()]
    if result.candidates:
        row["formula"] = result.candidates[0].formula
        row["mineral"] = result.candidates[0].mineral
        row["phaseProbability"] = _rounded(result.candidates[0].candidate.probability, 4)
    if result.matches:
        row["match"] = {
            "name": result.matches[0].name, "score": _rounded(result.matches[0].score, 3),
        }  # fmt: skip
    return row


def _candidate(one: Named) -> dict[str, Any]:
    """What the page tells of a candidate."""
    return {
        "formula": one.formula,
        "mineral": one.mineral,
        "spaceGroup": one.space_group_number,
        "spaceGroupSymbol": one.space_group,
        "system": one.system,
        "source": f"{one.source} {one.source_id}",
        "members": len(one.members),
        "probability": _rounded(one.candidate.probability, 4),
        "explained": _rounded(one.explained, 3),
        "missing": _rounded(one.missing, 3),
        "leftOver": _rounded(one.left_over, 3),
        "shift": _rounded(100.0 * one.shift, 2),
        "displacement": _rounded(1000.0 * one.displacement, 3),
        "cell": None if one.cell is None else cell_words(one.cell),
    }


def cell_words(fit: CellFit) -> str:
    """Returns a fitted cell with standard deviations of the last digits: `a = 4.7591(3) Å`.

    What symmetry gives, or makes equal to what stands before it, is left out.
    """
    told, before = [], list[float]()
    for name, value, deviation in zip("abcαβγ", fit.cell, fit.deviation, strict=True):
        if deviation < _EXACT or any(math.isclose(value, one) for one in before):
            continue
        before.append(value)
        digits = min(max(-math.floor(math.log10(deviation)), 0), 6)
        unit = " Å" if name in "abc" else "°"
        told.append(f"{name} = {value:.{digits}f}({deviation * 10**digits:.0f}){unit}")
    return f"{', '.join(told)}, from {fit.lines} lines"


def plot_data(
    result: Refined, grid: Grid, phases: Phases | None = None, shown: int = _CANDIDATES
) -> dict[str, Any]:
    """Returns the curves of a pattern, packed: measured and background in counts, the rest in %.

    The model's input and the refined pattern are intensities per degree, per cent of the largest
    refined one. `shown` candidates are laid over it.
    """
    scan, mask = result.scan, result.placed.mask
    two_theta = two_theta_from_q(grid_q(grid)[mask], scan.wavelength)
    per_degree = q_per_radian(two_theta, scan.wavelength)
    refined = result.refined[mask] * per_degree
    raw = result.placed.pattern[mask] * per_degree
    percent = _percent(result, per_degree)
    angle, counts = thinned(scan.two_theta, scan.counts, _POINTS)
    plot: dict[str, Any] = {
        "wavelength": scan.wavelength,
        "runs": runs(mask),
        "angle": packed(angle),
        "counts": packed(counts),
        "background": packed(in_counts(result.placed.background[mask], result, two_theta)),
        "input": packed(percent * raw),
        "refined": packed(percent * refined) if result.has_pattern else None,
        "sticks": [
            {
                "name": match.name,
                "score": _rounded(match.score, 3),
                "q": packed_floats(match.q[strong]),
                "intensity": packed(match.intensity[strong]),
            }
            for match in result.matches
            if (strong := np.sort(np.argsort(-match.intensity, kind="stable")[:_STICKS])).size
        ],
    }
    order = _strongest(result.peaks)
    drawn = result.candidates[:shown]
    laid = laid_over(result, grid, phases, drawn) if phases else []
    plot["candidates"] = [overlay_data(result, grid, one) for one in laid]
    lost = peak_table(result.placed.pattern, result.refined, mask, grid, scan.wavelength)
    plot["removed"] = [
        [_rounded(lost.two_theta[i], 3), _rounded(lost.d_spacing[i], 4)]
        for i in _strongest(lost, ~lost.in_raw)
    ]
    plot["peaks"] = [
        [
            _rounded(result.peaks.two_theta[i], 3),
            _rounded(result.peaks.d_spacing[i], 4),
            _rounded(result.peaks.intensity[i], 1),
            _rounded(result.peaks.fwhm[i], 3),
            bool(result.peaks.in_raw[i]),
        ]
        for i in order
    ]
    plot["allPeaks"] = len(result.peaks.two_theta)
    return plot


def laid_over(
    result: Refined,
    grid: Grid,
    phases: Phases,
    candidates: Sequence[Named],
    beside: np.ndarray | None = None,
) -> list[Overlay]:
    """Lays candidates over the refined pattern of a record.

    Args:
        result: the record.
        grid: of the model.
        phases: that the candidates are of.
        candidates: likeliest first; their cells and displacements may be changed.
        beside: what another phase explains of the pattern already, `[L]`.
    """
    pattern = result.refined if beside is None else np.maximum(result.refined - beside, 0.0)
    peaks_q = 2.0 * np.pi / result.peaks.d_spacing[_strongest(result.peaks)]
    return overlays(candidates, phases, grid, pattern, result.placed.mask, peaks_q)


def overlay_data(result: Refined, grid: Grid, laid: Overlay) -> dict[str, Any]:
    """Returns a candidate that is laid over a pattern, packed, per cent as in `plot_data`."""
    mask = result.placed.mask
    two_theta = two_theta_from_q(grid_q(grid)[mask], result.scan.wavelength)
    per_degree = q_per_radian(two_theta, result.scan.wavelength)
    return {
        "q": packed_floats(laid.q),
        "intensity": packed(laid.height),
        "pattern": packed(_percent(result, per_degree) * laid.pattern[mask] * per_degree),
        "unseen": np.flatnonzero(laid.unseen).tolist(),
        "unexplained": np.flatnonzero(~laid.explained).tolist(),
    }


def _percent(result: Refined, per_degree: np.ndarray) -> float:
    """What makes the largest refined intensity per degree, else the raw one, 100."""
    mask = result.placed.mask
    top = (result.refined[mask] * per_degree).max(initial=0.0)
    return 100.0 / max(top or (result.placed.pattern[mask] * per_degree).max(initial=0.0), 1e-30)


def _strongest(peaks: PeakTable, among: np.ndarray | None = None) -> np.ndarray:
    """The places of the strongest peaks of a table, or of some of it, in order of angle."""
    index = np.arange(len(peaks.two_theta)) if among is None else np.flatnonzero(among)
    return np.sort(index[np.argsort(-peaks.intensity[index], kind="stable")[:_PEAKS]])


def packed(values: np.ndarray) -> dict[str, Any]:
    """Returns values `[n]` as 16-bit levels between their smallest and largest, in base64."""
    values = np.asarray(values, np.float64)
    low, high = float(values.min(initial=np.inf)), float(values.max(initial=-np.inf))
    if not values.size:
        low = high = 0.0
    step = (high - low) / _LEVELS or 1.0
    levels = np.round((values - low) / step).astype("<u2")
    return {"low": low, "step": step, "levels": base64.b64encode(levels.tobytes()).decode("ascii")}


def packed_floats(values: np.ndarray) -> str:
    """Returns values as 32-bit floats in base64."""
    return base64.b64encode(np.asarray(values, "<f4").tobytes()).decode("ascii")


def _rounded(value: float, digits: int) -> float | None:
    # Adding 0 takes the minus from a zero.
    return round(float(value), digits) + 0.0 if np.isfinite(value) else None
