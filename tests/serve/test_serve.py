"""The live page's answers over HTTP: what is dropped is read, refined, ranked and written."""

import base64
import io
import json
import shlex
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from fake_model import FakeModel
from live_site import Client, live_site
from made_phases import EXAMPLES, by_cosine
from scan_case_files import xy
from test_bad_files import CORPUS

from imitation_refinement.commands.assess_scans import refine_one
from imitation_refinement.commands.batch_page import table_row
from imitation_refinement.commands.inputs import Input
from imitation_refinement.commands.refine_scans import refine_scans
from imitation_refinement.phases import identify
from imitation_refinement.phases.compositions import parse_elements
from imitation_refinement.phases.identify import load_phases
from imitation_refinement.phases.prototypes import GRID
from imitation_refinement.serve import desk, run, structures
from imitation_refinement.serve.reader import Reader
from imitation_refinement.serve.results import write_results
from imitation_refinement.xrd.formats import read_records

FORMULAS = {"corundum": "Al2O3", "rutile": "TiO2", "tenorite": "CuO", "zincite": "ZnO"}


def scan(name: str) -> bytes:
    return (EXAMPLES / f"{name}.xy").read_bytes()


@pytest.fixture(scope="module")
def phases(tmp_path_factory):
    """The five phases of the examples."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identify, "load_calibration", by_cosine)
        return load_phases([EXAMPLES], tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def port(phases):
    with live_site(phases, options=["--library=mine.npz"]) as port:
        yield port


@pytest.fixture
def client(port) -> Client:
    return Client(port)


def test_a_file_is_read_at_once_and_answered_as_refining_does(client, phases):
    status, told = client.put("scans/rutile.xy", scan("rutile"))
    assert status == 200 and told["input"] == "scans/rutile.xy" and told["error"] == ""
    (read,) = told["patterns"]
    assert read["axis"] == "2 theta (degrees)" and read["wavelength_source"] == "file"
    assert read["wavelength"] == pytest.approx(1.54184) and read["picture"]["points"]
    status, answer = client.ask("answer", file=told["file"], pattern=0)
    one = Input(Path("scans/rutile.xy"), data=scan("rutile"))
    (record,) = read_records(one.path, None, data=one.data)
    expected = refine_one(FakeModel(GRID), one, "rutile", record.scan, phases)
    assert status == 200 and answer["row"] == table_row(expected)
    assert answer["row"]["formula"] == "TiO2"
    assert len(answer["plot"]["candidates"]) == len(answer["row"]["candidates"]) > 0


def test_the_wavelength_is_asked_for_and_never_assumed(client):
    _, told = client.put("bare.xy", xy().encode())
    (read,) = told["patterns"]
    assert read["status"] == "read" and read["wavelength"] is None
    status, said = client.ask("answer", file=told["file"], pattern=0)
    assert status == 422 and "states no wavelength; choose one" in said["error"]
    status, said = client.ask("wavelength", file=told["file"], wavelength="Xy")
    assert status == 422 and "'Xy' is not known" in said["error"]
    _, told = client.ask("wavelength", file=told["file"], wavelength="CoKa")
    assert told["patterns"][0]["wavelength"] == pytest.approx(1.79026)
    assert told["patterns"][0]["wavelength_source"] == "option"
    assert client.ask("answer", file=told["file"], pattern=0)[0] == 200


def test_elements_rank_anew_as_the_command_line_does(client, phases):
    files = [client.put(f"{name}.xy", scan(name))[1]["file"] for name in ("rutile", "zincite")]
    status, told = client.ask("elements", file=files[0], pattern=0, elements="Zn O +Cu", all=False)
    formulas = [one["formula"] for one in told["row"]["candidates"]]
    assert status == 200 and formulas == ["CuO"]
    one = Input(Path("rutile.xy"), elements=parse_elements("Zn O +Cu"), data=scan("rutile"))
    (record,) = read_records(one.path, None, data=one.data)
    expected = refine_one(FakeModel(GRID), one, "rutile", record.scan, phases)
    assert told["row"] == table_row(expected)
    # The other file keeps its own, until it is said for all.
    _, other = client.ask("answer", file=files[1], pattern=0)
    assert other["row"]["formula"] == "ZnO"
    client.ask("elements", file=files[0], pattern=0, elements="-Zn", all=True)
    _, other = client.ask("answer", file=files[1], pattern=0)
    assert other["row"]["formula"] != "ZnO"
    status, said = client.ask("elements", file=files[0], pattern=0, elements="Qq", all=False)
    assert status == 422 and "'Qq' is no element" in said["error"]


def test_a_candidate_is_moved_and_its_file_saved(client):
    _, told = client.put("rutile.xy", scan("rutile"))
    which = {"file": told["file"], "pattern": 0, "phase": 0, "rank": 0}
    _, fitted = client.ask("overlay", **which)
    _, moved = client.ask("overlay", **which, cell=0.03, displacement=0.0)
    assert moved["cell"] == 0.03 and moved["q"] != fitted["q"]
    # Peaks that lay on lines do so no more.
    assert len(moved["unexplained"]) > len(fitted["unexplained"])
    status, said = client.ask("overlay", **which, cell=0.3)
    assert status == 422 and "5% at most" in said["error"]
    assert client.ask("overlay", **which | {"rank": 99})[0] == 422
    status, text = client.ask("cif", **which)
    assert status == 200 and b"_space_group_IT_number 136" in text


def test_a_second_phase_is_laid_over_what_the_first_leaves(client):
    both = _sum("rutile", "corundum")
    _, told = client.put("both.xy", both)
    which = {"file": told["file"], "pattern": 0}
    _, answer = client.ask("answer", **which)
    first, second = answer["row"]["formula"], answer["row"]["further"][0][0]["formula"]
    assert {first, second} == {"TiO2", "Al2O3"}
    status, laid = client.ask("overlay", **which, phase=1, rank=0, beside=0)
    refined, one, other = (
        unpacked(packed) for packed in (
            answer["plot"]["refined"], answer["plot"]["candidates"][0]["pattern"], laid["pattern"]
        )
    )  # fmt: skip
    left = np.square(refined - one).sum()
    assert status == 200 and np.square(refined - one - other).sum() < 0.3 * left


def unpacked(packed: dict) -> np.ndarray:
    levels = np.frombuffer(base64.b64decode(packed["levels"]), "<u2")
    return packed["low"] + packed["step"] * levels


def _sum(*names: str) -> bytes:
    tables = [[line.split() for line in scan(name).decode().splitlines()] for name in names]
    rows = [row for row in zip(*tables, strict=True) if row[0][0].replace(".", "").isdigit()]
    body = "".join(f"{row[0][0]} {sum(float(cells[1]) for cells in row)}\n" for row in rows)
    return f"# wavelength 1.54184 angstrom\n{body}".encode()


def test_own_structures_become_candidates(phases):
    with live_site(
        phases.__class__(phases.library.take([0, 1]), _prototypes(phases, 2), phases.calibration)
    ) as port:
        client = Client(port)
        _, told = client.put("zincite.xy", scan("zincite"))
        which = {"file": told["file"], "pattern": 0}
        assert client.ask("answer", **which)[1]["row"]["formula"] != "ZnO"
        for name in ("zincite", "rutile"):
            answer = client.put(f"mine/{name}.cif", (EXAMPLES / f"{name}.cif").read_bytes())
            assert answer[1]["structure"] == f"{name}.cif"
        assert client.put("bad.cif", b"data_x\n_cell_length_a 4\n")[0] == 200
        status, said = client.ask("structures")
        assert status == 200 and said["own"] == 2
        assert [name for name, _ in said["leftOut"]] == ["bad.cif"]
        _, answer = client.ask("answer", **which)
        best = answer["row"]["candidates"][0]
        assert (best["formula"], best["source"]) == ("ZnO", "cifs zincite.cif")
        assert "--library=shipped --library=cifs" in client.ask("command")[1]["command"]


def test_own_structures_are_those_of_two_libraries(phases, tmp_path):
    files = {name: (EXAMPLES / name).read_bytes() for name in ("rutile.cif", "zincite.cif")}
    folder = tmp_path / structures.FOLDER
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    expected = load_phases([EXAMPLES, folder], tmp_path)
    own, left = structures.read_structures(files)
    found = structures.joined(phases, own)
    assert left == [] and found.library.sources == expected.library.sources
    assert found.refiner is phases.refiner is not None
    for name in ("q", "height", "offsets", "kind", "coarse"):
        one, other = (getattr(each.prototypes, name) for each in (found, expected))
        np.testing.assert_array_equal(one, other)
    for name in ("source", "source_id", "formula", "cell"):
        one, other = (getattr(each.library, name) for each in (found, expected))
        np.testing.assert_array_equal(one, other)
    assert structures.file_name("a/b/../x y<.cif") == "x_y.cif"
    assert structures.file_name("...") == "structure.cif"


def _prototypes(phases, count):
    library = phases.library.take(list(range(count)))
    return identify.build_prototypes(
        library.q, library.amplitude, library.offsets, library.computed, GRID
    )


def test_answers_do_not_wait_for_the_zip(client, monkeypatch):
    begun, answered = threading.Event(), threading.Event()

    def slow(*arguments):
        begun.set()
        assert answered.wait(60)  # whoever computes the answer is another
        return write_results(*arguments)

    monkeypatch.setattr(desk, "write_results", slow)
    _, told = client.put("rutile.xy", scan("rutile"))
    with ThreadPoolExecutor(1) as thread:
        packed = thread.submit(client.ask, "results")
        assert begun.wait(60)
        assert client.ask("answer", file=told["file"], pattern=0)[0] == 200
        assert not packed.done()
        answered.set()
        assert packed.result()[0] == 200


@pytest.mark.parametrize("plain", [True, False])
def test_the_zip_is_what_the_shown_command_writes(client, phases, tmp_path, monkeypatch, plain):
    _, told = client.put("rutile.xy", scan("rutile"))
    client.put("cut.xrdml", CORPUS["cut.xrdml"][0])
    _, bare = client.put("bare.xy", xy().encode())
    if plain:
        client.ask("remove", file=bare["file"])
    else:
        client.ask("wavelength", file=bare["file"], wavelength="CuKa")
        client.ask("elements", file=told["file"], pattern=0, elements="+O", all=False)
    if plain:
        client.ask("elements", file=told["file"], pattern=0, elements="+O -Cl", all=True)
    shown = client.ask("command")[1]
    status, packed = client.ask("results")
    assert status == 200
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        served = {name: archive.read(name) for name in archive.namelist()}
    # As a user would: the files in a folder, and the command there.
    monkeypatch.chdir(tmp_path)
    for name, data in (("rutile.xy", scan("rutile")), ("cut.xrdml", CORPUS["cut.xrdml"][0]),
                       ("bare.xy", xy().encode())):  # fmt: skip
        Path(name).write_bytes(data)
    if not plain:
        Path("manifest.csv").write_bytes(served["manifest.csv"])
        assert served.pop("manifest.csv").decode() == shown["manifest"]
    words = shlex.split(shown["command"])
    assert words[:3] == ["python", "main.py", "--mode=refine"]
    assert words[-2:] == ["--library=mine.npz", "--output=refined"]
    monkeypatch.setattr(sys, "argv", words[1:])
    given = [word.partition("=") for word in words[3:]]
    elements = [value for name, _, value in given if name == "--elements"]
    refine_scans(
        FakeModel(GRID), [value for name, _, value in given if name == "--input"],
        Path("refined"), None, phases=phases,
        elements=parse_elements(elements[0]) if elements else None,
    )  # fmt: skip
    written = {f"refined/{path.name}": path.read_bytes() for path in Path("refined").iterdir()}
    assert set(served) == set(written) and len(served) > 8
    assert [name for name in served if served[name] != written[name]] == []
    results = json.loads(served["refined/results.json"])
    assert results["command"] == shown["command"]


def test_a_hundred_at_once_are_all_right(port):
    """Of several pages, each with its own files; what comes back is of the file that was sent."""
    names = [list(FORMULAS)[i % len(FORMULAS)] for i in range(100)]
    clients = [Client(port) for _ in range(8)]

    def drop(number):
        client, name = clients[number % len(clients)], names[number]
        lines = scan(name).splitlines(keepends=True)
        told = client.put(f"{number}-{name}.xy", b"".join(lines[: len(lines) - number]))[1]
        (read,) = told["patterns"]
        if number >= 24:  # answers take longer
            return read["input"], read["two_theta_max"], None
        answer = client.ask("answer", file=told["file"], pattern=0)[1]
        return answer["row"]["input"], read["two_theta_max"], answer["row"]["formula"]

    with ThreadPoolExecutor(100) as threads:
        found = list(threads.map(drop, range(100)))
    assert found == [
        (f"{i}-{name}.xy", pytest.approx(92.96 - 0.04 * i), FORMULAS[name] if i < 24 else None)
        for i, name in enumerate(names)
    ]


def test_what_is_done_once_is_done_before_the_first_visitor(phases):
    reader = Reader()
    try:
        run.warm_up(FakeModel(GRID), phases, reader)
        assert reader._process.is_alive() and "_compositions" in vars(phases)
    finally:
        reader.close()


def test_examples_are_those_of_the_checkout(client):
    status, told = client.ask("examples")
    assert status == 200
    for one in told["files"]:
        path = Path(one["input"])
        assert (EXAMPLES.parent / path).read_bytes() == scan(path.stem)
        assert not path.with_suffix(".cif").exists()  # the command would compare with it
    assert len(told["files"]) == 4
