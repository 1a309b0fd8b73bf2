"""Powder data in CIF (pdCIF): angles and measured intensities of each data block.

Belongs here: which items of the powder dictionary are axis and intensity. Names after the IUCr's
powder dictionary cif_pd.dic; `.` in the names of the newer one counts as `_`. Works on lines; opens
no files. Crystal structures are read elsewhere.
"""

import re
from collections.abc import Iterator, Sequence

import numpy as np

from imitation_refinement.errors import UserError
from imitation_refinement.xrd.formats.columns import Columns, k_alpha, named
from imitation_refinement.xrd.formats.layout import over_axis
from imitation_refinement.xrd.formats.names import Axis
from imitation_refinement.xrd.scans import MIN_POINTS

_TOKEN = re.compile(r"'(?:[^']|'(?=\S))*'|\"(?:[^\"]|\"(?=\S))*\"|#.*|\S+")
_ANGLES = ("_pd_meas_2theta_scan", "_pd_meas_2theta_corrected", "_pd_proc_2theta_corrected",
           "_pd_meas_2theta", "_pd_proc_2theta")  # fmt: skip
_OTHER_AXES = {
    "_pd_proc_d_spacing": Axis("d"), "_pd_proc_recip_len_q": Axis("q"),
    "_pd_meas_time_of_flight": Axis("time of flight"),
    "_pd_proc_energy_incident": Axis("energy"),
}  # fmt: skip
_INTENSITIES = ("_pd_meas_counts_total", "_pd_meas_intensity_total", "_pd_proc_intensity_total",
                "_pd_meas_intensity_net", "_pd_proc_intensity_net")  # fmt: skip


def is_cif(lines: Sequence[str]) -> bool:
    """Returns whether text is a CIF: its first word that is no comment begins with `data_`."""
    for line in lines[:500]:
        text = line.strip().lstrip("\ufeff")
        if text and not text.startswith("#"):
            return text.lower().startswith("data_") and len(text) > 5
    return False


def read_pdcif(lines: Sequence[str], source: str) -> list[Columns]:
    """Returns the patterns of the data blocks that have measured intensities.

    Raises:
        UserError: no block has, or its angles and intensities do not fit.
    """
    found: list[Columns] = []
    wavelength, blocks = None, list(_blocks(lines))
    for name, items in blocks:
        said = _wavelength(items)
        wavelength = said or wavelength
        try:
            item = _pattern(items, source)
        except ValueError as error:
            raise UserError(f"{source}: block {name}: {error}; export it again") from error
        if item is not None:
            found.append(item._replace(wavelength=said, name=name))
    if not found:
        raise UserError(
            f"{source}: a CIF without measured powder data (a crystal structure?); give the scan,"
            " and structures with --cif"
        )
    if wavelength is not None:  # often stated once, in a block of its own
        found = [item._replace(wavelength=item.wavelength or wavelength) for item in found]
    return found if len(found) > 1 else named(found, "")


def _blocks(lines: Sequence[str]) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """Yields name and items of each data block; single values are lists of one."""
    name = ""
    items: dict[str, list[str]] = {}
    tags: list[str] = []
    values: list[str] = []
    loop, started = False, False

    def close() -> None:
        for i, tag in enumerate(tags):
            items.setdefault(tag, values[i :: len(tags)])

    for token in _tokens(lines):
        low = token.lower()
        if low.startswith("data_"):
            close()
            if started:
                yield name, items
            name, items, tags, values, loop, started = token[5:], {}, [], [], False, True
        elif low == "loop_":
            close()
            tags, values, loop = [], [], True
        elif low.startswith("_"):
            if not loop or values:
                close()
                tags, values, loop = [], [], False
            tags.append(low.replace(".", "_"))
        elif loop or not values:
            values.append(token)
    close()
    if started:
        yield name, items


def _tokens(lines: Sequence[str]) -> Iterator[str]:
    text: list[str] | None = None
    for line in lines:
        if line.startswith(";"):
            if text is not None:
                yield " ".join(text)
                text = None
                continue
            text = []
        elif text is None:
            for token in _TOKEN.findall(line.lstrip("\ufeff")):
                if token.startswith("#"):
                    break
                quoted = len(token) > 1 and token[0] in "'\"" and token[-1] == token[0]
                yield " " + token[1:-1] if quoted else token


def _value(items: dict[str, list[str]], tag: str) -> float | None:
    values = _numbers(items.get(tag, []))
    return float(values[0]) if values.size and np.isfinite(values[0]) else None


def _wavelength(items: dict[str, list[str]]) -> float | None:
    """Returns the wavelength of a block; of two lines their mean by weight."""
    tag = "_diffrn_radiation_wavelength"
    values = _numbers(items.get(tag) or items.get(f"{tag}_value") or [])
    weights = _numbers(items.get(f"{tag}_wt") or [])
    if values.size == 2 and np.isfinite(values).all():
        ratio = weights[1] / weights[0] if weights.size == 2 and weights[0] > 0 else None
        return k_alpha(values[0], values[1], None if ratio is None else float(ratio))[0]
    return float(values[0]) if values.size and np.isfinite(values[0]) else None


def _numbers(texts: Sequence[str]) -> np.ndarray:
    """Returns numbers without their uncertainties; NaN for what is none."""
    values = np.full(len(texts), np.nan)
    for i, text in enumerate(texts):
        try:
            values[i] = float(re.sub(r"\(\d+\)$", "", text.strip()))
        except ValueError:
            continue
    return values


def _pattern(items: dict[str, list[str]], source: str) -> Columns | None:
    """Returns the pattern of a block, None if it has none; ValueError says what does not fit."""
    tag = next((t for t in _INTENSITIES if len(items.get(t, ())) >= MIN_POINTS), None)
    if tag is None:
        return None
    counts = _numbers(items[tag])
    for angle in _ANGLES:
        if len(items.get(angle, ())) == len(counts):
            return Columns(_numbers(items[angle]), counts)
    for kind in ("meas", "proc"):
        low, high, step = (
            _value(items, f"_pd_{kind}_2theta_range_{end}") for end in ("min", "max", "inc")
        )
        if low is not None and high is not None and step:
            if abs((high - low) / step + 1 - len(counts)) > 1.01:
                raise ValueError(f"{len(counts)} intensities from {low:g} to {high:g} by {step:g}")
            return Columns(np.linspace(low, high, len(counts)), counts)
    for other, axis in _OTHER_AXES.items():
        if len(items.get(other, ())) == len(counts):
            x, notes = over_axis(_numbers(items[other]), axis, other, source)
            return Columns(x, counts, axis.kind, notes=tuple(notes))
    raise ValueError(f"{len(counts)} intensities ({tag}) without angles")
