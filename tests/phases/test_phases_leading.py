"""Which prototypes lead a scan, by hand, and that their deviations and cells are theirs."""

import numpy as np
import pytest
from made_phases import EXAMPLES, by_cosine

from imitation_refinement.phases import identify, leading
from imitation_refinement.phases.build import make_library
from imitation_refinement.phases.deviations import FIGURES
from imitation_refinement.phases.identify import Phases
from imitation_refinement.phases.leading import Leaders, deviations_of, fitted_cell, leaders_of
from imitation_refinement.phases.match import match_looks
from imitation_refinement.phases.named import Moved
from imitation_refinement.phases.prototypes import GRID, build_prototypes, scan_roots
from imitation_refinement.phases.refining import Refined
from imitation_refinement.xrd.formats import read_scan
from imitation_refinement.xrd.scans import on_grid


def test_leaders_by_hand():
    # Sums: 3 has 0.5, 8 has 0.4 and 5 has 0.1; 3 is likelier in its second place, 8 in its first.
    with np.errstate(divide="ignore"):
        logs = np.log([0.2, 0.3, 0.1, 0.3, 0.1, 0.0])
    entry = np.array([3, 8, 5, 3, 8, 6])
    found = leading.leading(logs, entry, np.arange(6.0), 10.0 + np.arange(6), 20.0 + np.arange(6))
    assert found.entry.tolist() == [3, 8]
    assert found.shift.tolist() == [3.0, 1.0]
    assert found.displacement.tolist() == [13.0, 11.0] and found.size_nm.tolist() == [23.0, 21.0]
    order = np.array([5, 4, 3, 2, 1, 0])  # in any order
    again = leading.leading(logs[order], entry[order], order, 10.0 + order, 20.0 + order)
    for one, other in zip(found, again, strict=True):
        np.testing.assert_array_equal(one, other)
    # What may not be does not lead.
    alone = leading.leading(logs[[5, 2]], entry[[5, 2]], *(np.ones(2),) * 3)
    assert alone.entry.tolist() == [5, -1] and alone.shift.tolist() == [1.0, 0.0]
    none = leading.leading(logs[[5]], entry[[5]], *(np.ones(1),) * 3)
    assert none.entry.tolist() == [-1, -1]


@pytest.fixture(scope="module")
def phases(tmp_path_factory):
    files = [EXAMPLES / f"{name}.cif" for name in ("rutile", "corundum", "zincite")]
    library = make_library(files, tmp_path_factory.mktemp("phases") / "library.npz").library
    prototypes = build_prototypes(
        library.q, library.amplitude, library.offsets, library.computed, GRID
    )
    return Phases(library, prototypes, by_cosine())


@pytest.fixture(scope="module")
def rutile():
    return on_grid(read_scan(EXAMPLES / "rutile.xy", "CuKa"), GRID)


def test_each_leader_has_its_figures_and_its_cell(phases, rutile):
    root = scan_roots(rutile.pattern[None], rutile.mask[None], 1)[0][0]
    own = phases.library.space_group.tolist().index(136)
    leaders = Leaders(
        np.array([[own, -1], [-1, -1]]), *(np.full((2, 2), each) for each in (0.0, 0.0, 45.0))
    )
    found, cells = deviations_of([rutile, rutile], leaders, phases.library, phases.prototypes)
    count = len(FIGURES)
    assert found.shape == (2, 2 * count) and np.exp(found[0, FIGURES.index("lines")]) > 8.0
    assert not found[0, count:].any() and not found[1].any()
    assert list(cells[0]) == [own] and not cells[1]
    alone = fitted_cell(Moved(own, 0.0, 0.0), root, phases.library, phases.prototypes)
    np.testing.assert_array_equal(cells[0][own].cell, alone.cell)


def test_cells_of_leaders_are_fitted_once(phases, rutile, monkeypatch):
    class AsItIs:
        def both(self, placed):
            pattern = np.stack([one.pattern for one in placed])
            return Refined(pattern, pattern)

    fitted = []

    def counted(one, *given):
        fitted.append(one.entry)
        return fitted_cell(one, *given)

    monkeypatch.setattr(leading, "fitted_cell", counted)
    monkeypatch.setattr(identify, "fitted_cell", counted)
    asked = Phases(phases.library, phases.prototypes, phases.calibration, AsItIs())
    [told] = asked.identify([rutile])
    assert sorted(fitted) == [0, 1, 2]  # each of the three candidates once
    [alone] = phases.identify([rutile])
    first, same = told.candidates[0], alone.candidates[0]
    assert first.formula == same.formula
    np.testing.assert_array_equal(first.cell.cell, same.cell.cell)


def test_leaders_of_matches_are_those_of_their_rows(phases, rutile):
    pattern, mask = rutile.pattern[None], rutile.mask[None]
    looks = [np.repeat(pattern, 2, axis=0)] * 2
    matches = match_looks(
        looks, np.repeat(mask, 2, axis=0), phases.prototypes, by_cosine().posterior
    )
    found = leaders_of(*matches)
    np.testing.assert_array_equal(found.entry, matches[0].entry[:, :2])
    np.testing.assert_array_equal(found.shift, matches[0].shift[:, :2])
    assert (found.size_nm >= 8.0).all()  # the smallest that is tried
