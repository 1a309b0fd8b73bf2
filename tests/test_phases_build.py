"""A library is made of anything, whatever single entries do, and goes on after a kill."""

import json
import multiprocessing
import os
import signal
import time
from functools import partial

import numpy as np
import pytest

from imitation_refinement.errors import UserError
from imitation_refinement.phases import build
from imitation_refinement.phases.build import build_library, make_library
from imitation_refinement.phases.cif_text import cif_text
from imitation_refinement.phases.isolated import run_isolated
from imitation_refinement.phases.library import COMPUTED_NEWER, load_library


def line(name, a=4.0, species=("Cs", "Cl"), **changes):
    entry = {
        "id": name, "source": "amcsd", "lattice": (a * np.eye(3)).tolist(),
        "species": list(species), "frac_coords": [[0, 0, 0], [0.5, 0.5, 0.5]],
        "spacegroup_number": 221,
    }  # fmt: skip
    return json.dumps({**entry, **changes}) + "\n"


def collection(tmp_path, lines, name="some.jsonl"):
    path = tmp_path / name
    path.write_text("".join(lines))
    return path


def ledger_of(built):
    lines = map(json.loads, built.ledger.read_text().splitlines())
    return {entry["name"]: entry["why"] for entry in lines}


GOOD = [line("CsCl"), line("CsBr", 4.29, ("Cs", "Br")), line("TlCl", 3.83, ("Tl", "Cl"))]
BAD = [
    "{broken\n",
    line("near", frac_coords=[[0, 0, 0], [0.05, 0, 0]]),
    line("thin", 14.0),
    line("long", lattice=[[3, 0, 0], [0, 3, 0], [0, 0, 1e7]]),
    line("skewed", lattice=[[4, 0, 0], [4e17, 4, 0], [0, 0, 4]]),
    line("zero", lattice=[[0, 0, 0]] * 3),
    line("nan", lattice=[[float("nan"), 0, 0], [0, 4, 0], [0, 0, 4]]),
    line("heavy", species=("Cf", "Es")),
    line("formula", formula_stated="Cs O4"),
    line("again", 4.002),
]


@pytest.mark.parametrize("workers", [1, 2])
def test_bad_entries_are_named_and_cost_the_others_nothing(tmp_path, workers, monkeypatch):
    monkeypatch.setattr(build, "_PER_CHUNK", 4)
    path = collection(tmp_path, [*BAD[:5], *GOOD, *BAD[5:]])
    built = build_library([path], tmp_path / "out.npz", workers)
    assert built.library.source_id.tolist() == ["CsCl", "CsBr", "TlCl"]
    assert load_library(tmp_path / "out.npz").digest == built.library.digest
    found = ledger_of(built)
    assert (built.left_out, built.merged) == (9, 1) and len(found) == 10
    assert "broken" in found["some.jsonl line 1"]
    assert "nearer than 0.5" in found["near"]
    assert "for each atom" in found["thin"]
    for name in ("long", "skewed"):
        assert "a cell vector of" in found[name]
    assert "beyond number 98" in found["heavy"]
    assert "not those of its formula" in found["formula"]
    assert found["again"] == "the same phase as CsCl"
    assert not (tmp_path / "out.npz.parts").exists()


def test_collections_of_several_kinds_are_one_library(tmp_path):
    folder = tmp_path / "cifs"
    folder.mkdir()
    first = build_library([collection(tmp_path, GOOD[:2])], tmp_path / "first.npz").library
    (folder / "mine.CIF").write_text(cif_text(first, 1).replace("Cs Br", "Cs I").replace("Br", "I"))
    path = collection(tmp_path, GOOD)
    library = build_library([path, folder], tmp_path / "out.npz").library
    # A library is an input too; its entries come first and stand for what is the same.
    build_library([path], tmp_path / "first.npz")
    added = build_library([folder, path, tmp_path / "first.npz"], tmp_path / "added.npz")
    assert added.library.digest == library.digest and added.merged == 3
    assert library.formula.tolist() == ["CsCl", "CsBr", "TlCl", "CsI"]
    assert [library.sources[i].name for i in library.source] == ["amcsd"] * 3 + ["cifs"]


def test_what_may_not_be_passed_on_is_left_out_and_counted(tmp_path):
    path = collection(
        tmp_path, [*GOOD, line("x", 5.1, source="bgmn_str"), line("y", 5.2, source="?")]
    )
    built = make_library([path], tmp_path / "out.npz", shipped=True)
    assert len(built.library) == 3 and built.left_out == 2
    assert "its terms do not let us pass it on" in ledger_of(built)["x"]
    assert len(build_library([path], tmp_path / "all.npz").library) == 5


def test_a_chemical_system_of_the_materials_project_is_an_input(tmp_path, monkeypatch):
    def fetched(system, folder):
        assert (system, folder) == ("Cs-Cl", tmp_path)
        return collection(tmp_path, [line("mp-22865", source="Materials Project, CC BY 4.0")])

    monkeypatch.setattr(build, "materials_project", fetched)
    library = make_library(["mp:Cs-Cl"], tmp_path / "out.npz").library
    assert library.source_id.tolist() == ["mp-22865"]
    assert library.computed.tolist() == [COMPUTED_NEWER]


def build_in_process(path, output):
    build._PER_CHUNK = 1
    build_library([path], output)


def test_a_killed_build_goes_on_from_its_finished_chunks(tmp_path, monkeypatch):
    lines = [line(f"a{i}", 4.0 + 0.1 * i) for i in range(8)]
    path, output = collection(tmp_path, lines), tmp_path / "out.npz"
    parts = tmp_path / "out.npz.parts"
    process = multiprocessing.get_context("spawn").Process(
        target=build_in_process, args=(path, output)
    )
    process.start()
    deadline = time.monotonic() + 60
    while len(list(parts.glob("00000[0-9].npz"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.join()
    done = {part: part.stat().st_mtime_ns for part in parts.glob("00000[0-9].npz")}
    assert len(done) >= 2 and not output.exists()
    monkeypatch.setattr(build, "_PER_CHUNK", 1)
    began = []
    run = build._run_chunk
    monkeypatch.setattr(build, "_run_chunk", lambda *a: (began.append(a[1].name), run(*a)))
    library = build_library([path], output).library
    assert not {part.name for part in done} & set(began)
    assert library.source_id.tolist() == [f"a{i}" for i in range(8)]
    whole = build_library([path], tmp_path / "whole.npz").library
    assert whole.digest == library.digest


def test_parts_of_another_input_are_not_used(tmp_path):
    path, output = collection(tmp_path, GOOD), tmp_path / "out.npz"
    parts = tmp_path / "out.npz.parts"
    build._prepare(parts, [path], False)
    (parts / "000000.npz").write_bytes(b"of something else")
    build._prepare(parts, [path], True)
    assert not (parts / "000000.npz").exists()
    assert len(build_library([path], output).library) == 3


@pytest.mark.parametrize(
    ("lines", "why"), [([], "no structure in it"), (BAD[:1], "no usable structure; first: broken")]
)
def test_nothing_usable_is_one_line(tmp_path, lines, why):
    path = collection(tmp_path, lines)
    with pytest.raises(UserError, match=why) as error:
        build_library([path], tmp_path / "out.npz")
    assert "\n" not in str(error.value) and "some.jsonl" in str(error.value)
    with pytest.raises(UserError, match="no such file"):
        build_library([tmp_path / "none"], tmp_path / "out.npz")


# --- One bad item never ends the work ------------------------------------------------------------


def work(folder, kind, left_out, at):
    """Writes a file for each of six items; item 2 is bad in one way or another."""
    for index in range(6):
        at.value = index
        if index in left_out:
            continue
        if index == 2 and kind == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if index == 2 and kind == "stuck":
            time.sleep(1000)
        if index == 2 and kind == "memory":
            try:
                bytearray(8 << 30)
            except MemoryError:
                continue
        (folder / str(index)).touch()


@pytest.mark.parametrize(
    ("kind", "why"), [("killed", "exit status -9"), ("stuck", "more than 1 s")]
)
def test_an_item_that_ends_or_stops_the_process_is_left_out(tmp_path, kind, why):
    left_out = run_isolated(partial(work, tmp_path, kind), seconds=1.0, memory=4 << 30)
    assert list(left_out) == [2] and why in left_out[2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "3", "4", "5"]


def test_memory_is_limited(tmp_path):
    pytest.importorskip("resource")
    assert run_isolated(partial(work, tmp_path, "memory"), seconds=60.0, memory=4 << 30) == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "3", "4", "5"]


def broken(left_out, at):
    raise SystemExit(3)


def test_a_process_that_ends_at_no_item_is_an_error():
    with pytest.raises(UserError, match="exit status 3"):
        run_isolated(broken, seconds=1.0, memory=4 << 30)
