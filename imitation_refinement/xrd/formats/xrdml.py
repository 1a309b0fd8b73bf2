"""PANalytical XRDML: XML with one or more scans, their axes and the wavelengths used.

Belongs here: reading the schema `http://www.xrdml.com/XRDMeasurement` (versions 1.0 to 2.3). Works
on bytes; opens no files.
"""

import re
from collections.abc import Iterator
from xml.etree import ElementTree

import numpy as np

from imitation_refinement.errors import UserError
from imitation_refinement.xrd.formats.columns import (
    SLIT_NOTE,
    STRIPPED,
    Columns,
    decode,
    fixed_slit,
    k_alpha,
    left_out,
    named,
)


def read_xrdml(data: bytes, source: str) -> list[Columns]:
    """Returns the scans over 2 theta, intensities corrected for the beam attenuators.

    Args:
        data: the file's bytes.
        source: what to name in errors.

    Raises:
        UserError: not well formed (a file cut short, say), or no scan over 2 theta in it.
    """
    root = parse_xml(data, source)
    found: list[Columns] = []
    for measurement in _all(root, "xrdMeasurement"):
        wavelength, k_alpha2 = _radiation(measurement)
        variable = _variable_slit(measurement)
        for scan in _all(measurement, "scan"):
            points = next(_all(scan, "dataPoints"), None)
            try:
                x, counts, notes = _points(points)
            except ValueError as error:
                over = scan.get("scanAxis", "")
                reason = f"a scan left out: {error}{f' (a scan over {over})' if over else ''}"
                found.append(left_out("", reason, by_design="does not change" in str(error)))
                continue
            if variable:
                counts, notes = fixed_slit(x, counts), (*notes, SLIT_NOTE)
            found.append(
                Columns(
                    x, counts, wavelength=wavelength, k_alpha2=k_alpha2, notes=notes,
                    seconds=_number(scan, "commonCountingTime"),
                )
            )  # fmt: skip
    if all(item.left_out for item in found):
        raise UserError(
            f"{source}: {found[0].left_out if found else 'no scan in it'}; export it again"
        )
    return named(found, "scan")


def parse_xml(data: bytes, source: str) -> ElementTree.Element:
    """Returns the root of an XML file; files that define entities are refused (they may explode).

    Raises:
        UserError: not well formed, or with a document type declaration.
    """
    text = decode(data, source)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise UserError(f"{source}: has a document type declaration, which no instrument writes")
    try:
        return ElementTree.fromstring(re.sub(r"^\s*<\?xml[^>]*\?>", "", text))
    except ElementTree.ParseError as error:
        raise UserError(f"{source}: damaged or cut short ({error}); export it again") from error


def _all(element: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    """Yields the descendants of this name in any namespace (it differs between versions)."""
    return (item for item in element.iter() if item.tag.rpartition("}")[2] == name)


def _number(element: ElementTree.Element, name: str) -> float | None:
    item = next(_all(element, name), None)
    try:
        if item is None or item.text is None:
            return None
        return float(item.text) * (10.0 if item.get("unit") == "nm" else 1.0)
    except ValueError:
        return None


def _radiation(measurement: ElementTree.Element) -> tuple[float | None, str]:
    used = next(_all(measurement, "usedWavelength"), None)
    if used is None:
        return None, "unknown"
    wavelength, state = k_alpha(
        _number(used, "kAlpha1") or 0.0,
        _number(used, "kAlpha2") or 0.0,
        _number(used, "ratioKAlpha2KAlpha1"),
    )
    # A monochromator before the sample passes K alpha 1 only; the ratio stays in the file.
    path = next(_all(measurement, "incidentBeamPath"), None)
    if path is not None and any(item.tag.lower().endswith("monochromator") for item in path.iter()):
        return _number(used, "kAlpha1"), STRIPPED
    return wavelength, state


def _variable_slit(measurement: ElementTree.Element) -> bool:
    """Returns whether the divergence slit keeps the irradiated length constant."""
    return any(
        any(value.startswith("automatic") for value in slit.attrib.values())
        or _number(slit, "irradiatedLength") is not None
        for slit in _all(measurement, "divergenceSlit")
    )


def _points(
    points: ElementTree.Element | None,
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Returns angles and intensities of a scan, and notes; ValueError says why there are none."""
    notes: tuple[str, ...] = ()
    counts = _list(points, "intensities")
    if counts is None and (counts := _list(points, "counts")) is not None:
        factors = _list(points, "beamAttenuationFactors")
        if factors is not None and len(factors) == len(counts):
            counts = counts * factors
    if points is None or counts is None or not len(counts):
        raise ValueError("it has no intensities")
    times = _list(points, "countingTimes")
    if times is not None and len(times) == len(counts) and np.all(times > 0) and np.ptp(times):
        counts = counts * (np.median(times) / times)
        notes = ("counting time varies: intensities brought to one time",)
    for positions in _all(points, "positions"):
        if positions.get("axis") != "2Theta":
            continue
        if positions.get("unit", "deg") != "deg":
            raise ValueError(f"2 theta in {positions.get('unit')}, not in degrees")
        if (angles := _list(positions, "listPositions")) is not None:
            if len(angles) != len(counts):
                raise ValueError(f"{len(angles)} angles for {len(counts)} intensities")
            return angles, counts, notes
        start, end = _number(positions, "startPosition"), _number(positions, "endPosition")
        if start is not None and end is not None:
            return np.linspace(start, end, len(counts)), counts, notes
    raise ValueError("2 theta does not change in it")


def _list(element: ElementTree.Element | None, name: str) -> np.ndarray | None:
    """Returns the numbers of the first descendant of this name, None if there is none."""
    found = None if element is None else next(_all(element, name), None)
    return None if found is None else np.array((found.text or "").split(), np.float64)
