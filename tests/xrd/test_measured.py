"""Measured patterns become an imperfect set with the right labels, groups and truth."""

import csv
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ml_collections import ConfigDict
from pymatgen.core import Lattice, Structure

from imitation_refinement import pipeline
from imitation_refinement.errors import UserError
from imitation_refinement.tasks import ImperfectData
from imitation_refinement.xrd.grid import Grid, grid_q, q_from_two_theta
from imitation_refinement.xrd.measured import groups_of, measured_set
from imitation_refinement.xrd.symmetry import CRYSTAL_SYSTEMS

WAVELENGTH = 1.5406
GRID = Grid(length=400)
TWO_THETA = np.arange(15.0, 95.0, 0.05)
PEAKS = {"a": (20.0, 35.0, 60.0), "b": (27.0, 44.0, 71.0), "c": (30.0, 50.0, 80.0)}


def counts(peaks, seed=0, width=0.15) -> np.ndarray:
    rng = np.random.default_rng(seed)
    expected = 40.0 + sum(
        2000.0 / (i + 1) * np.exp(-0.5 * ((TWO_THETA - peak) / width) ** 2)
        for i, peak in enumerate(peaks)
    )
    return rng.poisson(expected).astype(float)


def write_scan(path: Path, peaks, seed=0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, np.column_stack([TWO_THETA, counts(peaks, seed)]), fmt="%.3f")


def write_manifest(folder: Path, rows: list[dict]) -> Path:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with open(folder / "manifest.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return folder / "manifest.csv"


def read(path, *, labelled, wavelength="", kind="crystal_system", keys=CRYSTAL_SYSTEMS):
    config = ConfigDict(
        {"imperfect": {"measured": str(path), "wavelength": wavelength}, "b_iso": 0.5}
    )
    return measured_set(config, GRID, kind=kind, keys=keys, labelled=labelled)


@pytest.fixture
def folder(tmp_path) -> Path:
    for name, peaks in PEAKS.items():
        write_scan(tmp_path / f"{name}.xy", peaks)
    write_scan(tmp_path / "deeper" / "again.xy", PEAKS["a"], seed=5)
    return tmp_path


def rows(**extra) -> list[dict]:
    systems = {"a": "cubic", "b": "tetragonal", "c": ""}
    return [
        {"file": f"{n}.xy", "wavelength_A": WAVELENGTH, "crystal_system": systems[n]} | extra
        for n in PEAKS
    ]


def test_patterns_lie_on_the_grid_with_peaks_where_they_were(folder):
    found = read(folder, labelled=False, wavelength="1.5406")
    assert found.pattern.shape == (4, 400, 1) and found.pattern.dtype == np.float32
    np.testing.assert_array_equal(found.pattern.max(axis=(1, 2)), 1.0)
    assert found.label.tolist() == [-1] * 4 and found.label.dtype == np.int32
    assert found.truth is None
    # Files in order of their paths: a, b, c, deeper/again.
    for row, name in enumerate("abca"):
        for peak in PEAKS[name]:
            place = np.argmin(np.abs(grid_q(GRID) - q_from_two_theta(np.array(peak), WAVELENGTH)))
            assert found.pattern[row, place - 2 : place + 3].max() > 0.15
    assert found.group[0] == found.group[3]  # the same sample, measured twice
    assert len(set(found.group.tolist())) == 3


def test_a_folder_has_no_labels_to_target(folder):
    with pytest.raises(UserError, match=r"0 patterns of a known class .*targeted=False"):
        read(folder, labelled=True, wavelength="1.5406")


def test_manifest_gives_labels_and_what_has_none_is_left_out_if_they_are_needed(folder):
    path = write_manifest(folder, rows())
    everything = read(path, labelled=False)
    assert everything.label.tolist() == [6, 3, -1]
    labelled = read(path, labelled=True)
    assert labelled.label.tolist() == [6, 3]
    np.testing.assert_array_equal(labelled.pattern, everything.pattern[:2])
    again = read(folder, labelled=True)  # the manifest in a folder is found
    np.testing.assert_array_equal(again.pattern, labelled.pattern)


def test_space_groups_and_phases_are_labels_too(folder):
    given = rows()
    for row, formula, number in zip(given, ("O2Ti", "CeO2", ""), (136, 225, ""), strict=True):
        row |= {"formula": formula, "space_group_number": number, "crystal_system": ""}
    path = write_manifest(folder, given)
    by_system = read(path, labelled=False)
    assert by_system.label.tolist() == [3, 6, -1]
    by_group = read(path, labelled=False, kind="space_group", keys=("14", "225"))
    assert by_group.label.tolist() == [-1, 1, -1]
    by_phase = read(path, labelled=False, kind="phase", keys=("TiO2 136", "TiO2 141", "CeO2 225"))
    assert by_phase.label.tolist() == [0, 2, -1]


def test_groups_of_a_manifest_are_kept(folder):
    given = rows()
    given[0]["group"] = given[2]["group"] = "one"
    given[1]["group"] = "two"
    found = read(write_manifest(folder, given), labelled=False)
    assert found.group[0] == found.group[2] != found.group[1]


def test_rows_of_a_table(tmp_path):
    matrix = np.stack([counts(PEAKS[name]) for name in "abc"])
    np.savez(tmp_path / "table.npz", intensity=matrix, two_theta=TWO_THETA)
    given = [{"file": "table.npz", "row": 2, "wavelength_A": WAVELENGTH, "crystal_system": "cubic"}]
    given.append(given[0] | {"row": 0, "crystal_system": "triclinic"})
    found = read(write_manifest(tmp_path, given), labelled=True)
    assert found.label.tolist() == [6, 0]
    place = np.argmin(np.abs(grid_q(GRID) - q_from_two_theta(np.array(30.0), WAVELENGTH)))
    strongest = found.pattern[:, :, 0].argmax(axis=1)
    assert abs(strongest[0] - place) <= 1 and abs(strongest[1] - place) > 20


@pytest.fixture
def salt(folder) -> Path:
    crystal = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    (folder / "salt.cif").write_text(crystal.to(fmt="cif"))
    return folder


def test_truth_is_simulated_where_every_pattern_has_a_cif(salt):
    found = read(write_manifest(salt, rows(cif="salt.cif")), labelled=True)
    assert found.truth.shape == found.pattern.shape and found.truth.dtype == np.float32
    assert np.isfinite(found.truth).all()
    # (200) of a = 5.64: q = 2 pi 2 / a
    strongest = grid_q(GRID)[found.truth[0, :, 0].argmax()]
    assert strongest == pytest.approx(4.0 * np.pi / 5.64, rel=5e-3)


@pytest.mark.parametrize("other", ["", "absent.cif", "salt.cif;salt.cif"])
def test_truth_is_known_of_the_patterns_that_have_one_cif(salt, other):
    given = rows(cif="salt.cif")
    everything = read(write_manifest(salt, given), labelled=True)
    given[1]["cif"] = other
    found = read(write_manifest(salt, given), labelled=True)
    np.testing.assert_array_equal(found.truth[0], everything.truth[0])
    assert np.isnan(found.truth[1]).all()
    given[0]["cif"] = other
    nothing = read(write_manifest(salt, given), labelled=True)
    assert nothing.truth is None


def test_truth_ends_where_the_measurement_does(salt):
    """(200) of salt is at 31.8 degrees, below the part of this scan."""
    late = TWO_THETA > 35.0
    columns = np.column_stack([TWO_THETA, counts((40.0, 60.0))])[late]
    np.savetxt(salt / "late.xy", columns, fmt="%.3f")
    given = [*rows(cif="salt.cif")[:1], rows(cif="salt.cif")[1] | {"file": "late.xy"}]
    found = read(write_manifest(salt, given), labelled=True)
    start = q_from_two_theta(np.array(34.5), WAVELENGTH)
    assert found.truth[0, grid_q(GRID) < start].max() == 1.0
    assert not found.truth[1, grid_q(GRID) < start].any()
    assert found.truth[1].max() == 1.0


@pytest.mark.parametrize("missing", [False, True])
def test_a_run_measures_quality_only_if_every_truth_is_known(tmp_path, monkeypatch, missing):
    pattern = np.abs(np.random.default_rng(0).normal(size=(6, 50, 1))).astype(np.float32)
    truth = np.roll(pattern, 1, axis=1)
    if missing:
        truth[4] = np.nan
    label = np.array([0, 1] * 3, np.int32)
    fold = np.repeat(np.arange(2, dtype=np.int32), 3)
    data = ImperfectData(pattern, truth, label, np.arange(6, dtype=np.int32), fold)
    task = SimpleNamespace(
        imperfect=data, noun="patterns", group_noun="samples", class_names=("a", "b"),
        measures=lambda inputs: {},
    )  # fmt: skip
    config = ConfigDict({"seed": 0, "evaluate": {"bootstrap": 20, "folds": 2}})
    workdir = SimpleNamespace(
        path=tmp_path, stage_done=lambda name: False, stage_summary=lambda name: {},
        mark_done=lambda name, summary: None,
    )  # fmt: skip
    scores = SimpleNamespace(logits=np.eye(2), prototype_log_probs=np.eye(2), embedding=np.eye(2))
    model = SimpleNamespace(
        classifier=SimpleNamespace(
            predict=lambda run, x: SimpleNamespace(
                **{name: value[np.arange(len(x)) % 2] for name, value in vars(scores).items()}
            )
        ),
        refiners=[None, None],
    )
    monkeypatch.setattr(pipeline, "refined_patterns", lambda run, params, x: x)
    run = SimpleNamespace(task=task, config=config, workdir=workdir)
    inputs, results = pipeline.evaluation_stage(run, model, {})
    assert (inputs.truth is None) == missing and bool(results["quality"]) == (not missing)
    assert results["accuracy"]["classifier"]["raw"]["value"] == 1.0


def test_bad_files_are_left_out_and_the_others_kept(folder):
    (folder / "empty.xy").write_text("")
    flat = np.column_stack([TWO_THETA, np.full(len(TWO_THETA), 50.0)])
    np.savetxt(folder / "flat.xy", flat)
    far = np.column_stack([np.linspace(1.0, 3.0, 500), counts(PEAKS["a"])[:500]])
    np.savetxt(folder / "far.xy", far)
    assert len(read(folder, labelled=False, wavelength="CuKa").label) == 4


@pytest.mark.parametrize("kind", ["missing", "empty", "no_wavelength"])
def test_nothing_usable_is_one_line(tmp_path, kind):
    path = tmp_path / kind
    if kind != "missing":
        path.mkdir()
    if kind == "no_wavelength":
        write_scan(path / "a.xy", PEAKS["a"])
        write_scan(path / "b.xy", PEAKS["b"])
    with pytest.raises(UserError) as error:
        read(path, labelled=False)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    if kind == "no_wavelength":
        assert "wavelength" in str(error.value)


def pattern_of(*centers) -> np.ndarray:
    x = np.arange(2000.0)
    total = sum(np.exp(-0.5 * ((x - center) / 6.0) ** 2) for center in centers)
    return (total / total.max()).astype(np.float32)


def test_patterns_of_one_phase_are_one_group_and_groups_are_transitive():
    pattern = np.stack(
        [
            pattern_of(200, 700, 1300),
            pattern_of(210, 710, 1310),  # as the first, shifted by half a per cent
            pattern_of(400, 900, 1500),
            pattern_of(220, 500, 1700),  # other peaks, but the name of the third
            pattern_of(201, 701, 1301),  # as the first, of another class
            pattern_of(202, 700, 1300),  # as the first, of unknown class
        ]
    )
    label = np.array([1, 1, 1, 1, 2, -1])
    group = groups_of(pattern, label, ["p", "q", "r", "r", "s", "t"])
    assert group.dtype == np.int32
    assert group[0] == group[1] == group[5]
    assert group[2] == group[3] != group[0]
    # The unknown one may be of either class, so it joins the first and the fifth.
    assert group[4] == group[0]
    known = groups_of(pattern[:5], label[:5], ["p", "q", "r", "r", "s"])
    assert known[4] not in known[:4]


def test_another_composition_of_a_phase_is_not_another_group():
    pattern = np.stack(
        [
            pattern_of(200, 700, 1300),
            pattern_of(200, 700, 1300, 1600),  # a line more: its square root correlates by 0.86
            pattern_of(200, 700, 1000, 1700),  # two lines of four: below 0.6
        ]
    )
    group = groups_of(pattern, np.ones(3, int), ["p", "q", "r"])
    assert group[0] == group[1] != group[2]
