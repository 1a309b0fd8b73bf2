import numpy as np
import pytest

from imitation_refinement.errors import UserError
from imitation_refinement.xrd.manifest import read_entry, read_manifest

ANGLES = np.arange(20.0, 60.0, 0.5)


def write(
    folder, *lines, header="file,row,source,sample,kind,formula,crystal_system,wavelength_A,cif"
):
    path = folder / "manifest.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def text_pattern(path):
    counts = 10 + 90 * np.exp(-0.5 * ((ANGLES - 40) / 0.5) ** 2)
    np.savetxt(path, np.column_stack([ANGLES, counts]))
    return counts


def test_fields_and_what_stands_for_missing_ones(tmp_path):
    path = write(
        tmp_path,
        "sub/a.xy,,lab,first,labelled,NaCl,cubic,1.5406,cif/a.cif;cif/b.cif",
        "b.xy,,,,,,Hexagonal,,",
        "c.npz,3,,,,,,,",
    )
    first, second, third = read_manifest(path)
    assert first.file == tmp_path / "sub/a.xy" and first.row is None
    assert first.cifs == (tmp_path / "cif/a.cif", tmp_path / "cif/b.cif")
    assert (first.kind, first.system, first.wavelength) == ("labelled", 6, 1.5406)
    assert first.group == "lab/NaCl"
    assert (second.kind, second.system, second.sample) == ("labelled", 5, "b")
    assert (second.wavelength, second.cifs, second.group) == (None, (), "/b")
    assert (third.kind, third.row, third.sample, third.system) == ("unlabelled", 3, "c-3", None)


def test_patterns_of_text_files_and_rows_of_tables(tmp_path):
    counts = text_pattern(tmp_path / "a.xy")
    table = np.stack([counts, 2 * counts, 0 * counts]).astype(np.float32)
    np.savez(tmp_path / "t.npz", intensity=table, two_theta_start=20.0, two_theta_step=0.5)
    path = write(
        tmp_path, "a.xy,,,,,,,1.79026,", "t.npz,1,,,,,,,", "t.npz,2,,,,,,1,", "t.npz,9,,,,,,1,"
    )
    entries = read_manifest(path)
    scan = read_entry(entries[0])
    assert scan.wavelength == 1.79026
    np.testing.assert_allclose(scan.two_theta, ANGLES)
    np.testing.assert_allclose(scan.counts, counts)
    with pytest.raises(UserError, match="wavelength"):
        read_entry(entries[1])
    scan = read_entry(entries[1], "CuKa1")
    assert (scan.wavelength, scan.name) == (1.54056, "t-1")
    np.testing.assert_allclose(scan.two_theta, ANGLES)
    np.testing.assert_allclose(scan.counts, 2 * counts, rtol=1e-6)
    with pytest.raises(UserError, match=r"manifest.csv:5: row 9.*has 3"):
        read_entry(entries[3])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (",,,,,,,,", r":2: no file"),
        ("a.xy,x,,,,,,,", r":2: row 'x' is not a number"),
        ("a.xy,,,,,,round,,", r":2: crystal_system 'round' is none of"),
        ("a.xy,,,,maybe,,,,", r":2: kind 'maybe' is none of"),
        ("a.xy,,,,,,,CuKa,", r":2: wavelength_A 'CuKa' is not a number from"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
    with pytest.raises(UserError, match=message):
        read_manifest(write(tmp_path, line))


def test_bad_manifests(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_manifest(tmp_path / "missing.csv")
    with pytest.raises(UserError, match="names no pattern"):
        read_manifest(write(tmp_path))
    with pytest.raises(UserError, match="no column `file`"):
        read_manifest(write(tmp_path, "1,2", header="x,y"))
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8"):
        read_manifest(tmp_path / "binary.csv")
