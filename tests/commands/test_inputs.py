"""Which files an input names, what of them is left out, and why."""

from pathlib import Path

import pytest

from imitation_refinement.commands.inputs import Input, list_inputs, natural, read_each
from imitation_refinement.commands.ledger import LeftOut, Notes, exit_status, in_a_line
from imitation_refinement.errors import UserError
from imitation_refinement.phases.compositions import parse_elements

SCAN = "".join(f"{15 + 0.05 * i:.2f} {50 + i % 7}\n" for i in range(600))


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_text("")


def paths(*names: str) -> list[str]:
    return [one.path.name for one in list_inputs(list(names))[0]]


def reasons(*names: str) -> dict[str, str]:
    return {path.name: reason for path, reason in list_inputs(list(names))[1]}


def test_folders_globs_and_paths(tmp_path):
    touch(tmp_path, "b.xy", "a.XY", "notes.md", "c.xrdml", "a.refined.xy", "a.peaks.csv", "[x].xy")
    assert paths(str(tmp_path)) == ["[x].xy", "a.XY", "b.xy", "c.xrdml"]
    assert paths(f"{tmp_path}/*.xy") == ["[x].xy", "b.xy"]
    assert list_inputs([f"{tmp_path}/[x].xy"])[0] == [Input(tmp_path / "[x].xy")]
    # Each once, in order; a file named like ours only where it is named.
    twice = paths(f"{tmp_path}/b.xy", str(tmp_path), f"{tmp_path}/a.refined.xy")
    assert twice == ["b.xy", "[x].xy", "a.XY", "c.xrdml", "a.refined.xy"]
    nothing, left = list_inputs(["none/*.xy", "x" * 5000])
    assert [one.path for one in nothing] == [Path("none/*.xy"), Path("x" * 5000)] and not left


def test_every_file_of_a_folder_is_read_or_left_out_with_a_reason(tmp_path):
    touch(tmp_path, "a.xy", "b.xy.gz", "no-suffix", "notes.md", "x.cif", "composition.csv")
    touch(tmp_path, "a.refined.xy", "summary.csv", "a.candidate-2.cif", "notes.md.gz")
    (tmp_path / "deeper").mkdir()
    left = reasons(str(tmp_path))
    read = set(paths(str(tmp_path)))
    assert read | set(left) == {path.name for path in tmp_path.iterdir()} and not read & set(left)
    assert read == {"a.xy", "b.xy.gz", "no-suffix"}
    assert left["deeper"] == "a folder in the folder; name it by itself"
    assert left["notes.md"].startswith(".md is no ending of a pattern")
    assert "compared with the scan of its name" in left["x.cif"]
    assert "--mode=unmix" in left["composition.csv"]
    for name in ("a.refined.xy", "summary.csv", "a.candidate-2.cif"):
        assert "named as results of this program" in left[name]
    # What is left out of a folder and named besides is read.
    assert "notes.md" in paths(str(tmp_path), f"{tmp_path}/notes.md")
    assert "notes.md" not in reasons(str(tmp_path), f"{tmp_path}/notes.md")
    assert "deeper" not in reasons(str(tmp_path), f"{tmp_path}/deeper/")


def test_natural_order(tmp_path):
    names = ["scan_10.xy", "scan_2.xy", "Scan_1.xy", "a.xy", "scan_2b.xy", "10.xy", "9.xy"]
    touch(tmp_path, *names)
    expected = ["9.xy", "10.xy", "a.xy", "Scan_1.xy", "scan_2.xy", "scan_2b.xy", "scan_10.xy"]
    assert paths(str(tmp_path)) == expected == paths(f"{tmp_path}/*.xy")
    assert sorted(map(Path, names), key=natural)[2] == Path("a.xy")


# --- manifests --------------------------------------------------------------------------------


def test_a_manifest_says_what_is_known_of_each_file(tmp_path):
    manifest = tmp_path / "list.csv"
    manifest.write_text(
        "\ufefffile, wavelength_A ,elements,remark\nα.xy,0.7093,Ca C O,x\nb.xy,,,\nc.xy,,+Fe -Cl\n",
        encoding="utf-8",
    )
    files, left = list_inputs([str(manifest)], "CuKa", parse_elements("Si"))
    assert files == [
        Input(tmp_path / "α.xy", "0.7093", parse_elements("Ca C O")),
        Input(tmp_path / "b.xy", "CuKa", parse_elements("Si")),
        Input(tmp_path / "c.xy", "CuKa", parse_elements("+Fe -Cl")),
    ]
    assert not left
    # Named by the folder too, before or after: what the manifest says holds.
    touch(tmp_path, "α.xy", "d.xy")
    for names in ([str(tmp_path)], [str(tmp_path / "α.xy"), str(manifest)]):
        found = {one.path.name: one.wavelength for one in list_inputs(names, "CuKa")[0]}
        assert found["α.xy"] == "0.7093" and found["b.xy"] == "CuKa" and "list.csv" not in found


def test_a_row_that_cannot_be_understood_fails_alone(tmp_path):
    manifest = tmp_path / "list.csv"
    (tmp_path / "a.xy").write_text(SCAN)
    manifest.write_text(
        "file,wavelength_A,elements\na.xy,1.5406,\nb.xy,blue,\nc.xy,,Qq\n,1.5,\na.xy,0.7,\n"
    )
    files, left = list_inputs([str(manifest)])
    records = [record for _, record in read_each(files, left)]
    assert [record.scan is not None for record in records] == [True, False, False, False]
    assert "list.csv: line 3: wavelength: 'blue'" in records[1].reason
    assert "list.csv: line 4: elements: 'Qq' is no element" in records[2].reason
    assert "list.csv: line 5: column 'file' is empty" in records[3].reason
    assert left == [
        LeftOut(tmp_path / "a.xy", f"named a second time in {manifest}; the first counts")
    ]
    assert records[0].scan.wavelength == 1.5406
    # Nor is its file read by what the folder says of it.
    touch(tmp_path, "b.xy")
    files, _ = list_inputs([str(tmp_path)], "CuKa")
    assert [bool(one.trouble) for one in files if one.path.name == "b.xy"] == [True]


def test_a_table_that_is_no_manifest_is_a_pattern(tmp_path):
    for head in ("2theta,counts", "file,counts", "wavelength_A,elements"):
        (tmp_path / "a.csv").write_text(f"{head}\n15,2\n")
        assert paths(str(tmp_path / "a.csv")) == ["a.csv"]
    (tmp_path / "b.csv").write_bytes(b"file,elements\n\xff\xfe,Ca\n")
    assert paths(str(tmp_path / "b.csv")) == ["b.csv"]


# --- records ----------------------------------------------------------------------------------


def test_trouble_with_one_file_is_its_own(tmp_path, monkeypatch):
    for name in ("a.xy", "b.xy", "c.xy"):
        (tmp_path / name).write_text(SCAN)
    (tmp_path / "README").write_text("no pattern")
    import imitation_refinement.commands.reading as module

    read = module.read_records

    def broken(path, *rest, **options):
        if path.name == "b.xy":
            raise ZeroDivisionError("float division\nby zero")
        return read(path, *rest, **options)

    monkeypatch.setattr(module, "read_records", broken)
    files, left = list_inputs([str(tmp_path)], "CuKa")
    records = {record.name: record for _, record in read_each(files, left)}
    assert list(records) == ["a", "b", "c"] and records["c"].scan is not None
    assert records["b"].reason == (
        f"{tmp_path}/b.xy: ZeroDivisionError (float division by zero); please report this file"
    )
    # A file without an ending that is no pattern was never said to be one.
    assert [one.path.name for one in left] == ["README"]
    files, left = list_inputs([str(tmp_path / "README")], "CuKa")
    assert [record.scan for _, record in read_each(files, left)] == [None] and not left


def test_what_the_user_can_mend_is_told_as_it_is():
    assert in_a_line(Path("a"), UserError("a: empty")) == "a: empty"


def test_notes_once_with_a_count():
    notes = Notes(["3 dead points dropped, at 28.57 degrees", "log10 undone"])
    notes.add(["12 dead points dropped, at 33.10 degrees", "log10 undone", "another"])
    assert notes.told() == [
        "3 dead points dropped, at 28.57 degrees (2 times, other numbers)",
        "log10 undone (2 times)",
        "another",
    ]
    assert Notes().told() == []


@pytest.mark.parametrize(
    ("worked", "failed", "status"), [(2, 0, 0), (1, 1, 3), (0, 2, 1), (0, 0, 1)]
)
def test_exit_status(worked, failed, status):
    assert exit_status(worked, failed) == status
