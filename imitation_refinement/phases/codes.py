"""How the numbers of a library are kept: small integers, and the arrays that hold them.

Belongs here: the names and dtypes of the arrays, and the two ways between physical numbers and
codes. A code of q counts steps of ln q (4.2e-5, relative), one of an amplitude 255ths of the
largest; fractional coordinates are multiples of 1 / 65520, which holds halves, thirds and
sixteenths exactly, and occupancies of 1 / 10000.
"""

import numpy as np

from imitation_refinement.phases.lines import Q_MAX, Q_MIN

ENTRIES = {
    "line_count": np.uint8, "site_count": np.uint16, "space_group": np.uint8, "hall": np.uint16,
    "cell": np.float32, "source": np.uint8, "computed": np.uint8, "volume_per_atom": np.float32,
}  # fmt: skip
LINES = ("code", "amplitude_code")  # uint16 and uint8
SITES = ("site_number", "site_occupancy", "site_position")  # uint8, uint16, uint16 [s, 3]
TEXTS = ("formula", "composition", "mineral", "reference", "source_id")
NO_NAME = "<missing>"  # what AMCSD writes for a mineral without a name
TEXT = np.dtypes.StringDType()

_STEPS = 65535 / np.log(Q_MAX / Q_MIN)
_AMPLITUDES = 255
_PER_CELL = 65520
_FULL = 10000


def q_code(q: np.ndarray) -> np.ndarray:
    """Codes uint16 of scattering vectors, 1/angstrom, from Q_MIN to Q_MAX."""
    return np.clip(np.rint(np.log(q / Q_MIN) * _STEPS), 0, 65535).astype(np.uint16)


def q_of(code: np.ndarray) -> np.ndarray:
    """Scattering vectors float32 of codes."""
    return (Q_MIN * np.exp(np.arange(65536) / _STEPS)).astype(np.float32)[code]


def amplitude_code(amplitude: np.ndarray) -> np.ndarray:
    """Codes uint8 of amplitudes in [0, 1]."""
    return np.rint(_AMPLITUDES * amplitude).astype(np.uint8)


def amplitude_of(code: np.ndarray) -> np.ndarray:
    """Amplitudes float32 of codes."""
    return (np.arange(_AMPLITUDES + 1) / _AMPLITUDES).astype(np.float32)[code]


def occupancy_code(occupancy: np.ndarray) -> np.ndarray:
    """Codes uint16 of occupancies in [0, 1]."""
    return np.rint(_FULL * occupancy).astype(np.uint16)


def occupancy_of(code: np.ndarray) -> np.ndarray:
    """Occupancies float64 of codes."""
    return code / _FULL


def position_code(position: np.ndarray) -> np.ndarray:
    """Codes uint16 of fractional coordinates, which are taken modulo 1."""
    return (np.rint(_PER_CELL * position).astype(int) % _PER_CELL).astype(np.uint16)


def position_of(code: np.ndarray) -> np.ndarray:
    """Fractional coordinates float64 in [0, 1) of codes."""
    return code / _PER_CELL
