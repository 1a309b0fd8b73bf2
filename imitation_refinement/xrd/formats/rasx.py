"""Rigaku RASX (SmartLab Studio II): a zip of text profiles and XML conditions.

Belongs here: `Data<i>/Profile<i>.txt` (2 theta, counts, attenuation, separated by tabs) with
`Data<i>/MesurementConditions<i>.xml` (spelled so). Works on bytes; opens no files.
"""

import io
import re
import zipfile
import zlib

import numpy as np

from imitation_refinement.errors import UserError
from imitation_refinement.xrd.formats.columns import (
    MAX_BYTES,
    STRIPPED,
    UNKNOWN,
    Columns,
    decode,
    k_alpha,
    left_out,
)
from imitation_refinement.xrd.formats.names import goniometer_axis
from imitation_refinement.xrd.formats.xrdml import parse_xml

_PROFILE = re.compile(r"(?:^|/)Data(\d+)/Profile(\d+)\.txt$")


def unzip(data: bytes, source: str, pattern: str) -> dict[str, bytes]:
    """Returns the members of a zip whose names match, in order of their names.

    Raises:
        UserError: damaged, or too large when unpacked.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            items = sorted(
                (item for item in archive.infolist() if re.search(pattern, item.filename)),
                key=lambda item: item.filename,
            )
            if sum(item.file_size for item in items) > MAX_BYTES:
                raise UserError(f"{source}: unpacks to more than {MAX_BYTES // 10**6} MB")
            return {item.filename: archive.read(item) for item in items}
    except (
        zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError,
        NotImplementedError, KeyError, MemoryError,
    ) as error:  # fmt: skip
        if isinstance(error, UserError):
            raise
        raise UserError(f"{source}: damaged or cut short ({error}); export it again") from error


def read_rasx(data: bytes, source: str) -> list[Columns]:
    """Returns the profiles measured over 2 theta, counts multiplied by the attenuation.

    Args:
        data: the file's bytes.
        source: what to name in errors.

    Raises:
        UserError: damaged, or no profile over 2 theta in it.
    """
    members = unzip(data, source, r"\.(txt|xml)$")
    found: list[Columns] = []
    for name, profile in members.items():
        if not (match := _PROFILE.search(name)):
            continue
        folder = name.rpartition("/")[0]
        conditions = members.get(f"{folder}/MesurementConditions{match[2]}.xml")
        axis, wavelength, k_alpha2 = _conditions(conditions, f"{source}: {folder}")
        if goniometer_axis(axis).kind != "two_theta":
            reason = f"{name} left out: measured over {axis}"
            found.append(left_out(folder, reason, by_design=True))
            continue
        try:
            rows = [line.split() for line in decode(profile, source).splitlines() if line.strip()]
            table = np.array(rows, np.float64)
        except ValueError as error:
            raise UserError(f"{source}: {name} is damaged ({error}); export it again") from error
        if table.ndim != 2 or table.shape[1] < 2:
            raise UserError(f"{source}: {name} has no two columns; export it again")
        counts = table[:, 1] * (table[:, 2] if table.shape[1] > 2 else 1.0)
        found.append(Columns(table[:, 0], counts, "two_theta", wavelength, k_alpha2, folder))
    if all(item.left_out for item in found):
        reason = found[0].left_out if found else "no profile in it"
        raise UserError(f"{source}: {reason}; export it as text")
    if len(found) == 1:
        found = [found[0]._replace(name="")]
    return found


def _conditions(data: bytes | None, source: str) -> tuple[str, float | None, str]:
    """Returns the scanned axis, the wavelength and the state of K alpha 2, as far as given."""
    if data is None:
        return "", None, UNKNOWN
    root = parse_xml(data, source)
    values = {item.tag.rpartition("}")[2]: (item.text or "").strip() for item in root.iter()}

    def number(name: str) -> float:
        try:
            return float(values.get(name, "0"))
        except ValueError:
            return 0.0

    only_first = values.get("WaveType", "").lower() in ("ka1", "kalpha1")
    ratio = 0.0 if only_first else 0.5
    wavelength, state = k_alpha(number("WavelengthKalpha1"), number("WavelengthKalpha2"), ratio)
    scan = next((item for item in root.iter() if item.tag.endswith("ScanInformation")), None)
    axis = ""
    if scan is not None:
        axis = next((i.text or "" for i in scan.iter() if i.tag.endswith("AxisName")), "")
    return axis.strip(), wavelength, STRIPPED if only_first and wavelength else state
