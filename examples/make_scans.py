"""Writes the example scans of this folder and the CIF files beside them; needs pymatgen.

    python examples/make_scans.py

Every scan is simulated: peaks of K alpha 1 and 2 with the widths of a laboratory instrument, a
background of air and glass, a zero shift and counting noise. Cells and atoms are textbook values.
`glass.xy` has no crystal in it.
"""

from pathlib import Path

import numpy as np
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter

from imitation_refinement.xrd.diffraction import merge_lines, reflections
from imitation_refinement.xrd.grid import two_theta_from_q
from imitation_refinement.xrd.structures.collection import read_cif

FOLDER = Path(__file__).parent
LINES = {"Cu": (1.54056, 1.54439), "Mo": (0.70930, 0.71359)}  # K alpha 1 and 2, angstrom
RANGE = {"Cu": (15.0, 93.0, 0.04), "Mo": (7.0, 41.0, 0.02)}  # 2 theta in degrees
# Space group, cell, atoms; anode, counts of the highest peak.
PHASES = {
    "silicon": ("Fd-3m", (5.4309,) * 3 + (90, 90, 90), [("Si", 0, 0, 0)], "Mo", 4000),
    "zincite": (
        "P6_3mc", (3.2495, 3.2495, 5.2069, 90, 90, 120),
        [("Zn", 1 / 3, 2 / 3, 0), ("O", 1 / 3, 2 / 3, 0.3821)], "Cu", 6000,
    ),
    "rutile": (
        "P4_2/mnm", (4.5937, 4.5937, 2.9587, 90, 90, 90),
        [("Ti", 0, 0, 0), ("O", 0.3053, 0.3053, 0)], "Cu", 3000,
    ),
    "corundum": (
        "R-3c", (4.7587, 4.7587, 12.9929, 90, 90, 120),
        [("Al", 0, 0, 0.35216), ("O", 0.30624, 0, 0.25)], "Cu", 1500,
    ),
    "tenorite": (
        "C2/c", (4.6837, 3.4226, 5.1288, 90, 99.54, 90),
        [("Cu", 0.25, 0.25, 0), ("O", 0, 0.4184, 0.25)], "Cu", 800,
    ),
}  # fmt: skip


def write_cif(name: str) -> Path:
    """Writes a phase as a CIF with its space group."""
    group, cell, atoms, *_ = PHASES[name]
    structure = Structure.from_spacegroup(
        group, Lattice.from_parameters(*cell), [a[0] for a in atoms], [a[1:] for a in atoms]
    )
    path = FOLDER / f"{name}.cif"
    path.write_text(str(CifWriter(structure, symprec=0.01)))
    return path


def peak(offset: np.ndarray, fwhm: float) -> np.ndarray:
    """A pseudo-Voigt of height 1, one third Lorentzian."""
    squared = (2.0 * offset / fwhm) ** 2
    return np.exp(-np.log(2.0) * squared) * 2.0 / 3.0 + 1.0 / 3.0 / (1.0 + squared)


def crystal_counts(path: Path, angle: np.ndarray, anode: str, top: float) -> np.ndarray:
    """Expected counts of a crystal without background."""
    crystal = read_cif(path)
    counts = np.zeros_like(angle)
    for wavelength, weight in zip(LINES[anode], (1.0, 0.5), strict=True):
        limit = 4.0 * np.pi / wavelength * np.sin(np.radians(angle[-1] + 2.0) / 2.0)
        found = reflections(
            crystal.lattice, crystal.positions, crystal.numbers,
            q_min=0.5, q_max=limit, wavelength=wavelength, b_iso=0.5,
        )  # fmt: skip
        q, intensity = merge_lines(found.q, found.intensity)
        for place, height in zip(two_theta_from_q(q, wavelength), intensity, strict=True):
            fwhm = np.sqrt(0.09**2 + (0.16 * np.tan(np.radians(place) / 2.0)) ** 2)
            counts += weight * height / fwhm * peak(angle - place - 0.03, fwhm)
    return top * counts / counts.max()


def background(angle: np.ndarray, glass: float) -> np.ndarray:
    """Air scattering at low angles, a constant, and the hump of a glass holder."""
    return 60.0 + 300.0 * np.exp(-angle / 12.0) + glass * peak(angle - 24.0, 11.0)


def main() -> None:
    """Writes all scans; a second time gives the same bytes."""
    for number, name in enumerate([*PHASES, "glass"]):
        rng = np.random.default_rng(np.random.SeedSequence((2019, number)))
        anode, top = PHASES[name][3:] if name in PHASES else ("Cu", 0)
        first, last, step = RANGE[anode]
        angle = np.arange(first, last, step)
        expected = background(angle, 400.0 if name == "glass" else 40.0)
        if name in PHASES:
            expected += crystal_counts(write_cif(name), angle, anode, top)
        mean = (2.0 * LINES[anode][0] + LINES[anode][1]) / 3.0
        head = f"# {name}, simulated by examples/make_scans.py\n# wavelength {mean:.5f} angstrom\n"
        rows = zip(angle, rng.poisson(expected), strict=True)
        text = head + "".join(f"{place:.2f} {count}\n" for place, count in rows)
        (FOLDER / f"{name}.xy").write_text(text)


if __name__ == "__main__":
    main()
