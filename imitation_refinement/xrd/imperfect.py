"""The set of imperfect patterns: components of simulated libraries, with their truth.

Belongs here: building libraries of fresh prototypes or of given crystals, unmixing them, and
storing what was matched. No prototype of this set is in the ideal set.
"""

import dataclasses
import functools
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from imitation_refinement.errors import UserError
from imitation_refinement.runtime.generate import cached_arrays, parallel_map
from imitation_refinement.xrd.crystals import CRYSTAL_SYSTEMS, Crystal, random_prototype
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.library import Diffraction, has_lines, simulate_library
from imitation_refinement.xrd.profiles import normalize_max
from imitation_refinement.xrd.ranges import Imperfection, Options, imperfections_of
from imitation_refinement.xrd.unmix import match, unmix

# Prototypes of the ideal set are counted from 0; these never meet them.
FIRST_PROTOTYPE = 1_000_000_000
_PROTOTYPES_PER_LIBRARY = 64  # ids set aside for a library, most of them for redraws
_STREAM = 21
_COMPONENTS_PER_LIBRARY = 4.3  # to guess how many libraries are needed


@dataclasses.dataclass(frozen=True)
class ImperfectSet:
    """n matched components.

    Attributes:
        pattern: float32 [n, L], maximum 1.
        truth: float32 [n, L], ideal pattern of the matched phase on its mean lattice, maximum 1.
        label: int32 [n], crystal system.
        library: int32 [n], which library it comes from, ascending.
        prototype_id: int32 [n].
        match_ncc: float32 [n], similarity by which it was matched.
        fraction: float32 [n], mean phase fraction in the library.
    """

    pattern: np.ndarray
    truth: np.ndarray
    label: np.ndarray
    library: np.ndarray
    prototype_id: np.ndarray
    match_ncc: np.ndarray
    fraction: np.ndarray

    def __len__(self) -> int:
        return len(self.label)


def imperfect_set(
    config_data: Any,
    seed: int,
    cache_dir: str | os.PathLike[str],
    workers: int,
    phases: tuple[str, Callable[[int], list[Crystal]]] | None = None,
) -> ImperfectSet:
    """Returns the imperfect set of a configuration, from the cache or generated.

    It holds exactly `imperfect.count` components: those of the libraries 0, 1, 2, ... in order,
    the last library cut short. A library depends on the seed and its number alone, never on
    `workers`.

    Args:
        config_data: with wavelength, b_iso, grid.*, imperfect.count and what `imperfections_of`
            reads.
        seed: not negative.
        cache_dir: where the arrays are kept.
        workers: processes used for generating.
        phases: what names the choice of crystals in the cache, and the 3 to 6 crystals of each
            library; None for fresh prototypes.

    Raises:
        UserError: see `cached_arrays`.
    """
    imperfect = config_data.imperfect
    ranges, options = imperfections_of(config_data)
    grid = Grid(**config_data.grid, wavelength=config_data.wavelength)
    key = {
        "seed": int(seed),
        "count": int(imperfect.count),
        "ranges": ranges._asdict(),
        "options": options._asdict(),
        "grid": grid._asdict(),
        "b_iso": float(config_data.b_iso),
    }
    given = None
    if phases is not None:
        key["phases"], given = phases
    make = functools.partial(
        _components_of,
        seed=int(seed),
        diffraction=Diffraction(grid, float(config_data.b_iso)),
        ranges=ranges,
        options=options,
    )
    build = functools.partial(_build, make, given, int(imperfect.count), workers)
    return ImperfectSet(**cached_arrays(cache_dir, "imperfect", key, build))


def library_components(
    library: int,
    *,
    seed: int,
    diffraction: Diffraction,
    ranges: Imperfection,
    options: Options,
    crystals: list[Crystal] | None = None,
) -> dict[str, np.ndarray]:
    """Returns the matched components of one library: the fields of ImperfectSet.

    A pure function of its arguments: on one BLAS thread, since sums depend on their number.
    Without `crystals` its phases are fresh prototypes.
    """
    with threadpool_limits(1):
        return _library_components(library, seed, diffraction, ranges, options, crystals)


def _components_of(
    item: tuple[int, list[Crystal] | None], **arguments: Any
) -> dict[str, np.ndarray]:
    library, crystals = item
    return library_components(library, **arguments, crystals=crystals)


def _library_components(
    library: int,
    seed: int,
    diffraction: Diffraction,
    ranges: Imperfection,
    options: Options,
    crystals: list[Crystal] | None,
) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(np.random.SeedSequence((seed, _STREAM, library)))
    if crystals is None:
        crystals = _phases(rng, library, seed, diffraction)
    simulated = simulate_library(crystals, diffraction, rng, ranges, options)
    extra = rng.choice([-1, 0, 1], p=[ranges.fewer, 1.0 - ranges.fewer - ranges.more, ranges.more])
    components = unmix(simulated.pattern, len(crystals) + int(extra)).components
    component, phase, similarity = match(components, simulated.truth)
    fraction = simulated.fraction.mean(axis=0)
    return {
        "pattern": np.array([normalize_max(components[i]) for i in component], np.float32).reshape(
            -1, diffraction.grid.length
        ),
        "truth": simulated.truth[phase],
        "label": np.array([crystals[i].system for i in phase], np.int32),
        "library": np.full(len(phase), library, np.int32),
        "prototype_id": np.array([crystals[i].prototype_id for i in phase], np.int32),
        "match_ncc": similarity.astype(np.float32),
        "fraction": fraction[phase].astype(np.float32),
    }


def _phases(
    rng: np.random.Generator, library: int, seed: int, diffraction: Diffraction
) -> list[Crystal]:
    """3 to 6 fresh prototypes with a peak on the grid, crystal systems uniform."""
    count = int(rng.integers(3, 7))
    first = FIRST_PROTOTYPE + library * _PROTOTYPES_PER_LIBRARY
    crystals: list[Crystal] = []
    for prototype_id in range(first, first + _PROTOTYPES_PER_LIBRARY):
        system = int(rng.integers(len(CRYSTAL_SYSTEMS)))
        crystal = random_prototype(seed, prototype_id, system).crystal
        if has_lines(crystal, diffraction):
            crystals.append(crystal)
        if len(crystals) == count:
            return crystals
    raise UserError(
        f"config.data.grid: of {_PROTOTYPES_PER_LIBRARY} crystals only {len(crystals)} have a peak "
        f"between q = {diffraction.grid.q_min} and {diffraction.grid.q_max}; widen the range"
    )


def _build(
    make: Any, given: Callable[[int], list[Crystal]] | None, count: int, workers: int
) -> dict[str, np.ndarray]:
    parts: list[dict[str, np.ndarray]] = []
    found = 0
    while found < count:
        missing = int(np.ceil((count - found) / _COMPONENTS_PER_LIBRARY))
        numbers = range(len(parts), len(parts) + missing)
        items = [(number, given(number) if given else None) for number in numbers]
        describe = f"simulating and unmixing {missing} libraries"
        new = list(parallel_map(make, items, workers=workers, describe=describe))
        parts += new
        found += sum(len(part["label"]) for part in new)
    return {name: np.concatenate([part[name] for part in parts])[:count] for name in parts[0]}
