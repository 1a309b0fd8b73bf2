"""Random crystals on real Wyckoff templates, and families of members around them.

Belongs here: drawing composition, metric and atoms of a prototype and varying them. The crystals
are plausible in symmetry, density and distances; charge balance and stability are not claimed. That
such crystals train a space-group classifier is the finding of Schopmans et al., Digital
Discovery 2023, doi:10.1039/d3dd00071k.
"""

import dataclasses
import itertools
import math
from functools import cache

import numpy as np

from imitation_refinement.xrd import symmetry
from imitation_refinement.xrd.composition import draw, exchange_elements, random_composition
from imitation_refinement.xrd.symmetry import CRYSTAL_SYSTEMS, system_preserving
from imitation_refinement.xrd.tables import element_tables, wyckoff_tables

__all__ = [
    "CRYSTAL_SYSTEMS",
    "SYSTEM_PRIOR",
    "Crystal",
    "Prototype",
    "prototype_member",
    "random_prototype",
    "strained",
    "system_preserving",
]

# Relative class sizes in thousands. Triclinic 14 and cubic 52 are the paper's smallest and largest
# class of its 240,000 patterns; the five between are our choice.
SYSTEM_PRIOR = np.array([14.0, 44.0, 46.0, 34.0, 26.0, 24.0, 52.0])

_PROTOTYPE_STREAM, _MEMBER_STREAM = 11, 12

_MAX_PRIMITIVE_ATOMS = 48
_TEMPLATE_EXPONENT = 0.75  # damps the few most frequent templates
_MIN_CONTACT = 0.70  # shortest distance over the sum of covalent radii, prototypes
_MIN_MEMBER_CONTACT = 0.62
_CANDIDATES = 8
_MEMBER_TRIES = 25

_IMAGES = np.array([(0, 0, 0), *(t for t in itertools.product((-1, 0, 1), repeat=3) if any(t))])


@dataclasses.dataclass(frozen=True)
class Crystal:
    """One crystal in its primitive cell.

    Attributes:
        cell: float64 [6], conventional a, b, c (angstrom), alpha, beta, gamma (degrees).
        primitive: float64 [3, 3]; primitive lattice = primitive @ conventional lattice (rows).
        numbers: int64 [n], atomic numbers.
        positions: float64 [n, 3], fractional coordinates in the primitive cell.
        space_group: 1..230, of the template; a rare crystal has a supergroup of the same system.
        system: label 0..6, index into CRYSTAL_SYSTEMS.
        prototype_id: the family it belongs to.
    """

    cell: np.ndarray
    primitive: np.ndarray
    numbers: np.ndarray
    positions: np.ndarray
    space_group: int
    system: int
    prototype_id: int

    @property
    def lattice(self) -> np.ndarray:
        """Primitive lattice vectors as rows, float64 [3, 3], angstrom."""
        return self.primitive @ symmetry.lattice_vectors(self.cell)


@dataclasses.dataclass(frozen=True)
class Prototype:
    """A crystal with the degrees of freedom that its members vary.

    Attributes:
        crystal: the prototype itself.
        rotations, translations: float64 [n, 3, 3], [n, 3]; atom i sits at
            rotations[i] @ parameters[orbit[i]] + translations[i].
        orbit: int [n], the orbit of each atom.
        parameters: float64 [orbits, 3]; entries that the site fixes have no effect.
        species: int [n], index of each atom's species.
        elements: int [species], atomic number of each species.
        anion: bool [species], whether only anions may replace it.
    """

    crystal: Crystal
    rotations: np.ndarray
    translations: np.ndarray
    orbit: np.ndarray
    parameters: np.ndarray
    species: np.ndarray
    elements: np.ndarray
    anion: np.ndarray


def random_prototype(seed: int, prototype_id: int, system: int | None = None) -> Prototype:
    """Draws one prototype; a pure function of its arguments.

    Template (space group and occupied Wyckoff positions), elements, volume and metric are drawn,
    then the atoms are placed one orbit at a time; what cannot be placed is drawn anew.

    Args:
        seed: non-negative.
        prototype_id: non-negative; names the family.
        system: label 0..6; None draws it with the weights SYSTEM_PRIOR.
    """
    rng = np.random.default_rng(np.random.SeedSequence((seed, _PROTOTYPE_STREAM, prototype_id)))
    if system is None:
        system = int(draw(rng, np.cumsum(SYSTEM_PRIOR)))
    while True:
        prototype = _attempt_prototype(rng, prototype_id, system)
        if prototype is not None:
            return prototype


def prototype_member(prototype: Prototype, seed: int, member_id: int) -> Crystal:
    """A variation of a prototype with the same symmetry; member 0 is the prototype itself.

    Elements are exchanged within their role for ones of similar relative size, the cell follows the
    radii, and metric and free coordinates are perturbed. If repeated draws bring atoms too close,
    the perturbations shrink.
    """
    base = prototype.crystal
    if member_id == 0:
        return base
    rng = np.random.default_rng(
        np.random.SeedSequence((seed, _MEMBER_STREAM, base.prototype_id, member_id))
    )
    _, first = np.unique(prototype.orbit, return_index=True)
    for attempt in range(_MEMBER_TRIES):
        amplitude = min(1.0, 2.0 * (1.0 - attempt / _MEMBER_TRIES))
        elements = (
            exchange_elements(rng, prototype.elements, prototype.anion)
            if amplitude == 1.0
            else prototype.elements
        )
        cell = _perturbed_cell(rng, prototype, elements, amplitude)
        if not symmetry.recoverable(cell, base.system):
            continue
        parameters = prototype.parameters + rng.normal(
            0.0, 0.008 * amplitude, prototype.parameters.shape
        )
        positions = _place(prototype.rotations, prototype.translations, parameters[prototype.orbit])
        numbers = elements[prototype.species]
        lattice = base.primitive @ symmetry.lattice_vectors(cell)
        radii = element_tables().radius[numbers]
        if _contacts(lattice, positions[first], first, positions, radii) >= _MIN_MEMBER_CONTACT:
            break
    else:
        # Only larger: this keeps every distance ratio of the prototype or widens it.
        cell = base.cell.copy()
        cell[:3] *= math.exp(abs(rng.normal(0.0, 0.015)))
        positions, numbers = base.positions, base.numbers
    return dataclasses.replace(base, cell=cell, positions=positions % 1.0, numbers=numbers)


def strained(crystal: Crystal, axial: np.ndarray) -> Crystal:
    """The crystal with a, b, c times (1 + axial), fractional coordinates kept.

    Args:
        crystal: any.
        axial: [3]; must keep the crystal system, see `system_preserving`.
    """
    cell = crystal.cell.copy()
    cell[:3] *= 1.0 + np.asarray(axial, float)
    return dataclasses.replace(crystal, cell=cell)


# --- Prototypes ----------------------------------------------------------------------------------


def _attempt_prototype(
    rng: np.random.Generator, prototype_id: int, system: int
) -> Prototype | None:
    templates, cumulative = _templates(system)
    template = templates[draw(rng, cumulative)]
    space_group, orbits = _template(int(template))
    sizes = np.array([len(maps) for maps in orbits])
    orbit_species, elements, anion = random_composition(rng, sizes)
    radius = element_tables().radius
    orbit_radius = radius[elements[orbit_species]]
    volume = (
        1.9
        * math.exp(rng.normal(0.10, 0.22))
        * float(np.sum(sizes * 4.0 / 3.0 * np.pi * orbit_radius**3))
    )
    volume = max(volume, 10.0 * float(sizes.sum()))

    cell = symmetry.random_cell_shape(rng, system)
    conventional = symmetry.lattice_vectors(cell)
    centring = symmetry.primitive_transform(space_group)
    unimodular = symmetry.reduced_basis(centring @ conventional)
    primitive = unimodular @ centring
    # x_primitive (rows) = x_standard @ inv(unimodular), so each map is multiplied from the left.
    inverse = np.rint(np.linalg.inv(unimodular)).T
    rotations = [inverse @ maps[:, :, :3] for maps in orbits]
    translations = [(maps[:, :, 3] / 24.0) @ inverse.T for maps in orbits]

    for attempt in range(3):
        scale = (volume * 1.12**attempt / abs(np.linalg.det(primitive))) ** (1 / 3)
        lattice = primitive @ conventional * scale
        parameters = _place_orbits(rng, lattice, rotations, translations, orbit_radius)
        if parameters is not None:
            break
    else:
        return None

    orbit = np.repeat(np.arange(len(sizes)), sizes)
    all_rotations, all_translations = np.concatenate(rotations), np.concatenate(translations)
    positions = _place(all_rotations, all_translations, parameters[orbit]) % 1.0
    species = orbit_species[orbit]
    cell[:3] *= scale
    if (
        system == symmetry.TRIGONAL
        and np.array_equal(centring, np.eye(3))
        and symmetry.hides_sixfold_axis(cell, positions @ primitive, species)
    ):
        return None
    crystal = Crystal(
        cell, primitive, elements[species], positions, space_group, system, prototype_id
    )
    return Prototype(
        crystal, all_rotations, all_translations, orbit, parameters, species, elements, anion
    )


def _place_orbits(
    rng: np.random.Generator,
    lattice: np.ndarray,
    rotations: list[np.ndarray],
    translations: list[np.ndarray],
    orbit_radius: np.ndarray,
) -> np.ndarray | None:
    """Parameters [orbits, 3] with all contacts >= _MIN_CONTACT, or None.

    Sites without freedom come first, then small orbits before large ones.
    """
    sizes = [len(maps) for maps in rotations]
    fixed = [not maps[0].any() for maps in rotations]
    parameters = np.zeros((len(sizes), 3))
    placed, radii = np.zeros((0, 3)), np.zeros(0)
    for i in sorted(range(len(sizes)), key=lambda i: (not fixed[i], sizes[i])):
        draws = rng.random((1 if fixed[i] else _CANDIDATES, 3))
        own = np.einsum("mij,cj->cmi", rotations[i], draws) + translations[i]
        others = np.broadcast_to(placed, (len(draws), *placed.shape))
        atoms = np.concatenate([own, others], axis=1)
        all_radii = np.concatenate([np.full(sizes[i], orbit_radius[i]), radii])
        # Symmetry makes the surroundings of one atom of the orbit those of all.
        ratio = _contact_ratios(
            lattice, atoms - own[:, :1], np.zeros(len(draws), int), all_radii + orbit_radius[i]
        )
        best = int(np.argmax(ratio))
        if ratio[best] < _MIN_CONTACT:
            return None
        parameters[i] = draws[best]
        placed, radii = np.concatenate([own[best], placed]), all_radii
    return parameters


@cache
def _templates(system: int) -> tuple[np.ndarray, np.ndarray]:
    """Templates of a crystal system that are small enough, and their cumulative weights."""
    table = wyckoff_tables()
    sizes = np.diff(table.orbit_offsets)
    first_orbit = table.group_offsets[table.template_group]
    lengths = np.diff(table.template_offsets)
    atoms = np.add.reduceat(
        sizes[np.repeat(first_orbit, lengths) + table.template_orbits], table.template_offsets[:-1]
    )
    systems = np.array([symmetry.system_of_space_group(int(g)) for g in table.template_group])
    chosen = np.flatnonzero((systems == system) & (atoms <= _MAX_PRIMITIVE_ATOMS))
    return chosen, np.cumsum(table.template_count[chosen].astype(float) ** _TEMPLATE_EXPONENT)


@cache
def _template(index: int) -> tuple[int, list[np.ndarray]]:
    """Space group of a template and the maps [m, 3, 4] of each of its orbits."""
    table = wyckoff_tables()
    group = int(table.template_group[index])
    start, stop = table.template_offsets[index : index + 2]
    orbits = table.group_offsets[group] + table.template_orbits[start:stop].astype(int)
    maps = table.maps.astype(float)
    bounds = table.orbit_offsets
    return group, [maps[table.orbit_maps[bounds[i] : bounds[i + 1]]] for i in orbits]


# --- Members -------------------------------------------------------------------------------------


def _perturbed_cell(
    rng: np.random.Generator, prototype: Prototype, elements: np.ndarray, amplitude: float
) -> np.ndarray:
    radius, base = element_tables().radius, prototype.crystal
    old_volume = np.sum(radius[base.numbers] ** 3)
    new_volume = np.sum(radius[elements[prototype.species]] ** 3)
    scale = (new_volume / old_volume) ** (1 / 3) * math.exp(rng.normal(0.0, 0.015) * amplitude)
    axial = symmetry.tied(rng.normal(0.0, 0.015 * amplitude, 3), base.system)
    cell = base.cell.copy()
    cell[:3] *= scale * (1.0 + axial)
    if base.system == symmetry.MONOCLINIC:
        cell[4] += rng.normal(0.0, 0.6 * amplitude)
    elif base.system == symmetry.TRICLINIC:
        cell[3:] += rng.normal(0.0, 0.6 * amplitude, 3)
    return cell


# --- Geometry ------------------------------------------------------------------------------------


def _place(rotations: np.ndarray, translations: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    return np.einsum("nij,nj->ni", rotations, parameters) + translations


def _contacts(
    lattice: np.ndarray,
    centers: np.ndarray,
    indices: np.ndarray,
    positions: np.ndarray,
    radii: np.ndarray,
) -> float:
    """Smallest distance over radius sum between the centers [c, 3] and all atoms [n, 3]."""
    delta = positions[None] - centers[:, None]
    return float(_contact_ratios(lattice, delta, indices, radii[indices, None] + radii).min())


def _contact_ratios(
    lattice: np.ndarray, delta: np.ndarray, itself: np.ndarray, radius_sum: np.ndarray
) -> np.ndarray:
    """Smallest distance over radius sum of each center, [c].

    Args:
        lattice: [3, 3], reduced, so that the 27 nearest images suffice.
        delta: [c, n, 3], fractional difference of atom n from center c.
        itself: int [c], the atom that is the center: only its images count.
        radius_sum: [n] or [c, n].
    """
    cartesian = (delta - np.rint(delta)) @ lattice
    images = _IMAGES @ lattice
    squared = 2.0 * (cartesian @ images.T) + np.sum(images**2, axis=1)
    squared += np.sum(cartesian**2, axis=-1, keepdims=True)
    squared[np.arange(len(delta)), itself, 0] = np.inf
    distance = np.sqrt(np.maximum(squared.min(axis=-1), 0.0))
    return (distance / radius_sum).min(axis=-1)
