import csv
import json

import numpy as np
import pytest
from fake_model import FakeModel

from imitation_refinement.commands.unmix_library import (
    read_spread,
    run_unmix,
    strains,
    unmix_spread,
)
from imitation_refinement.errors import UserError
from imitation_refinement.xrd.convolutive import Phases
from imitation_refinement.xrd.grid import Grid, grid_q, two_theta_from_q
from imitation_refinement.xrd.unmix import lagged_correlation

GRID = Grid()
LINES = ([1.5, 2.2, 3.4, 4.6], [1.8, 2.9, 3.9, 5.2])  # of two phases, 1/angstrom


def pattern(lines, stretch=1.0):
    """Peaks of the width that 30 nm give, in counts per degree; the cell is `stretch` larger."""
    q = grid_q(GRID)
    peaks = sum(np.exp(-0.5 * ((q - line / stretch) / 0.014) ** 2) for line in lines)
    return peaks * np.cos(np.arcsin(q * 1.54184 / (4 * np.pi)))


@pytest.fixture(scope="module")
def matrix(tmp_path_factory):
    """A binary library: phase 0 swells by 1 % from one end to the other, phase 1 does not."""
    share = np.linspace(1.0, 0.0, 12)
    rows = [
        s * pattern(LINES[0], 1.0 + 0.01 * i / 11) + (1 - s) * pattern(LINES[1])
        for i, s in enumerate(share)
    ]
    path = tmp_path_factory.mktemp("library") / "spread.npz"
    np.savez(
        path,
        two_theta=two_theta_from_q(grid_q(GRID), 1.54184),
        intensity=1000 * np.array(rows),
        composition_fe_ga=np.column_stack([share, 1 - share]),
        wavelength=1.54184,
    )
    return path, share


def test_phases_shares_and_strain_are_found(matrix):
    path, share = matrix
    spread = read_spread([str(path)], GRID, None)
    assert spread.elements == ["Fe", "Ga"] and not spread.failures
    np.testing.assert_allclose(spread.composition[:, 0], share)
    found = unmix_spread(spread, GRID, None)
    assert found.phases.components.shape == (2, GRID.length)
    assert min(found.held_out, key=found.held_out.get) >= 2
    q = grid_q(GRID)
    truth = [sum(np.exp(-0.5 * ((q - line) / 0.014) ** 2) for line in lines) for lines in LINES]
    alike = lagged_correlation(found.phases.components, np.stack(truth), 24)
    first, second = alike.argmax(axis=0)
    assert {first, second} == {0, 1} and alike.max(axis=0).min() > 0.97
    assert np.corrcoef(found.phases.shares[:, first], share)[0, 1] > 0.98
    change = strains(found.phases, GRID)
    grown = change[:8, first] - change[0, first]
    np.testing.assert_allclose(grown, 0.01 * np.arange(8) / 11, atol=2.5e-3)
    fixed = change[4:, second]
    assert np.ptp(fixed) < 2e-3
    assert found.divergence < found.divergence_plain


def test_a_shift_of_one_point_is_a_strain_of_one_step():
    told = Phases(np.ones((1, 4)), np.ones((2, 1)), np.array([[1.0], [np.nan]]))
    step = grid_q(GRID)[1] / grid_q(GRID)[0]
    found = strains(told, GRID)
    assert found[0, 0] == pytest.approx(1 / step - 1)  # to larger q: smaller d
    assert np.isnan(found[1, 0])


def test_the_whole_command(matrix, tmp_path):
    path, share = matrix
    model = FakeModel(GRID)
    assert run_unmix(model, [str(path)], tmp_path, None, 2) == 0
    results = json.loads((tmp_path / "unmix.json").read_text())
    assert [item["component"] for item in results["components"]] == [1, 2]
    assert results["held_out_divergence"] == {} and results["elements"] == ["Fe", "Ga"]
    with open(tmp_path / "activations.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    shares = np.array([[float(row["share_1"]), float(row["share_2"])] for row in rows])
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, atol=1e-3)
    np.testing.assert_allclose([float(row["Fe"]) for row in rows], share, atol=1e-4)
    for kind in ("raw", "refined"):
        columns = np.loadtxt(tmp_path / f"component-1.{kind}.xy")
        assert columns[:, 1].max() == pytest.approx(1.0, abs=1e-4)
    page = (tmp_path / "unmix.html").read_text()
    assert page.count("data:image/png;base64,") == 3 and "fake model &lt;1&gt;" in page


def test_a_folder_with_compositions_and_a_bad_file(matrix, tmp_path):
    path, _ = matrix
    two_theta = two_theta_from_q(grid_q(GRID), 1.54184)
    with np.load(path) as table:
        for i in (0, 4, 7, 11):
            name = tmp_path / f"p{i:02}.xy"
            np.savetxt(name, np.column_stack([two_theta, table["intensity"][i]]))
    (tmp_path / "composition.csv").write_text("Fe,Ga,Pd\n" + "\n".join(["1,0,0"] * 4) + "\n")
    spread = read_spread([str(tmp_path)], GRID, "CuKa")
    assert spread.names == ["p00", "p04", "p07", "p11"]
    assert spread.elements == ["Fe", "Ga", "Pd"] and spread.composition.shape == (4, 3)
    (tmp_path / "bad.xy").write_text("no numbers\n")
    assert len(read_spread([str(tmp_path)], GRID, "CuKa").failures) == 1
    out = tmp_path / "out"
    assert run_unmix(FakeModel(GRID), [str(tmp_path)], out, "CuKa", 2) == 3
    (tmp_path / "composition.csv").write_text("Fe,Ga,Pd\n1,0,0\n")
    with pytest.raises(UserError, match="1 lines of numbers for 4 patterns"):
        read_spread([str(tmp_path)], GRID, "CuKa")


def test_what_cannot_be_unmixed_is_refused(matrix, tmp_path):
    path, _ = matrix
    with pytest.raises(UserError, match="--components=13: must be 1 to 12"):
        run_unmix(FakeModel(GRID), [str(path)], tmp_path, None, 13)
    with pytest.raises(UserError, match="missing"):
        run_unmix(FakeModel(GRID), [str(tmp_path / "missing.xy")], tmp_path, "CuKa")


def test_what_lies_beyond_the_measured_range_stays_empty(matrix):
    path, _ = matrix
    with np.load(path) as table:
        two_theta, intensity = table["two_theta"], table["intensity"]
    part = slice(400, 1680)
    cut = path.parent / "cut.npz"
    np.savez(cut, two_theta=two_theta[part], intensity=intensity[:, part], wavelength=1.54184)
    spread = read_spread([str(cut)], GRID, None)
    assert spread.composition is None
    found = unmix_spread(spread, GRID, 2)
    assert not found.phases.components[:, :400].any()
    assert not found.phases.components[:, 1681:].any()
    assert found.phases.components[:, 410:1670].max(axis=1) == pytest.approx(1.0)
