"""A library is made of anything, whatever single entries do, and goes on after a kill."""

import json
import multiprocessing
import os
import signal
import time
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from imitation_refinement import cli
from imitation_refinement.commands.cluster import each
from imitation_refinement.config import parse_flags
from imitation_refinement.errors import UserError
from imitation_refinement.phases import build, parts
from imitation_refinement.phases.build import (
    build_library,
    make_library,
    merge_library,
    read_shard,
)
from imitation_refinement.phases.cif_text import cif_text
from imitation_refinement.phases.library import COMPUTED_NEWER, load_library
from imitation_refinement.runtime.shard import WHOLE, Shard


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


@pytest.fixture
def at_once(monkeypatch):
    """Chunks are read in this process, since a new one for each takes a second."""

    def run(work, *, seconds, memory):
        work({}, SimpleNamespace(value=-1))
        return {}

    monkeypatch.setattr(parts, "run_isolated", run)


@pytest.mark.parametrize("workers", [1, 2])
def test_bad_entries_are_named_and_cost_the_others_nothing(tmp_path, workers, monkeypatch):
    monkeypatch.setattr(parts, "PER_CHUNK", 7)
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


@pytest.mark.usefixtures("at_once")
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


@pytest.mark.usefixtures("at_once")
def test_what_may_not_be_passed_on_is_left_out_and_counted(tmp_path):
    path = collection(
        tmp_path, [*GOOD, line("x", 5.1, source="bgmn_str"), line("y", 5.2, source="?")]
    )
    built = make_library([path], tmp_path / "out.npz", shipped=True)
    assert len(built.library) == 3 and built.left_out == 2
    assert "its terms do not let us pass it on" in ledger_of(built)["x"]
    assert len(build_library([path], tmp_path / "all.npz").library) == 5


@pytest.mark.usefixtures("at_once")
def test_a_chemical_system_of_the_materials_project_is_an_input(tmp_path, monkeypatch):
    def fetched(system, folder):
        assert (system, folder) == ("Cs-Cl", tmp_path)
        return collection(tmp_path, [line("mp-22865", source="Materials Project, CC BY 4.0")])

    monkeypatch.setattr(build, "materials_project", fetched)
    library = make_library(["mp:Cs-Cl"], tmp_path / "out.npz").library
    assert library.source_id.tolist() == ["mp-22865"]
    assert library.computed.tolist() == [COMPUTED_NEWER]


def build_in_process(path, output):
    parts.PER_CHUNK = 1
    build_library([path], output)


def test_a_killed_build_goes_on_from_its_finished_chunks(tmp_path, monkeypatch):
    lines = [line(f"a{i}", 4.0 + 0.1 * i) for i in range(5)]
    path, output = collection(tmp_path, lines), tmp_path / "out.npz"
    folder = tmp_path / "out.npz.parts"
    process = multiprocessing.get_context("spawn").Process(
        target=build_in_process, args=(path, output)
    )
    process.start()
    deadline = time.monotonic() + 60
    while len(list(folder.glob("000000[0-9].json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.join()
    done = {int(part.stem) for part in folder.glob("000000[0-9].json")}
    assert len(done) >= 2 and not output.exists()
    (folder / f"{min(done):07d}.npz").write_bytes(b"damaged")
    monkeypatch.setattr(parts, "PER_CHUNK", 1)
    began = []
    read = build.read_chunk
    monkeypatch.setattr(build, "read_chunk", lambda one: (began.append(one.number), read(one)))
    library = build_library([path], output).library
    assert set(began) == set(range(5)) - done | {min(done)} and len(began) == len(set(began))
    assert library.source_id.tolist() == [f"a{i}" for i in range(5)]
    monkeypatch.undo()  # in one chunk
    build_library([path], tmp_path / "whole.npz")
    assert (tmp_path / "whole.npz").read_bytes() == output.read_bytes()


@pytest.mark.usefixtures("at_once")
def test_parts_of_another_input_are_not_used(tmp_path):
    path, output, again = collection(tmp_path, GOOD), tmp_path / "out.npz", tmp_path / "again.npz"
    read_shard([path], output, Shard(0, 2))
    other = collection(tmp_path, [*GOOD[:2], line("y", 5.2, source="?")])
    build_library([other], output, shipped=True)  # in the folder of those parts
    build_library([other], again, shipped=True)
    assert output.read_bytes() == again.read_bytes()
    assert load_library(output).source_id.tolist() == ["CsCl", "CsBr"]


@pytest.mark.usefixtures("at_once")
def test_a_file_that_changed_is_read_again(tmp_path):
    folder, output = tmp_path / "cifs", tmp_path / "out.npz"
    folder.mkdir()
    text = cif_text(build_library([collection(tmp_path, GOOD)], tmp_path / "a.npz").library, 1)
    (folder / "one.cif").write_text(text)
    read_shard([folder], output, WHOLE)
    (folder / "one.cif").write_text(text.replace("Cs Br", "Cs I").replace("Br", "I"))
    read_shard([folder], output, WHOLE)
    assert merge_library(output).library.formula.tolist() == ["CsI"]


@pytest.mark.usefixtures("at_once")
def test_files_that_cannot_be_read_are_named(tmp_path):
    folder = tmp_path / "cifs"
    folder.mkdir()
    library = build_library([collection(tmp_path, GOOD)], tmp_path / "some.npz").library
    (folder / "good.cif").write_text(cif_text(library, 1))
    (folder / "gone.cif").symlink_to(tmp_path / "nowhere")
    (folder / "empty.cif").touch()
    with open(folder / "large.cif", "wb") as file:
        file.truncate(30_000_000)
    with zipfile.ZipFile(tmp_path / "some.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(folder / "large.cif", "packed.cif")
    built = build_library([folder, tmp_path / "some.zip"], tmp_path / "out.npz")
    assert len(built.library) == 1 and built.left_out == 4
    found = ledger_of(built)
    assert found["gone.cif"] == "cannot be read (No such file or directory)"
    assert {found[f"{name}.cif"] for name in ("empty", "large", "packed")} == {
        "empty, or larger than 20 MB"
    }


# --- Shards --------------------------------------------------------------------------------------


@pytest.fixture
def many(tmp_path, at_once, monkeypatch):
    """A library and collections of which two entries are one phase and some cannot be used."""
    monkeypatch.setattr(parts, "PER_CHUNK", 3)
    build_library([collection(tmp_path, GOOD[2:])], tmp_path / "first.npz")
    folder = tmp_path / "cifs"
    folder.mkdir()
    for number in range(4):
        library = load_library(tmp_path / "first.npz")
        (folder / f"{number}.cif").write_text(cif_text(library, 0) if number else "data_no")
    lines = [line(f"a{i}", 4.0 + 0.1 * i) for i in range(5)]
    one = collection(tmp_path, [*BAD, *lines])
    return [folder, tmp_path / "first.npz", one, collection(tmp_path, GOOD, "more.jsonl")]


def files_of(output):
    return output.read_bytes(), output.with_name(f"{output.name}.left_out.jsonl").read_bytes()


@pytest.mark.parametrize("count", [1, 2, 3, 11])
def test_any_number_of_shards_gives_the_same_library_to_the_bit(tmp_path, many, count):
    build_library(many, tmp_path / "one.npz")
    output = tmp_path / "several.npz"
    for number in reversed(range(count)):
        receipt = read_shard(many, output, Shard(number, count))
        assert [n for n, _ in receipt["chunks"]] == list(range(number, 8, count))
    built = merge_library(output)
    assert files_of(output) == files_of(tmp_path / "one.npz")
    # The ledger is complete: what came in is in the library or named.
    assert len(load_library(output)) + len(ledger_of(built)) == 1 + 4 + 15 + 3


def test_a_shard_reads_its_own_chunks_once(tmp_path, many, monkeypatch):
    began = []
    read = build.read_chunk
    monkeypatch.setattr(build, "read_chunk", lambda one: (began.append(one.number), read(one)))
    for number in (1, 0, 1, 0):
        read_shard(many, tmp_path / "out.npz", Shard(number, 2))
    assert sorted(began) == list(range(8)) and began[:4] == [1, 3, 5, 7]
    first = (tmp_path / "out.npz.parts" / "0000002.npz").read_bytes()
    (tmp_path / "out.npz.parts" / "0000002.npz").write_bytes(first[:-1])
    with pytest.raises(UserError, match=r"part 2 is damaged or gone .*00000-of-00002"):
        merge_library(tmp_path / "out.npz")
    read_shard(many, tmp_path / "out.npz", Shard(0, 2))
    assert began[8:] == [2]
    assert merge_library(tmp_path / "out.npz").merged > 0


def test_missing_shards_are_named_and_nothing_is_written(tmp_path, many):
    output = tmp_path / "out.npz"
    with pytest.raises(UserError, match="no finished shard in it; run --mode=library --shard"):
        merge_library(output)
    for number in (0, 2, 7):
        read_shard(many, output, Shard(number, 8))
    with pytest.raises(UserError, match="5 of 8 shards are missing: 1, 3-6;"):
        merge_library(output)
    assert not output.exists()
    read_shard(many[:1], output, Shard(1, 8))
    with pytest.raises(UserError, match="00001-of-00008.json: is not of the same batch"):
        merge_library(output)


@pytest.mark.slow  # starts processes that import the program
def test_a_killed_worker_loses_nothing_and_doubles_nothing(tmp_path, many):
    build_library(many, tmp_path / "one.npz")
    output, done = tmp_path / "out.npz", []

    def killing(function, tasks):
        for task, result in each(function, tasks, "local"):
            if not done:
                os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
            done.append(task.number)
            yield task, result

    build_library(many, output, spread=killing)
    assert sorted(done) == list(range(8))
    assert files_of(output) == files_of(tmp_path / "one.npz")


def run_flags(*words):
    with flagsaver.flagsaver():
        flags.FLAGS.unparse_flags()
        parse_flags(["main.py", "--mode=library", *words])
        return cli.main(["main.py"])


def test_flags_of_shards(tmp_path, many):
    words = [f"--input={path}" for path in many] + [f"--output={tmp_path / 'out.npz'}"]
    for number in (0, 1):
        assert run_flags(*words, f"--shard={number}/2") == 0
        assert not (tmp_path / "out.npz").exists()
    assert run_flags("--merge", words[-1]) == 0
    assert run_flags(*words[:-1], f"--output={tmp_path / 'one.npz'}") == 0
    assert files_of(tmp_path / "out.npz") == files_of(tmp_path / "one.npz")
    with pytest.raises(UserError, match="--shard=2/2: write the number"):
        run_flags(*words, "--shard=2/2")


@pytest.mark.usefixtures("at_once")
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
