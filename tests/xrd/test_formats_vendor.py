"""Binary and XML files of instruments, and .npz matrices."""

import io
import os
import zipfile
from pathlib import Path

import format_samples as samples
import numpy as np
import pytest
from format_samples import ALPHA1, ALPHA2, ANGLES, COUNTS

from imitation_refinement.errors import UserError
from imitation_refinement.xrd.formats import SUFFIXES, read_patterns, read_scan
from imitation_refinement.xrd.formats.columns import k_alpha

SINE = np.sin(np.deg2rad(ANGLES / 2))
MEAN = (ALPHA1 + 0.5 * ALPHA2) / 1.5  # both lines present, 2:1


def read(folder: Path, name: str, data: bytes, wavelength=None):
    path = folder / name
    path.write_bytes(data)
    return read_patterns(path, wavelength)


def check(scan, counts=COUNTS, angles=ANGLES):
    np.testing.assert_allclose(scan.two_theta, angles, rtol=0, atol=2e-6)
    np.testing.assert_allclose(scan.counts, counts, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "data", "state"),
    [
        ("a.xrdml", samples.xrdml(), "present"),
        ("a.rasx", samples.rasx(), "present"),
        ("a.raw", samples.bruker1(), "unknown"),
        ("a.raw", samples.bruker2(), "present"),
        ("a.raw", samples.bruker3(), "present"),
        ("a.raw", samples.bruker3(extra=40), "present"),
        ("a.raw", samples.bruker4(), "present"),
        ("a.raw", samples.bruker4(record=8), "present"),
        ("a.raw", samples.stoe(), "unknown"),
        ("a.raw", samples.rigaku(), "unknown"),
    ],
)
def test_each_format_gives_its_angles_counts_and_wavelength(tmp_path, name, data, state):
    (scan,) = read(tmp_path, name, data)
    check(scan)
    assert scan.name == "a"
    assert scan.wavelength == pytest.approx(MEAN, abs=1e-6)
    assert (scan.wavelength_source, scan.k_alpha2) == ("file", state)


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (samples.bruker1(3), ["a_range1", "a_range2", "a_range3"]),
        (samples.bruker1(3, repeat_word=False), ["a_range1", "a_range2", "a_range3"]),
        (samples.bruker2(2), ["a_range1", "a_range2"]),
        (samples.bruker3(2), ["a_range1", "a_range2"]),
        (samples.bruker4(2), ["a_range1", "a_range2"]),
    ],
)
def test_ranges_are_patterns(tmp_path, data, names):
    scans = read(tmp_path, "a.raw", data)
    assert [scan.name for scan in scans] == names
    for i, scan in enumerate(scans):
        check(scan, COUNTS + i)


def test_measured_angles_of_raw3_replace_the_nominal_ones(tmp_path):
    (scan,) = read(tmp_path, "a.raw", samples.bruker3(measured=True))
    check(scan, angles=ANGLES + 0.01)


@pytest.mark.parametrize("data", [samples.bruker3(kind=3), samples.bruker4(scan=b"Rocking Curve")])
def test_scans_over_another_axis_are_refused(tmp_path, data):
    with pytest.raises(UserError, match="no range measured over 2 theta"):
        read(tmp_path, "a.raw", data)
    with pytest.raises(UserError, match="measured over Omega"):
        read(tmp_path, "a.rasx", samples.rasx(axis="Omega"))


def test_every_measurement_of_a_brml_is_a_pattern(tmp_path):
    pytest.importorskip("geddes")
    (scan,) = read(tmp_path, "a.brml", samples.brml())
    check(scan)
    assert scan.wavelength == pytest.approx(MEAN, abs=1e-6) and scan.k_alpha2 == "present"
    scans = read(tmp_path, "b.brml", samples.brml(*({"counts": COUNTS + i} for i in range(12))))
    for number, scan in enumerate(scans):
        assert scan.name == f"b_scan{number + 1}"
        check(scan, COUNTS + number)
    still = {"angles": np.full(60, 30.0)}
    (scan,) = read(tmp_path, "c.brml", samples.brml(still, {}))
    check(scan)
    with pytest.raises(UserError, match="2 theta does not rise"):
        read(tmp_path, "d.brml", samples.brml(still))


def test_attenuators_and_times_of_a_brml_are_undone(tmp_path):
    pytest.importorskip("geddes")
    steps = np.where(np.arange(60) < 20, 1.0, 10.0)
    for given in (
        {"counts": COUNTS / steps, "attenuator": steps},
        {"counts": COUNTS * steps, "times": steps},
    ):
        (scan,) = read(tmp_path, "a.brml", samples.brml(given))
        check(scan, COUNTS * (scan.counts[0] / COUNTS[0]))
        assert scan.notes[0].endswith("intensities brought to one")
    (scan,) = read(tmp_path, "a.brml", samples.brml({"attenuator": steps}))  # divided out before
    check(scan)


def test_several_scans_of_xrdml_and_rasx(tmp_path):
    assert [s.name for s in read(tmp_path, "a.xrdml", samples.xrdml(scans=2))] == [
        "a_scan1",
        "a_scan2",
    ]
    assert [s.name for s in read(tmp_path, "a.rasx", samples.rasx(2))] == ["a_Data0", "a_Data1"]
    with pytest.raises(UserError, match="2 patterns where one is expected"):
        read_scan(tmp_path / "a.rasx", None)


def test_attenuators_are_undone(tmp_path):
    factors = " ".join(["10"] * 30 + ["1"] * 30)
    extra = f"<beamAttenuationFactors>{factors}</beamAttenuationFactors>"
    (scan,) = read(tmp_path, "a.xrdml", samples.xrdml(extra=extra))
    check(scan, COUNTS * np.repeat([10, 1], 30))


def test_listed_positions_count_before_the_ends(tmp_path):
    listed = " ".join(f"{t + 0.1 * (i > 30):.3f}" for i, t in enumerate(ANGLES))
    data = samples.xrdml().replace(
        f"<startPosition>{ANGLES[0]}</startPosition>".encode(),
        f"<listPositions>{listed}</listPositions>".encode(),
    )
    check(read(tmp_path, "a.xrdml", data)[0], angles=ANGLES + 0.1 * (np.arange(60) > 30))


@pytest.mark.parametrize(
    ("data", "wavelength", "state"),
    [
        (samples.xrdml(ratio="0"), ALPHA1, "stripped"),
        (
            samples.xrdml().replace(b"<radius>", b"<monochromator/><radius>"),
            ALPHA1,
            "stripped",
        ),
    ],
)
def test_k_alpha_2_may_be_stripped(tmp_path, data, wavelength, state):
    (scan,) = read(tmp_path, "a.xrdml", data)
    assert scan.wavelength == pytest.approx(wavelength)
    assert scan.k_alpha2 == state
    (scan,) = read(tmp_path, "a.rasx", samples.rasx(wave="Ka1"))
    assert (scan.wavelength, scan.k_alpha2) == (ALPHA1, "stripped")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((1.0, 1.003, 0.5), (1.001, "present")),
        ((1.0, 1.003, None), (1.001, "unknown")),
        ((1.0, 1.003, 0.0), (1.0, "stripped")),
        ((1.0, 0.0, None), (1.0, "unknown")),
        ((1.0, 1.003, -1.0), (1.0, "unknown")),
        ((float("nan"), 1.0, 0.5), (None, "unknown")),
        ((0.0, 0.0, 0.5), (None, "unknown")),
    ],
)
def test_wavelength_of_a_doublet(lines, expected):
    assert k_alpha(*lines) == pytest.approx(expected)


def test_a_wavelength_that_contradicts_the_file_is_refused_with_both_named(tmp_path):
    with pytest.raises(UserError, match=r"1\.54187 angstrom and --wavelength says 1\.79026"):
        read(tmp_path, "a.raw", samples.bruker3(), "CoKa")
    (scan,) = read(tmp_path, "a.raw", samples.bruker3(), "CuKa1")  # the same anode: no conflict
    assert scan.wavelength == pytest.approx(MEAN)
    assert scan.notes == ()


def test_a_wavelength_of_no_anode_in_a_stoe_file_is_not_believed(tmp_path):
    data = samples.stoe(1.2079, 1.2084)
    with pytest.raises(UserError, match="states no wavelength.*--wavelength.*CuKa"):
        read(tmp_path, "a.raw", data)
    (scan,) = read(tmp_path, "a.raw", data, "MoKa")
    assert (scan.wavelength, scan.wavelength_source) == (0.71073, "option")


def test_stoe_counts_that_contradict_their_header_are_refused(tmp_path):
    with pytest.raises(UserError, match="do not agree"):
        read(tmp_path, "a.raw", samples.stoe(least=7))


@pytest.mark.parametrize("name", [n for n in samples.SAMPLES if n.endswith((".raw", "x", "l"))])
def test_a_file_cut_short_is_named(tmp_path, name):
    data = samples.SAMPLES[name]
    with pytest.raises(UserError, match=r"cut short|damaged|no scan|states no") as caught:
        read(tmp_path, name, data[: len(data) // 2])
    assert str(tmp_path / name) in str(caught.value)


def test_units_of_xrdml(tmp_path):
    data = samples.xrdml().replace(b"Angstrom", b"nm")
    for value in (ALPHA1, ALPHA2):
        data = data.replace(str(value).encode(), str(value / 10).encode())
    (scan,) = read(tmp_path, "a.xrdml", data)
    assert scan.wavelength == pytest.approx(MEAN, abs=1e-6)
    with pytest.raises(UserError, match="2 theta in rad, not in degrees"):
        read(tmp_path, "b.xrdml", samples.xrdml().replace(b'unit="deg"', b'unit="rad"'))


def test_entities_are_refused(tmp_path):
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'
    for data in (bomb + samples.xrdml().decode("utf-8-sig").encode(),):
        with pytest.raises(UserError, match="document type declaration"):
            read(tmp_path, "a.xrdml", data.replace(b'<?xml version="1.0" encoding="UTF-8"?>', b""))
    wide = (bomb.decode() + "<xrdMeasurements/>").encode("utf-16")
    with pytest.raises(UserError, match="document type declaration"):
        read(tmp_path, "a.xrdml", wide)


def test_zips_that_explode_are_refused_unread(tmp_path):
    file = io.BytesIO()
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("Data0/Profile0.txt", "w") as member,
    ):
        for _ in range(201):
            member.write(bytes(1_000_000))
    for name in ("a.rasx", "a.npz"):
        with pytest.raises(UserError, match="more than 200 MB"):
            read(tmp_path, name, file.getvalue())


# --- .npz ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arrays",
    [
        {"two_theta": ANGLES, "patterns": np.stack([COUNTS, COUNTS])},
        {"two_theta": ANGLES, "intensity": np.stack([COUNTS, COUNTS], axis=1)},
        {"x": ANGLES, "counts": np.stack([COUNTS, COUNTS]).astype(np.uint16)},
        {"two_theta_cuka": ANGLES, "H": np.stack([COUNTS, COUNTS])},
        {"two_theta": ANGLES, "anything": np.stack([COUNTS, COUNTS]), "composition": np.eye(2)},
        {"two_theta_start": 10.0, "two_theta_step": 0.5, "intensity": np.stack([COUNTS, COUNTS])},
        {"q": 4 * np.pi * SINE / 1.54184, "patterns": [COUNTS, COUNTS]},
        {"q_inv_nm": 40 * np.pi * SINE / 1.54184, "patterns": [COUNTS, COUNTS]},
        {"d": 1.54184 / (2 * SINE), "patterns": [COUNTS, COUNTS]},
    ],
)  # fmt: skip
def test_matrices(tmp_path, arrays):
    scans = read(tmp_path, "a.npz", samples.npz(**arrays), "CuKa")
    assert [scan.name for scan in scans] == ["a_row0", "a_row1"]
    for scan in scans:
        check(scan)


def test_names_and_wavelengths_of_a_matrix(tmp_path):
    data = samples.npz(
        two_theta=ANGLES, patterns=[COUNTS, COUNTS], names=["A", "B"], wavelength=[1.5406, 0.71]
    )
    scans = read(tmp_path, "a.npz", data)
    assert [(s.name, s.wavelength) for s in scans] == [("a_A", 1.5406), ("a_B", 0.71)]
    assert read(tmp_path, "b.npz", samples.npz(two_theta=ANGLES, counts=COUNTS), 1.0)[0].name == "b"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"patterns": np.ones((2, 60))}, "no axis"),
        ({"two_theta": ANGLES, "patterns": np.ones((2, 61))}, "0 arrays could be the patterns"),
        ({"two_theta": ANGLES, "a": np.ones((2, 60)), "b": np.ones((2, 60))}, "2 arrays could"),
        ({"two_theta": ANGLES, "patterns": [COUNTS], "wavelength": [1.0, 1.0]}, "2 values for 1"),
        ({"two_theta": np.array(["x"] * 60), "patterns": [COUNTS]}, "no axis"),
    ],
)
def test_matrices_that_do_not_fit_are_refused(tmp_path, arrays, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, "a.npz", samples.npz(**arrays), "CuKa")


def test_pickled_arrays_are_not_loaded(tmp_path):
    data = samples.npz(two_theta=ANGLES, patterns=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UserError, match="no .npz of plain arrays"):
        read(tmp_path, "a.npz", data, "CuKa")


def test_one_bad_pattern_leaves_the_others(tmp_path):
    bad = np.full(60, np.nan)
    data = samples.npz(two_theta=ANGLES, patterns=[COUNTS, bad, COUNTS])
    scans = read(tmp_path, "a.npz", data, "CuKa")
    assert [scan.name for scan in scans] == ["a_row0", "a_row2"]
    assert "1 patterns of the file left out" in scans[0].notes[-1]


# --- against another reader, and real files ------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.raw", samples.bruker4(2)),
        ("a.raw", samples.bruker3(2)),
        ("a.xrdml", samples.xrdml(scans=2)),
    ],
)
def test_geddes_reads_every_range_the_same(tmp_path, name, data):
    geddes = pytest.importorskip("geddes")
    scans = read(tmp_path, name, data)
    assert len(scans) == 2
    for index, scan in enumerate(scans):
        other = geddes.read(str(tmp_path / name), index=index)
        np.testing.assert_allclose(other.x, scan.two_theta, rtol=0, atol=2e-6)
        np.testing.assert_allclose(other.y, scan.counts, rtol=1e-6)


def test_gsas_files_are_read_with_geddes(tmp_path):
    pytest.importorskip("geddes")
    lines = ["a title".ljust(80), "BANK 1 60 6 CONST 1000 50 0 0 STD".ljust(80)]
    cells = [f"{'':2}{int(count):6d}" for count in COUNTS]
    lines += ["".join(cells[i : i + 10]).ljust(80) for i in range(0, 60, 10)]
    (scan,) = read(tmp_path, "a.gsa", "\n".join(lines).encode(), "CuKa")
    check(scan)


def test_suffixes_are_lower_case_with_a_dot():
    assert {".xy", ".xrdml", ".rasx", ".raw", ".npz"} <= SUFFIXES
    assert all(s == s.lower() and s[0] == "." for s in SUFFIXES)


def test_files_of_real_instruments():
    folder = os.environ.get("IMITATION_REFINEMENT_DATA")
    if not folder:
        pytest.skip("IMITATION_REFINEMENT_DATA does not name a folder of measured patterns")
    folder = Path(folder) / "xrd_experimental" / "instrument_formats"
    for number in (1, 2):  # the same scans, exported as text
        (raw,) = read_patterns(folder / f"siemens_d5000_{number}.raw", None)
        (xy,) = read_patterns(folder / f"siemens_d5000_{number}.xy", "CoKa")
        np.testing.assert_array_equal(raw.two_theta, xy.two_theta)
        np.testing.assert_array_equal(raw.counts, xy.counts)
        assert raw.wavelength == pytest.approx(1.79026, abs=1e-5)
    expected = {  # points, first and last angle
        "bruker_raw1_a.raw": (876, 4.98, 39.98),
        "bruker_raw1_lab6.raw": (3040, 10.0, 70.0044),
        "bruker_raw2.raw": (7251, 5.0, 150.0),
        "bruker_raw4.raw": (4059, 37.0001, 120.0046),
        "stoe.raw": (5404, 10.0, 91.045),
        "panalytical_graphite_002.xrdml": (1142, 20.0118, 34.9934),
        "rigaku_si.rasx": (2151, 8.5, 30.0),
    }
    for name, (points, first, last) in expected.items():
        (scan,) = read_patterns(folder / name, "CuKa")
        assert len(scan.two_theta) == points
        np.testing.assert_allclose(scan.two_theta[[0, -1]], [first, last], atol=1e-3)
        assert (scan.wavelength_source == "file") == (name != "stoe.raw")
    (lab6,) = read_patterns(folder / "bruker_raw1_lab6.raw", None)
    strongest = lab6.two_theta[np.argmax(lab6.counts)]
    assert strongest == pytest.approx(30.385, abs=0.03)  # LaB6 110, a = 4.1569, Cu K alpha 1
