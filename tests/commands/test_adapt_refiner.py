"""--adapt, and the answer of quick scans from two patterns."""

import dataclasses
import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from fake_model import FakeModel
from made_phases import EXAMPLES, by_cosine

from imitation_refinement import cli
from imitation_refinement.commands.adapt_refiner import adapted_phases
from imitation_refinement.commands.refine_scans import refine_scans
from imitation_refinement.errors import UserError
from imitation_refinement.phases import identify, refining
from imitation_refinement.phases.compositions import Elements
from imitation_refinement.phases.identify import load_phases
from imitation_refinement.phases.prototypes import GRID
from imitation_refinement.phases.refiner_file import PhaseRefiner, load_refiner, save_refiner
from imitation_refinement.phases.refining import CHANNELS
from imitation_refinement.xrd.counts import thinned
from imitation_refinement.xrd.formats import read_records
from imitation_refinement.xrd.scans import on_grid

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def phases(tmp_path_factory):
    """The five phases of the examples, without a refiner."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identify, "load_calibration", by_cosine)
        found = load_phases([EXAMPLES], tmp_path_factory.mktemp("cache"))
    return dataclasses.replace(found, refiner=None)


@pytest.fixture(scope="module")
def refiner():
    """Random but for the last layer, which is zero: the identity."""
    made = PhaseRefiner("unet_34k", {})
    x = np.zeros((1, GRID.length, CHANNELS), np.float32)
    return made._replace(params=jax.device_get(made.module.init(jax.random.key(0), x)["params"]))


def scan(name, counts=None):
    (record,) = read_records(EXAMPLES / f"{name}.xy", None)
    own = record.scan
    if counts is None:
        return own
    return own._replace(counts=thinned(own.counts, counts, np.random.default_rng(0)))


def systems(phases, placed):
    return phases.identify(placed)[0].answer.systems


def test_the_answer_is_the_mean_of_what_two_patterns_say(phases):
    quick, other = on_grid(scan("silicon", 100.0), GRID), on_grid(scan("zincite"), GRID)
    noise = other._replace(pattern=0.0 * other.pattern, signal="no peaks")
    seen = []

    def misleads(placed):  # a refiner that makes zincite of everything
        seen.append(len(placed))
        pattern = np.stack([other.pattern * one.mask for one in placed])
        return refining.Refined(pattern, 0.5 * pattern)

    both = dataclasses.replace(phases, refiner=SimpleNamespace(both=misleads))
    found = both.identify([noise, quick])
    assert seen == [1]  # of what has no peaks nobody asks
    assert found[0].refined is None and found[0].denoised is None
    np.testing.assert_array_equal(found[1].refined, other.pattern * quick.mask)
    np.testing.assert_array_equal(found[1].denoised, 0.5 * found[1].refined)
    np.testing.assert_array_equal(found[0].answer.systems, systems(phases, [noise]))
    posed = quick._replace(pattern=other.pattern * quick.mask)
    expected = 0.5 * (systems(phases, [quick]) + systems(phases, [posed]))
    np.testing.assert_allclose(found[1].answer.systems, expected, atol=1e-6)
    assert {one.formula for one in found[1].candidates[:2]} == {"Si", "ZnO"}
    ids = found[1].candidates[0].members
    assert len(ids) == len(set(ids))


def test_samples_of_known_elements_have_weights_of_their_own(phases):
    placed = [on_grid(scan(name), GRID) for name in ("silicon", "rutile", "zincite")]
    weights = phases.calibration
    surer = weights.posterior._replace(linear=2.0 * weights.posterior.linear)
    phases = dataclasses.replace(phases, calibration=weights._replace(known=surer))
    elements = Elements(may=frozenset({"Ti", "O"}))
    blind, named = phases.identify(placed), phases.identify(placed, [elements] * 3)
    mixed = phases.identify(placed, [None, elements, None])
    for row, alone in enumerate((blind, named, blind)):
        np.testing.assert_array_equal(mixed[row].answer.systems, alone[row].answer.systems)
    assert mixed[1].answer.systems.max() > blind[1].answer.systems.max()


def test_cells_are_fitted_only_where_they_are_asked_for(phases):
    placed = [on_grid(scan("silicon"), GRID)]
    (with_cells,), (without,) = phases.identify(placed), phases.identify(placed, cells=False)
    assert with_cells.candidates[0].cell and not any(one.cell for one in without.candidates)
    bare = [one._replace(cell=None) for one in with_cells.candidates]
    assert bare == list(without.candidates)


def test_results_say_which_patterns_the_answer_is_from(phases, refiner, tmp_path):
    quick = scan("rutile", 200.0)
    rows = np.column_stack([quick.two_theta, quick.counts])
    np.savetxt(tmp_path / "quick.xy", rows, fmt="%g")
    told = dataclasses.replace(phases, refiner=refiner)
    output = tmp_path / "out"
    refine_scans(FakeModel(GRID), [str(tmp_path / "quick.xy")], output, "CuKa1", phases=told)
    (entry,) = json.loads((output / "results.json").read_text())["results"]
    assert entry["answer_from"] == ["raw", "refined"]
    assert entry["candidates"][0]["formula"] == "TiO2"


def test_adapt_needs_a_library_of_phases():
    command = ["x", "--mode=refine", f"--input={EXAMPLES / 'rutile.xy'}", "--library=none",
               "--adapt"]  # fmt: skip
    with flagsaver.flagsaver(), pytest.raises(UserError, match="--adapt: the refiner"):
        flags.FLAGS(command)
        cli.main(command[:1])


def test_numbers_that_are_no_counts_have_no_strongest_count():
    own = scan("silicon")
    assert on_grid(own, GRID).strongest == own.counts.max()
    assert on_grid(own._replace(counts=0.5 * own.counts), GRID).strongest == np.inf


def test_a_refiner_comes_back_from_its_file(refiner, tmp_path):
    save_refiner(tmp_path / "refiner.npz", refiner, "made for a test")
    again = load_refiner(tmp_path / "refiner.npz")
    assert again.network == refiner.network
    jax.tree.map(np.testing.assert_array_equal, again.params, refiner.params)
    placed = [on_grid(scan("silicon", 100.0), GRID)]
    np.testing.assert_allclose(again(placed)[0], placed[0].pattern, atol=1e-6)
    save_refiner(tmp_path / "other.npz", refiner._replace(network="unet_62k"), "of another network")
    with pytest.raises(UserError, match="other.npz: does not fit this version"):
        load_refiner(tmp_path / "other.npz")
    with pytest.raises(UserError, match="holds no refiner of phases"):
        load_refiner(identify.__file__.replace("phases/identify.py", "pretrained/phases.npz"))


def test_adapting_learns_from_quick_scans_alone(phases, refiner, tmp_path, monkeypatch):
    told = dataclasses.replace(phases, refiner=refiner)
    assert adapted_phases(told, [str(EXAMPLES / "silicon.xy")], None) is told  # 4,000 counts
    quick = scan("rutile", 200.0)
    rows = np.column_stack([quick.two_theta, quick.counts])
    np.savetxt(tmp_path / "quick.xy", rows, header="wavelength: 1.5406", fmt="%g")
    (tmp_path / "bad.xy").write_text("no scan")
    learned = []
    monkeypatch.setattr(
        PhaseRefiner, "adapted", lambda self, scans: learned.append([s.name for s in scans]) or self
    )
    adapted_phases(told, [str(tmp_path), str(EXAMPLES / "silicon.xy")], "CuKa1")
    assert learned == [["quick"]]
