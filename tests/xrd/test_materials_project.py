"""Structures of a chemical system are asked for once, with the key of the environment."""

import gzip
import json
import sys
from types import SimpleNamespace

import pytest
from pymatgen.core import Lattice, Structure

from imitation_refinement.errors import UserError
from imitation_refinement.xrd.structures.collection import read_structures
from imitation_refinement.xrd.structures.materials_project import materials_project, subsystems

IRON = Structure.from_spacegroup("Im-3m", Lattice.cubic(2.87), ["Fe"], [[0, 0, 0]])
OXIDE = Structure.from_spacegroup(
    "Fm-3m", Lattice.cubic(4.3), ["Fe2+", "O2-"], [[0, 0, 0], [0.5, 0.5, 0.5]]
)


class FakeClient:
    """Answers `materials.summary.search` as mp-api does, and remembers what it was asked."""

    def __init__(self, documents=None, error=None):
        self.documents, self.error, self.keys, self.asked = documents, error, [], []
        self.materials = SimpleNamespace(summary=self)

    def __call__(self, key):
        self.keys.append(key)
        return self

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def search(self, **asked):
        self.asked.append(asked)
        if self.error:
            raise self.error
        return self.documents


def documents():
    return [
        SimpleNamespace(material_id="mp-2", structure=OXIDE),
        SimpleNamespace(material_id="mp-1", structure=IRON),
    ]


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("MP_API_KEY", "secret")


def test_subsystems_of_three_elements():
    assert subsystems("Li-Fe-O") == ["Fe", "Li", "O", "Fe-Li", "Fe-O", "Li-O", "Fe-Li-O"]


@pytest.mark.parametrize("wrong", ["", "LiFeO", "Li,Fe", "li-fe", "Fe2O3", "A-B-C-D-E-F-G", "Fe-*"])
def test_other_words_are_no_chemical_system(wrong):
    with pytest.raises(UserError, match=r"config\.data\.materials_project = .* such as 'Li-Fe-O'"):
        subsystems(wrong)


def test_what_is_fetched_can_be_read_and_is_kept(tmp_path):
    client = FakeClient(documents())
    path = materials_project("O-Fe", tmp_path, client)
    assert client.keys == ["secret"]
    (asked,) = client.asked
    assert asked["chemsys"] == ["Fe", "O", "Fe-O"]
    assert asked["include_gnome"] is False and asked["deprecated"] is False
    found = read_structures(path, tmp_path, workers=1)
    assert found.name.tolist() == ["mp-1", "mp-2"]
    assert found.formula.tolist() == ["Fe", "FeO"]
    assert found.space_group.tolist() == [229, 225]
    assert materials_project("Fe-O", tmp_path, client) == path
    assert len(client.asked) == 1


def test_the_key_is_written_nowhere(tmp_path):
    path = materials_project("Fe-O", tmp_path, FakeClient(documents()))
    text = gzip.decompress(path.read_bytes()).decode()
    assert "secret" not in text
    assert all("CC BY 4.0" in json.loads(line)["source"] for line in text.splitlines())


def test_no_key(tmp_path, monkeypatch):
    monkeypatch.setenv("MP_API_KEY", " ")
    with pytest.raises(UserError, match="MP_API_KEY"):
        materials_project("Fe-O", tmp_path, FakeClient(documents()))


def test_no_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mp_api.client", None)
    with pytest.raises(UserError, match=r"pip install 'imitation-refinement\[materials-project\]'"):
        materials_project("Fe-O", tmp_path)


@pytest.mark.parametrize(
    ("client", "reason"),
    [
        (FakeClient([]), "no structure of Fe-O"),
        (FakeClient(error=RuntimeError("403 for key secret\nmore")), r"no answer \(403 for key "),
        (FakeClient(error=TimeoutError()), r"no answer \(TimeoutError\)"),
    ],
)
def test_no_answer_is_one_line_without_the_key_and_leaves_no_file(tmp_path, client, reason):
    with pytest.raises(UserError, match=reason) as error:
        materials_project("Fe-O", tmp_path, client)
    assert "\n" not in str(error.value) and "secret" not in str(error.value)
    assert not list(tmp_path.rglob("*.jsonl.gz"))
