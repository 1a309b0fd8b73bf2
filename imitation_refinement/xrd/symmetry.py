"""Lattice metrics and what each crystal system asks of them.

Belongs here: cells and lattice vectors, basis reduction, the constraints of the seven systems, and
the guard that keeps a random metric away from a higher symmetry. Nothing here knows about atoms,
except the test for a hidden sixfold axis. Lengths in angstrom, angles in degrees.
"""

import math

import numpy as np

from imitation_refinement.xrd.tables import wyckoff_tables

CRYSTAL_SYSTEMS = (
    "triclinic",
    "monoclinic",
    "orthorhombic",
    "tetragonal",
    "trigonal",
    "hexagonal",
    "cubic",
)
TRICLINIC, MONOCLINIC, ORTHORHOMBIC, TETRAGONAL, TRIGONAL, HEXAGONAL, CUBIC = range(7)

# First space group of each system after triclinic (International Tables numbering).
_FIRST_GROUP = np.array([3, 16, 75, 143, 168, 195])

# Which of the axes share one length: axis i has the length of axis _TIED_AXES[system][i].
_TIED_AXES = ((0, 1, 2), (0, 1, 2), (0, 1, 2), (0, 0, 2), (0, 0, 2), (0, 0, 2), (0, 0, 0))

# c/a at which a tetragonal (P, I, F) or rhombohedral (P, I, F) lattice is metrically cubic.
_CUBIC_RATIOS = {
    TETRAGONAL: (1.0, math.sqrt(2.0), math.sqrt(0.5)),
    TRIGONAL: (math.sqrt(6.0), math.sqrt(1.5), math.sqrt(0.375)),
}
# math.cos(pi / 2) is 6e-17: enough to split reflections that symmetry makes equal.
_EXACT = {90.0: 0.0, 120.0: -0.5, 60.0: 0.5}
MIN_SPLIT = 0.02
MIN_ANGLE_SPLIT = 1.5
MAX_AXIS_RATIO = 5.0


def system_of_space_group(space_group: int) -> int:
    """Crystal-system label 0..6 of a space group 1..230."""
    return int(np.searchsorted(_FIRST_GROUP, space_group, side="right"))


def lattice_vectors(cell: np.ndarray) -> np.ndarray:
    """Lattice vectors as rows, float64 [3, 3]; a along x, b in the xy plane.

    Args:
        cell: [6], a, b, c, alpha, beta, gamma.
    """
    a, b, c, *angles = map(float, cell)
    cos_alpha, cos_beta, cos_gamma = map(_cosine, angles)
    sin_gamma = math.sqrt(1.0 - cos_gamma**2)
    y = (cos_alpha - cos_beta * cos_gamma) / sin_gamma
    z = math.sqrt(1.0 - cos_beta**2 - y**2)
    return np.array(
        [[a, 0.0, 0.0], [b * cos_gamma, b * sin_gamma, 0.0], [c * cos_beta, c * y, c * z]]
    )


def _cosine(angle: float) -> float:
    exact = _EXACT.get(angle)
    return math.cos(math.radians(angle)) if exact is None else exact


def reduced_basis(lattice: np.ndarray) -> np.ndarray:
    """Integer unimodular float64 [3, 3] U whose U @ lattice has no pair that can be shortened.

    Short vectors keep both the box of reflections and the images of an atom few.
    """
    transform = np.eye(3)
    gram = (lattice @ lattice.T).tolist()
    changed = True
    while changed:
        changed = False
        for i, j in ((0, 1), (0, 2), (1, 2), (1, 0), (2, 0), (2, 1)):
            # 0.5 exactly (hexagonal, face-centred) must not go round for ever.
            steps = round(gram[i][j] / gram[j][j] * (1 - 1e-9))
            if steps:
                transform[i] -= steps * transform[j]
                vectors = transform @ lattice
                gram = (vectors @ vectors.T).tolist()
                changed = True
    return transform


def system_preserving(axial: np.ndarray, system: int) -> np.ndarray:
    """Projects axial strains float64 [3] onto those that keep the crystal system.

    The strains of axes that must stay equal are replaced by their mean.
    """
    tied = np.array(_TIED_AXES[system])
    return np.array([np.mean(np.asarray(axial, float)[tied == axis]) for axis in tied])


def tied(values: np.ndarray, system: int) -> np.ndarray:
    """Takes one value [3] per axis and copies those of the free axes onto the tied ones."""
    return values[list(_TIED_AXES[system])]


def random_cell_shape(rng: np.random.Generator, system: int) -> np.ndarray:
    """A random recoverable conventional cell [6] of unit volume."""
    while True:
        logs, angles = np.zeros(3), np.array([90.0, 90.0, 90.0])
        if system == TRICLINIC:
            logs[1:] = rng.normal(0.0, 0.4, 2)
            angles += rng.normal(0.0, 12.0, 3)
        elif system in (MONOCLINIC, ORTHORHOMBIC):
            logs[1:] = rng.normal(0.0, 0.5, 2)
            if system == MONOCLINIC:
                angles[1] = 91.0 + abs(rng.normal(0.0, 14.0))
        elif system == TETRAGONAL:
            logs[2] = rng.normal(0.2, 0.6)
        elif system in (TRIGONAL, HEXAGONAL):
            logs[2] = rng.normal(0.55, 0.65)
            angles[2] = 120.0
        cell = np.concatenate([np.exp(logs), angles])
        if recoverable(cell, system):
            cell[:3] /= cell_volume(cell) ** (1 / 3)
            return cell


def cell_volume(cell: np.ndarray) -> float:
    """Volume of a cell [6] in cubic angstrom."""
    a, b, c = (float(length) for length in cell[:3])
    return a * b * c * math.sqrt(max(_angle_determinant(cell), 0.0))


def _angle_determinant(cell: np.ndarray) -> float:
    x, y, z = (_cosine(float(angle)) for angle in cell[3:])
    return 1.0 - x * x - y * y - z * z + 2.0 * x * y * z


def recoverable(cell: np.ndarray, system: int, min_split: float = MIN_SPLIT) -> bool:
    """Whether a metric stays `min_split` (relative) away from every higher-symmetric one.

    Also bounds the axis ratio and the flatness of the cell. Without this guard the label could not
    be told from the pattern, because the split of the peaks would drown in their width.
    """
    a, b, c = (float(length) for length in cell[:3])
    if max(a, b, c) > MAX_AXIS_RATIO * min(a, b, c) or _angle_determinant(cell) < 0.1:
        return False

    def near(x: float, y: float) -> bool:
        return abs(math.log(x / y)) < min_split

    if system in _CUBIC_RATIOS:
        return not any(near(c / a, ratio) for ratio in _CUBIC_RATIOS[system])
    if system == ORTHORHOMBIC:
        pairs = ((a, b), (b, c), (a, c))
        root3 = math.sqrt(3.0)  # a centred rectangle of this shape is hexagonal
        return not any(near(x, y) or near(x, root3 * y) or near(y, root3 * x) for x, y in pairs)
    if system == MONOCLINIC:
        return float(cell[4]) >= 90.0 + MIN_ANGLE_SPLIT and not _orthogonal_net(
            a, c, _cosine(float(cell[4])), min_split
        )
    if system == TRICLINIC:
        return bool(np.all(np.abs(cell[3:] - 90.0) >= MIN_ANGLE_SPLIT))
    return True


def _orthogonal_net(a: float, c: float, cos_beta: float, min_split: float) -> bool:
    """Whether the a-c net of a monoclinic lattice is nearly rectangular or rhombic."""
    u, v = np.array([a, 0.0]), np.array([c * cos_beta, c * math.sqrt(1.0 - cos_beta**2)])
    while True:  # Lagrange reduction to the two shortest vectors
        if u @ u > v @ v:
            u, v = v, u
        steps = round(float(u @ v / (u @ u)))
        if steps == 0:
            break
        v = v - steps * u
    short, long, overlap = math.sqrt(u @ u), math.sqrt(v @ v), abs(float(u @ v))
    return (
        overlap < math.sin(math.radians(MIN_ANGLE_SPLIT)) * short * long  # rectangular
        or abs(math.log(long / short)) < min_split  # rhombic, from equal edges
        or abs(math.log(2.0 * overlap / short**2)) < min_split  # rhombic: v and v - u are equal
    )


def hides_sixfold_axis(
    cell: np.ndarray, positions: np.ndarray, species: np.ndarray, tolerance: float = 0.1
) -> bool:
    """Whether a primitive trigonal crystal is hexagonal to within `tolerance` angstrom.

    Trigonal and hexagonal P lattices are one and the same, so special positions may bring a 6 or -6
    axis back: it is there iff a twofold axis along c or a mirror across it maps the crystal onto
    itself (3 x 2 = 6, 3 x m = -6).

    Args:
        cell: [6], hexagonal axes.
        positions: [n, 3], fractional in that cell.
        species: int [n].
        tolerance: angstrom.
    """
    lattice = lattice_vectors(cell)
    rare = min(set(species.tolist()), key=species.tolist().count)
    unlike = species[:, None] != species[None, :]
    for signs in ((-1.0, -1.0, 1.0), (1.0, 1.0, -1.0)):
        image = positions * np.array(signs)
        targets = positions[species == rare]
        for shift in targets - image[species == rare][0]:
            delta = image[:, None] + shift - positions[None]
            delta -= np.rint(delta)
            distance = np.sqrt(np.sum((delta @ lattice) ** 2, axis=-1))
            distance[unlike] = np.inf
            if np.all(distance.min(axis=1) < tolerance):
                return True
    return False


def primitive_transform(space_group: int) -> np.ndarray:
    """float64 [3, 3] P with primitive lattice = P @ conventional lattice (R obverse)."""
    return wyckoff_tables().primitive[space_group]
