"""Classes, held-out structures and library phases are chosen as their docstrings say."""

import numpy as np
import pytest

from imitation_refinement.errors import UserError
from imitation_refinement.xrd.structures.classes import (
    class_key,
    classes_of,
    hold_out,
    library_blocks,
    library_phases,
)
from imitation_refinement.xrd.structures.collection import Structures


def table(rows: list[tuple[str, str, int]]) -> Structures:
    """Structures with the given formulas, prototypes and space groups, one atom each."""
    count = len(rows)
    formula, prototype, group = zip(*rows, strict=True)
    return Structures(
        name=np.array([str(i) for i in range(count)]),
        formula=np.array(formula),
        symbol=np.array([f"G{number}" for number in group]),
        prototype=np.array(prototype),
        space_group=np.array(group, np.int32),
        cell=np.tile([4.0, 4.0, 4.0, 90.0, 90.0, 90.0], (count, 1)),
        primitive=np.tile(np.eye(3), (count, 1, 1)),
        numbers=np.ones(count, np.int64),
        positions=np.zeros((count, 3)),
        offsets=np.arange(count + 1),
        mended=np.array([], np.str_),
        skipped=np.array([], np.str_),
    )


def random_table(count: int, seed: int = 0) -> Structures:
    rng = np.random.default_rng(seed)
    group = rng.choice([2, 14, 62, 139, 166, 194, 225], count)
    prototype = [f"P{g}-{min(rng.geometric(0.15), 12)}" for g in group]
    formula = [f"F{rng.integers(count // 2)}" for _ in range(count)]
    return table(list(zip(formula, prototype, group.tolist(), strict=True)))


def test_keys_of_a_structure():
    assert class_key("crystal_system", "TiO2", 136) == "tetragonal"
    assert class_key("space_group", "TiO2", 136) == "136"
    assert class_key("phase", "TiO2", 136) == "TiO2 136"


def test_crystal_systems_are_those_present_in_their_usual_order():
    found = classes_of(table([("B", "c", 225), ("C", "a", 1), ("D", "b", 61)]), "crystal_system", 1)
    assert found.names == found.keys == ("triclinic", "orthorhombic", "cubic")
    assert found.label.tolist() == [2, 0, 1]
    assert found.label.dtype == np.int32


def test_space_groups_with_too_few_structures_are_left_out(caplog):
    rows = [("A", "a", 225), ("B", "a", 225), ("C", "b", 62), ("D", "b", 62), ("E", "c", 194)]
    found = classes_of(table(rows), "space_group", 2)
    assert found.names == ("G62 (62)", "G225 (225)")
    assert found.keys == ("62", "225")
    assert found.label.tolist() == [1, 1, 0, 0, -1]


def test_a_phase_is_a_formula_in_a_space_group():
    rows = [("TiO2", "a", 136), ("TiO2", "b", 141), ("TiO2", "c", 136), ("Si", "d", 227)]
    found = classes_of(table(rows), "phase", 9)
    assert found.names == ("TiO2 (G136)", "TiO2 (G141)", "Si (G227)")
    assert found.label.tolist() == [0, 1, 0, 2]


def test_one_class_is_too_few():
    with pytest.raises(UserError, match=r"1 classes with at least 2 .*smallest_class"):
        classes_of(table([("A", "a", 225)] * 3 + [("B", "b", 62)]), "space_group", 2)


@pytest.mark.parametrize("seed", range(4))
def test_held_out_kinds_share_no_formula_with_training(seed):
    structures = random_table(400, seed)
    label = classes_of(structures, "crystal_system", 2).label
    held = hold_out(structures, label, 0.15, seed)
    inside, outside = structures.formula[held], structures.formula[~held]
    assert not set(inside.tolist()) & set(outside.tolist())
    np.testing.assert_array_equal(held, hold_out(structures, label, 0.15, seed))
    assert np.any(held != hold_out(structures, label, 0.15, seed + 1))
    for k in range(7):
        own = label == k
        assert 0 < held[own].sum() < own.sum()
        # Whole prototypes are held out, besides what shares a formula with them.
        gone = set(structures.prototype[own].tolist()) - set(structures.prototype[~held].tolist())
        assert gone


def test_without_shared_formulas_the_share_is_exact_and_whole_prototypes_go():
    # One class of 40: prototypes of 1 (four times), 6 and 30 structures; a quarter is 10.
    sizes = [1, 1, 1, 1, 6, 30]
    rows = [(f"F{p}-{i}", f"P{p}", 225) for p, size in enumerate(sizes) for i in range(size)]
    rows += [(f"G{i}", f"Q{i}", 2) for i in range(4)]
    structures = table(rows)
    label = classes_of(structures, "crystal_system", 1).label
    held = hold_out(structures, label, 0.25, 3)
    cubic = held[: sum(sizes)]
    assert cubic.sum() == 10  # 1 + 1 + 1 + 1 + 6; that of 30 is too large
    assert not np.any(cubic[10:])
    assert held[sum(sizes) :].sum() == 1  # a quarter of 4
    assert not np.any(hold_out(structures, label, 0.0, 3))


def test_a_class_of_one_prototype_stays_in_training():
    rows = [(f"F{i}", "P", 225) for i in range(9)] + [(f"G{i}", f"Q{i}", 62) for i in range(9)]
    structures = table(rows)
    label = classes_of(structures, "crystal_system", 1).label
    held = hold_out(structures, label, 0.3, 0)
    assert not np.any(held[:9])
    assert held[9:].sum() == 2  # int(0.3 * 9)


def test_unused_structures_are_never_held_out():
    structures = random_table(200)
    label = classes_of(structures, "crystal_system", 2).label.copy()
    label[::3] = -1
    assert not np.any(hold_out(structures, label, 0.3, 0)[::3])


def test_blocks_share_no_formula_and_hold_only_held_out_structures():
    structures = random_table(1500)
    label = classes_of(structures, "crystal_system", 2).label
    held = hold_out(structures, label, 0.2, 0)
    block = library_blocks(structures, label, held, 5, 0)
    np.testing.assert_array_equal(block >= 0, held)
    assert block.max() + 1 >= 5
    seen: set[str] = set()
    for k in range(block.max() + 1):
        own = set(structures.formula[block == k].tolist())
        assert len(own) >= 6 and not own & seen
        seen |= own


def test_libraries_have_3_to_6_different_phases_of_one_block():
    structures = random_table(1500)
    label = classes_of(structures, "crystal_system", 2).label
    held = hold_out(structures, label, 0.2, 0)
    block = library_blocks(structures, label, held, 5, 0)
    given = {"structures": structures, "label": label, "block": block}
    counts, systems = [], []
    for library in range(300):
        phases = library_phases(library, seed=1, **given)
        ids = [crystal.prototype_id for crystal in phases]
        assert len(set(ids)) == len(ids)
        assert set(block[ids].tolist()) == {library % (block.max() + 1)}
        counts.append(len(ids))
        systems += [crystal.system for crystal in phases]
    assert set(counts) == {3, 4, 5, 6}
    assert np.bincount(systems, minlength=7).min() > 0
    again = [c.prototype_id for c in library_phases(7, seed=1, **given)]
    assert again == [c.prototype_id for c in library_phases(7, seed=1, **given)]
    assert any(
        again != [c.prototype_id for c in library_phases(7, seed=s, **given)] for s in (2, 3, 4)
    )


def test_phases_as_classes_give_one_block_of_all():
    structures = table([(f"F{i}", "P", 225) for i in range(4)])
    label = np.arange(4, dtype=np.int32)
    block = library_blocks(structures, label, np.zeros(4, bool), 5, 0)
    assert block.tolist() == [0, 0, 0, 0]
    phases = library_phases(0, seed=0, structures=structures, label=label, block=block)
    assert 3 <= len(phases) <= 4


def test_classes_that_could_spare_nothing_lend_their_structures_to_libraries():
    structures = table([("A", "p", 225), ("B", "p", 225), ("C", "q", 62), ("D", "r", 62)])
    label = np.array([1, 1, 0, 0], np.int32)
    held = np.array([False, False, True, False])
    assert library_blocks(structures, label, held, 5, 0).tolist() == [0, 0, 0, -1]


def test_two_structures_are_too_few_for_a_library():
    structures = table([("A", "p", 225), ("B", "q", 62)])
    with pytest.raises(UserError, match="need 3 structures and there are 2"):
        library_blocks(structures, np.array([0, 1], np.int32), np.zeros(2, bool), 5, 0)
