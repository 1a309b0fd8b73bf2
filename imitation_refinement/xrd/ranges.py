"""What imperfect patterns are drawn from: ranges, profiles, options, and how a config gives them.

Belongs here: numbers and their meaning alone. What is done with them is in `imperfections` (one
pattern) and `library` (a composition spread). Intensities are relative to a pattern's maximum
unless they are counts.
"""

from typing import Any, NamedTuple


class Imperfection(NamedTuple):
    """Ranges that imperfect patterns are drawn from; pairs are (smallest, largest).

    Attributes:
        spread: s of a factor exp(N(0, s)) on strain, texture and background, one per library and
            within exp(-s)..exp(s): see `spread_factor`.
        size_nm: crystallite size, uniform.
        microstrain: largest, uniform from 0.
        texture: s of the March-Dollase r = exp(N(0, s)).
        strain: largest alloying strain of a phase, log-uniform.
        background: height of the decaying background, log-uniform.
        hump: height of each amorphous hump, uniform.
        counts: at the maximum of the median pattern, log-uniform.
        residual: largest share of the estimated background that is left, uniform from 0.
        floor: what is below so many standard deviations after subtraction becomes 0.
        zero_error: s of a shift of ln q by N(0, s), one per library.
        bleed: largest height of another phase's lines in a simulated pair; the square root of
            height / bleed is uniform. In libraries it is unmixing that leaves them.
        fewer: probability of unmixing with one component less than there are phases.
        more: probability of one more.
    """

    spread: float
    size_nm: tuple[float, float]
    microstrain: float
    texture: float
    strain: tuple[float, float]
    background: tuple[float, float]
    hump: tuple[float, float]
    counts: tuple[float, float]
    residual: float
    floor: float
    zero_error: float
    bleed: float
    fewer: float
    more: float


PROFILES = {
    "clean": Imperfection(
        spread=0.1,
        size_nm=(26, 40),
        microstrain=5e-4,
        texture=0.03,
        strain=(1e-4, 5e-4),
        background=(0.01, 0.05),
        hump=(0.0, 0.05),
        counts=(5e4, 5e5),
        residual=0.0,
        floor=3.0,
        zero_error=1e-4,
        bleed=0.2,
        fewer=0.0,
        more=0.0,
    ),
    "mild": Imperfection(
        spread=0.6,
        size_nm=(22, 42),
        microstrain=6e-4,
        texture=0.10,
        strain=(3e-4, 3e-3),
        background=(0.01, 0.08),
        hump=(0.0, 0.08),
        counts=(3e4, 5e5),
        residual=0.01,
        floor=4.0,
        zero_error=2e-4,
        bleed=0.2,
        fewer=0.0,
        more=0.25,
    ),
    "paper_like": Imperfection(
        spread=0.8,
        size_nm=(16, 42),
        microstrain=1e-3,
        texture=0.12,
        strain=(5e-4, 4e-3),
        background=(0.01, 0.15),
        hump=(0.0, 0.15),
        counts=(3e3, 5e4),
        residual=0.03,
        floor=3.0,
        zero_error=3e-4,
        bleed=0.2,
        fewer=0.0,
        more=0.25,
    ),
    "hard": Imperfection(
        spread=0.8,
        size_nm=(12, 40),
        microstrain=2e-3,
        texture=0.25,
        strain=(1e-3, 8e-3),
        background=(0.02, 0.30),
        hump=(0.02, 0.40),
        counts=(1e3, 2e4),
        residual=0.04,
        floor=3.0,
        zero_error=5e-4,
        bleed=0.2,
        fewer=0.25,
        more=0.25,
    ),
}


class Options(NamedTuple):
    """Effects beyond the profiles, all off by default.

    Attributes:
        k_alpha2: share of patterns (of libraries) with the doublet of Cu K-alpha, 2 : 1.
        spikes: expected number of hot pixels per pattern.
        missing: share of the range without data.
        displacement: s of the sample displacement h/R ~ N(0, s), one per library.
        impurity: largest height of foreign lines.
        chebyshev: largest height of a background of Chebyshev polynomials up to degree 6.
        lorentzian: largest Lorentzian share of the peaks' profile, uniform from 0.
        coverage: largest shares of the grid, at its low and high end, that the measurement misses,
            uniform from 0; truth and pattern are 0 there.
    """

    k_alpha2: float = 0.0
    spikes: float = 0.0
    missing: float = 0.0
    displacement: float = 0.0
    impurity: float = 0.0
    chebyshev: float = 0.0
    lorentzian: float = 0.0
    coverage: tuple[float, float] = (0.0, 0.0)


def profile(name: str, severity: float | None = None) -> Imperfection:
    """Returns the ranges of a profile, or of a severity.

    Args:
        name: clean, mild, paper_like or hard; ignored if there is a severity.
        severity: 0 clean, 1 mild, 2 paper_like, 3 hard; between them linear interpolation
            (geometric for counts).

    Raises:
        ValueError: unknown name, or severity outside 0..3.
    """
    if severity is None:
        if name not in PROFILES:
            raise ValueError(f"profile {name!r} is none of {', '.join(PROFILES)}")
        return PROFILES[name]
    profiles = list(PROFILES.values())
    if not 0.0 <= severity <= len(profiles) - 1:
        raise ValueError(f"severity {severity} is outside 0..{len(profiles) - 1}")
    low = min(int(severity), len(profiles) - 2)
    first, second, t = profiles[low], profiles[low + 1], severity - low
    return Imperfection(
        *(
            _between(a, b, t, geometric=field == "counts")
            for field, a, b in zip(Imperfection._fields, first, second, strict=True)
        )
    )


def _between(first: Any, second: Any, t: float, geometric: bool) -> Any:
    if isinstance(first, tuple):
        return tuple(_between(a, b, t, geometric) for a, b in zip(first, second, strict=True))
    if geometric:
        return first ** (1.0 - t) * second**t
    return (1.0 - t) * first + t * second


def imperfections_of(config_data: Any) -> tuple[Imperfection, Options]:
    """Returns what the data section of a config asks for.

    Args:
        config_data: with imperfect.{profile, severity}, fields of imperfect.ranges that are not
            None in the place of the profile's, and the options as fields of imperfect.
    """
    section = config_data.imperfect
    given = {name: value for name, value in section.ranges.items() if value is not None}
    ranges = profile(section.profile, section.severity)._replace(**given)
    return ranges, Options(**{name: section[name] for name in Options._fields})
