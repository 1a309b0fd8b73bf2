"""Chemistry of random crystals: which elements, in which roles, on which orbits.

Belongs here: the element pools, drawing a composition, exchanging elements for similar ones. Charge
balance is not attempted.
"""

import numpy as np

from imitation_refinement.xrd.tables import element_tables

_SPECIES_COUNT = np.array([0.06, 0.30, 0.42, 0.17, 0.05])  # 1..5 species
_IONIC_FRACTION = 0.65
# Atomic number and weight: O, S, F, Cl, Se, N, Br, I, Te, P.
_ANIONS = np.array([8, 16, 9, 17, 34, 7, 35, 53, 52, 15])
_ANION_WEIGHTS = np.array([50.0, 10, 9, 7, 6, 5, 4, 4, 3, 2])
# Metals and semimetals up to Bi, without Tc and Pm, with Th and U.
_METALS = np.array(
    [3, 4, 5, 11, 12, 13, 14, *range(19, 34), *range(37, 43), *range(44, 52), 55, 56]
    + [*range(57, 61), *range(62, 84), 90, 92]
)
_MAX_RADIUS_SPREAD = 0.25
_TRIES = 16


def draw(
    rng: np.random.Generator, cumulative: np.ndarray, size: int | None = None
) -> np.ndarray | np.intp:
    """Index (or `size` of them) drawn with cumulative weights; much faster than rng.choice."""
    return np.searchsorted(cumulative, rng.random(size) * cumulative[-1], side="right")


def random_composition(
    rng: np.random.Generator, sizes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws elements and puts them on orbits.

    Args:
        rng: source of the draws.
        sizes: int [orbits], atoms per primitive cell.

    Returns:
        species of each orbit, int [orbits]; atomic number of each species, int [species]; whether
        it is the anion, bool [species].
    """
    species = min(int(draw(rng, np.cumsum(_SPECIES_COUNT))) + 1, len(sizes))
    ionic = species > 1 and rng.random() < _IONIC_FRACTION
    orbit_species = np.zeros(len(sizes), int)
    others = np.arange(len(sizes))
    if ionic:  # species 0 is the anion; it takes the largest orbits
        order = np.lexsort((rng.random(len(sizes)), -sizes))
        share = np.cumsum(sizes[order]) / sizes.sum()
        count = max(1, int(np.sum(share <= rng.uniform(0.40, 0.75))))
        others = order[min(count, len(sizes) - 1) :]
        species = min(species, 1 + len(others))
    first = int(ionic)
    # Every species gets one orbit, the rest is spread at random.
    chosen = rng.integers(first, species, len(others))
    chosen[: species - first] = np.arange(first, species)
    orbit_species[others] = rng.permutation(chosen)
    elements = rng.choice(_METALS, species, replace=False)
    anion = np.zeros(species, bool)
    if ionic:
        elements[0] = _ANIONS[draw(rng, np.cumsum(_ANION_WEIGHTS))]
        anion[0] = True
    return orbit_species, elements, anion


def exchange_elements(
    rng: np.random.Generator, elements: np.ndarray, anion: np.ndarray
) -> np.ndarray:
    """New elements of the same roles whose relative sizes differ by at most exp(0.25).

    Args:
        rng: source of the draws.
        elements: int [species], atomic numbers, all different.
        anion: bool [species].

    Returns:
        int [species], all different; the old elements where 16 draws find nothing.
    """
    drawn = _METALS[rng.integers(0, len(_METALS), (_TRIES, len(elements)))]
    picks = _ANIONS[draw(rng, np.cumsum(_ANION_WEIGHTS), _TRIES)]
    drawn = np.where(anion, picks[:, None], drawn)
    radius = element_tables().radius
    logs = np.log(radius[drawn] / radius[elements])
    ordered = np.sort(drawn, axis=1)
    # Two species must not merge into one: that might raise the symmetry.
    distinct = np.all(ordered[:, 1:] != ordered[:, :-1], axis=1)
    valid = distinct & (np.ptp(logs, axis=1) <= _MAX_RADIUS_SPREAD)
    found = np.flatnonzero(valid)
    return drawn[found[0]] if len(found) else elements
