"""Small files of every kind, built byte by byte from the descriptions of their formats."""

import io
import struct
import zipfile

import numpy as np

STEP = 0.5
ANGLES = 10.0 + STEP * np.arange(60)
COUNTS = np.round(100 + 50 * np.sin(ANGLES)) + 400 * (np.arange(60) == 30)
ALPHA1, ALPHA2 = 1.540598, 1.544426


def floats(values=COUNTS) -> bytes:
    return np.asarray(values, "<f4").tobytes()


def put(size: int, *fields: tuple[int, bytes]) -> bytes:
    data = bytearray(size)
    for offset, value in fields:
        data[offset : offset + len(value)] = value
    return bytes(data)


def text(separator: str = " ", header: str = "") -> bytes:
    rows = (f"{t:.2f}{separator}{c:.0f}\n" for t, c in zip(ANGLES, COUNTS, strict=True))
    return (header + "".join(rows)).encode()


def xrdml(counts=COUNTS, scans: int = 1, ratio: str = "0.5000", extra: str = "") -> bytes:
    values = " ".join(f"{c:.0f}" for c in counts)
    scan = f"""<scan scanAxis="Gonio"><dataPoints>
      <positions axis="2Theta" unit="deg"><startPosition>{ANGLES[0]}</startPosition>
      <endPosition>{ANGLES[-1]}</endPosition></positions>
      <positions axis="Omega" unit="deg"><startPosition>5</startPosition>
      <endPosition>20</endPosition></positions>{extra}
      <counts unit="counts">{values}</counts></dataPoints></scan>"""
    return f"""\ufeff<?xml version="1.0" encoding="UTF-8"?>
    <xrdMeasurements xmlns="http://www.xrdml.com/XRDMeasurement/2.3"><xrdMeasurement>
    <usedWavelength intended="K-Alpha 1"><kAlpha1 unit="Angstrom">{ALPHA1}</kAlpha1>
    <kAlpha2 unit="Angstrom">{ALPHA2}</kAlpha2><kBeta unit="Angstrom">1.39225</kBeta>
    <ratioKAlpha2KAlpha1>{ratio}</ratioKAlpha2KAlpha1></usedWavelength>
    <incidentBeamPath><radius>240</radius></incidentBeamPath>{scan * scans}
    </xrdMeasurement></xrdMeasurements>""".encode()


def rasx(profiles: int = 1, wave: str = "Ka", axis: str = "TwoThetaTheta") -> bytes:
    rows = "".join(f"{t:.4f}\t{c / 2:g}\t2\r\n" for t, c in zip(ANGLES, COUNTS, strict=True))
    conditions = f"""<?xml version="1.0" encoding="utf-8"?><Measurement><XrayGenerator>
      <WaveType>{wave}</WaveType><WavelengthKalpha1>{ALPHA1}</WavelengthKalpha1>
      <WavelengthKalpha2>{ALPHA2}</WavelengthKalpha2></XrayGenerator>
      <ScanInformation><AxisName>{axis}</AxisName></ScanInformation></Measurement>"""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for i in range(profiles):
            archive.writestr(f"Data{i}/Profile{i}.txt", "\ufeff" + rows)
            archive.writestr(f"Data{i}/MesurementConditions{i}.xml", "\ufeff" + conditions)
        archive.writestr("root.xml", "<Root/>")
    return file.getvalue()


def brml(*measurements: dict) -> bytes:
    """A `.brml`; each measurement may have counts, attenuator, times and a fixed 2 theta."""
    files = {}
    for number, given in enumerate(measurements or ({},)):
        counts = given.get("counts", COUNTS)
        ones = np.ones(len(ANGLES))
        columns = (
            given.get("times", ones), given.get("attenuator", ones),
            given.get("angles", ANGLES), ANGLES / 2, counts,
        )  # fmt: skip
        data = "".join(
            "<Datum>" + ",".join(f"{v:g}" for v in row) + "</Datum>"
            for row in zip(*columns, strict=True)
        )
        fixed = '<RawDataView xsi:type="FixedRawDataView" Length="1" Start="{}" LogicName="{}"/>'
        files[f"Experiment0/RawData{number}.xml"] = f"""<?xml version="1.0" encoding="utf-8"?>
        <RawData xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><Tube>
        <WaveLengthAlpha1 Unit="A" Value="{ALPHA1}"/><WaveLengthAlpha2 Value="{ALPHA2}"/>
        <WaveLengthRatio Value="0.5"/></Tube><DataRoutes><DataRoute RouteFlag="Measured">
        <ScanInformation VisibleName="Coupled TwoTheta/Theta"/>{data}<DataViews>
        {fixed.format(0, "MeasuredTime")}{fixed.format(1, "AbsorptionFactor")}
        <RawDataView xsi:type="VaryingRawDataView" Start="2" Length="2"><Varying>
        <FieldDefinitions FieldName="TwoTheta" AxisId="TwoTheta"/>
        <FieldDefinitions FieldName="Theta" AxisId="Theta"/></Varying></RawDataView>
        <RawDataView xsi:type="RecordedRawDataView" Start="4" Length="1">
        <Recording VisibleName="det" LogicName="ScanCounter"/></RawDataView></DataViews>
        </DataRoute></DataRoutes></RawData>"""
    names = "".join(f"<string>{name}</string>" for name in files)
    files["Experiment0/DataContainer.xml"] = (
        f"<DataContainer><RawDataReferenceList>{names}</RawDataReferenceList></DataContainer>"
    )
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def bruker1(ranges: int = 1, repeat_word: bool = True) -> bytes:
    data = b""
    for i in range(ranges):
        data += put(
            156,
            (0, b"RAW "),
            (4, struct.pack("<I", len(COUNTS))),
            (12, struct.pack("<f", STEP)),
            (24, struct.pack("<f", ANGLES[0])),
            (72, struct.pack("<2f", ALPHA1, ALPHA2)),
            (152, struct.pack("<I", ranges - 1 - i)),
        )[0 if repeat_word or not i else 4 :]
        data += floats(COUNTS + i)
    return data


def bruker2(ranges: int = 1) -> bytes:
    data = put(
        256,
        (0, b"RAW2"),
        (4, struct.pack("<H", ranges)),
        (190, struct.pack("<3f", ALPHA1, ALPHA2, 0.5)),
    )
    for i in range(ranges):
        head = struct.pack("<2H4x3f", 60, len(COUNTS), 1.0, STEP, ANGLES[0])
        data += put(60, (0, head)) + floats(COUNTS + i)
    return data


def bruker3(ranges: int = 1, extra: int = 0, kind: int = 0, measured: bool = False) -> bytes:
    data = put(
        712,
        (0, b"RAW1.01"),
        (12, struct.pack("<I", ranges)),
        (624, struct.pack("<4d", ALPHA1, ALPHA2, 1.39225, 0.5)),
    )
    for i in range(ranges):
        data += put(
            304,
            (0, struct.pack("<2I2d", 304, len(COUNTS), 5.0, ANGLES[0])),
            (176, struct.pack("<d", STEP)),
            (196, struct.pack("<I", kind)),
            (248, struct.pack("<3I", int(measured), 12 if measured else 4, extra)),
        )
        data += bytes(extra)
        if measured:
            points = zip(COUNTS + i, ANGLES + 0.01, strict=True)
            data += b"".join(struct.pack("<fd", count, angle) for count, angle in points)
        else:
            data += floats(COUNTS + i)
    return data


def bruker4(ranges: int = 1, record: int = 4, scan: bytes = b"Locked Coupled") -> bytes:
    data = put(61, (0, b"RAW4.00"))
    data += struct.pack("<2I", 10, 44) + put(36, (4, b"USER"))
    data += struct.pack("<2I", 30, 136)
    data += put(128, (64, struct.pack("<5d", 1.5418, ALPHA1, ALPHA2, 1.39225, 0.5)))
    for i in range(ranges):
        drive = struct.pack("<3I", 50, 64, 1) + put(52, (0, b"2Theta"))
        drive = put(64, (0, drive), (56, struct.pack("<d", ANGLES[0])))
        data += put(
            160,
            (32, scan),
            (72, struct.pack("<2dI", ANGLES[0], STEP, len(COUNTS))),
            (136, struct.pack("<2I", record, len(drive))),
        )
        data += drive
        data += b"".join(put(record, (0, struct.pack("<f", c))) for c in COUNTS + i)
    return data


def stoe(alpha1: float = ALPHA1, alpha2: float = ALPHA2, least: int | None = None) -> bytes:
    head = put(
        1024,
        (0, b"RAW_1.06Powdat"),
        (0x142, struct.pack("<2f", alpha1, alpha2)),
        (0x1DA, struct.pack("<2H", 1, 3)),
        (512 + 0x22, struct.pack("<H", len(COUNTS))),
        (512 + 0x2C, struct.pack("<6f", ANGLES[0], 5.0, ANGLES[-1], 20.0, STEP, STEP / 2)),
        (
            512 + 0x78,
            struct.pack("<2I", int(COUNTS.min()) if least is None else least, int(COUNTS.max())),
        ),
    )
    return head + put(512, (0, COUNTS.astype("<u4").tobytes()))


def rigaku() -> bytes:
    data = put(1228, (0, b"FI"), (4, b"\xd8"), (1212, struct.pack("<2d", ALPHA1, ALPHA2)))
    data += put(838, (0, b"PI\0\0"), (826, struct.pack("<3f", ANGLES[0], ANGLES[-1], STEP)))
    return data + put(20, (0, b"DA\0\0"), (16, struct.pack("<I", len(COUNTS)))) + floats()


def npz(**arrays) -> bytes:
    arrays = arrays or {"two_theta": ANGLES, "patterns": np.stack([COUNTS, 2 * COUNTS])}
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


SAMPLES: dict[str, bytes] = {
    "plain.xy": text(),
    "commented.dat": text("\t", "# Wavelength: 1.5406\n# 2theta counts\n"),
    "comma.csv": text(",", "2theta,counts\n"),
    "semicolon.csv": text(";", "Winkel;Intensit\u00e4t\n"),
    "wide.txt": b"".join(b"%d %d 7 3\n" % (t, c) for t, c in zip(ANGLES * 2, COUNTS, strict=True)),
    "utf16.xy": text().decode().encode("utf-16"),
    "scan.ras": b'*RAS_DATA_START\n*MEAS_COND_XG_WAVE_LENGTH_ALPHA1 "1.540593"\n*RAS_INT_START\n'
    + b"".join(b"%.2f %d 1.0\n" % (t, c) for t, c in zip(ANGLES, COUNTS, strict=True)),
    "scan.xrdml": xrdml(scans=2),
    "scan.rasx": rasx(),
    "one.raw": bruker1(2),
    "two.raw": bruker2(2),
    "three.raw": bruker3(2),
    "four.raw": bruker4(2),
    "stoe.raw": stoe(),
    "rigaku.raw": rigaku(),
    "matrix.npz": npz(),
}
