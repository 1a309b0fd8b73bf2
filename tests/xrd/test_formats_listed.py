"""Formats that list counts, packed files, spreadsheets and HDF5; and what mutations do to them."""

import io
from pathlib import Path

import new_format_samples as samples
import numpy as np
import pytest
from format_samples import ANGLES, COUNTS
from new_format_samples import INTEGERS, SAMPLES, Q
from test_bad_files import mutated_file, read_or_refused

from imitation_refinement.errors import UserError
from imitation_refinement.xrd.formats import read_patterns, read_records

SEVERAL = {"two.ras": 2, "ranges.uxd": 2, "esd.gsa": 2, "spec.spec": 2, "several.zip": 2}


def read(folder: Path, name: str, data: bytes, wavelength=1.5406):
    path = folder / name
    path.write_bytes(data)
    try:
        return read_patterns(path, None)
    except UserError as error:
        assert "states no wavelength" in str(error)
        return read_patterns(path, wavelength)


@pytest.mark.parametrize("name", SAMPLES)
def test_angles_and_counts_of_every_format(tmp_path, name):
    scans = read(tmp_path, name, SAMPLES[name])
    assert len(scans) == SEVERAL.get(name, 1)
    assert len({scan.name for scan in scans}) == len(scans)
    rounding = 0.1 * np.sqrt(COUNTS) if name.endswith((".rd", ".sd")) else 0.05
    for number, scan in enumerate(scans):
        wavelength = scan.wavelength if name == "packed.xrdml.xz" else 1.5406
        assert scan.wavelength == pytest.approx(wavelength, abs=2e-3)
        np.testing.assert_allclose(scan.two_theta, ANGLES, rtol=0, atol=2e-3)
        expected = COUNTS + number if name == "esd.gsa" else COUNTS
        assert np.all(np.abs(scan.counts - expected) <= rounding + 1), name


@pytest.mark.parametrize("name", [n for n in SAMPLES if n.endswith((".dx", ".udf", ".asc", ".sd"))])
def test_counts_that_were_cut_off_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(SAMPLES[name][: len(SAMPLES[name]) - 60])
    with pytest.raises(UserError, match=r"announced|check of ordinates|no XYDATA|damaged"):
        read_patterns(tmp_path / name, "CuKa")


@pytest.mark.parametrize("name", ["plain.dx", "squeezed.dx", "differences.dx"])
def test_jcamp_reads_the_same(name):
    jcamp = pytest.importorskip("jcamp")
    other = jcamp.read(io.StringIO(SAMPLES[name].decode()))
    np.testing.assert_allclose(other["y"], INTEGERS)
    np.testing.assert_allclose(other["x"], ANGLES, atol=1e-6)


def test_jcamp_by_its_step(tmp_path):
    data = SAMPLES["plain.dx"].replace(b"##LASTX=39.5\n", b"##DELTAX=0.5\n")
    (scan,) = read(tmp_path, "a.dx", data)
    np.testing.assert_allclose(scan.two_theta, ANGLES)


def test_two_lines_of_a_powder_cif_give_their_mean_by_weight(tmp_path):
    one = b"_diffrn_radiation_wavelength 1.5406\n"
    tag = b"_diffrn_radiation_wavelength"
    two = b"loop_\n%b\n%b_wt\n1.5406 1.0\n1.5444 0.5\n" % (tag, tag)
    (scan,) = read(tmp_path, "a.cif", SAMPLES["powder.cif"].replace(one, two))
    assert scan.wavelength == pytest.approx((1.5406 + 0.5 * 1.5444) / 1.5)
    np.testing.assert_allclose(scan.counts, INTEGERS)


@pytest.mark.parametrize("form", ["STD", "ESD", "FXYE"])
def test_geddes_reads_the_same_gsas_file(tmp_path, form):
    geddes = pytest.importorskip("geddes")
    data = samples.gsas(form)
    (scan,) = read(tmp_path, "a.gsa", data)
    try:
        other = geddes.read_bytes(data, "a.gsas")
    except ValueError as error:
        pytest.skip(f"geddes does not read it: {error}")
    np.testing.assert_allclose(scan.two_theta, other.x, atol=1e-6)
    np.testing.assert_allclose(scan.counts, other.y, atol=1e-3)


# --- packed ----------------------------------------------------------------------------------


def test_what_lies_twice_in_packings_or_explodes_is_refused(tmp_path):
    import gzip

    for name, data in (
        ("a.xy.gz", gzip.compress(SAMPLES["packed.xy.gz"])),
        ("a.zip", samples.zipped(b_dot_zip=SAMPLES["several.zip"])),
    ):
        with pytest.raises(UserError, match="packed twice"):
            read_patterns_of(tmp_path, name, data)
    with pytest.raises(UserError, match="more than 200 MB"):
        read_patterns_of(tmp_path, "a.xy.gz", gzip.compress(bytes(200_000_001), 1))


def read_patterns_of(folder: Path, name: str, data: bytes):
    (folder / name).write_bytes(data)
    return read_patterns(folder / name, "CuKa")


def test_a_file_of_a_zip_that_is_no_scan_gets_its_record(tmp_path):
    data = samples.zipped(a_dot_xy=SAMPLES["ins0.dat"], readme_dot_txt=b"hello\n")
    (tmp_path / "a.zip").write_bytes(data)
    records = read_records(tmp_path / "a.zip", "CuKa")
    assert [record.name for record in records] == ["a_a", "a_readme"]
    assert "0 lines with two numbers" in records[1].reason and "\n" not in records[1].reason


# --- spreadsheets and HDF5 -------------------------------------------------------------------


def workbook() -> bytes:
    """An .xlsx of two sheets, written by hand: openpyxl is not needed."""
    cells = "".join(
        f'<row r="{i + 2}"><c r="A{i + 2}"><v>{t}</v></c><c r="B{i + 2}"><v>{c:.0f}</v></c></row>'
        for i, (t, c) in enumerate(zip(ANGLES, COUNTS, strict=True))
    )
    head = '<row r="1"><c r="A1" t="inlineStr"><is><t>2Theta (deg)</t></is></c><c r="B1" t="inlineStr"><is><t>Intensity</t></is></c></row>'  # noqa: E501
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    sheet = f'<worksheet xmlns="{main}"><sheetData>{head}{cells}</sheetData></worksheet>'
    notes = f'<worksheet xmlns="{main}"><sheetData><row r="1"><c r="A1" t="inlineStr"><is><t>made up</t></is></c></row></sheetData></worksheet>'  # noqa: E501
    book = f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets><sheet name="Notes" sheetId="1" r:id="r1"/><sheet name="Scan" sheetId="2" r:id="r2"/></sheets></workbook>'  # noqa: E501
    links = "".join(
        f'<Relationship Id="r{i}" Type="{office}/worksheet" Target="worksheets/sheet{i}.xml"/>'
        for i in (1, 2)
    )
    files = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types"/>',
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" Type="{office}/officeDocument" Target="xl/workbook.xml"/></Relationships>',  # noqa: E501
        "xl/workbook.xml": book,
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}/relationships">{links}</Relationships>',  # noqa: E501
        "xl/worksheets/sheet1.xml": notes,
        "xl/worksheets/sheet2.xml": sheet,
    }
    return samples.zipped(**{name: content.encode() for name, content in files.items()})


def test_a_spreadsheet_is_read_like_the_text_of_its_cells(tmp_path):
    pytest.importorskip("python_calamine")
    (scan,) = read(tmp_path, "a.xlsx", workbook())
    np.testing.assert_allclose(scan.two_theta, ANGLES)
    np.testing.assert_allclose(scan.counts, COUNTS)
    assert scan.notes[-1] == "sheets without a pattern: Notes"
    with pytest.raises(UserError, match="no spreadsheet|damaged"):
        read_patterns_of(tmp_path, "a.xls", b"\xd0\xcf\x11\xe0" + bytes(600))


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"axis": "2th", "units": "deg", "x": ANGLES},
        {"axis": "2th", "units": "rad", "x": np.deg2rad(ANGLES)},
        {"axis": "q", "units": "1/angstrom", "x": Q, "old": True},
        {"counts": np.stack([COUNTS, 2 * COUNTS])},
    ],
)
def test_integrated_patterns_in_hdf5(tmp_path, arguments):
    pytest.importorskip("h5py")
    scans = read_patterns_of_file(tmp_path, samples.hdf5(**arguments))
    assert len(scans) == (2 if "counts" in arguments else 1)
    for number, scan in enumerate(scans, start=1):
        np.testing.assert_allclose(scan.two_theta, ANGLES, atol=1e-5)
        np.testing.assert_allclose(scan.counts, number * COUNTS)
        assert (scan.wavelength, scan.wavelength_source) == (pytest.approx(1.5406), "file")


def read_patterns_of_file(folder: Path, data: bytes):
    (folder / "a.h5").write_bytes(data)
    return read_patterns(folder / "a.h5", None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"axis": "r", "units": "mm", "x": ANGLES}, "radius on the detector"),
        ({"axis": "chi", "units": "deg", "x": ANGLES}, "another angle"),
        ({"counts": np.ones((3, 60, 60))}, "no signal over one axis"),
    ],
)
def test_other_data_in_hdf5_are_refused(tmp_path, arguments, message):
    pytest.importorskip("h5py")
    with pytest.raises(UserError, match=message):
        read_patterns_of_file(tmp_path, samples.hdf5(**arguments))


def test_a_missing_library_is_named_with_a_command_that_works(tmp_path, monkeypatch):
    for module, name, data in (
        ("h5py", "a.h5", b"\x89HDF\r\n\x1a\n"),
        ("python_calamine", "a.xls", b"\xd0\xcf\x11\xe0"),
    ):
        monkeypatch.setitem(__import__("sys").modules, module, None)
        with pytest.raises(UserError, match=r"\.venv/bin/pip install '\.\[formats\]'"):
            read_patterns_of(tmp_path, name, data)


# --- fuzz ------------------------------------------------------------------------------------

MUTATIONS = 230  # of each sample


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLES)
def test_mutated_files_are_read_or_refused(tmp_path, name):
    assert len(SAMPLES) * MUTATIONS >= 5000
    path = tmp_path / name
    for index in range(MUTATIONS):
        rng = np.random.default_rng((1000 + list(SAMPLES).index(name), index))
        path.write_bytes(mutated_file(SAMPLES[name], rng))
        read_or_refused(path, index)
