"""What a table of structures is to be used for: its classes, what is held out, its libraries.

Belongs here: choices about structures, by symmetry and formula alone. Reading them is in
`collection`, simulating their patterns in `ideal`.
"""

from collections import Counter
from typing import NamedTuple

import numpy as np
from absl import logging

from imitation_refinement.errors import UserError
from imitation_refinement.xrd.crystals import Crystal
from imitation_refinement.xrd.structures.collection import Structures
from imitation_refinement.xrd.symmetry import CRYSTAL_SYSTEMS, system_of_space_group

_HOLD_OUT_STREAM, _BLOCK_STREAM, _LIBRARY_STREAM = 15, 22, 23
_BLOCK_FORMULAS = 6  # in a block; libraries have 3 to 6 phases


class Classes(NamedTuple):
    """The classes of a table of structures.

    Attributes:
        names: K names for people, in label order.
        keys: what `class_key` gives for a member, in label order.
        label: int32 [n], of each structure; -1 for classes that were left out.
    """

    names: tuple[str, ...]
    keys: tuple[str, ...]
    label: np.ndarray


def class_key(kind: str, formula: str, space_group: int) -> str:
    """Returns what decides a class: crystal system, space group number, or formula and number."""
    if kind == "crystal_system":
        return CRYSTAL_SYSTEMS[system_of_space_group(space_group)]
    return str(space_group) if kind == "space_group" else f"{formula} {space_group}"


def classes_of(structures: Structures, kind: str, smallest: int) -> Classes:
    """Returns the classes that are present, ordered by symmetry, then by formula.

    Args:
        structures: the table.
        kind: crystal_system, space_group or phase (a phase is a formula in a space group).
        smallest: classes with fewer structures are left out, and said; phases never are.

    Raises:
        UserError: fewer than two classes remain.
    """
    rows = zip(structures.formula.tolist(), structures.space_group.tolist(), strict=True)
    keys = [class_key(kind, formula, group) for formula, group in rows]
    first = {key: i for i, key in reversed(list(enumerate(keys)))}
    members = Counter(keys)
    needed = 1 if kind == "phase" else smallest
    few = {key: count for key, count in members.items() if count < needed}
    kept = [key for key in members if key not in few]
    kept.sort(key=lambda key: (structures.space_group[first[key]], structures.formula[first[key]]))
    listed = ", ".join(f"{key} ({count})" for key, count in sorted(few.items())[:10])
    if few:
        logging.warning("%d classes with fewer than %d structures left out: %s%s",
                        len(few), needed, listed, ", ..." if len(few) > 10 else "")  # fmt: skip
    if len(kept) < 2:
        raise UserError(
            f"config.data.label = {kind!r}: {len(kept)} classes with at least {needed} structures, "
            "two are needed; add structures, or lower config.data.ideal.smallest_class"
        )
    index = {key: label for label, key in enumerate(kept)}
    names = [_name(kind, structures, first[key]) for key in kept]
    return Classes(
        tuple(names), tuple(kept), np.array([index.get(key, -1) for key in keys], np.int32)
    )


def _name(kind: str, structures: Structures, row: int) -> str:
    formula, group = structures.formula[row], int(structures.space_group[row])
    symbol = structures.symbol[row]
    if kind == "phase":
        return f"{formula} ({symbol})"
    return class_key(kind, formula, group) if kind == "crystal_system" else f"{symbol} ({group})"


def hold_out(structures: Structures, label: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Returns which structures training must not see, bool [n].

    Of each class, whole prototypes are drawn until their structures are about `fraction` of the
    class; a prototype that would overshoot is passed over, so that the few very common ones (rock
    salt, perovskite) stay in training, and at least one if the class has two. Every other structure
    with the formula of one that is held out is held out too: no formula is on both sides.

    Args:
        structures: the table.
        label: int [n], -1 for structures that are not used.
        fraction: 0..0.9.
        seed: of the draw.
    """
    rng = np.random.default_rng(np.random.SeedSequence((seed, _HOLD_OUT_STREAM)))
    held = np.zeros(len(label), bool)
    for k in range(label.max(initial=-1) + 1):
        own = label == k
        sizes = Counter(structures.prototype[own].tolist())
        if fraction > 0.0 and len(sizes) > 1:
            quota = max(int(fraction * int(own.sum())), min(sizes.values()))
            for i in rng.permutation(len(sizes)):
                prototype, size = sorted(sizes.items())[i]
                if size <= quota:
                    held |= own & (structures.prototype == prototype)
                    quota -= size
    held |= (label >= 0) & np.isin(structures.formula, structures.formula[held])
    for k in range(label.max(initial=-1) + 1):  # a formula must not take all of a class away
        own = label == k
        if np.all(held[own]):
            formulas = set(structures.formula[own].tolist())
            held &= ~np.isin(structures.formula, sorted(formulas))
    return held


def library_blocks(
    structures: Structures, label: np.ndarray, held: np.ndarray, folds: int, seed: int
) -> np.ndarray:
    """Deals the structures of simulated libraries out to blocks, int32 [n]; -1: not in a library.

    Libraries are made of held-out structures, so that none of their phases was seen in training;
    of classes that could spare none, of all. A library takes its phases from one block, and no
    formula is in two of them, so that folds over blocks have no phase in common. With too few
    structures for that there is one block, and it is said.

    Args:
        structures: the table.
        label: int [n], -1 for structures that are not used.
        held: bool [n], from `hold_out`.
        folds: number of blocks needed at least.
        seed: of the deal.

    Raises:
        UserError: fewer than three structures.
    """
    pool = held | ((label >= 0) & ~np.isin(label, np.unique(label[held])))
    if pool.sum() < 3:
        raise UserError(
            f"config.data: simulated libraries need 3 structures and there are {pool.sum()}; add "
            "some, or give measured patterns by config.data.imperfect.measured"
        )
    formulas, first = np.unique(structures.formula[pool], return_index=True)
    blocks = len(formulas) // _BLOCK_FORMULAS
    if blocks < folds:
        if held.any():  # else the classes are the phases, which must recur
            logging.warning("too few held-out structures for folds without common phases")
        return np.where(pool, 0, -1).astype(np.int32)
    rng = np.random.default_rng(np.random.SeedSequence((seed, _BLOCK_STREAM)))
    order = np.lexsort((rng.random(len(formulas)), label[pool][first]))  # classes evenly
    dealt = dict(zip(formulas[order].tolist(), np.arange(len(formulas)) % blocks, strict=True))
    rows = zip(pool, structures.formula.tolist(), strict=True)
    return np.array([dealt[formula] if used else -1 for used, formula in rows], np.int32)


def library_phases(
    library: int, *, seed: int, structures: Structures, label: np.ndarray, block: np.ndarray
) -> list[Crystal]:
    """Draws the 3 to 6 phases of a simulated library, classes uniform, no structure twice.

    Args:
        library: number of the library; it takes from block `library % blocks`.
        seed: of the run.
        structures: the table.
        label: int [n].
        block: int [n], from `library_blocks`.
    """
    rng = np.random.default_rng(np.random.SeedSequence((seed, _LIBRARY_STREAM, library)))
    allowed = block == library % (block.max() + 1)
    left = {k: np.flatnonzero(allowed & (label == k)).tolist() for k in np.unique(label[allowed])}
    chosen: list[int] = []
    for _ in range(min(int(rng.integers(3, 7)), int(allowed.sum()))):
        k = sorted(left)[rng.integers(len(left))]
        chosen.append(left[k].pop(int(rng.integers(len(left[k])))))
        if not left[k]:
            del left[k]
    return [structures.crystal(i) for i in chosen]
