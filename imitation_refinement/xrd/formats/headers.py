"""What lines of a header say: one grammar `key separator number unit` for all text formats.

Belongs here: wavelengths, energies, anodes, slits and stated axes. Pure functions of strings; what
names of columns say is in `names`.

The wavelength of a pattern with both K alpha lines is their mean, weighted by intensity: see
`columns.k_alpha`. It holds for every format.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from imitation_refinement.errors import UserError
from imitation_refinement.xrd.formats.columns import (
    SLIT_NOTE,
    STRIPPED,
    UNKNOWN,
    Columns,
    fixed_slit,
    k_alpha,
)
from imitation_refinement.xrd.formats.names import Axis, axis_of, goniometer_axis, plain
from imitation_refinement.xrd.wavelengths import (
    KEV_ANGSTROM,
    WAVELENGTHS,
    is_characteristic,
)

# --- lines "key separator number unit" -----------------------------------------------------------

_NUMBER = r"(?:\d+(?:[.,]\d+)?|\.\d+)(?:e[+-]?\d+)?"
_TOKEN = re.compile(rf"(?P<number>(?<![a-z\d.]){_NUMBER})|(?P<word>[^\W\d_]+\d*)|(?P<other>\S|_)")
_ANGSTROM = {
    "a": 1.0, "ang": 1.0, "angstrom": 1.0, "angstroms": 1.0, "angstroem": 1.0, "nm": 10.0,
    "nanometer": 10.0, "nanometre": 10.0, "nanometers": 10.0, "pm": 0.01, "m": 1e10, "meter": 1e10,
    "metre": 1e10, "meters": 1e10, "metres": 1e10, "um": 1e4,
}  # fmt: skip
_OTHER_UNITS = {"s", "sec", "seconds", "ms", "min", "h", "mm", "cm", "kv", "ma", "k", "hz", "deg"}
_KEV = {"kev": 1.0, "ev": 1e-3}
_ANODES = {name.removesuffix("Ka").lower() for name in WAVELENGTHS if name.endswith("Ka")}
_QUALIFIERS = {
    "k", "ka", "ka1", "ka2", "kalpha", "kalpha1", "kalpha2", "alpha", "alpha1", "alpha2", "α", "α1",
    "α2", "kα", "kα1", "kα2", "beta", "kbeta", "kb", "β", "in", "of", "is", "used", "mean", "avg",
    "x", "ray", "xray", "incident", "the", "value", "unit", "units", "mono", "nominal",
    "effective", "primary", "neutron", "weighted", *_ANODES,
}  # fmt: skip
_KEY = re.compile(
    r"(?<![a-z])(?:incident|beam|source|used|xray|photon|u)?(?P<wave>wave[\s_-]*lengths?|wavelen|"
    r"wellenlaenge|wellenlänge|longueur d.?onde|longitud de onda|lunghezza d.?onda|"
    r"comprimento de onda|длина волны|波長|波长|lambda|lamda|labda|λ|wl)(?=[^a-z]|alpha|in|nm)"
    r"(?P<number>[123](?![\d.,]))?"
    r"|(?<![a-z])k[\s_-]*(?:alpha|α|a)[\s_-]*(?P<line>[12])(?![\d.]|,\d(?!\.))"
    r"|(?<![a-z])(?:incident|beam|source|xray|photon)?(?P<energy>energy|e(?=\s*=))(?![a-z])"
    r"|(?<![a-z])(?P<light>radiation)(?![a-z])"
)
_LINE_AFTER = re.compile(r"\s*\(\s*k?[\s_-]*(?:alpha|α|a)[\s_-]*([12])\s*\)")  # `1.5406 (Kα1)`
_SECOND_AFTER = re.compile(
    rf"({_NUMBER})\s*(?:angstrom|a|nm|pm)?\s*\(\s*k?[\s_-]*(?:alpha|α|a)[\s_-]*2\s*\)"
)
_SECOND = re.compile(rf"^[\s,;/]+({_NUMBER})(?![\w.,]*\w)")
_BEFORE = re.compile(r"detector|threshold|filter|window|flat|cut|resol|limit|file|table|range|step")
_ENERGY_WORDS = {"photon", "beam", "x", "ray", "xray", "incident", "incoming", "primary", "mono",
                 "monochromator", "the", "source", "synchrotron", "beamline"}  # fmt: skip
_RATIO = re.compile(
    rf"(?:ratio.{{1,20}}alpha_?-?1|ratio[\s_]*(?:alpha|a)_?21|wl_?ratio|"
    rf"k?-?a(?:lpha)?-?2\s*/\s*k?-?a(?:lpha)?-?1\s*(?:ratio)?)[^\d]{{1,20}}?({_NUMBER})"
)
_SAYS_ANODE = re.compile(
    r"\b(Cu|Co|Mo|Cr|Fe|Ag)[\s_-]*K[\s_-]*(?:alpha|α|a)"
    r"(?:[\s_-]*(1)(?!\d|[.,]\d|\s*(?:/|\+|,|&|and)\s*K?(?:alpha|α|a)?[\s_-]*2))?"
    r"(?![\s_-]*2|[a-z])",
    re.I,
)
_IS_ANODE = re.compile(
    r"(?:\banode\b|_anode|anode material|target(?:_name| material| element)?|tube material)"
    r"[\s:=,;\"']+(cu|co|mo|cr|fe|ag)\b"
)
_SAYS_STRIPPED = re.compile(
    r"(?:alpha|α|ka|k_a)[\s_-]*2\W+(?:(?!not)\w+\W+)?(?:stripped|stripping|removed|subtracted)"
    r"(?!\W*(?:no|none|off|false|0)\b)",
    re.IGNORECASE,
)
_SLIT = re.compile(
    r"(?:divergence|div\.?)[\s_-]*slit.{0,20}?[\s:=,;\"']+(?:automatic|auto\b|variable|prog|v\d)"
    r"|automatic divergence slit|variable divergence slit"
)
_COUNTING = re.compile(
    r"(?:step[\s_]*time|time[\s_]*per[\s_]*step|count(?:ing)?[\s_]*time|exposure[\s_]*(?:time)?)"
    rf"[\s:=,;\"'(\[]*(?:s|sec)?[\s:=,;\"')\]]*({_NUMBER})[\s_]*([a-z]*)"
)
_SECONDS = {"": 1.0, "s": 1.0, "sec": 1.0, "seconds": 1.0, "ms": 1e-3, "min": 60.0}
_PYFAI_UNIT = re.compile(r"units?\s*[:=]\s*(2th_(?:deg|rad)|q_(?:nm|a)\^-1|r_m?m|d\*2_\S+|chi_\w+)")
_SCAN_TYPE = re.compile(r"scan[\s_]?type\s*[:=,]\s*(rocking|omega|phi|chi|psi)")
_STATES_AXIS = re.compile(
    r"^\W*(?:meas_)?(x[\s_-]*units?|x[\s_-]*axis|x[\s_-]*label|abscissa|unit|axis|scan[\s_]*axis"
    r"(?:_x)?)\s*[:=,\t\"]+\s*(.+)$"
)


class Header(NamedTuple):
    """What the header of a pattern states.

    Attributes:
        wavelength: in angstrom, None if not stated.
        k_alpha2: `present`, `stripped` or `unknown`.
        axis: None if not stated.
        variable_slit: empty, `automatic`, or `constant` if the irradiated length is stated.
        notes: what had to be decided.
        trouble: why the wavelengths stated cannot be used; empty if they can.
        seconds: counting time of a point, None if not stated.
    """

    wavelength: float | None = None
    k_alpha2: str = UNKNOWN
    axis: Axis | None = None
    variable_slit: str = ""
    notes: tuple[str, ...] = ()
    trouble: str = ""
    seconds: float | None = None


def read_header(lines: Sequence[str]) -> Header:
    """Returns what header or comment lines state.

    A number counts as a wavelength only right after a word for it (and words such as K alpha 1 or
    a unit), so that the detector `Lambda 750K` states none. Units: m, nm, pm, angstrom; keV and eV
    for energies; without a unit angstrom, or what makes a known K alpha line or a length in metres.
    Without a number the anode (`Cu Ka1`, `Anode: Cu`) counts, if only one is named.
    """
    lines = [unicodedata.normalize("NFKC", line) for line in lines]
    state = STRIPPED if any(_SAYS_STRIPPED.search(line) for line in lines) else UNKNOWN
    texts = [plain(line) for line in lines]
    found = [item for text in texts for item in _statements(text)]
    ratio = next((number(m[1]) for text in texts if (m := _RATIO.search(text))), None)
    axis = next((axis for line in lines if (axis := _stated_axis(line))), None)
    slit = "automatic" if any(_SLIT.search(text) for text in texts) else ""
    if slit and any(re.search(r"irradiated[\s_]*length.{0,12}?\d", text) for text in texts):
        slit = "constant"
    counting = next((said for text in texts if (said := _counting_time(text))), None)
    notes = tuple(dict.fromkeys(note for *_, note in found if note))
    if any(re.search(r"(?<![a-z])neutrons?(?![a-z])", text) for text in texts):
        notes += ("neutrons: intensities are not those of X-rays",)
    firsts = [value for which, value, _ in found if which == "1"]
    seconds = [value for which, value, _ in found if which == "2"]
    plains = [value for which, value, _ in found if not which]
    for values in (plains, firsts):
        if values and max(values) / min(values) - 1.0 > 2e-3:
            trouble = "states different wavelengths: " + ", ".join(f"{v:g}" for v in values[:4])
            return Header(None, state, axis, slit, notes, trouble, counting)
    if not firsts and not plains:
        wavelength = _anode(lines, texts)
        return Header(wavelength, state, axis, slit, notes, seconds=counting)
    firsts = firsts or (plains if seconds else [])
    if firsts:
        wavelength, known = k_alpha(firsts[0], seconds[0] if seconds else 0.0, ratio)
        known = known if state == UNKNOWN else state
        wavelength = firsts[0] if state == STRIPPED else wavelength
        return Header(wavelength, known, axis, slit, notes, seconds=counting)
    return Header(plains[0], state, axis, slit, notes, seconds=counting)


def with_header(item: Columns, header: Header, notes: tuple[str, ...], source: str) -> Columns:
    """Returns a pattern with what its header states: wavelength, K alpha 2, slit.

    Raises:
        UserError: the header contradicts itself.
    """
    if header.trouble:
        raise UserError(f"{source}: its header {header.trouble}; leave one")
    said = (*notes, *header.notes, *item.notes)
    if header.variable_slit == "constant" and item.unit == "two_theta":
        item = item._replace(counts=fixed_slit(item.x, item.counts))
        said = (*said, SLIT_NOTE)
    elif header.variable_slit:
        said = (*said, "automatic divergence slit: intensities not brought to a fixed one")
    state = header.k_alpha2
    return item._replace(
        wavelength=header.wavelength,
        k_alpha2=state if header.wavelength or state == STRIPPED else item.k_alpha2,
        notes=said,
        seconds=item.seconds or header.seconds,
    )


def _statements(text: str) -> list[tuple[str, float, str]]:
    """Returns (line, angstrom, note) for each wavelength in a plain line; line is '', 1, 2 or b."""
    found = []
    for key in _KEY.finditer(text):
        before = re.split(r"[,;](?!\d)", text[: key.start()])[-1]
        if _BEFORE.search(before) or "ratio" in text:
            continue
        if key["line"] and re.match(r"\s*\)", text[key.end() :]):  # it stands after its number
            continue
        words = set(re.findall(r"[^\W\d_]+", before))
        if key["energy"] and not words <= _ENERGY_WORDS:
            continue
        number_of_line = key["line"] or key["number"] or ""
        which = number_of_line or _line_of(before)
        value, unit, after, rest = _value(text[key.end() :])
        which = _line_of(after) or which
        if value is None or (key["light"] and unit not in _ANGSTROM):
            continue
        if key["line"] and not key["wave"] and not unit and value > 5.0:
            continue
        wavelength, note = _angstrom(value, unit, bool(key["energy"]))
        if wavelength is not None and not (key["line"] and re.match(r".*wave", text[key.end() :])):
            line = _LINE_AFTER.match(rest)
            which = line[1] if line and not which else which
            second = _SECOND_AFTER.search(rest) if line else None if which else _SECOND.match(rest)
            if second and 1.0005 < number(second[1]) / value < 1.01:  # both lines of a doublet
                which = "1"
                found.append(("2", wavelength * number(second[1]) / value, ""))
            found.append(("b" if which == "3" else which, wavelength, note))
    return found


def _line_of(text: str) -> str:
    """Returns which line of the spectrum words name: 1, 2, b (K beta) or nothing."""
    if re.search(r"beta|β|(?<![a-z])kb", text):
        return "b"
    found = re.search(r"(?:alpha|α|ka|k_a)[\s_-]*([12])(?!\d*[.,]\d)", text)
    return found[1] if found else ""


def _value(text: str) -> tuple[float | None, str, str, str]:
    """Returns the first number after a key, its unit, the words passed and what follows.

    The number is None if there is none.
    """
    nothing = None, "", "", ""
    unit, passed, previous = "", "", ""
    tokens = list(_TOKEN.finditer(text))
    for at, token in enumerate(tokens):
        word = token["word"]
        if token["number"]:
            if re.search(r"(alpha|α|k|ka)[\s_-]*$", passed) and token["number"] in ("1", "2"):
                passed += token[0]
                continue
            after = tokens[at + 1 : at + 3]
            while after and after[0][0] in "([_":
                after = after[1:]
            follows = after[0]["word"] if after else None
            if follows in _ANGSTROM or follows in _KEV:
                return number(token["number"]), follows, passed, text[after[0].end() :]
            attached = [t for t in tokens[at + 1 : at + 2] if t.start() == token.end()]
            inverse = bool(attached) and (attached[0]["word"] or attached[0][0] == "/")
            negative = re.search(r"(^|[\s:=(])-$", text[: token.start()])
            if follows in _OTHER_UNITS or inverse or negative:
                return nothing
            return number(token["number"]), unit, passed, text[token.end() :]
        if word in _ANGSTROM or word in _KEV:
            unit = word if word != "m" or previous in tuple("_([") else unit
        elif (
            word
            and word not in _QUALIFIERS
            or token["other"]
            and token["other"] not in ":=,;()[]_-~≈#*.|<>"
        ):
            return nothing
        previous = token[0]
        passed += token[0] if token["other"] else f" {token[0]}"
    return nothing


def _angstrom(value: float, unit: str, energy: bool) -> tuple[float | None, str]:
    """Returns a wavelength in angstrom, None if the number can be none, and a note."""
    if unit in _KEV:
        kev = value * _KEV[unit]
        return (
            (KEV_ANGSTROM / kev, f"wavelength from the energy of {kev:g} keV")
            if kev
            else (None, "")
        )
    if energy or not value > 0.0 or (unit.startswith("m") and value > 1e-6):
        return None, ""
    if unit:
        return value * _ANGSTROM[unit], ""
    if value < 1e-8:
        return value * 1e10, f"wavelength {value:g} taken in metres, the file does not say"
    if is_characteristic(10.0 * value) and value < 0.3:
        return (
            10.0 * value,
            f"wavelength {value:g} taken in nm (a K alpha line), the file does not say",
        )
    return value, ""


def _anode(lines: Sequence[str], texts: Sequence[str]) -> float | None:
    named = {
        (found[1].capitalize(), found[2] or "") for found in _SAYS_ANODE.finditer("\n".join(lines))
    } or {(found[1].capitalize(), "") for text in texts for found in _IS_ANODE.finditer(text)}
    if len(named) != 1:
        return None
    anode, line = named.pop()
    return WAVELENGTHS.get(f"{anode}Ka{line}", WAVELENGTHS[f"{anode}Ka"])


def _stated_axis(line: str) -> Axis | None:
    text = plain(line)
    if found := _SCAN_TYPE.search(text):
        return Axis(f"another angle than 2 theta ({found[1]})")
    if found := _PYFAI_UNIT.search(text):
        return axis_of(found[1])
    found = _STATES_AXIS.match(text.lstrip("#!;*_ "))
    if not found:
        return None
    if found[1].startswith("scan"):
        return goniometer_axis(found[2])
    return axis_of(found[2])


def _counting_time(text: str) -> float | None:
    """Returns the counting time of a point that a plain line states, in seconds."""
    found = _COUNTING.search(text)
    if not found or found[2] not in _SECONDS:
        return None
    return number(found[1]) * _SECONDS[found[2]] or None


def number(text: str) -> float:
    """Returns a number that may have a decimal comma."""
    return float(text.replace(",", "."))
