"""Makes the embedded tables in `tables/` from pyxtal and pymatgen.

Belongs here: reading those packages' data files and packing them. Needed only to renew the tables:

    pip install pyxtal==1.1.5 pymatgen==2026.10.24
    python -m imitation_refinement.xrd.derive_tables

Sources (all under the MIT licence; see tables/README.md for the attributions):
  pyxtal 1.1.5, `database/wyckoff_list.csv`: Wyckoff positions of the 230 space groups in the
    settings of the International Tables (unique axis b, hexagonal axes for R, origin choice 2).
  pyxtal 1.1.5, `database/spg_num_wps_mp.csv`: how often each combination of space group and
    occupied Wyckoff positions occurs among known crystals.
  pymatgen-core 2026.10.16, `analysis/diffraction/atomic_scattering_params.json`: a_i and b_i of
    f(s) = Z - 41.78214 s^2 sum_i a_i exp(-b_i s^2) (De Graef and McHenry, Structure of Materials).
  pymatgen-core 2026.10.16, `CovalentRadius`: B. Cordero et al., Dalton Trans. 2008, 2832,
    doi:10.1039/b801115j.
"""

import ast
import csv
import importlib.resources
import json
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path

import numpy as np

TABLES = Path(__file__).with_name("tables")
_ELEMENTS = 98

# Primitive lattice vectors (rows) of each centring in sixths of the conventional ones. All inverses
# are integer matrices, so Wyckoff maps stay integer in primitive coordinates. R is obverse.
_PRIMITIVE_SIXTHS = {
    "P": [[6, 0, 0], [0, 6, 0], [0, 0, 6]],
    "A": [[6, 0, 0], [0, 3, -3], [0, 3, 3]],
    "C": [[3, -3, 0], [3, 3, 0], [0, 0, 6]],
    "I": [[-3, 3, 3], [3, -3, 3], [3, 3, -3]],
    "F": [[0, 3, 3], [3, 0, 3], [3, 3, 0]],
    "R": [[4, 2, 2], [-2, 2, 2], [-2, -4, 2]],
}


def affine_map(text: str) -> np.ndarray:
    """Parses 'x, -y+1/2, x-y' into int [3, 4]: coefficients of x, y, z and a constant in 24ths."""
    result = np.zeros((3, 4), int)
    for row, expression in zip(result, text.split(","), strict=True):
        for term in expression.replace(" ", "").replace("-", "+-").split("+"):
            if not term:
                continue
            if term[-1] in "xyz":
                factor = term[:-1]
                row["xyz".index(term[-1])] += {"": 1, "-": -1}.get(factor) or int(factor)
            else:
                shift = Fraction(term) * 24
                assert shift.denominator == 1, text
                row[3] += int(shift)
    return result


def primitive_maps(texts: list[str], primitive_sixths: np.ndarray) -> np.ndarray:
    """The maps of one Wyckoff position in primitive coordinates, one per primitive-cell atom.

    With x_conventional = A p + b the fractional coordinates (row vectors) transform as
    x_primitive = x_conventional @ inv(P); maps that differ by a centring vector become equal mod 1.
    """
    inverse = np.rint(np.linalg.inv(primitive_sixths / 6.0)).astype(int)
    unique: dict[tuple[int, ...], np.ndarray] = {}
    for text in texts:
        conventional = affine_map(text)
        primitive = inverse.T @ conventional
        primitive[:, 3] %= 24
        unique.setdefault(tuple(primitive.ravel()), primitive)
    return np.array(list(unique.values()))


def wyckoff_arrays() -> dict[str, np.ndarray]:
    """Packs pyxtal's positions and templates; checks every multiplicity on the way."""
    from pyxtal.symmetry import Group

    database = importlib.resources.files("pyxtal").joinpath("database")
    with database.joinpath("wyckoff_list.csv").open(encoding="utf-8") as file:
        rows = [ast.literal_eval(row[1]) for row in list(csv.reader(file))[2:]]
    with database.joinpath("spg_num_wps_mp.csv").open(encoding="utf-8") as file:
        templates = list(csv.DictReader(file))

    index: dict[bytes, int] = {}
    primitive = np.zeros((231, 3, 3), np.int8)
    maps: list[np.ndarray] = []
    orbit_maps, orbit_sizes, group_sizes = [], [], [0]
    multiplicity: list[list[int]] = [[]]
    fixed: list[list[bool]] = [[]]
    for number, positions in enumerate(rows, start=1):
        primitive[number] = _PRIMITIVE_SIXTHS[Group(number).symbol[0]]
        centring = round(1 / np.linalg.det(primitive[number] / 6.0))
        for texts in positions:
            own = primitive_maps(texts, primitive[number])
            assert len(own) * centring == len(texts), (number, texts)
            for entry in own.astype(np.int8):
                if entry.tobytes() not in index:
                    index[entry.tobytes()] = len(maps)
                    maps.append(entry)
                orbit_maps.append(index[entry.tobytes()])
            orbit_sizes.append(len(own))
        group_sizes.append(len(positions))
        multiplicity.append([len(texts) for texts in positions])
        fixed.append([not affine_map(texts[0])[:, :3].any() for texts in positions])

    orbits, sizes = [], []
    for row in templates:
        number = int(row["spg"])
        chosen = [int(i) for i in row["wps"].split("-")]
        assert sum(multiplicity[number][i] for i in chosen) == int(row["n_atoms"]), row
        assert all(chosen.count(i) == 1 for i in chosen if fixed[number][i]), row
        orbits += chosen
        sizes.append(len(chosen))
    return {
        "primitive_sixths": primitive,
        "maps": np.array(maps, np.int8),
        "orbit_maps": np.array(orbit_maps, np.int16),
        "orbit_offsets": np.cumsum([0, *orbit_sizes]).astype(np.int32),
        "group_offsets": np.cumsum([0, *group_sizes]).astype(np.int32),
        "template_group": np.array([int(row["spg"]) for row in templates], np.uint8),
        "template_count": np.array([int(row["count"]) for row in templates], np.int32),
        "template_orbits": np.array(orbits, np.uint8),
        "template_offsets": np.cumsum([0, *sizes]).astype(np.int32),
    }


def element_arrays() -> dict[str, np.ndarray]:
    """Packs pymatgen's scattering parameters and covalent radii for Z = 1..98."""
    from pymatgen.analysis import diffraction
    from pymatgen.core import Element
    from pymatgen.core.molecule_structure_comparator import CovalentRadius

    path = importlib.resources.files(diffraction).joinpath("atomic_scattering_params.json")
    parameters = json.loads(path.read_text(encoding="utf-8"))
    scattering = np.zeros((_ELEMENTS + 1, 4, 2))
    radius = np.full(_ELEMENTS + 1, np.nan)
    for number in range(1, _ELEMENTS + 1):
        symbol = Element.from_Z(number).symbol
        scattering[number] = parameters[symbol]
        radius[number] = CovalentRadius.radius.get(symbol, np.nan)
    return {"scattering": scattering, "radius": radius}


def main() -> None:
    """Writes tables/wyckoff.npz and tables/elements.npz."""
    for package in ("pyxtal", "pymatgen-core"):
        print(package, version(package))
    np.savez_compressed(TABLES / "wyckoff.npz", allow_pickle=False, **wyckoff_arrays())
    np.savez_compressed(TABLES / "elements.npz", allow_pickle=False, **element_arrays())


if __name__ == "__main__":
    main()
