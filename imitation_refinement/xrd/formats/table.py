"""`.npz` archives with a matrix of patterns on one axis.

Belongs here: which arrays are the axis, the patterns and their names. Works on bytes; opens no
files; nothing is unpickled.

The axis is the array `two_theta` (degrees), `q` (2 pi / d in 1/angstrom), `q_inv_nm` (1/nm), `d`
(angstrom), `x` (degrees), the scalars `two_theta_start` and `two_theta_step`, or an array whose
name begins with `two_theta`, in this order. The patterns are `patterns`, `intensity`,
`intensities`, `counts`, `components` or `H`, else the only two-dimensional array as long as the
axis: `[n, points]`, `[points, n]` or `[points]`. Optional: `wavelength` (angstrom, one or `[n]`),
`names` (`[n]`).
"""

import io
import zipfile

import numpy as np

from imitation_refinement.errors import UserError
from imitation_refinement.xrd.formats.columns import MAX_BYTES, Columns

_AXES = (
    ("two_theta", "two_theta", 1.0),
    ("q", "q", 1.0),
    ("q_inv_angstrom", "q", 1.0),
    ("q_inv_nm", "q", 0.1),
    ("d", "d", 1.0),
    ("x", "two_theta", 1.0),
)
_PATTERNS = ("patterns", "intensity", "intensities", "counts", "components", "H")


def read_npz_patterns(data: bytes, source: str) -> list[Columns]:
    """Returns the patterns of an `.npz` archive.

    Args:
        data: the file's bytes.
        source: what to name in errors.

    Raises:
        UserError: damaged, too large when unpacked, or without an axis and patterns that fit.
    """
    arrays = _load(data, source)
    x, unit = _axis(arrays, source)
    patterns = _matrix(arrays, len(x), source)
    wavelengths = np.ravel(arrays.get("wavelength", np.array([])))
    if wavelengths.size not in (0, 1, len(patterns)) or wavelengths.dtype.kind not in "fiu":
        raise UserError(
            f"{source}: wavelength has {wavelengths.size} values for {len(patterns)} patterns;"
            " give one number in angstrom, or one for each"
        )
    names = [str(name) for name in np.ravel(arrays.get("names", np.array([], np.str_)))]
    if len(names) != len(patterns):
        names = [f"row{i}" for i in range(len(patterns))]
    return [
        Columns(
            x,
            counts,
            unit,
            float(wavelengths[i % wavelengths.size]) if wavelengths.size else None,
            name=names[i] if len(patterns) > 1 else "",
        )
        for i, counts in enumerate(patterns)
    ]


def _load(data: bytes, source: str) -> dict[str, np.ndarray]:
    """Returns the arrays; members that are none are left out, pickled ones refused."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(item.file_size for item in archive.infolist()) > MAX_BYTES:
                raise UserError(f"{source}: unpacks to more than {MAX_BYTES // 10**6} MB; split it")
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            loaded = {name: archive[name] for name in archive.files}
            return {name: item for name, item in loaded.items() if isinstance(item, np.ndarray)}
    except UserError:
        raise
    except Exception as error:  # a damaged header makes NumPy raise whatever its parser meets
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{source}: damaged, or no .npz of plain arrays ({reason})") from error


def _axis(arrays: dict[str, np.ndarray], source: str) -> tuple[np.ndarray, str]:
    start, step = (arrays.get(f"two_theta_{name}") for name in ("start", "step"))
    candidates = [(arrays[name], unit, scale) for name, unit, scale in _AXES if name in arrays]
    if start is not None and step is not None and start.size == step.size == 1:
        length = max((a.shape[-1] for a in arrays.values() if a.ndim == 2), default=0)
        candidates.append((start.item() + step.item() * np.arange(length), "two_theta", 1.0))
    candidates += [
        (array, "two_theta", 1.0) for name, array in arrays.items() if name.startswith("two_theta_")
    ]
    for array, unit, scale in candidates:
        if array.ndim == 1 and array.size > 1 and array.dtype.kind in "fiu":
            return scale * array.astype(np.float64), unit
    raise UserError(
        f"{source}: no axis; name one of its arrays two_theta (degrees), q (1/angstrom) or d"
        " (angstrom), one number per point"
    )


def _matrix(arrays: dict[str, np.ndarray], points: int, source: str) -> np.ndarray:
    """Returns the patterns, float64 `[n, points]`."""

    def fits(array: np.ndarray) -> bool:
        return array.dtype.kind in "fiu" and 1 <= array.ndim <= 2 and points in array.shape

    named = [arrays[name] for name in _PATTERNS if name in arrays and fits(arrays[name])]
    found = named[:1] or [array for array in arrays.values() if array.ndim == 2 and fits(array)]
    if len(found) != 1:
        raise UserError(
            f"{source}: {len(found)} arrays could be the patterns; name one `patterns`, of shape"
            f" [n, {points}]"
        )
    matrix = np.atleast_2d(found[0])
    return (matrix if matrix.shape[1] == points else matrix.T).astype(np.float64)
