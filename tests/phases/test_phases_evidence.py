"""The figures of the evidence against the same by their definitions, one prototype at a time."""

import numpy as np
import pytest
from scipy.ndimage import maximum_filter1d, uniform_filter1d
from test_phases_match import STEP, evidence_of, ideal, library

from imitation_refinement.phases.evidence import DISPLACEMENTS, _displaced
from imitation_refinement.phases.prototypes import GRID, draw_roots, log_axis, scan_roots
from imitation_refinement.phases.scores import FAR, SHIFTS, cosines
from imitation_refinement.xrd.grid import grid_q


def cosine(a, b, of_a=None, of_b=None):
    of_a, of_b = (a if of_a is None else of_a), (b if of_b is None else of_b)
    return (a * b).sum() / np.sqrt((of_a**2).sum() * (of_b**2).sum())


def by_definition(wider, inside, lines, least):
    """Figures of one prototype at its best shift; `wider` has 4 points more at each end."""
    scan = wider[4:-4]
    model = lines * inside
    scale = (scan * model).sum() / (model**2).sum()
    predicted = scale * model
    visible = np.maximum(predicted - scan - least, 0.0)
    surplus = np.maximum(scan - 1.25 * predicted, 0.0)
    low = np.cumsum(inside) <= 0.5 * inside.sum()
    wide = [uniform_filter1d(row, 17, mode="constant") for row in (scan, model)]
    centred = [(row - row.sum() / inside.sum()) * inside for row in (scan, model)]
    peak = (scan == maximum_filter1d(scan, 7, mode="constant")) & (scan > 2.0 * least)
    near = maximum_filter1d(predicted, 5, mode="constant")
    elastic = 0.0
    for part in np.split(np.arange(len(lines)), 10):
        elastic += max((wider[part + 4 + by] * lines[part]).sum() for by in (-4, -2, 0, 2, 4))
    return {
        "cosine": cosine(scan, model),
        "cosine_intensity": cosine(scan**2, model**2),
        "cosine_weak": np.sqrt(scan * model).sum() / np.sqrt(scan.sum() * model.sum()),
        "cosine_wide": cosine(*wide),
        "cosine_elastic": elastic / np.sqrt((scan**2).sum() * (model**2).sum()),
        "correlation": cosine(*centred),
        "cosine_low": cosine(scan * low, model, of_a=scan * low, of_b=model),
        "cosine_high": cosine(scan * ~low, model),
        "missing": (visible**2).sum() / (predicted**2).sum(),
        "left_over": (surplus**2).sum() / (scan**2).sum(),
        "worst_missing": visible.max() / scan.max(),
        "worst_left_over": surplus.max() / scan.max(),
        "peaks_explained": (scan * (peak & (near > 0.4 * scan))).sum() / (scan * peak).sum(),
        "richness": np.log(model.sum() ** 2 / (model**2).sum() / inside.sum()),
        "scan_richness": np.log(scan.sum() ** 2 / (scan**2).sum() / inside.sum()),
    }


@pytest.mark.parametrize("hole", [False, True])
def test_figures_are_what_they_are_defined_to_be(hole):
    prototypes = library(12)
    q = grid_q(GRID)
    mask = (q > 0.9) & (q < 5.0) & ~(hole & (q > 2.0) & (q < 2.4))
    noise = np.random.default_rng(0).random(len(q)) ** 8
    pattern = (ideal(prototypes, 3, 0.004) + 0.02 * noise) * mask
    found, figures = evidence_of(prototypes, pattern, mask)
    fine = scan_roots(pattern[None], mask[None], 1)[0][0].astype(np.float64)
    seen = 0
    for row in np.flatnonzero(found.displacement == 0.0):
        by = round(2.0 * found.shift[row] / STEP)  # points of the grid
        assert abs(2.0 * found.shift[row] / STEP - by) < 1e-6
        wider = np.pad(fine, 104)[100 + by : 108 + by + len(q)]
        inside = np.pad(mask, 100)[100 + by : 100 + by + len(q)]
        size = float(np.exp(figures["log_size"][row]))
        lines = draw_roots(
            prototypes.q, prototypes.height, prototypes.offsets, np.array([row]), GRID,
            size_nm=size, fold=1,
        )[0].astype(np.float64)  # fmt: skip
        least = float(np.quantile(fine[fine > 0.0], 0.1))
        expected = by_definition(wider, inside, lines, least)
        for name, value in expected.items():
            assert figures[name][row] == pytest.approx(value, abs=2e-5), name
        seen += 1
    assert seen >= 3


def test_cosines_take_both_norms_inside_what_a_scan_and_a_shifted_prototype_share():
    rng = np.random.default_rng(1)
    drawn, scans = rng.random((5, 60)), rng.random((4, 60 + 2 * FAR))
    inside = np.ones((4, 60 + 2 * FAR))
    inside[0, :27], inside[1, 50:], inside[2, 40:44], inside[:, 53:56] = 0.0, 0.0, 0.0, 0.0
    found = cosines(drawn, scans * inside, inside)
    assert found.shape == (5, 4, len(SHIFTS))
    for scan, mask, row in zip(scans * inside, inside, found.swapaxes(0, 1), strict=True):
        for place, by in enumerate(SHIFTS):
            s, m = (values[FAR + by : FAR + by + 60] for values in (scan, mask))
            expected = [(d * s).sum() / np.sqrt((d**2 * m).sum() * (s**2).sum()) for d in drawn]
            np.testing.assert_allclose(row[:, place], expected, rtol=1e-12)
    one = cosines(drawn, scans * inside[2], inside[2:3])
    np.testing.assert_allclose(one[:, 2], found[:, 2], rtol=1e-12)
    np.testing.assert_allclose(cosines(drawn, (scans * inside[2])[:1], inside[2:3]), one[:, :1])


def test_a_displaced_scan_is_read_between_its_points():
    root, mask = np.random.default_rng(2).random(1000).astype(np.float32), np.ones(1000, bool)
    mask[300:320] = False
    axis, far = log_axis(GRID), 7
    sine = np.exp(axis) * (2.0 * 1.54056 + 1.54439) / 3.0 / (4.0 * np.pi)
    sine = np.minimum(sine, 1.0)
    read = _displaced(root, mask, GRID, 2, far)
    assert read.shape == (2, len(DISPLACEMENTS), 1014)
    assert not read[:, :, :far].any() and not read[:, :, -far:].any()
    points = np.arange(1000)
    for displacement, scan, known in zip(DISPLACEMENTS, *read[:, :, far:-far], strict=True):
        at = points - displacement * (1.0 - sine**2) / sine / (axis[1] - axis[0])
        expected = np.interp(at, points, root, left=0.0, right=0.0)
        np.testing.assert_allclose(scan, expected, atol=2e-4)
        inside = np.interp(at, points, mask.astype(float), left=0.0, right=0.0)
        clear = np.abs(inside - 0.5) > 1e-2
        np.testing.assert_array_equal(known[clear], inside[clear] > 0.5)
