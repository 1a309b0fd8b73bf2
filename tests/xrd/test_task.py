"""The XRD task gives the data that its config asks for."""

import dataclasses
import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from imitation_refinement.applications import check_config
from imitation_refinement.errors import UserError
from imitation_refinement.tasks import SEEN, TRAIN, UNSEEN
from imitation_refinement.xrd.crystals import CRYSTAL_SYSTEMS, prototype_member, random_prototype
from imitation_refinement.xrd.records import RecordLines
from imitation_refinement.xrd.task import XrdTask

get_config = runpy.run_path(str(Path(__file__).parents[2] / "configs" / "xrd.py"))["get_config"]


def config_with(**changes) -> ConfigDict:
    config = get_config("smoke")
    config.data.imperfect.count = 12
    config.data.ideal.members = 2
    config.update_from_flattened_dict({name: value for name, value in changes.items()})
    check_config(config)
    return config


def symbols(numbers) -> list[str]:
    from pymatgen.core import Element

    return [Element.from_Z(int(number)).symbol for number in numbers]


@pytest.fixture(scope="module")
def structures(tmp_path_factory) -> Path:
    """Twelve crystals of each of three systems; every third one has a sibling of its prototype."""
    path = tmp_path_factory.mktemp("structures") / "some.jsonl"
    lines = []
    for system in (2, 3, 6):
        for i in range(8):
            prototype = random_prototype(9, 100 * system + i, system)
            for member in range(2 if i % 2 else 1):
                crystal = prototype_member(prototype, 9, member)
                lines.append(
                    {
                        "id": f"{CRYSTAL_SYSTEMS[system]}-{i}-{member}",
                        "lattice": crystal.lattice.tolist(),
                        "species": symbols(crystal.numbers),
                        "frac_coords": crystal.positions.tolist(),
                    }
                )
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_classes_are_the_crystal_systems_of_the_structures(structures, cache):
    config = config_with(**{"data.structures": str(structures), "data.ideal.unseen_fraction": 0.4})
    task = XrdTask(config, cache, 1)
    assert set(task.class_names) <= set(CRYSTAL_SYSTEMS)
    assert {"orthorhombic", "tetragonal", "cubic"} <= set(task.class_names)
    classes = range(len(task.class_names))
    assert set(task.ideal.label.tolist()) == set(classes)
    assert set(task.ideal.split.tolist()) == {TRAIN, SEEN, UNSEEN}
    for k in classes:
        assert np.any((task.ideal.label == k) & (task.ideal.split == TRAIN))
    view = task.ideal.fixed(0)
    assert view.shape == task.input_shape and view.dtype == np.float32 and view.max() == 1.0

    data = task.imperfect
    assert data.pattern.shape == data.truth.shape == (12, *task.input_shape)
    assert set(data.label.tolist()) <= set(classes)
    pattern, truth, label = task.pair(np.random.default_rng(0))
    assert pattern.shape == truth.shape == task.input_shape and int(label) in classes
    for index in (0, len(task.ideal.label) - 1):
        assert task.pair(np.random.default_rng(1), index)[2] == task.ideal.label[index]


def test_imperfect_patterns_come_from_held_out_structures(structures, cache):
    config = config_with(**{"data.structures": str(structures), "data.ideal.unseen_fraction": 0.4})
    task = XrdTask(config, cache, 1)
    held = set(task._lines.prototype_id[task._lines.split == UNSEEN].tolist())
    assert set(np.flatnonzero(task._blocks >= 0).tolist()) == held
    # A truth is the plain pattern of one of them, on a cell strained by at most three per cent.
    plain = np.stack([task.ideal.fixed(2 * i)[:, 0] for i in range(len(task._blocks))])
    sharp = task.imperfect.truth[..., 0]
    near = np.max([np.roll(sharp, lag, axis=1) @ plain.T for lag in range(-3, 4)], axis=0)
    near /= np.linalg.norm(plain, axis=1)
    assert np.mean([int(i) in held for i in near.argmax(axis=1)]) > 0.7


def test_each_phase_can_be_a_class(structures, cache):
    config = config_with(**{"data.structures": str(structures), "data.label": "phase"})
    task = XrdTask(config, cache, 1)
    assert len(task.class_names) > 20
    assert len(set(task.class_names)) == len(task.class_names)
    assert not np.any(task.ideal.split == UNSEEN)
    assert set(task.ideal.label[task.ideal.split == TRAIN]) == set(range(len(task.class_names)))
    data = task.imperfect
    assert data.group.max() >= 2  # libraries
    assert set(data.label.tolist()) <= set(range(len(task.class_names)))


def test_the_data_depend_on_the_config_and_not_on_the_workers(structures, cache, tmp_path):
    config = config_with(**{"data.structures": str(structures), "data.ideal.unseen_fraction": 0.4})
    one, two = XrdTask(config, cache, 1), XrdTask(config, tmp_path, 2)
    for name in ("pattern", "truth", "label", "group"):
        first, second = getattr(one.imperfect, name), getattr(two.imperfect, name)
        assert first.tobytes() == second.tobytes()
    for field in dataclasses.fields(one._lines):
        left, right = getattr(one._lines, field.name), getattr(two._lines, field.name)
        assert left.tobytes() == right.tobytes()


def test_records_give_the_same_patterns(cache, tmp_path):
    plain = XrdTask(config_with(), cache, 1)
    stored = XrdTask(config_with(**{"data.ideal.store": "records"}), cache, 1)
    assert isinstance(stored._lines, RecordLines)
    assert plain.ideal.on_device is not None and stored.ideal.on_device is None
    np.testing.assert_array_equal(stored.ideal.label, plain.ideal.label)
    np.testing.assert_array_equal(stored.ideal.split, plain.ideal.split)
    for index in (0, 17, 83):
        np.testing.assert_array_equal(stored.ideal.fixed(index), plain.ideal.fixed(index))
    pairs = [task.pair(np.random.default_rng(3)) for task in (plain, stored)]
    for first, second in zip(*pairs, strict=True):
        np.testing.assert_array_equal(first, second)
    before = {path: path.stat().st_mtime_ns for path in cache.glob("records-*/*/*/*")}
    assert before
    assert len(XrdTask(config_with(**{"data.ideal.store": "records"}), cache, 1)._lines) == 84
    assert {path: path.stat().st_mtime_ns for path in cache.glob("records-*/*/*/*")} == before


def test_measured_patterns_take_the_place_of_libraries(cache, tmp_path):
    two_theta = np.arange(15.0, 93.0, 0.05)
    for name, peaks in (("a", (20.0, 50.0)), ("b", (30.0, 70.0))):
        counts = 20.0 + sum(900.0 * np.exp(-0.5 * ((two_theta - p) / 0.15) ** 2) for p in peaks)
        np.savetxt(tmp_path / f"{name}.xy", np.column_stack([two_theta, counts]))
    fields = {"data.imperfect.measured": str(tmp_path), "data.imperfect.wavelength": "CuKa"}
    unlabelled = config_with(**fields, **{"refiner.targeted": False})
    data = XrdTask(unlabelled, cache, 1).imperfect
    assert data.pattern.shape == (2, 256, 1) and data.truth is None
    assert data.label.tolist() == [-1, -1] and data.group.tolist() == [0, 1]
    with pytest.raises(UserError, match="targeted=False"):
        XrdTask(config_with(**fields), cache, 1).imperfect  # noqa: B018 (read when asked for)
    few = fields | {"refiner.targeted": False, "evaluate.folds": 3}
    with pytest.raises(UserError, match=r"config\.evaluate\.folds = 3: there are 2 groups"):
        XrdTask(config_with(**few), cache, 1).imperfect  # noqa: B018


def test_materials_project_is_asked_with_the_key_of_the_environment(cache, monkeypatch):
    monkeypatch.delenv("MP_API_KEY", raising=False)
    with pytest.raises(UserError, match="MP_API_KEY"):
        XrdTask(config_with(**{"data.materials_project": "Fe-O"}), cache, 1)


def test_one_source_of_structures_and_labels_that_it_has():
    with pytest.raises(UserError, match="structures come from one of them"):
        config_with(**{"data.cif_dir": "a", "data.structures": "b.jsonl"})
    with pytest.raises(UserError, match=r"^config\.data\.label = 'phase': generated crystals"):
        config_with(**{"data.label": "phase"})
    config_with(**{"data.label": "phase", "data.cif_dir": "a"})


@pytest.mark.parametrize(
    ("method", "splits"), [("pair", {TRAIN}), ("held_out_pair", {SEEN, UNSEEN})]
)
def test_pairs_are_made_of_crystals_of_their_side(cache, method, splits, monkeypatch):
    task = XrdTask(config_with(), cache, 1)
    lines, drawn = task._lines, []
    read = type(lines).lines

    def spy(self, index):
        drawn.append(int(index))
        return read(self, index)

    monkeypatch.setattr(type(lines), "lines", spy)
    rng = np.random.default_rng(0)
    labels = [int(getattr(task, method)(rng)[2]) for _ in range(40)]
    assert set(lines.split[drawn].tolist()) == splits
    assert labels == lines.label[drawn[::2]].tolist()  # the phase, then its neighbour


def test_nothing_kept_out_is_one_line(cache):
    whole = config_with(**{"data.ideal.seen_fraction": 0.0, "data.ideal.unseen_fraction": 0.0})
    with pytest.raises(UserError, match=r"config\.data\.ideal\.seen_fraction = 0: no crystal"):
        XrdTask(whole, cache, 1).held_out_pair(np.random.default_rng(0))
