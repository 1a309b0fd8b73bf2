"""Table 2 at the grain of structures: scores and temperature by hand, and all of it when small."""

import jax
import numpy as np
import pytest
from made_phases import EXAMPLES
from made_structures import known_structures, made_pairs
from ml_collections import ConfigDict

from imitation_refinement.comparison.jobs import results
from imitation_refinement.comparison.study import Study
from imitation_refinement.errors import UserError
from imitation_refinement.method.classifier import Distance
from imitation_refinement.method.networks import UNet
from imitation_refinement.phases import structure_tables
from imitation_refinement.phases.embedding_training import recipe
from imitation_refinement.phases.structure_tables import CLASSIFIERS, LOOKS, Bench, Scans, jobs
from imitation_refinement.phases.systems import (
    BLIND,
    Scores,
    fit_temperature,
    matched_structures,
    nearest_structures,
    system_probabilities,
)
from imitation_refinement.stages.jobs import run_jobs
from imitation_refinement.xrd.crystals import CRYSTAL_SYSTEMS
from imitation_refinement.xrd.grid import Grid


def test_probabilities_of_structures_add_up_to_those_of_systems():
    scores = Scores(np.log([[1.0, 2.0, 3.0, 4.0]]), np.array([[6, 0, 6, 1]]))
    found = system_probabilities(scores, 1.0)
    expected = (1 - BLIND) * np.array([0.2, 0.4, 0, 0, 0, 0, 0.4]) + BLIND / 7
    np.testing.assert_allclose(found[0], expected, rtol=1e-12)
    # Squares: 1, 4, 9, 16 of 30.
    assert system_probabilities(scores, 0.5)[0, 1] == pytest.approx(expected_of(16 / 30), rel=1e-9)


def expected_of(share):
    return (1 - BLIND) * share + BLIND / 7


def test_the_temperature_makes_labels_as_likely_as_they_are_frequent():
    # Of two structures the first is ahead by 1 and right in 7 of 10: ln(7 / 3) = 1 / T.
    scores = Scores(np.tile([1.0, 0.0], (10, 1)), np.tile([2, 5], (10, 1)))
    found = fit_temperature(scores, np.array([2] * 7 + [5] * 3))
    assert found == pytest.approx(1 / np.log(7 / 3), rel=0.02)


@pytest.mark.parametrize("name", ["sqeuclidean", "euclidean"])
def test_the_nearest_structures_are_those_of_a_slow_loop(name):
    rng = np.random.default_rng(0)
    z, bank = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in
               (rng.normal(size=(20, 4)), rng.normal(size=(9, 4))))  # fmt: skip
    system, left_out = np.arange(9) % 7, np.where(np.arange(20) % 2, np.arange(20) % 9, -1)
    found = nearest_structures(z, bank, system, Distance(name, 3.0), left_out, count=8)
    for i in range(20):
        distance = np.linalg.norm(z[i] - bank, axis=1)
        kept = np.argsort(distance)
        kept = kept[kept != left_out[i]][:8]
        value = -3.0 * (distance[kept] ** 2 if name == "sqeuclidean" else distance[kept])
        order = np.argsort(-found.value[i])
        np.testing.assert_allclose(found.value[i][order], value, atol=1e-9)
        np.testing.assert_array_equal(found.system[i][order], system[kept])


def test_the_match_takes_a_scan_for_its_structure_unless_that_is_left_out():
    known = known_structures()
    pairs = made_pairs(known.prototypes)
    system = np.arange(12)  # tells structures apart
    for left_out in (None, np.arange(12)):
        found = matched_structures(pairs.truth, pairs.mask, known.prototypes, system, left_out)
        first = found.system[np.arange(12), found.value.argmax(axis=1)]
        assert np.all((first == np.arange(12)) == (left_out is None))


@pytest.mark.usefixtures("quick_compilation")
def test_all_jobs_are_done_told_and_not_done_again(tmp_path):
    known = known_structures()
    pairs, section = made_pairs(known.prototypes), recipe()
    section.update(steps=6, batch_size=4, rivals=2, schedule="constant")
    refiner = Doubles()
    held = structure_tables.held_out_scans(pairs, known, refiner)
    np.testing.assert_array_equal(held.left_out, -1)  # no phase has two structures
    np.testing.assert_allclose(held.patterns["refined"], held.patterns["raw"], atol=1e-6)
    measured = Scans(held.patterns, held.mask, held.system, np.arange(12), held.left_out)
    run = ConfigDict({"threads": 0, "log_every": 8, "checkpoint_every": 12})
    every, texts = jobs(range(2)), []
    bench = Bench(tmp_path, known, pairs, held, measured, section, run)

    def write(last):
        study = Study(dict(results(tmp_path, every)), same_examples=True, resamples=50)
        texts.append(structure_tables.tables(study))

    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        run_jobs(every, tmp_path, bench.do, write, "all")
    targets, table = texts[-1]
    assert [row[:2] for row in table.rows] == [
        [label, look] for label in CLASSIFIERS.values() for look in LOOKS
    ]
    assert {row[-1] for row in table.rows} == {"2"}
    by_match = dict(results(tmp_path, every))[every[-1]].arrays
    assert by_match["hit"].mean() > 0.5  # the scans are of the very structures
    assert len(targets.rows) == 6 and targets.rows[0][1].value is not None

    def never(job):
        raise AssertionError(f"{job} is done")

    run_jobs(every, tmp_path, never, write, "all")
    assert texts[-1][1].rows[0][2] == table.rows[0][2]


def test_measured_scans_are_those_of_known_system(tmp_path):
    rows = [("silicon", "cubic"), ("rutile", "tetragonal"), ("zincite", ""), ("glass", "cubic")]
    lines = [f"{EXAMPLES / name}.xy,{system},{name}" for name, system in rows]
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("\n".join(["file,crystal_system,group", *lines]))
    found = structure_tables.measured_scans(manifest, Grid(0.65, 5.65, 2000), Doubles())
    # One has no label, and glass has no peaks.
    assert [CRYSTAL_SYSTEMS[k] for k in found.system] == ["cubic", "tetragonal"]
    assert len(set(found.group)) == 2
    np.testing.assert_allclose(found.patterns["refined"], found.patterns["raw"], atol=1e-6)
    manifest.write_text("\n".join(["file,crystal_system", f"{EXAMPLES / 'silicon'}.xy,cubic"]))
    with pytest.raises(UserError, match="1 usable scans of known crystal system"):
        structure_tables.measured_scans(manifest, Grid(0.65, 5.65, 2000), Doubles())


class Doubles:
    """A refiner without training: it returns the pattern."""

    module = UNet(features=(4, 4))

    @property
    def params(self):
        return self.module.init(jax.random.key(0), np.zeros((1, 160, 3), np.float32))["params"]
