"""What names of axes and columns say: one grammar for all formats.

Belongs here: names and units of axes, roles of columns and scales of intensity. Pure functions of
strings; what they do not know they leave to the caller, who must not guess.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

_SPELLINGS = (
    ("θ", "theta"), ("ϑ", "theta"), ("thêta", "theta"), ("tetha", "theta"), ("å", "angstrom"),
    ("−", "-"), ("μ", "u"), ("⋅", "*"), ("·", "*"), ("×", "*"),
)  # fmt: skip


def plain(text: str) -> str:
    """Returns text in lower case, with one spelling for theta, angstrom, powers and signs."""
    text = unicodedata.normalize("NFKC", text).lower()
    text = re.sub(r"\\aa(?![a-z])", "angstrom", text)
    for old, new in _SPELLINGS:
        text = text.replace(old, new)
    return re.sub(r"[$\\{}\"']", "", text).strip()


# --- axes ------------------------------------------------------------------------------------


class Axis(NamedTuple):
    """What the numbers of an axis are.

    Attributes:
        kind: `two_theta`, `q` or `d`; else the name of what it is, which no pattern is drawn over.
        scale: factor to degrees, 1/angstrom or angstrom.
        said: whether the name or its unit says the unit.
    """

    kind: str
    scale: float = 1.0
    said: bool = True

    @property
    def usable(self) -> bool:
        """Whether a pattern over this axis can be used."""
        return self.kind in ("two_theta", "q", "d")


_TWO_THETA = re.compile(
    r"(?<![a-z0-9.])2[\s_*.-]*t(h?eta|h(?![a-z]))|two[\s_-]*th|^tth|ttheta|^(theta|th)[\s_]*2$|^2t$|"
    r"^polar[\s_]?angle"
)
_ANGLE = re.compile(  # no more than that it is an angle
    r"^\W*(diffraction |scattering )?(angle|ángulo|angulo|angolo|ângulo|kąt)(?![a-df-z])|"
    r"^\W*deg(?![a-qs-z])|^winkel|beugungswinkel|^угол|角度|衍射角|回折角|^°|^pos(ition|\b)"
)
_NAMES = (  # the first that matches counts
    ("time of flight", re.compile(r"(?<![a-z])tof(?![a-z])|time[\s_-]*of[\s_-]*flight")),
    ("q squared", re.compile(r"^q\s*(\^|\*\*)?\s*2(?![a-z0-9])")),
    ("a power of d", re.compile(
        r"^(d\s*\*|d[\s_-]*star|(1\s*/\s*)?d\s*(\^|\*\*)?\s*2(?![a-z0-9]))")),
    ("the square of a sine", re.compile(r"^sin\s*(\^|\*\*)?\s*2")),
    ("sin(theta)/lambda", re.compile(r"^sin\W*theta\W*(/|over)\W*(lambda|λ)")),
    ("1/d", re.compile(r"^1\s*/\s*d(?![a-z])")),
    ("two_theta", _TWO_THETA),
    ("another angle than 2 theta", re.compile(
        r"^(omega|ω|chi|χ|phi|φ|psi|ψ|kappa|κ|eta|η|rocking|azimuth(al)?)(?![a-z])")),
    ("theta", re.compile(
        r"^\W*((bragg|diffraction|scattering|angle|angolo|winkel)\W+)*(theta|th)(?![a-z])")),
    ("an angle that may be theta or 2 theta", re.compile(r"^\W*bragg(\W+angle|winkel)")),
    ("two_theta", _ANGLE),
    ("a wavelength", re.compile(r"^(wave[\s_-]?length|lambda|λ)(?![a-z])")),
    ("a wavenumber", re.compile(r"^wave[\s_-]?number|^(raman|stokes)|^cm\^?-1|^1/cm")),
    ("q", re.compile(
        r"^\|?q\|?(?![a-z0-9])|momentum[\s_-]*transfer|scattering[\s_-]*vector|"
        r"wave[\s_-]*vector|^q[\s_-]*(vector|range|values?)")),
    ("d", re.compile(
        r"^d(?![a-z*])([\s_-]*(spacings?|sp|values?|val|hkl|wert))?\.?[\s_]*($|[\[(,/]|in\b|a$|angstrom|"
        r"nm)|^d[\s_-]?(sp|val)|interplanar|lattice spacing|netzebenen")),
    ("energy", re.compile(r"^(photon |x-?ray |binding |kinetic )?energy(?![a-z])|"
        r"^e[\s_]*[\[(,/]?\s*k?ev(?![a-z])|^k?ev$")),
    ("a radius on the detector", re.compile(
        r"^(r|radius|(radial )?distance)[\s_]*[\[(,/]?\s*(mm|um|px|pixel)")),
    ("a distance r in real space", re.compile(
        r"^r(?![a-z])[\s_]*($|[\[(,/]|angstrom|a$|nm)|^(radius|(radial )?distance)(?![a-z])")),
    ("a channel of the detector", re.compile(r"^(ch|channel|pixel|strip|bin|mca)s?(?![a-z])")),
    ("a row number", re.compile(r"^(no|nr|n|#|index|idx|point|pt|row|line|step)s?\.?$")),
    ("time", re.compile(r"^(elapsed[\s_]*)?(time|t|epoch)(?![a-z])[\s_]*($|[\[(,/])")),
    ("temperature", re.compile(r"^temp(erature)?(?![a-z])")),
    ("two_theta", re.compile(r"^x[\s_-]?(values?|axis|data)?$")),
)  # fmt: skip
_DEGREES = {
    "rad": 57.29577951308232, "mrad": 0.05729577951308232, "gon": 0.9, "arcmin": 1 / 60,
    "arcsec": 1 / 3600, "centideg": 0.01, "millideg": 0.001, "mdeg": 0.001,
}  # fmt: skip
_LENGTHS = {"nm": 10.0, "nano": 10.0, "pm": 0.01, "pico": 0.01}


def axis_of(name: str) -> Axis | None:
    """Returns what a column of this name (with its unit, if it has one) is as an axis, or None.

    `2Theta (rad)`, `Q [1/nm]`, `q_A^-1`, `d-spacing (nm)`, `TOF(ms)`, `momentum transfer (1/A)`.
    """
    text = plain(name)
    if re.match(r"(log10|log|ln|lg)(?![a-z])", text):
        inner = axis_of(re.sub(r"^(log10|log|ln|lg)\W*", "", text))
        return None if inner is None else Axis("a logarithm")
    kind = next((kind for kind, pattern in _NAMES if pattern.search(text)), None)
    if kind is None:
        return None
    if kind in ("two_theta", "theta"):
        unit = re.search(
            r"(?<![a-z])(m?rad|gon|arcmin|arcsec|centideg|m(?:illi)?deg)(ians?|rees?|utes?|onds?|s)?"
            r"(?![a-z])", text
        )  # fmt: skip
        if re.search(r"(?<![a-z])(mm|um|px|pixels?)(?![a-z])", text):
            return Axis("a length on the detector")
        if re.search(r"ev\b", text):
            return Axis("energy")
        scale = _DEGREES[unit[1]] if unit else 1.0
        half = kind == "theta" or re.search(r"th(eta)?\)?\s*/\s*2(?!\s*[\w-])", text)
        if half:
            return Axis("two_theta", 2.0 * scale)
        return Axis("two_theta", scale, bool(unit) or "deg" in text or "°" in text)
    if kind not in ("q", "d", "sin(theta)/lambda", "1/d"):
        return Axis(kind)
    bare = re.sub(r"^[qd]", "", text)
    length = re.search(r"(?<![a-z])(nm|pm)(?![a-z])|(nano|pico)", text)
    if not length and re.search(r"(?<![a-z])(um|mm|cm|m|ma|mangstrom|fm)(?![a-z])", bare):
        return Axis(f"{kind} in a unit that is not known here")
    unit_length = _LENGTHS[length[0]] if length else 1.0
    said = bool(length or re.search(r"(?<![a-z])a(?![a-z])|ang", bare))
    if kind == "d":
        return Axis("d", unit_length, said)
    factor = {"q": 1.0, "1/d": 6.283185307179586}.get(kind, 12.566370614359172)
    return Axis("q", factor / unit_length, said)


_GONIOMETER = re.compile(
    r"^(gonio|coupled|locked|unlocked|theta/theta|th/th|theta-theta|detector scan|psd|2t|tt)|2-?th|"
    r"twotheta"
)


def goniometer_axis(name: str) -> Axis:
    """Returns the axis that an instrument calls by this name: `Gonio`, `2-Theta/Theta`, `Omega`."""
    text = plain(name)
    if not text or _GONIOMETER.search(text) or _TWO_THETA.search(text):
        return Axis("two_theta")
    axis = axis_of(name) or Axis(f"{name.strip()!r}")
    return Axis("theta alone, as in a tilt scan") if axis.scale == 2.0 else axis


# --- columns of intensity --------------------------------------------------------------------

OBSERVED, CALCULATED, DIFFERENCE, ERROR, BACKGROUND, OTHER = (
    "observed", "calculated", "difference", "error", "background", "no intensity",
)  # fmt: skip
_WORDS = (
    r"(?:counts?|cps|cts|a\.? ?u\.?|arb[a-z.]*(?: ?u[a-z.]*)?|%|counts ?/ ?s(?:ec)?|s\^?-1|"
    r"log10|ln|-)"
)
_UNIT = re.compile(rf"\s*[\[(]\s*{_WORDS}\s*[\])]|[,\s]\s*{_WORDS}$")
_SIGNAL = r"(y|i|int|intens|intensity|counts?|pattern|profile|curve|data|signal|yo?)"
_ROLES = (
    (DIFFERENCE, r"diff|difference|delta|residuals?|resid|"
     r"[yif]?_?o(bs(erved)?)?\s*-\s*[yif]?_?c(al(c(ulated)?)?)?"),
    (CALCULATED, r"calc|calculated|cal|fit|fitted|model|simulated|simulation|sim"),
    (ERROR, r"sigma|sig|σ|err|error|errors|errorbar|uncertainty|unc|esd|e\.s\.d\.|std|stddev|"
     r"std\.? ?dev|standard deviation|weights?|w|variance|var"),
    (BACKGROUND, r"background|backgr|backgd|back|bkgr?|bckgr?|bckg|bgr?|bgd"),
    (OBSERVED, r"obs|observed|exp|experimental|measured|meas|raw"),
)  # fmt: skip
_ROLE = [
    (role, re.compile(rf"^(?:{_SIGNAL}[\s_.(\[-]*)?(?:{words})[\s_.)\]-]*{_SIGNAL}?[\])]?$"))
    for role, words in _ROLES
]
_LAST = [(role, re.compile(rf"^(.+?)[\s_.-]+(?:{words})$")) for role, words in _ROLES[:4]]
_INTENSITY = re.compile(
    r"^(i|y|int|intens|intensity|intensit[aä]t|intensité|counts?|cps|cts|impulse?|signal|yobs|iobs|"
    r"det(ector)?|psd|lynxeye|xe-?t|apd|height|intensities)(?![a-z0-9])|intensity$|counts$|"
    r"^(observed|measured|raw|normali[sz]ed|sum|mean|total) (intensity|counts|signal)"
)
_OTHER = re.compile(
    r"^(h|k|l|hkl|phase|mult(iplicity)?|monitor|mon|seconds|epoch|live ?time|count ?time|time|"
    r"step ?time|temp(erature)?|attenuat\w*|npix\w*|no\.? of \w+)([\s_]*[\[(].*)?$"
)


def role_of(name: str, others: Sequence[str] = ()) -> str:
    """Returns the role of a column, empty if its name tells none (a sample's name, for example).

    A role is the whole name but for a unit and a word for intensity (`Ycalc`, `I (calc)`, `sigma`),
    or stands after the name of another column (`Fe10`, `Fe10 err`). A word that only begins like
    one (Calcite, Ferrite, Sierra) says nothing.

    Args:
        name: of the column.
        others: names of the columns beside it.
    """
    text = _without_unit(name)
    if re.fullmatch(r"d\s?[iy]", text):
        return ERROR
    for role, pattern in _ROLE:
        if pattern.fullmatch(text):
            return role
    stems = {_without_unit(other) for other in others if other != name}
    for role, pattern in _LAST:
        found = pattern.fullmatch(text)
        if found and any(stem and stem.startswith(found[1]) for stem in stems):
            return role
    if scale_of(name) or _INTENSITY.search(text):
        return OBSERVED
    return OTHER if _OTHER.search(plain(name)) else ""


def _without_unit(name: str) -> str:
    text = plain(name)
    return _UNIT.sub("", text).strip(" :.") or text


_OF = r"(?=[\s_]*($|[(\[]|(of |the )*(i|y|int|intensit\w*|counts?|cps|signal|data)(?![a-z])))"
_SCALES = (
    ("log10", rf"log_?10(?![\d.])|^lg(?![a-z]){_OF}|log base 10|decadic log"),
    ("ln", rf"^ln(?![a-z]){_OF}|[(\[]ln[)\]]|natural log|^log_?e\b"),
    ("log", rf"^log(?![a-z]){_OF}|[(\[]log(arithmic)?[)\]]|^logarithm|log[- ]?scale|^log_?\d"),
    ("square root", rf"sqrt|√|square[ -]?root|^root(?![a-z]){_OF}|[a-z)] ?\^ ?\(?(0?\.5|1/2)\)?"),
    ("function", r"asinh|arcsinh|cbrt|(cube|cubic|third)[ -]?root|\bdb\b|decibel|derivative|"
     r"^-?d ?\(?[iy]\)? ?/ ?d|^cumulative|"
     r"^(i|y|int\w*|counts?)\)? ?(\^|\*\*) ?(?!\(?(0?\.5|1/2))\S|"
     r"^1 ?/ ?(i|y|int\w*|counts?)(?![a-z])|^(i|y|int\w*|counts?) ?[*x] ?q|"
     r"^q ?(\^ ?\d)? ?[*x] ?(i|y|int\w*)(?![a-z])"),
)  # fmt: skip


def scale_of(name: str) -> str:
    """Returns what was done to an intensity that is not linear, empty if it is.

    `log10`, `ln`, `square root`; `log` (of an unknown base) and another `function` are not undone.
    """
    text = plain(name)
    found = next((scale for scale, pattern in _SCALES if re.search(pattern, text)), "")
    return "function" if found and text.startswith("-") else found


_NOT_A_PATTERN = (
    (
        "a pair distribution function over r in real space",
        re.compile(r"^[gd]\(r\)|^g\s*[(\[]\s*angstrom|^r\(r\)"),
    ),
    ("a structure function", re.compile(r"^[sf]\(q\)|^f\s*[(\[]\s*angstrom")),
    (
        "a spectrum of absorption",
        re.compile(r"^(absorbance|abs|transmi(ttance|ssion)|%\s*t|t\s*%)(?![a-z])"),
    ),
)


def no_pattern(names: Sequence[str]) -> str:
    """Returns what the columns of these names are if they are certainly no scan, else nothing."""
    texts = [plain(name) for name in names]
    for what, pattern in _NOT_A_PATTERN:
        if any(pattern.search(text) for text in texts):
            return what
    bare = {re.sub(r"\W.*", "", text) for text in texts}
    peaks = {"fwhm", "mult", "multiplicity", "hkl", "area", "integral", "breadth"}
    if {"h", "k", "l"} <= bare or bare & peaks or any(re.search(r"\(h ?k ?l\)", t) for t in texts):
        return "a list of peaks"
    relative = any(re.search(r"^rel\b|rel\. ?int|i/i(0|max)", text) for text in texts)
    return "a list of peaks" if relative and len(names) > 2 else ""
