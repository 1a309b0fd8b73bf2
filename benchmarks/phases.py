"""Measures matching with the library of phases on labelled measured scans.

    python benchmarks/phases.py --manifest=a/manifest.csv --manifest=b/manifest.csv

Prints one table for each manifest: the whole library, by patterns alone and, as in all other rows
and in what users are told, together with refined ones; an eighth to a half of its phases, the
elements known, and the right phase left out; and what `confident` and `not in the library` are
worth. Shares in percent with 95 % bootstrap intervals over groups. For looking only: nothing is
chosen by these figures. A phase that is left out has a twin where the same elements, hydrogen
aside, stay with a pattern that no powder scan tells from its own: the same phase under another
name. Both shares are told, of all that are left out by name and of those without a twin.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import app, flags

from imitation_refinement.evaluation.metrics import GroupResamples, mean_estimate, resample_groups
from imitation_refinement.model.acceptance import CONFIDENT
from imitation_refinement.phases.alike import Twins
from imitation_refinement.phases.calibrating import roc_area
from imitation_refinement.phases.calibration_file import load_calibration
from imitation_refinement.phases.candidates import NOT_IN_LIBRARY, Answer, answers
from imitation_refinement.phases.compositions import Compositions, Elements, match_known
from imitation_refinement.phases.compositions import Known as Limits
from imitation_refinement.phases.formulas import elements, reduced
from imitation_refinement.phases.identify import Phases
from imitation_refinement.phases.library import Library, load_library
from imitation_refinement.phases.match import match_looks
from imitation_refinement.phases.prototypes import GRID, Prototypes, build_prototypes
from imitation_refinement.phases.refiner_file import load_refiner
from imitation_refinement.xrd.manifest import Entry, read_entry, read_manifest
from imitation_refinement.xrd.scans import PlacedScan, on_grid

_MANIFEST = flags.DEFINE_multi_string("manifest", None, "Labelled scans.", required=True)
_LIBRARY = flags.DEFINE_string("library", None, "Library file; the shipped one without.")
_CALIBRATION = flags.DEFINE_string("calibration", None, "Its calibration; the shipped one without.")
_FRACTIONS = flags.DEFINE_multi_float("fraction", [0.125, 0.25, 0.5], "Shares of the phases.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the choice of phases and the bootstrap.")

_BATCH = 16
_COMPARED = 5  # entries of a phase whose twins are looked for
_ALONE = ", nor a twin"
_DEPTHS = (1, 5, 10)  # candidates among which the phase is looked for


class Known(NamedTuple):
    """The library as matching needs it.

    Attributes:
        library: n entries.
        prototypes: of them.
        names: of the phase of each: reduced formula and space group; `[n]`.
        whole: the same with the occupancies counted, `[n]`.
        phase: number of each name, int `[n]`.
    """

    library: Library
    prototypes: Prototypes
    names: np.ndarray
    whole: np.ndarray
    phase: np.ndarray


class Scans(NamedTuple):
    """Labelled scans on the grid; `system` and `space_group` are -1 and 0 where not known."""

    entries: list[Entry]
    placed: list[PlacedScan]
    pattern: np.ndarray
    refined: np.ndarray
    mask: np.ndarray
    signal: np.ndarray
    system: np.ndarray
    space_group: np.ndarray


def known(library: Library) -> Known:
    """Returns a library with its prototypes, phases and elements."""
    prototypes = build_prototypes(
        library.q, library.amplitude, library.offsets, library.computed, GRID
    )
    formulas = [str(text) for text in library.formula]
    whole = [
        str(text) or formula for text, formula in zip(library.composition, formulas, strict=True)
    ]
    groups = library.space_group.tolist()
    names = np.array([f"{reduced(f)} {g}" for f, g in zip(formulas, groups, strict=True)])
    wholes = np.array([f"{reduced(f)} {g}" for f, g in zip(whole, groups, strict=True)])
    return Known(library, prototypes, names, wholes, np.unique(names, return_inverse=True)[1])


def placed(manifest: Path) -> Scans:
    """Reads the labelled scans of a manifest."""
    entries = [entry for entry in read_manifest(manifest) if entry.kind == "labelled"]
    found = [on_grid(read_entry(entry), GRID) for entry in entries]
    return Scans(
        entries,
        found,
        np.stack([scan.pattern for scan in found]),
        load_refiner()(found),
        np.stack([scan.mask for scan in found]),
        np.array([not scan.signal for scan in found]),
        np.array([-1 if entry.system is None else entry.system for entry in entries]),
        np.array([entry.space_group or 0 for entry in entries]),
    )


def answered(
    scans: Scans,
    have: Known,
    allowed: np.ndarray | None = None,
    limits: Limits | None = None,
    *,
    alone: bool = False,
) -> list[Answer]:
    """Returns the answers with the prototypes that are allowed, bool `[N]` or `[n, N]`.

    With `alone` they are by the patterns as measured, without the refined ones.
    """
    calibration = load_calibration(_CALIBRATION.value)
    library, found = have.library, []
    phases = Phases(library, have.prototypes, calibration)
    for first in range(0, len(scans.entries), _BATCH):
        part = slice(first, first + _BATCH)
        looks = [patterns[part] for patterns in (scans.pattern, scans.refined)][: 1 if alone else 2]
        to_match = looks, scans.mask[part], have.prototypes
        if limits is not None:
            matches = match_known(*to_match, calibration.known, known=limits.of(part))
        else:
            own = allowed[part] if allowed is not None and allowed.ndim == 2 else allowed
            matches = match_looks(*to_match, calibration.posterior, allowed=own)
        both = matches[0]
        if not alone:
            both, _ = phases.by_both(scans.placed[part], *matches, limits is not None)
        found += answers(
            both,
            have.prototypes, library.space_group, library.crystal_system,
            library.formula, calibration, scans.signal[part],
            np.full(len(looks[0]), limits is not None), not alone,
        )  # fmt: skip
    return found


def is_right(scans: Scans, have: Known) -> np.ndarray:
    """Returns which entries are of each scan's phase, bool `[n, N]`; none if it is not known."""
    labels = [
        f"{reduced(entry.formula)} {group}" if entry.formula and group else ""
        for entry, group in zip(scans.entries, scans.space_group, strict=True)
    ]
    return np.stack([(have.names == label) | (have.whole == label) for label in labels])


def with_twins(right: np.ndarray, have: Known) -> np.ndarray:
    """Returns the same with what no powder pattern tells from the first few of them."""
    twins, found = Twins(have.library.formula, have.prototypes), right.copy()
    for row, own in enumerate(right):
        for entry in np.flatnonzero(own)[:_COMPARED]:
            found[row, twins.of(int(entry))] = True
    return found


def hits(found: Sequence[Answer], scans: Scans) -> np.ndarray:
    """Returns whether the first crystal system is right, bool `[n]`."""
    return np.array([answer.systems.argmax() for answer in found]) == scans.system


def line(
    name: str, found: Sequence[Answer], scans: Scans, right: np.ndarray, draws: GroupResamples
) -> str:
    """Returns one row of the table."""
    systems = np.stack([answer.systems for answer in found])
    order = np.argsort(-systems, axis=1)
    hit = order == scans.system[:, None]
    surest = np.argsort(-systems.max(axis=1), kind="stable")[: len(systems) // 2]
    groups = [[number for number, _ in answer.space_groups[:5]] for answer in found]
    pairs = list(zip(groups, scans.space_group, strict=True))
    cells = [
        _share(hit[:, 0], draws), _share(hit[:, :2].any(axis=1), draws),
        f"{100 * hit[surest, 0].mean():.1f}",
        _share(np.array([own[:1] == [group] for own, group in pairs]), draws),
        _share(np.array([group in own for own, group in pairs]), draws),
    ]  # fmt: skip
    ranks = np.array([_rank(answer, own) for answer, own in zip(found, right, strict=True)])
    cells += [_share(ranks < depth, draws) for depth in _DEPTHS]
    confident = np.array([answer.verdict == CONFIDENT for answer in found])
    share = f"{100 * hit[confident, 0].mean():.1f}" if confident.any() else "none"
    absent = np.mean([answer.verdict == NOT_IN_LIBRARY for answer in found])
    cells += [f"{100 * confident.mean():.1f}", share, f"{100 * absent:.1f}"]
    return f"| {name} | " + " | ".join(cells) + " |"


def _share(values: np.ndarray, draws: GroupResamples) -> str:
    found = mean_estimate(draws, values.astype(float))
    low, high = found["low"], found["high"]
    interval = "" if low is None or high is None else f" ({100 * low:.1f} to {100 * high:.1f})"
    return f"{100 * values.mean():.1f}{interval}"


def _rank(answer: Answer, right: np.ndarray) -> int:
    """The place of the first candidate with a member of the right phase."""
    places = [i for i, own in enumerate(answer.candidates) if right[list(own.members)].any()]
    return places[0] if places else 1 << 30


def report(manifest: Path, have: Known) -> None:
    """Prints the table of a manifest."""
    scans = placed(manifest)
    right = is_right(scans, have)
    draws = resample_groups(np.array([e.group for e in scans.entries]), seed=_SEED.value)
    print(f"\n{manifest.parent.name}: {len(scans.entries)} scans, phase in the library for"
          f" {right.any(axis=1).sum()}\n")  # fmt: skip
    print("| library | system | among two | surest half | space group | among 5 | phase | among 5"
          " | among 10 | confident | of these right | not in the library |")  # fmt: skip
    print("|" + " --- |" * 12)
    everything, alone = answered(scans, have), answered(scans, have, alone=True)
    print(line("all", everything, scans, right, draws), flush=True)
    print(line("all, patterns alone", alone, scans, right, draws))
    more = [hits(some, scans).astype(float) for some in (everything, alone)]
    found = mean_estimate(draws, more[0] - more[1])
    shares = (100.0 * found[name] for name in ("value", "low", "high"))
    print("| system, together - alone | {:+.1f} ({:+.1f} to {:+.1f}) |".format(*shares))
    named, twin = right.any(axis=1), with_twins(right, have)
    rng = np.random.default_rng(_SEED.value)
    order = rng.permutation(have.phase.max() + 1)
    for fraction in _FRACTIONS.value:
        allowed = order[have.phase] < fraction * len(order)
        found = answered(scans, have, allowed)
        print(line(f"{fraction:g} of the phases", found, scans, right & allowed, draws))
        absent = named & ~(right & allowed).any(axis=1)
        tell(found, absent, found, named & ~absent)
        tell(found, named & ~(twin & allowed).any(axis=1), found, named & ~absent, _ALONE)
    if named.any():
        own = [Elements(may=elements(entry.formula)) for entry in scans.entries]
        some = answered(scans, have, limits=Compositions(have.library).known(own))
        print(line("all, elements known", some, scans, right, draws))
        # A phase counts as left out with all entries of its name.
        without = answered(scans, have, ~right)
        print(line("right phase left out", without, scans, right, draws))
        tell(without, named, everything, named)
        tell(without, named & ~(twin & ~right).any(axis=1), everything, named, _ALONE)


def tell(
    without: Sequence[Answer], absent: np.ndarray, found: Sequence[Answer], present: np.ndarray,
    which: str = "",
) -> None:  # fmt: skip
    """Prints how well the answers to unknown phases are told from those to known ones."""
    confident = [a.verdict == CONFIDENT for a, own in zip(without, absent, strict=True) if own]
    if confident and present.any():
        none = [
            np.array([a.not_in_library for a, own in zip(some, rows, strict=True) if own])
            for some, rows in ((without, absent), (found, present))
        ]
        sure = f"of these confident {100 * np.mean(confident):.1f}"
        roc = f"area under ROC {roc_area(*none):.3f}"
        print(f"| not in it{which}: {len(confident)} | {sure} | {roc} |", flush=True)


def main(_: list[str]) -> None:
    have = known(load_library(_LIBRARY.value))
    for manifest in _MANIFEST.value:
        report(Path(manifest), have)


if __name__ == "__main__":
    app.run(main)
