"""Binary `.raw` files of Bruker (Siemens), Stoe and Rigaku.

Belongs here: their layouts, little endian, written down from published descriptions: the DIFFRAC-AT
and DIFFRAC plus manuals as quoted by xylib, the notes of geddes on RAW1.01 and RAW4.00, and the
Chemotion converter's on Stoe. What was checked on files stands at each function. Works on bytes;
opens no files.
"""

import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from imitation_refinement.errors import UserError
from imitation_refinement.xrd.formats.columns import Columns, k_alpha, ramp
from imitation_refinement.xrd.wavelengths import WAVELENGTHS, is_characteristic

# Scan types of RAW1.01 that move 2 theta: locked coupled, unlocked coupled, detector scan, PSD.
_RAW3_TWO_THETA = (0, 1, 2, 129, 130)
_RAW4_TWO_THETA = ("coupled", "detector", "2theta", "two theta", "psd")


def read_raw(data: bytes, source: str) -> list[Columns]:
    """Returns the ranges of a binary file that were measured over 2 theta.

    Args:
        data: the file's bytes.
        source: what to name in errors.

    Raises:
        UserError: of no known version, damaged, or without such a range.
    """
    readers: dict[bytes, Callable[[bytes], list[Columns]]] = {
        b"RAW1.01": _bruker3,
        b"RAW4.00": _bruker4,
        b"RAW2": _bruker2,
        b"RAW ": _bruker1,
        b"RAW_1.": _stoe,
        b"FI": _rigaku,
    }
    reader = next((reader for magic, reader in readers.items() if data.startswith(magic)), None)
    if reader is None:
        raise UserError(
            f"{source}: a RAW file of an unknown version ({data[:7]!r}); export it as text"
        )
    try:
        found = reader(data)
    except struct.error as error:
        raise UserError(f"{source}: cut short within its header; export it as text") from error
    except (ValueError, OverflowError) as error:
        raise UserError(f"{source}: damaged or cut short ({error}); export it as text") from error
    if not found:
        raise UserError(f"{source}: no range measured over 2 theta; export it as text")
    if len(found) == 1:
        return found
    return [item._replace(name=f"range{i}") for i, item in enumerate(found, start=1)]


def read_rd(data: bytes, source: str) -> list[Columns]:
    """Reads Philips `.rd` and `.sd` (versions 3 and 5): packed counts, the wavelength by the anode.

    After the description in xylib: anode at 85; step, start and end at 214; counts from 250 or 810,
    each as ten times the root. No file to try was at hand.

    Raises:
        UserError: cut short, or its header makes no scan.
    """
    try:
        step, start, end = _unpack("3d", data, 214)
        count = (
            round((end - start) / step) + 1 if np.isfinite([step, start, end]).all() and step else 0
        )
        x = ramp(start, step, count)
        counts = np.floor(
            _values(data, 250 if data[:2] == b"V3" else 810, count, "<u2", 2) ** 2 / 100
        )
    except (struct.error, ValueError, OverflowError) as error:
        raise UserError(f"{source}: damaged or cut short ({error}); export it as text") from error
    anode = ("Cu", "Mo", "Fe", "Cr")[data[85]] if data[85] < 4 else ""
    return [Columns(x, counts, wavelength=WAVELENGTHS.get(f"{anode}Ka"))]


def _unpack(form: str, data: bytes, offset: int) -> tuple[Any, ...]:
    return struct.unpack_from("<" + form, data, offset)


def _values(
    data: bytes, offset: int, count: int, kind: str = "<f4", stride: int = 4, skip: int = 0
) -> np.ndarray:
    """Returns the number `skip` bytes into each of `count` records, float64 `[count]`."""
    if offset + count * stride > len(data):
        raise ValueError(f"{count} points announced, {max(0, len(data) - offset) // stride} there")
    records = np.frombuffer(data, np.uint8, count * stride, offset).reshape(count, stride)
    part = records[:, skip : skip + np.dtype(kind).itemsize]
    return np.ascontiguousarray(part).view(kind)[:, 0].astype(np.float64)


def _bruker1(data: bytes) -> list[Columns]:
    """Reads version 1 (`RAW `): 156 bytes of header before the counts of each range.

    Checked on one file (two lines of its pattern at plausible angles); no second reader was there.
    """
    found, offset, more = [], 0, 1
    while more:
        if offset and not data.startswith(b"RAW ", offset):
            offset -= 4  # early files have the word before the first range only
        (count,) = _unpack("I", data, offset + 4)
        (step,) = _unpack("f", data, offset + 12)
        (start,) = _unpack("f", data, offset + 24)
        alpha1, alpha2 = _unpack("2f", data, offset + 72)
        (more,) = _unpack("I", data, offset + 152)
        wavelength, state = k_alpha(alpha1, alpha2, None)
        counts = _values(data, offset + 156, count)
        found.append(Columns(ramp(start, step, count), counts, "two_theta", wavelength, state))
        offset += 156 + 4 * count
    return found


def _bruker2(data: bytes) -> list[Columns]:
    """Reads version 2 (`RAW2`): 256 bytes of header, then a short one before each range.

    Checked on a scan of zincite, whose peaks lie at its angles.
    """
    (ranges,) = _unpack("H", data, 4)
    wavelength, state = k_alpha(*_unpack("3f", data, 190))
    found, offset = [], 256
    for _ in range(ranges):
        header, count = _unpack("2H", data, offset)
        step, start = _unpack("2f", data, offset + 12)
        counts = _values(data, offset + header, count)
        found.append(Columns(ramp(start, step, count), counts, "two_theta", wavelength, state))
        offset += header + 4 * count
    return found


def _bruker3(data: bytes) -> list[Columns]:
    """Reads version 3 (`RAW1.01`, DIFFRAC plus): 712 bytes, then each range with its header.

    Checked on two files that were also exported as text (every count and angle), and on a third.
    """
    (ranges,) = _unpack("I", data, 12)
    alpha1, alpha2, _, ratio = _unpack("4d", data, 624)
    wavelength, state = k_alpha(alpha1, alpha2, ratio)
    found, offset = [], 712
    for _ in range(min(ranges, len(data))):
        header, count = _unpack("2I", data, offset)
        (start,) = _unpack("d", data, offset + 16)
        (step,) = _unpack("d", data, offset + 176)
        (kind,) = _unpack("I", data, offset + 196)
        varying, record, extra = _unpack("3I", data, offset + 248)
        record = max(record, 4)
        first = offset + header + extra
        counts = _values(data, first, count, stride=record)
        if kind in _RAW3_TWO_THETA:
            measured = bool(varying & 1) and record >= 12  # 2 theta beside each intensity
            x = (
                _values(data, first, count, "<f8", record, skip=4)
                if measured
                else ramp(start, step, count)
            )
            found.append(Columns(x, counts, "two_theta", wavelength, state))
        offset = first + record * count
    return found


def _bruker4(data: bytes) -> list[Columns]:
    """Reads version 4 (`RAW4.00`): segments of (kind, length), ranges between them.

    Checked on one file against a second reader (geddes): every count and angle.
    """
    wavelength, state = None, "unknown"
    found, offset = [], 61
    while offset + 160 <= len(data):
        kind, length = _unpack("2I", data, offset)
        if kind not in (0, 160):
            if kind == 30 and length >= 112:
                alpha1, alpha2, _, ratio = _unpack("4d", data, offset + 80)
                wavelength, state = k_alpha(alpha1, alpha2, ratio)
            offset += max(length, 8)
            continue
        start, step = _unpack("2d", data, offset + 72)
        (count,) = _unpack("I", data, offset + 88)
        record, extra = _unpack("2I", data, offset + 136)
        record = max(record, 4)
        scan = _string(data, offset + 32, 24).lower()
        first = offset + 160 + extra
        counts = _values(data, first, count, stride=record)
        if any(word in scan for word in _RAW4_TWO_THETA):
            start = _drive(data, offset + 160, first, "2theta", start)
            x = ramp(start, step, count)
            found.append(Columns(x, counts, "two_theta", wavelength, state))
        offset = first + record * count
    return found


def _drive(data: bytes, offset: int, end: int, name: str, default: float) -> float:
    """Returns where a drive stood at the start of a range, from the records of kind 50."""
    while offset + 64 <= end:
        kind, length = _unpack("2I", data, offset)
        if kind == 50 and _string(data, offset + 12, 24).lower() == name:
            return float(_unpack("d", data, offset + 56)[0])
        offset += max(length, 8)
    return default


def _stoe(data: bytes) -> list[Columns]:
    """Reads Stoe `RAW_1.06Powdat`: blocks of 512 bytes; the last block before the counts tells all.

    Checked on one file: count, range and extreme counts agree with what its header says. That
    file's wavelengths are those of no anode, so they count only if they are K alpha lines.
    """
    data_blocks, all_blocks = _unpack("2H", data, 0x1DA)
    first = 512 * (all_blocks - data_blocks)
    if first < 1024:
        raise ValueError(f"{data_blocks} of {all_blocks} blocks are data")
    (count,) = _unpack("H", data, first - 0x1DE)
    start, _, end, _, step, _ = _unpack("6f", data, first - 0x1D4)
    least, most = _unpack("2I", data, first - 0x188)
    counts = _values(data, first, count, "<u4")
    x = ramp(start, step, count)
    if abs(x[-1] - end) > 0.5 * step or (most and (counts.min(), counts.max()) != (least, most)):
        raise ValueError("its header and its counts do not agree")
    alpha1, alpha2 = _unpack("2f", data, 0x142)
    wavelength, state = k_alpha(alpha1, alpha2, None)
    if wavelength is not None and not is_characteristic(wavelength):
        wavelength, state = None, "unknown"
    return [Columns(x, counts, "two_theta", wavelength, state)]


def _rigaku(data: bytes) -> list[Columns]:
    """Reads Rigaku `FI` files: wavelengths at 1212, the range after `PI`, the counts after `DA`.

    After the descriptions in two programs; no file to try was at hand. So it is refused unless the
    number of points before the counts and the one that the range implies agree.
    """
    alpha1, alpha2 = _unpack("2d", data, 1212)
    wavelength, state = k_alpha(alpha1, alpha2, None)
    found, offset = [], 1212
    while (info := data.find(b"PI\0\0", offset)) >= 0:
        start, end, step = _unpack("3f", data, info + 826)
        values = data.find(b"DA\0\0", info)
        if values < 0:
            break
        (count,) = _unpack("I", data, values + 16)
        x = ramp(start, step, count)
        if abs(x[-1] - end) > 0.5 * step:
            raise ValueError("its header and its counts do not agree")
        counts = _values(data, values + 20, count)
        found.append(Columns(x, counts, "two_theta", wavelength, state))
        offset = values + 20 + 4 * count
    return found


def _string(data: bytes, offset: int, length: int) -> str:
    return data[offset : offset + length].split(b"\0")[0].decode("latin-1").strip()
