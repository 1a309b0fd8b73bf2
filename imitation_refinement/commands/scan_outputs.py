"""The files that refining a batch of scans writes, but for the page.

Belongs here: names and formats of files. Intensities are counts, in the unit of the input, but in
`<name>.refined.xy`, whose largest value is 100. What a row or an entry holds is `scan_results`'s.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np

from imitation_refinement.commands.peak_table import PeakTable
from imitation_refinement.commands.scan_figure import ScanFigure
from imitation_refinement.commands.scan_results import (
    Curves,
    Failed,
    Refined,
    candidate_record,
    columns,
    entry,
    on_input_points,
    row,
    thinned,
)
from imitation_refinement.phases.cif_text import cif_text
from imitation_refinement.phases.library import Library
from imitation_refinement.phases.named import Named
from imitation_refinement.runtime.files import atomic_file, writing
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.scans import write_refined

ENDINGS = (
    ".refined.xy", ".refined_input_points.xy", ".background.xy", ".residual.xy", ".peaks.csv",
    ".png",
)  # fmt: skip
CANDIDATE_COLUMNS = (
    "name", "rank", "formula", "space_group_number", "space_group", "system", "mineral", "source",
    "source_id", "probability", "cosine", "explained", "missing", "left_over", "cell_change",
    "displacement", "cell", "members",
)  # fmt: skip
_TITLE = 30  # characters of a formula in the title of a picture
_CIFS = 3  # of the candidates of a pattern
_PICTURE_POINTS = 2000  # stretches of the measured curve; more than the picture has pixels


def write_patterns(folder: Path, result: Refined, grid: Grid, draw: ScanFigure | None) -> list[str]:
    """Writes the files of one pattern into an existing folder and returns their names.

    Where nothing was refined there is only the background. Nothing is written outside the measured
    range.

    Args:
        folder: where to.
        result: the record.
        grid: of the model.
        draw: what draws the picture; None for none.

    Raises:
        UserError: they cannot be written.
    """
    curves = on_input_points(result, grid)
    source = f"{_one_line(result.path.name)}; wavelength {result.scan.wavelength:g} angstrom"
    contents = {
        ".background.xy": _columns(f"background of {source}", curves.two_theta, curves.background)
    }
    if result.has_pattern:
        contents |= {
            ".refined_input_points.xy": _columns(
                f"refined from {source}", curves.two_theta, curves.refined
            ),
            ".residual.xy": _columns(
                f"counts less background less refined, of {source}",
                curves.two_theta, curves.residual,
            ),
            ".peaks.csv": peaks_csv(result.peaks).encode(),
        }  # fmt: skip
        if draw is not None:
            contents[".png"] = picture(result, curves, draw)
    # Not flushed to the disk one by one as `atomic_file` does it; the summary, which is, comes
    # last.
    for ending, content in contents.items():
        path = folder / f"{result.name}{ending}"
        with writing(path):
            path.write_bytes(content)
    names = [f"{result.name}{ending}" for ending in contents]
    if result.has_pattern:
        names.append(f"{result.name}.refined.xy")
        write_refined(
            folder / names[-1], result.refined, result.placed.mask, grid, result.scan.wavelength,
            _one_line(result.path.name),
        )  # fmt: skip
    return sorted(names)


def candidate_file(name: str, rank: int) -> str:
    """Returns the name of the CIF file of a candidate of the scan `name`."""
    return f"{name}.candidate-{rank}.cif"


def write_candidates(folder: Path, result: Refined, library: Library) -> list[str]:
    """Writes the likeliest phases of a pattern as CIF files, as they stand in the library.

    Raises:
        UserError: they cannot be written.
    """
    names = []
    for rank, one in enumerate(result.candidates[:_CIFS], start=1):
        names.append(candidate_file(result.name, rank))
        path = folder / names[-1]
        with writing(path):
            path.write_text(cif_text(library, one.candidate.entry), encoding="utf-8")
    return names


def peaks_csv(peaks: PeakTable) -> str:
    """Returns a peak table as CSV with a header."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(
        ["two_theta", "d_spacing", "relative_intensity", "width_fwhm_two_theta", "in_raw"]
    )
    for two_theta, d, intensity, width, in_raw in zip(*peaks, strict=True):
        yes = "yes" if in_raw else "no"
        table.writerow([f"{two_theta:.4f}", f"{d:.5f}", f"{intensity:.2f}", f"{width:.4f}", yes])
    return text.getvalue()


def picture(
    result: Refined,
    curves: Curves,
    draw: ScanFigure,
    candidate: tuple[np.ndarray, np.ndarray] | None = None,
) -> bytes:
    """Returns a PNG of the scan with its background and of the refined pattern, in counts.

    Args:
        result: the record.
        curves: of `on_input_points`.
        draw: what draws.
        candidate: angles and counts of a candidate's calculated pattern, where `draw` takes one.
    """
    answer = f"{result.system} {result.confidence:.0%}, " if result.system else ""
    phase = f"{phase_title(result.candidates[0])}, " if result.candidates else ""
    return draw(
        f"{result.name}: {phase}{answer}{result.verdict}",
        thinned(result.scan.two_theta, result.scan.counts, _PICTURE_POINTS),
        (curves.two_theta, curves.background),
        (curves.two_theta, curves.refined),
        candidate,
    )


def phase_title(one: Named) -> str:
    """Returns a candidate in a few words: `CuO (Tenorite), C2/c, 91%`."""
    mineral = f" ({one.mineral})" if one.mineral else ""
    formula = one.formula if len(one.formula) <= _TITLE else f"{one.formula[:_TITLE]}…"
    return f"{formula}{mineral}, {one.space_group}, {one.candidate.probability:.0%}"


class BatchTables:
    """`summary.csv`, `candidates.csv` and `results.json` of a batch, record by record.

    They are whole at the end; `left_out` and `notes` on the whole batch are to be set before.

    Args:
        folder: where to write.
        class_names: the K classes.
        header: what the JSON says of the batch beside its results.
    """

    def __init__(self, folder: Path, class_names: Sequence[str], header: Mapping[str, Any]):
        self._folder, self._columns, self._header = folder, columns(class_names), header
        self._files = ExitStack()
        self._separator = ""
        self.left_out: Sequence[tuple[Path, str]] = ()
        self.notes: Sequence[str] = ()

    def __enter__(self) -> "BatchTables":
        self._summary = self._files.enter_context(atomic_file(self._folder / "summary.csv"))
        self._results = self._files.enter_context(atomic_file(self._folder / "results.json"))
        self._candidates = self._files.enter_context(atomic_file(self._folder / "candidates.csv"))
        self._write_row(self._summary, self._columns)
        self._write_row(self._candidates, CANDIDATE_COLUMNS)
        self._results.write(json.dumps(self._header)[:-1].encode() + b', "results": [')
        return self

    def __exit__(self, *exception: Any) -> None:
        if exception[0] is None:
            left = [{"input": str(path), "reason": reason} for path, reason in self.left_out]
            end = {"left_out": left, "notes": list(self.notes)}
            self._results.write(b"\n], " + json.dumps(end)[1:].encode() + b"\n")
        self._files.__exit__(*exception)

    def add(self, result: Refined | Failed, files: Sequence[str] = ()) -> None:
        """Appends one record."""
        values = row(result)
        self._write_row(self._summary, [values.get(name, "") for name in self._columns])
        if isinstance(result, Refined):
            for rank, one in enumerate(result.candidates, start=1):
                record = {"name": result.name} | candidate_record(rank, one)
                self._write_row(self._candidates, [record[name] for name in CANDIDATE_COLUMNS])
        text = json.dumps(entry(result, files), allow_nan=False)
        self._results.write(f"{self._separator}\n{text}".encode())
        self._separator = ","

    def _write_row(self, file: IO[bytes], values: Sequence[Any]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(values)
        file.write(text.getvalue().encode(errors="surrogateescape"))


def _columns(header: str, two_theta: np.ndarray, counts: np.ndarray) -> bytes:
    # One format string for all: a tenth of the time of np.savetxt.
    table = np.column_stack([two_theta, counts])
    body = "%.5f %.6g\n" * len(table) % tuple(table.ravel())
    return f"# {header}\n# two_theta counts\n{body}".encode(errors="surrogateescape")


def _one_line(text: str) -> str:
    return " ".join(text.split())
