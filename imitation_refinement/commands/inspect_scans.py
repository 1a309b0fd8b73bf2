"""What files of scans hold, told before anything is refined: format, axis, wavelength, range.

Belongs here: what is said of each pattern, and the tables. Reading is `inputs`' and `formats`', the
page is `inspect_page`'s. No model is needed.
"""

import csv
import io
import itertools
import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from imitation_refinement.commands.inputs import Input, list_inputs, read_each
from imitation_refinement.commands.inspect_page import ROWS, InspectPage, picture
from imitation_refinement.commands.ledger import exit_status, in_a_line
from imitation_refinement.runtime.files import atomic_file, writing
from imitation_refinement.runtime.workdir import command
from imitation_refinement.xrd.formats import Record
from imitation_refinement.xrd.wavelengths import parse_wavelength

NOT_STATED = "not stated; give --wavelength"
COLUMNS = (
    "name", "input", "status", "format", "axis", "axis_used", "wavelength", "wavelength_source",
    "k_alpha2", "two_theta_min", "two_theta_max", "step", "step_max", "points", "counting_time_s",
    "largest", "unmeasured", "notes", "reason",
)  # fmt: skip
READ, FAILED = "read", "failed"


def inspect_scans(
    inputs: Sequence[str], output: Path, wavelength: str | float | None = None
) -> int:
    """Says of each pattern what was found in its file and how it would be used; refines nothing.

    Writes `inspect.json`, `inspect.csv` and `inspect.html`, and a line for each file in the log.

    Args:
        inputs: files, folders, glob patterns and manifests; see `inputs.list_inputs`.
        output: folder for the results; created.
        wavelength: for files that do not say theirs. A scan over 2 theta may do without one.

    Returns:
        Exit status: 0 if every pattern could be read, 3 if some could, 1 if none could.

    Raises:
        UserError: the wavelength or a manifest is wrong, or the output cannot be written.
    """
    if wavelength is not None:
        parse_wavelength(wavelength)
    files, left = list_inputs(inputs, wavelength)
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
    done, used, first = Counter[str](), False, dict[str, Any]()
    page = InspectPage(command())
    with (
        atomic_file(output / "inspect.json") as entries,
        atomic_file(output / "inspect.csv") as table,
    ):
        table.write(_csv_row(COLUMNS))
        entries.write(json.dumps({"command": command()})[:-1].encode() + b', "patterns": [')
        for one, records in itertools.groupby(
            read_each(files, left, look_only=True), key=lambda pair: pair[0]
        ):
            of_file = Counter[str]()
            for _, record in records:
                try:
                    found = described(one, record)
                    drawn = picture(record.scan) if record.scan else None
                except Exception as error:  # whatever it is, it is this pattern's trouble alone
                    record = Record(record.name, None, in_a_line(one.path, error))
                    found, drawn = described(one, record), None
                used |= found.get("wavelength_source") == "option" and one.wavelength == wavelength
                separator = b",\n" if done else b"\n"
                entries.write(separator + json.dumps(found, allow_nan=False).encode())
                table.write(_csv_row([_cell(found.get(name)) for name in COLUMNS]))
                page.add(found, drawn)
                done[found["status"]] += 1
                first = found if not of_file else first
                of_file[found["status"]] += 1
            logging.info("%s%s", in_words(first), _others(of_file))
        skipped = [{"input": str(path), "reason": reason} for path, reason in left]
        notes = []
        if wavelength is not None and done[READ] and not used:
            notes.append("--wavelength had no effect: every file, or the manifest, states its own")
        end = {"left_out": skipped, "notes": notes}
        entries.write(b"\n], " + json.dumps(end)[1:].encode() + b"\n")
    for path, reason in left:
        logging.info("left out: %s: %s", path, reason)
    for note in notes:
        logging.warning("%s", note)
    page.write(output / "inspect.html", left, notes)
    logging.info(
        "%d read, %d failed, %d left out; look at %s",
        done[READ], done[FAILED], len(left), output / "inspect.html",
    )  # fmt: skip
    if done.total() > ROWS:
        logging.info("the page shows the first %d; all are in inspect.csv", ROWS)
    return exit_status(done[READ], done[FAILED])


def described(one: Input, record: Record) -> dict[str, Any]:
    """Returns what is known of a pattern, as plain numbers and text; what is not known is None.

    `axis` is what the file has, `axis_used` what a model gets; `step` is the median of the steps
    and `step_max` the largest outside of unmeasured stretches, degrees.
    """
    found: dict[str, Any] = {"name": record.name, "input": str(one.path)}
    scan = record.scan
    if scan is None:
        return found | {"status": FAILED, "format": record.format, "reason": record.reason}
    known = math.isfinite(scan.wavelength)
    used = "2 theta (degrees)"
    if any(note.startswith("2 theta computed") for note in scan.notes):
        used += f", computed at {scan.wavelength:g} angstrom"
    steps = np.diff(scan.two_theta)
    starts = [np.searchsorted(scan.two_theta, last) - 1 for _, last in scan.unmeasured]
    return found | {
        "status": READ,
        "format": record.format,
        "axis": record.axis,
        "axis_used": used,
        "wavelength": scan.wavelength if known else None,
        "wavelength_source": scan.wavelength_source if known else NOT_STATED,
        "k_alpha2": scan.k_alpha2,
        "two_theta_min": float(scan.two_theta[0]),
        "two_theta_max": float(scan.two_theta[-1]),
        "step": round(float(np.median(steps)), 6),
        "step_max": round(float(np.delete(steps, starts).max()), 6),
        "points": len(scan.two_theta),
        "counting_time_s": record.seconds,
        "largest": float(scan.counts.max()),
        "unmeasured": [list(stretch) for stretch in scan.unmeasured],
        "notes": list(scan.notes),
    }


def in_words(found: dict[str, Any]) -> str:
    """Returns a line about a pattern."""
    if found["status"] == FAILED:
        return f"failed: {found['reason']}"
    if found["wavelength"] is None:
        wavelength = f"wavelength: {NOT_STATED}"
    else:
        wavelength = f"{found['wavelength']:.6g} angstrom ({found['wavelength_source']})"
    notes = f"; {'; '.join(found['notes'])}" if found["notes"] else ""
    return (
        f"{found['input']} ({found['name']}): {found['format']}; {found['axis']};"
        f" {found['two_theta_min']:g} to {found['two_theta_max']:g} in steps of {found['step']:g},"
        f" {found['points']} points; {wavelength}{notes}"
    )


def _others(of_file: Counter[str]) -> str:
    """What a line about the first pattern of a file adds on the others."""
    if of_file.total() == 1:
        return ""
    failed = f", {of_file[FAILED]} failed" if of_file[FAILED] else ""
    return f" (the first of {of_file.total()} patterns{failed})"


def _cell(value: Any) -> Any:
    """A value as a field of CSV."""
    if isinstance(value, list):
        return "; ".join(
            " to ".join(f"{x:g}" for x in item) if isinstance(item, list) else item
            for item in value
        )
    return "" if value is None else value


def _csv_row(values: Sequence[Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue().encode(errors="surrogateescape")
