"""Bruker `.brml`, read by geddes (extra `formats`); what it leaves out, by us.

Belongs here: the one door to geddes. We add the wavelengths, and the attenuator and counting time
of each point. Works on bytes; opens no files.
"""

import re
from typing import Any

import numpy as np

from imitation_refinement.errors import UserError
from imitation_refinement.xrd.formats.columns import INSTALL, Columns, k_alpha, left_out, named
from imitation_refinement.xrd.formats.factors import one_scale
from imitation_refinement.xrd.formats.rasx import unzip

_COLUMNS = {"AbsorptionFactor": "attenuator", "MeasuredTime": "time"}  # of each point


def read_brml(data: bytes, source: str) -> list[Columns]:
    """Returns the measurements of a `.brml` file over 2 theta.

    Raises:
        UserError: damaged, none over 2 theta in it, or geddes is not installed.
    """
    try:
        import geddes
    except ImportError as error:
        raise UserError(f"{source}: .brml files need geddes; {INSTALL}") from error
    parts = unzip(data, source, r"(RawData\d*|MeasurementContainer|DataContainer)\.xml$")
    texts = {name: content.decode("utf-8", errors="replace") for name, content in parts.items()}
    raw = [
        text
        for name, text in sorted(texts.items(), key=lambda item: (len(item[0]), item[0]))
        if re.search(r"RawData\d*\.xml$", name)
    ]
    common = "".join(text for text in texts.values() if text not in raw)
    found = [_measurement(geddes, data, i, text, common) for i, text in enumerate(raw)]
    if all(item.left_out for item in found):
        reason = found[0].left_out if found else "no RawData in it"
        raise UserError(f"{source}: {reason}; export it as text")
    return named(found, "scan")


def _measurement(geddes: Any, data: bytes, index: int, raw: str, common: str) -> Columns:
    """Returns a measurement; one that geddes does not read, or not over 2 theta, is left out."""
    try:
        pattern = geddes.read_bytes(data, "scan.brml", index=index)
    except (ValueError, OSError) as error:
        if "strictly increasing" in str(error):
            return left_out("", "2 theta does not rise in it", by_design=True)
        return left_out("", str(error).splitlines()[0])
    x, counts = np.asarray(pattern.x, np.float64), np.asarray(pattern.y, np.float64)
    text = raw + common
    alpha1, alpha2, ratio = (_stated(text, which) for which in ("Alpha1", "Alpha2", "Ratio"))
    wavelength, state = k_alpha(alpha1 or 0.0, alpha2 or 0.0, ratio)
    counts, notes = one_scale(counts, _beside(raw, len(x)))
    return Columns(x, counts, wavelength=wavelength, k_alpha2=state, notes=notes)


def _stated(text: str, which: str) -> float | None:
    found = re.search(rf"<WaveLength{which}\b[^>]*?\bValue=\"([\d.]+)\"", text)
    return float(found[1]) if found else None


def _beside(raw: str, count: int) -> dict[str, np.ndarray]:
    """Returns the columns of `_COLUMNS` that a measurement has, float64 `[count]` each."""
    rows = [row.split(",") for row in re.findall(r"<Datum>([^<]*)</Datum>", raw)]
    found = {}
    for logic, name in _COLUMNS.items():
        views = re.findall(rf"<RawDataView\b[^>]*LogicName=\"{logic}\"[^>]*>", raw)
        view = re.search(r"\bStart=\"(\d+)\"", views[0]) if views else None
        if view and len(rows) == count and all(len(row) > int(view[1]) for row in rows):
            try:
                found[name] = np.array([row[int(view[1])] for row in rows], np.float64)
            except ValueError:
                continue
    return found
