"""Crystals from CIF files beside a refined pattern."""

from pathlib import Path

import numpy as np
import pytest

from imitation_refinement.commands.cif_match import SHOWN, CifMatcher
from imitation_refinement.errors import UserError
from imitation_refinement.xrd.grid import Grid, grid_q

GRID = Grid()
Q = grid_q(GRID)
EVERYWHERE = np.ones(GRID.length, bool)


def rock_salt(path: Path, a: float = 5.64, anion: str = "Cl") -> Path:
    """A rock-salt crystal with all symmetry spelt out as the centring of its cell."""
    sites = [(0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0)]
    atoms = [("Na", site) for site in sites]
    atoms += [(anion, ((x + 0.5) % 1, y, z)) for x, y, z in sites]
    lines = [
        "data_rock_salt", f"_cell_length_a {a}", f"_cell_length_b {a}", f"_cell_length_c {a}",
        "_cell_angle_alpha 90", "_cell_angle_beta 90", "_cell_angle_gamma 90",
        "_symmetry_space_group_name_H-M 'P 1'", "loop_", "_atom_site_label",
        "_atom_site_type_symbol", "_atom_site_fract_x", "_atom_site_fract_y",
        "_atom_site_fract_z", "_atom_site_occupancy",
    ]  # fmt: skip
    for number, (element, (x, y, z)) in enumerate(atoms):
        lines.append(f"{element}{number} {element} {x} {y} {z} 1.0")
    path.write_text("\n".join(lines) + "\n")
    return path


def lines_of(q_values, heights) -> np.ndarray:
    return sum(
        h * np.exp(-0.5 * ((Q - q) / 0.01) ** 2) for q, h in zip(q_values, heights, strict=True)
    )


def salt_pattern(a: float = 5.64) -> np.ndarray:
    """(111), (200), (220), (311), (222) with the intensities of the powder diffraction file."""
    square = np.array([3, 4, 8, 11, 12])
    return lines_of(2 * np.pi * np.sqrt(square) / a, [0.13, 1.0, 0.55, 0.02, 0.15])


def test_lines_of_rock_salt(tmp_path):
    rock_salt(tmp_path / "salt.cif")
    pattern = salt_pattern()
    (match,), notes = CifMatcher(GRID)(tmp_path / "salt.xy", pattern, EVERYWHERE, 1.54184)
    assert notes == ("compared with salt.cif beside it",) and match.name == "salt"
    allowed = np.array([3, 4, 8, 11, 12, 16, 19, 20, 24, 27])
    assert match.q[: len(allowed)] == pytest.approx(2 * np.pi * np.sqrt(allowed) / 5.64, rel=1e-6)
    assert match.intensity.max() == 100 and match.intensity.argmax() == 1
    assert match.intensity[:3] == pytest.approx([10, 100, 60], abs=8)
    assert match.score > 0.85


def test_another_cell_and_a_narrow_range_are_scored_where_measured(tmp_path):
    rock_salt(tmp_path / "salt.cif")
    matcher = CifMatcher(GRID)
    (other,), _ = matcher(tmp_path / "salt.xy", salt_pattern(6.29), EVERYWHERE, 1.54184)
    assert other.score < 0.3
    # What lies outside the measured range counts for nothing.
    mask = Q < 2.5
    spoilt = salt_pattern() + np.where(mask, 0, lines_of([3.1, 4.7, 5.2], [1, 1, 1]))
    (inside,), _ = matcher(tmp_path / "salt.xy", spoilt, mask, 1.54184)
    (whole,), _ = matcher(tmp_path / "salt.xy", spoilt, EVERYWHERE, 1.54184)
    assert inside.score > 0.9 > 0.7 > whole.score


def test_which_files_are_compared(tmp_path):
    folder = tmp_path / "cifs"
    folder.mkdir()
    for number in range(SHOWN + 2):
        rock_salt(folder / f"phase{number}.cif", a=5.0 + 0.16 * number)  # phase4: 5.64
    matcher = CifMatcher(GRID, folder)
    matches, _ = matcher(tmp_path / "scan.xy", salt_pattern(), EVERYWHERE, 1.54184)
    assert len(matches) == SHOWN and matches[0].name == "phase4"
    assert [m.score for m in matches] == sorted((m.score for m in matches), reverse=True)
    # A file with the scan's name is taken alone; what was named goes before one beside the scan.
    (own,), _ = matcher(tmp_path / "phase1.xy", salt_pattern(), EVERYWHERE, 1.54184)
    assert own.name == "phase1" and own.q[0] == pytest.approx(2 * np.pi * np.sqrt(3) / 5.16)
    rock_salt(tmp_path / "phase1.cif")
    matcher = CifMatcher(GRID, folder)
    (own,), notes = matcher(tmp_path / "phase1.xy", salt_pattern(), EVERYWHERE, 1.54184)
    assert own.q[0] == pytest.approx(2 * np.pi * np.sqrt(3) / 5.16)
    assert notes == (f"compared with --cif={folder}, not with phase1.cif beside it",)
    (beside,), _ = CifMatcher(GRID)(tmp_path / "phase1.xy", salt_pattern(), EVERYWHERE, 1.54184)
    assert beside.q[0] == pytest.approx(2 * np.pi * np.sqrt(3) / 5.64)
    # One file for all.
    (one,), _ = CifMatcher(GRID, folder / "phase4.cif")(
        tmp_path / "scan.xy", salt_pattern(), EVERYWHERE, 1.54184
    )
    assert one.name == "phase4"
    assert CifMatcher(GRID)(tmp_path / "scan.xy", salt_pattern(), EVERYWHERE, 1.54184) == ((), ())


def test_every_structure_of_a_file_is_compared_whatever_the_case_of_its_ending(tmp_path):
    first = rock_salt(tmp_path / "one.cif", a=5.2).read_text()
    second = rock_salt(tmp_path / "two.cif").read_text().replace("data_rock_salt", "data_y")
    (tmp_path / "scan.CIF").write_text(first + second)
    matches, notes = CifMatcher(GRID)(tmp_path / "scan.xy", salt_pattern(), EVERYWHERE, 1.54184)
    assert [match.name for match in matches] == ["scan#2", "scan#1"]
    assert notes == ("compared with scan.CIF beside it",)
    assert matches[0].score > 0.85 > 0.3 > matches[1].score


def test_partial_occupancies_are_compared_and_not_refused(tmp_path):
    text = rock_salt(tmp_path / "x.cif").read_text()
    (tmp_path / "scan.cif").write_text(text.replace(" 1.0\n", " 0.9\n"))
    (match,), notes = CifMatcher(GRID)(tmp_path / "scan.xy", salt_pattern(), EVERYWHERE, 1.54184)
    assert notes == ("compared with scan.cif beside it",) and match.score > 0.85


def test_a_broken_cif_is_a_note_and_the_others_are_compared(tmp_path):
    folder = tmp_path / "cifs"
    folder.mkdir()
    rock_salt(folder / "salt.cif")
    (folder / "broken.cif").write_text("data_x\n_cell_length_a 4\n")
    matches, notes = CifMatcher(GRID, folder)(
        tmp_path / "scan.xy", salt_pattern(), EVERYWHERE, 1.54184
    )
    assert [match.name for match in matches] == ["salt"]
    assert len(notes) == 1 and "broken.cif" in notes[0] and "\n" not in notes[0]


def test_missing_and_empty_folders_are_refused(tmp_path):
    with pytest.raises(UserError, match="--cif=.*none: there is no such"):
        CifMatcher(GRID, tmp_path / "none")
    with pytest.raises(UserError, match=r"holds no .cif file"):
        CifMatcher(GRID, tmp_path)
