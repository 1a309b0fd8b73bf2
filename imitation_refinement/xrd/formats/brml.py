"""Bruker `.brml`, read by geddes (extra `formats`); the wavelengths, which it leaves out, by us.

Belongs here: the one door to geddes. Works on bytes; opens no files.
"""

import re

import numpy as np

from imitation_refinement.errors import UserError
from imitation_refinement.xrd.formats.columns import INSTALL, Columns, k_alpha
from imitation_refinement.xrd.formats.rasx import unzip


def read_brml(data: bytes, source: str) -> list[Columns]:
    """Returns the pattern of a `.brml` file; of several measurements the first, with a note.

    Raises:
        UserError: damaged, or geddes is not installed.
    """
    try:
        import geddes
    except ImportError as error:
        raise UserError(f"{source}: .brml files need geddes; {INSTALL}") from error
    raw = unzip(data, source, r"RawData\d*\.xml$")
    try:
        pattern = geddes.read_bytes(data, "scan.brml")
    except (ValueError, OSError) as error:
        raise UserError(f"{source}: {str(error).splitlines()[0]}; export it as text") from error
    values = {
        key: float(value)
        for content in raw.values()
        for key, value in re.findall(
            r"<(WaveLengthAlpha[12]|WaveLengthRatio)[^>]*?Value=\"([\d.]+)\"",
            content.decode("utf-8", errors="replace"),
        )
    }
    wavelength, state = k_alpha(
        values.get("WaveLengthAlpha1", 0.0),
        values.get("WaveLengthAlpha2", 0.0),
        values.get("WaveLengthRatio"),
    )
    notes = (f"the first of {len(raw)} measurements of the file",) if len(raw) > 1 else ()
    x, counts = np.asarray(pattern.x, np.float64), np.asarray(pattern.y, np.float64)
    return [Columns(x, counts, wavelength=wavelength, k_alpha2=state, notes=notes)]
