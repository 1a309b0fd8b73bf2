"""Batches of the refiner of phases made on the device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made_salts import CUBIC, EDGES, rock_salt, salt_prototypes
from ml_collections import ConfigDict

from imitation_refinement.phases import device_held, device_pairs, refiner_training, refining
from imitation_refinement.phases.device_grid import Placed
from imitation_refinement.phases.device_held import choose, held, load_chosen
from imitation_refinement.phases.device_pairs import Scans, best_shifts, shown
from imitation_refinement.phases.device_scans import Bounds
from imitation_refinement.phases.library import MEASURED
from imitation_refinement.phases.pairs import RIVALS, simulated_pair, with_rivals
from imitation_refinement.phases.prototypes import log_axis
from imitation_refinement.phases.refiner_training import batches_of_draws
from imitation_refinement.phases.scores import SHIFTS, shifted

pytestmark = pytest.mark.usefixtures("quick_compilation")
SMALL = Bounds(points=1024, drawn=16384)
ENTRIES = [3, 9, 12]
TOO_LARGE = 5
PLAN = [12, 3, TOO_LARGE, 9, 3]


@pytest.fixture(scope="module")
def prototypes():
    return salt_prototypes()


class Salts:
    """What is asked of a library."""

    crystal_system = np.full(len(EDGES), CUBIC)
    computed = np.full(len(EDGES), MEASURED)
    space_group = np.full(len(EDGES), 225)
    formula = np.array([f"Na{i}Cl" for i in range(1, 1 + len(EDGES))])
    digest = "0123456789abcdef"


def looked_up(library, entry):
    if entry == TOO_LARGE:
        raise ValueError("201 atoms")
    return rock_salt(EDGES[entry])


@pytest.fixture
def known(prototypes, monkeypatch):
    monkeypatch.setattr(device_held, "atoms_of", looked_up)
    monkeypatch.setattr(device_held, "REFLECTIONS", 512)
    chosen = choose(Salts(), prototypes, np.array(PLAN))
    return held(chosen, Salts(), prototypes, np.arange(len(EDGES)))


def test_what_is_planned_twice_is_held_once_and_what_is_too_large_is_left_out(known):
    assert known.phase[known.turn, 0].tolist() == [12, 3, 9, 3]
    assert len(known.structures.lattice) == 3
    whole = [rock_salt(EDGES[entry]).lattice for entry in (12, 3, 9, 3)]
    np.testing.assert_allclose(known.structures.lattice[known.turn], whole, rtol=1e-6)


def test_rivals_are_those_of_the_structure_s_own_pattern(known):
    assert known.rival.shape == (3, 1 + RIVALS)
    assert known.phase[:, 0].tolist() == ENTRIES
    for entry, phase in zip(ENTRIES, known.phase.tolist(), strict=True):
        assert len(set(phase)) == 1 + RIVALS and {entry - 1, entry + 1} <= set(phase)


def test_what_was_looked_up_is_kept(prototypes, monkeypatch, tmp_path):
    monkeypatch.setattr(device_held, "atoms_of", looked_up)
    asked = tmp_path, Salts(), prototypes, 40
    first = load_chosen(*asked, seed=0)
    assert not np.isin(TOO_LARGE, first.entry[:, 0])
    monkeypatch.delattr(device_held, "atoms_of")
    for before, after in zip(first, load_chosen(*asked, seed=0), strict=True):
        np.testing.assert_array_equal(before, after)


def on_device(scan):
    placed = scan.placed
    columns = (placed.pattern, placed.mask, placed.background, placed.excess, placed.noise)
    return Scans(
        Placed(*map(jnp.asarray, columns), placed.scale), jnp.asarray(scan.truth, jnp.float32), 1.0
    )


def test_a_scan_is_shown_and_its_rivals_are_shifted_as_those_of_pairs_on_disk(prototypes):
    scan = simulated_pair(rock_salt(EDGES[9]), CUBIC, MEASURED, prototypes, 4, 0)
    pair = with_rivals([scan], [9], prototypes)
    drawn = prototypes.roots(pair.entry[0])
    kind = np.full(len(drawn), MEASURED)
    best = best_shifts(on_device(scan), jnp.asarray(drawn), kind, prototypes.grid)
    axis = log_axis(prototypes.grid)
    found = (axis[1] - axis[0]) * np.array(SHIFTS)[np.asarray(best)]
    np.testing.assert_allclose(found, pair.shift[0], atol=1e-7)
    placed = scan.placed
    columns = (
        column[None] for column in (placed.pattern, placed.excess, placed.noise, placed.mask)
    )
    np.testing.assert_allclose(
        shown(on_device(scan).placed), refining.shown(*columns)[0], rtol=1e-4, atol=1e-6
    )
    bank = device_pairs.shifted_rivals(on_device(scan), jnp.asarray(drawn), kind, prototypes.grid)
    # Moved by whole points: the lines of an entry lie where it fits.
    for row, moved, where in zip(drawn, np.asarray(bank), np.asarray(best), strict=True):
        np.testing.assert_array_equal(moved, shifted(row, -SHIFTS[where]))


def test_batches_are_a_function_of_the_step_and_made_without_the_host(known, prototypes):
    section = ConfigDict({"batch_size": 2})
    stream = batches_of_draws(known, prototypes.grid, section, 0, SMALL)
    first = stream(0)
    next(first)
    with jax.transfer_guard("disallow"):
        second, third = next(first), next(first)
    again = next(stream(2))
    jax.tree.map(np.testing.assert_array_equal, third, again)
    assert refiner_training._drawing(2, SMALL, prototypes.grid)._cache_size() == 1
    assert not np.array_equal(second["x"], third["x"])
    assert second["x"].shape == (2, prototypes.grid.length, refining.CHANNELS)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(second))
    assert set(np.unique(second["phase"][:, 0]).tolist()) <= set(ENTRIES)
    # The own prototype, where it fits, is what the scan's truth looks like.
    truth = refining.root_embedding(
        second["truth"], jnp.min(second["mask"].reshape(2, -1, 2), axis=2)
    )
    own = np.asarray(second["bank"])[:, 0]
    cosine = (np.asarray(truth) * own).sum(axis=1) / np.linalg.norm(own, axis=1)
    assert cosine.min() > 0.5
