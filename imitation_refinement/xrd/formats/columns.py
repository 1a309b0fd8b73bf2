"""What every reader of a file format returns, and what the readers share.

Belongs here: the raw content of a measured pattern before it is checked, and helpers on bytes and
wavelengths that more than one reader needs. Reads no files.
"""

import codecs
from typing import NamedTuple

import numpy as np

from imitation_refinement.errors import UserError
from imitation_refinement.xrd.grid import two_theta_from_q
from imitation_refinement.xrd.wavelengths import LONGEST, SHORTEST

MAX_BYTES = 200_000_000  # of one file, unpacked; a powder pattern has some 100 kB
INSTALL = "from the checkout: .venv/bin/pip install '.[formats]'"
_EASTERN = ("角度", "強度", "强度", "回折", "衍射", "波長", "波长", "試料", "测试", "样品")
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
        notes: what the reader did, in sentences.
        left_out: why this is no pattern to use; empty if it is one.
        by_design: whether what is left out was never a pattern (an error column, a tilt scan).
        format: what the file was recognised as, in words.
        axis: name of the axis as the file has it; empty if it names none.
        seconds: counting time of a point, None where the file does not say it.
    """

    x: np.ndarray
    counts: np.ndarray
    unit: str = "two_theta"
    wavelength: float | None = None
    k_alpha2: str = UNKNOWN
    name: str = ""
    notes: tuple[str, ...] = ()
    left_out: str = ""
    by_design: bool = False
    format: str = ""
    axis: str = ""
    seconds: float | None = None


def of_format(name: str, patterns: list[Columns]) -> list[Columns]:
    """Returns patterns with the name of their format, where no reader said it more closely."""
    return [item._replace(format=item.format or name) for item in patterns]


def left_out(name: str, reason: str, *, by_design: bool = False) -> Columns:
    """Returns the place of a pattern that cannot be used, or is none by design."""
    nothing = np.zeros(0)
    return Columns(nothing, nothing, name=name, left_out=reason, by_design=by_design)


def named(patterns: list[Columns], kind: str) -> list[Columns]:
    """Returns patterns with names `<kind>1`, `<kind>2`, ... if there are several."""
    if len(patterns) == 1:
        return [patterns[0]._replace(name="")]
    return [item._replace(name=f"{kind}{i}") for i, item in enumerate(patterns, start=1)]


def fixed_slit(two_theta: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Returns counts of a variable divergence slit as a fixed slit would give them, float64 `[n]`.

    A slit that keeps the irradiated length constant opens with sin(theta), and so does the
    intensity. The scale is that of the strongest point.
    """
    sine = np.sin(np.deg2rad(0.5 * np.asarray(two_theta, np.float64)))
    with np.errstate(divide="ignore", invalid="ignore"):
        return counts * (sine[int(np.nanargmax(counts))] / sine)


SLIT_NOTE = "variable divergence slit: intensities brought to a fixed one (divided by sin theta)"


def ramp(start: float, step: float, count: int) -> np.ndarray:
    """Returns start, start + step, ..., after a check that this can be a scan.

    Raises:
        ValueError: it cannot.
    """
    if not (0 < count < 10**7 and np.isfinite(start) and 1e-6 < abs(step) < 10.0):
        raise ValueError(f"{count} points from {start:g} in steps of {step:g}")
    return start + step * np.arange(count)


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

    Shift-JIS and GBK, too, if words of powder patterns come out; UTF-32 with its mark. Zeros at the
    end, which a computer that crashed leaves, are cut off.

    Raises:
        UserError: the bytes are no text.
    """
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return data.decode("utf-32", errors="replace")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    head = data[:4096]
    if b"\0" in head:
        for start, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
            half = head[start::2]
            if half.count(b"\0") > 0.9 * len(half) and b"\0" not in head[1 - start :: 2]:
                return data.decode(encoding, errors="replace")
    data = data.rstrip(b"\0") or data
    if b"\0" in data:
        raise UserError(
            f"{source}: a binary file of an unknown kind; export the scan as text with two columns"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    for encoding in ("shift_jis", "gbk"):
        text = data.decode(encoding, errors="replace")
        if any(word in text for word in _EASTERN):
            return text
    return data.decode("latin-1")
