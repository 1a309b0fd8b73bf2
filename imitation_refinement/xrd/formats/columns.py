"""What every reader of a file format returns, and what the readers share.

Belongs here: the raw content of a measured pattern before it is checked, and helpers on bytes and
wavelengths that more than one reader needs. Reads no files.
"""

import codecs
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from imitation_refinement.errors import UserError
from imitation_refinement.xrd.grid import two_theta_from_q
from imitation_refinement.xrd.scans import LONGEST, SHORTEST, WAVELENGTHS

MAX_BYTES = 200_000_000  # of one file, unpacked; a powder pattern has some 100 kB
PRESENT, STRIPPED, UNKNOWN = "present", "stripped", "unknown"


class Columns(NamedTuple):
    """One pattern as its file has it: nothing checked, nothing sorted.

    Attributes:
        x: positions in `unit`, float64 `[n]`.
        counts: intensity, float64 `[n]`.
        unit: `two_theta` (degrees), `q` (2 pi / d, 1/angstrom) or `d` (angstrom).
        wavelength: in angstrom, None where the file does not say it.
        k_alpha2: `present`, `stripped` (or never there) or `unknown`.
        name: of this pattern within its file; empty if the file has only one.
        notes: what the reader left out, in sentences.
    """

    x: np.ndarray
    counts: np.ndarray
    unit: str = "two_theta"
    wavelength: float | None = None
    k_alpha2: str = UNKNOWN
    name: str = ""
    notes: tuple[str, ...] = ()


def k_alpha(alpha1: float, alpha2: float, ratio: float | None) -> tuple[float | None, str]:
    """Returns the wavelength to use in angstrom, None if none is given, and the state of K alpha 2.

    With both lines in the pattern it is their mean, weighted by intensity, as for the simulated
    doublets (`imperfections.k_alpha_doublet`); else the first line.

    Args:
        alpha1: K alpha 1 in angstrom.
        alpha2: K alpha 2 in angstrom; 0 if the file has none.
        ratio: intensity of alpha 2 over alpha 1; None if the file does not say it (then 0.5).
    """
    if not SHORTEST <= alpha1 <= LONGEST:
        return None, UNKNOWN
    if not 0.9 < alpha2 / alpha1 < 1.1 or alpha2 == alpha1:
        return alpha1, UNKNOWN
    if ratio is None:
        return (alpha1 + 0.5 * alpha2) / 1.5, UNKNOWN
    if not 0.0 < ratio <= 1.0:
        return alpha1, STRIPPED if ratio == 0.0 else UNKNOWN
    return (alpha1 + ratio * alpha2) / (1.0 + ratio), PRESENT


def is_characteristic(wavelength: float) -> bool:
    """Returns whether a wavelength is within 0.3 % of a K alpha line of a usual anode."""
    return any(abs(wavelength / known - 1.0) < 3e-3 for known in WAVELENGTHS.values())


def angles(x: np.ndarray, unit: str, wavelength: float) -> np.ndarray:
    """Returns 2 theta in degrees, float64 `[n]`; NaN where the radiation cannot be diffracted."""
    if unit == "two_theta":
        return np.asarray(x, np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        q = 2.0 * np.pi / x if unit == "d" else np.asarray(x, np.float64)
        possible = np.isfinite(q) & (q > 0) & (q < 4.0 * np.pi / wavelength)
    two_theta = np.full(len(q), np.nan)
    two_theta[possible] = two_theta_from_q(q[possible], wavelength)
    return two_theta


def decode(data: bytes, source: str) -> str:
    """Returns the text of a file in UTF-8, UTF-16 (with or without mark) or Latin-1.

    Raises:
        UserError: the bytes are no text.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    head = data[:4096]
    if b"\0" in head:
        for start, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
            half = head[start::2]
            if half.count(b"\0") > 0.9 * len(half) and b"\0" not in head[1 - start :: 2]:
                return data.decode(encoding, errors="replace")
    if b"\0" in data:
        raise UserError(
            f"{source}: a binary file of an unknown kind; export the scan as text with two columns"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


# "Wavelength [A]: 1,5406", "_WL1 = 1.54056", "*MEAS_COND_XG_WAVE_LENGTH_ALPHA1 "1.540593""
_SAYS_WAVELENGTH = re.compile(
    r"(?:wave[\s_-]*length|wellenlänge|\blambda|λ|\b_?wl1?\b).{0,60}?(\d*[.,]\d{2,})"
    r"\s*(nm|Å|A\b|ang)?",
    re.IGNORECASE,
)
_SECOND_LINE = re.compile(r"(?:alpha|α|ka|k_a)[\s_-]*2|beta|β|\bwl[23]", re.IGNORECASE)
_FIRST_LINE = re.compile(r"(?:alpha|α|ka|k_a)[\s_-]*1|\bwl1", re.IGNORECASE)
_SAYS_ANODE = re.compile(
    r"\b(Cu|Co|Mo|Cr|Fe|Ag)[\s_-]*K[\s_-]*(?:alpha|α|a)(?:[\s_-]*(1)(?!\d))?(?![\s_-]*2|[a-z])",
    re.I,
)
_SAYS_STRIPPED = re.compile(
    r"(?:alpha|α|ka|k_a)[\s_-]*2\W+(?:\w+\W+)?(?:stripped|removed|subtracted)", re.IGNORECASE
)


def wavelength_said(lines: Sequence[str]) -> tuple[float | None, str]:
    """Returns the wavelength that header or comment lines state, and the state of K alpha 2.

    A number after the word wavelength (or lambda, WL1) counts, else the name of a line such as
    `Cu Ka1`, if only one is named. Numbers are in angstrom unless `nm` follows.
    """
    state = STRIPPED if any(_SAYS_STRIPPED.search(line) for line in lines) else UNKNOWN
    for line in lines:
        if _SECOND_LINE.search(line) and not _FIRST_LINE.search(line):
            continue
        if found := _SAYS_WAVELENGTH.search(line):
            value = float(found[1].replace(",", "."))
            value *= 10.0 if (found[2] or "").lower() == "nm" else 1.0
            if SHORTEST <= value <= LONGEST:
                return value, state
    text = "\n".join(lines)
    named = {(found[1].capitalize(), found[2] or "") for found in _SAYS_ANODE.finditer(text)}
    if len(named) == 1:
        anode, line = named.pop()
        return WAVELENGTHS.get(f"{anode}Ka{line}", WAVELENGTHS[f"{anode}Ka"]), state
    return None, state
