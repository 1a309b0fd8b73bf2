"""Small files of the formats that list counts, of packed files, spreadsheets and HDF5."""

import bz2
import gzip
import io
import lzma
import struct
import zipfile

import numpy as np
from format_samples import ANGLES, COUNTS, STEP, brml, text, xrdml

WAVELENGTH = 1.5406
SPAN = (ANGLES[0], STEP, ANGLES[-1])
INTEGERS = COUNTS.astype(int)
Q = 4 * np.pi * np.sin(np.deg2rad(ANGLES / 2)) / WAVELENGTH
_SQUEEZED, _DIFFERENCE = ("@ABCDEFGHI", "@abcdefghi"), ("%JKLMNOPQR", "%jklmnopqr")


def lines(values, per_line: int, form: str, separator: str = "") -> str:
    parts = [values[i : i + per_line] for i in range(0, len(values), per_line)]
    return "".join(separator.join(form.format(v) for v in part) + "\n" for part in parts)


def rows(form: str, *columns) -> str:
    return "".join(form.format(*row) + "\n" for row in zip(*columns, strict=True))


def jcamp(body: str, form: str = "XYDATA=(X++(Y..Y))") -> bytes:
    head = (
        "##TITLE=made up\n##JCAMP-DX=4.24\n##XUNITS=2THETA\n##YUNITS=COUNTS\n##WAVELENGTH=1.5406\n"
        f"##FIRSTX={ANGLES[0]}\n##LASTX={ANGLES[-1]}\n##NPOINTS={len(ANGLES)}\n##{form}\n"
    )
    return (head + body + "##END=\n").encode()


def _packed(value: int, digits: tuple[str, str]) -> str:
    figure = str(abs(value))
    return digits[int(value < 0)][int(figure[0])] + figure[1:]


def squeezed() -> bytes:
    """JCAMP-DX whose first digits carry the sign and the separator (SQZ)."""
    body = "".join(
        f"{ANGLES[i]:.2f}" + "".join(_packed(v, _SQUEEZED) for v in INTEGERS[i : i + 8]) + "\n"
        for i in range(0, 60, 8)
    )
    return jcamp(body)


def differences() -> bytes:
    """JCAMP-DX of differences (DIF): each line begins with the last value of the one before."""
    body, first = "", 0
    while first < 59:
        last = min(first + 9, 59)
        steps = np.diff(INTEGERS[first : last + 1])
        body += f"{ANGLES[first]:.2f}" + _packed(INTEGERS[first], _SQUEEZED)
        body += "".join(_packed(int(step), _DIFFERENCE) for step in steps) + "\n"
        first = last
    return jcamp(body + f"{ANGLES[59]:.2f}" + _packed(INTEGERS[59], _SQUEEZED) + "\n")


def gsas(form: str = "ESD", banks: int = 1) -> bytes:
    data = "made up".ljust(80) + "\n# wavelength 1.5406\n"
    for bank in range(1, banks + 1):
        counts = INTEGERS + bank - 1
        head = f"BANK {bank} {len(counts)} 12 CONST 1000.00 50.00 0 0 {form}"
        data += head.ljust(80) + "\n"
        if form == "STD":
            data += lines(counts, 10, " 1{:6d}")
        elif form == "ESD":
            data += lines([v for c in counts for v in (c, c**0.5)], 10, "{:8.1f}")
        else:
            data += rows("{:.2f} {} 1.0", 100 * ANGLES, counts)
    return data.encode()


def rd(version: bytes = b"V3") -> bytes:
    """Philips: counts as ten times their root, in two bytes."""
    data = bytearray(250 if version == b"V3" else 810)
    data[:4], data[85] = version + b"RD", 0
    struct.pack_into("<3d", data, 214, STEP, ANGLES[0], ANGLES[-1])
    return bytes(data) + np.round(10 * np.sqrt(COUNTS)).astype("<u2").tobytes()


def zipped(**files: bytes) -> bytes:
    result = io.BytesIO()
    with zipfile.ZipFile(result, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name.replace("_dot_", "."), content)
    return result.getvalue()


def hdf5(
    axis: str = "q", units: str = "nm^-1", x=10 * Q, counts=COUNTS, old: bool = False
) -> bytes:
    """NeXus as pyFAI writes it: one signal over one axis; wavelength in metres."""
    import h5py

    result = io.BytesIO()
    with h5py.File(result, "w") as file:
        data = file.create_group("entry/result")
        data.create_dataset(axis, data=x).attrs["units"] = units
        signal = data.create_dataset("intensity", data=counts)
        if old:
            signal.attrs["signal"], signal.attrs["axes"] = 1, axis
        else:
            data.attrs["signal"] = "intensity"
            data.attrs["axes"] = [axis] if np.ndim(counts) == 1 else [".", axis]
        energy = file.create_dataset("entry/instrument/beam/incident_wavelength", data=1.5406e-10)
        energy.attrs["units"] = "m"
    return result.getvalue()


UXD = "_WL1=1.5406\n_DRIVE='COUPLED'\n_STEPSIZE=0.5\n_START=10.0\n"
RAS = '*RAS_HEADER_START\n*HW_XG_WAVE_LENGTH_ALPHA1 "1.5406"\n*MEAS_SCAN_AXIS_X "2-Theta/Theta"\n*RAS_HEADER_END\n*RAS_INT_START\n{}*RAS_INT_END\n'  # noqa: E501
TRIPLES = rows("{:.4f} {:.0f} 1.0", ANGLES, COUNTS)
CSV = "[Measurement conditions]\nK-Alpha1 wavelength,1.5406\nScan axis,Gonio\n[Scan points]\nAngle,Intensity\n"  # noqa: E501
COUNTED = lines([f" 9{value:6d}" for value in INTEGERS], 10, "{}")
TUPLES = "##TITLE=made up\n##JCAMP-DX=5.00\n##NTUPLES=POWDER\n##SYMBOL=X, Y, N\n##UNITS=2THETA, COUNTS, NONE\n##FIRST=10, 0, 1\n##LAST=39.5, 0, 1\n##PAGE=N=1\n##NPOINTS=60\n##DATA TABLE=(X++(Y..Y)), XYDATA\n"  # noqa: E501
SAMPLES: dict[str, bytes] = {
    "measured.brml": brml(),
    "ins1.dat": ("{:8.3f}{:8.3f}{:8.3f}\n".format(*SPAN) + COUNTED).encode(),
    "ins6.dat": (f"made up\n{'':16}{STEP:8.3f}\n{ANGLES[0]:8.3f}\n{1e5:8.0f}{1e5:8.0f}\n{COUNTED}   -1000\n").encode(),  # noqa: E501
    "pages.dx": (TUPLES + "".join(f"{ANGLES[i]:.2f} " + " ".join(map(str, INTEGERS[i : i + 8])) + "\n" for i in range(0, 60, 8)) + "##END=\n").encode(),  # noqa: E501
    "two.ras": ("*RAS_DATA_START\n" + 2 * RAS.format(TRIPLES)).encode(),
    "old.asc": ("*TYPE = Raw\n*WAVE_LENGTH1 = 1.5406\n*BEGIN\n*START = 10.0\n*STOP = 39.5\n*STEP = 0.5\n*COUNT = 60\n" + lines(INTEGERS, 4, " {}", ",") + "*END\n").encode(),  # noqa: E501
    "counts.uxd": (UXD + "_COUNTS\n" + lines(INTEGERS, 8, "{:7d}")).encode(),
    "ranges.uxd": (2 * (UXD + "_2THETACOUNTS\n" + rows("{:.3f} {}", ANGLES, INTEGERS))).encode(),
    "scan.udf": ("Anode,Cu ,/\nDataAngleRange,10.0,39.5,/\nScanStepSize,0.5,/\nRawScan\n" + lines(INTEGERS, 8, "{:7d}", ",") + "/\n").encode(),  # noqa: E501
    "ins0.dat": ("{:8.3f}{:8.3f}{:8.3f} title\n".format(*SPAN) + lines(INTEGERS, 10, "{:8d}")).encode(),  # noqa: E501
    "jade.mdi": ("made up\n10.0 0.5 1.0 Cu 1.5406 39.5 60\n" + lines(INTEGERS, 8, "{:7d}")).encode(),  # noqa: E501
    "sietronics.cpi": ("SIETRONICS XRD SCAN\n10.0\n39.5\n0.5\nCu\n1.5406\n1-1-2020\n0.5\nmade up\nSCANDATA\n" + lines(INTEGERS, 1, "{}")).encode(),  # noqa: E501
    "plain.dx": jcamp("".join(f"{ANGLES[i]:.2f} " + " ".join(map(str, INTEGERS[i : i + 8])) + "\n" for i in range(0, 60, 8))),  # noqa: E501
    "squeezed.dx": squeezed(),
    "differences.dx": differences(),
    "points.dx": jcamp(rows("{:.2f},{}", ANGLES, INTEGERS), "XYPOINTS=(XY..XY)"),
    "std.gss": gsas("STD"),
    "esd.gsa": gsas("ESD", 2),
    "points.fxye": gsas("FXYE"),
    "scan.rd": rd(),
    "scan.sd": rd(b"V5"),
    "powder.cif": ("data_x\n_diffrn_radiation_wavelength 1.5406\nloop_\n_pd_meas_2theta_scan\n_pd_meas_counts_total\n" + rows("{:.3f} {}(3)", ANGLES, INTEGERS)).encode(),  # noqa: E501
    "fit2d.chi": ("x.tif\n Q (Inverse Nanometres)\n Intensity\n 60\n" + rows("{:.6E} {:.6E}", 10 * Q, COUNTS)).encode(),  # noqa: E501
    "spec.spec": "".join(f"#S {i} ascan tth\n#L Two Theta  Monitor  Detector\n" + rows("{:.2f} 500 {:.0f}", ANGLES, COUNTS) for i in (1, 2)).encode(),  # noqa: E501
    "pan.csv": (CSV + rows("{:.4f},{:.0f}", ANGLES, COUNTS)).encode(),
    "packed.xy.gz": gzip.compress(text(header="# wavelength 1.5406\n"), mtime=0),
    "packed.xrdml.xz": lzma.compress(xrdml()),
    "packed.xy.bz2": bz2.compress(text(header="# wavelength 1.5406\n")),
    "several.zip": zipped(a_dot_xy=text(header="# wavelength 1.5406\n"), b_dot_xrdml=xrdml()),
}  # fmt: skip
