"""Wavelengths of X-rays for powders: their names, limits and units.

Belongs here: what a user may give as a wavelength, and the lines of the usual anodes.
"""

import re

from imitation_refinement.errors import UserError

# Angstrom; CuKa and the like are the means of the doublet weighted 2:1, CuKa1 its stronger line.
# Customary values after J. A. Bearden, Rev. Mod. Phys. 39, 78 (1967).
WAVELENGTHS = {
    "CuKa": 1.54184,
    "CuKa1": 1.54056,
    "CoKa": 1.79026,
    "MoKa": 0.71073,
    "CrKa": 2.29100,
    "FeKa": 1.93735,
    "AgKa": 0.560885,
}
SHORTEST, LONGEST = 0.05, 3.0  # angstrom; what powders are measured with
KEV_ANGSTROM = 12.39841984  # photon energy times wavelength, hc
_NUMBER = r"[-+]?\d*\.?\d+(?:e[-+]?\d+)?"


def parse_wavelength(value: str | float | None) -> float:
    """Returns a wavelength in angstrom, given by name (`CuKa`, `Co Kα`, `mo-ka`) or as a number.

    There is no default: the wrong wavelength moves every peak and nothing would tell.

    Raises:
        UserError: not given, not a known name, or not between 0.1 and 5 angstrom.
    """
    known = ", ".join(WAVELENGTHS)
    if value is None or not str(value).strip():
        raise UserError(f"wavelength: not given; name one of {known} or a number in angstrom")
    text = str(value).strip()
    key = re.sub(r"[\s_-]", "", text.lower()).replace("alpha", "a").replace("α", "a")
    for name, wavelength in WAVELENGTHS.items():
        if key == name.lower():
            return wavelength
    found = re.fullmatch(rf"({_NUMBER})\s*(kev|ev|nm|pm|m|a|å|angstroms?)?", text.lower())
    if found is None:
        raise UserError(
            f"wavelength: {text!r} is not known; name one of {known} or a number in angstrom"
        )
    number, unit = float(found[1]), found[2] or "a"
    if unit.endswith("ev"):
        kev = number * (1.0 if unit == "kev" else 1e-3)
        number = KEV_ANGSTROM / kev if kev else 0.0
    else:
        number *= {"nm": 10.0, "pm": 0.01, "m": 1e10}.get(unit, 1.0)
    if not SHORTEST <= number <= LONGEST:
        raise UserError(
            f"wavelength: {number:g} is not between {SHORTEST:g} and {LONGEST:g} angstrom;"
            " give it in angstrom"
        )
    return number


def is_characteristic(wavelength: float) -> bool:
    """Returns whether a wavelength is within 0.3 % of a K alpha line of a usual anode."""
    return any(abs(wavelength / known - 1.0) < 3e-3 for known in WAVELENGTHS.values())
