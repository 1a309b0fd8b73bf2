"""Matching: prototypes, coarse choice, exact cosines, prior, and the whole way on a small library.

Made-up line lists of random positions, which are unlike each other; slow loops are the oracles.
"""

import numpy as np
import pytest
import scipy.stats

from imitation_refinement.phases.evidence import FEATURES, weigh
from imitation_refinement.phases.match import match, match_looks
from imitation_refinement.phases.posterior import Posterior
from imitation_refinement.phases.prototypes import (
    GRID,
    MEASURED,
    OLDER_COMPUTED,
    build_prototypes,
    draw_roots,
    line_heights,
    log_axis,
    scan_roots,
    unit,
)
from imitation_refinement.phases.scores import (
    PRIOR,
    SHIFTS,
    best_of,
    coarse_choice,
    exact_cosines,
    shifted,
)
from imitation_refinement.xrd.grid import Grid, grid_q
from imitation_refinement.xrd.imperfections import displaced
from imitation_refinement.xrd.profiles import ideal_pattern

STEP = log_axis(GRID)[1] - log_axis(GRID)[0]
MEASURED_ALL = np.ones(GRID.length, bool)


def line_lists(count, seed=0, lines=(8, 40)):
    """(q, amplitude, offsets) of made-up structures, q at random in 0.8 to 5.5."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(*lines, count)
    q = np.concatenate([np.sort(rng.uniform(0.8, 5.5, size)) for size in sizes])
    amplitude = rng.uniform(0.2, 1.0, len(q))
    return q.astype(np.float32), amplitude, np.concatenate([[0], np.cumsum(sizes)])


def library(count=40, seed=0, kind=MEASURED):
    q, amplitude, offsets = line_lists(count, seed)
    return build_prototypes(q, amplitude, offsets, np.full(count, kind), GRID)


def ideal(prototypes, entry, shift=0.0):
    """The pattern that a sample of an entry would have."""
    own = slice(prototypes.offsets[entry], prototypes.offsets[entry + 1])
    return ideal_pattern(prototypes.q[own] * np.exp(shift), prototypes.height[own], GRID)


def by_cosine(weight=40.0):
    """A posterior that looks at the cosine alone and never says none."""
    figures = len(FEATURES)
    linear = np.zeros(figures)
    linear[FEATURES.index("cosine")] = weight
    return Posterior(
        np.zeros(figures), np.ones(figures), linear, np.zeros((figures, 2)), np.zeros(2),
        np.zeros(2), linear, np.zeros(2), np.zeros((3 * figures + 3, 2)), np.zeros(2), np.zeros(2),
        np.array(-50.0),
    )  # fmt: skip


# --- Prototypes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("fold", [1, 2])
def test_drawn_roots_agree_with_a_sum_line_by_line(fold):
    q, amplitude, offsets = line_lists(3)
    height = line_heights(q, amplitude)
    axis = log_axis(GRID, fold)
    step = axis[1] - axis[0]
    drawn = draw_roots(q, height, offsets, np.array([2, 0]), GRID, fold=fold)
    for row, entry in zip(drawn, (2, 0), strict=True):
        pattern = np.zeros(len(axis))
        for line in range(offsets[entry], offsets[entry + 1]):
            # FWHM 2 pi 0.9 / 300 angstrom in q; a cell adds its own variance.
            sigma_q = 2 * np.pi * 0.9 / 300.0 / np.sqrt(8 * np.log(2))
            sigma = np.sqrt((sigma_q / q[line]) ** 2 + step**2 / 12)
            place = (axis - np.log(q[line])) / sigma
            peak = np.where(np.abs(place) <= 3.2, np.exp(-0.5 * place**2), 0.0)
            pattern += height[line] / (sigma * q[line]) * peak
        root = np.sqrt(pattern)
        mean = np.convolve(root, np.full(3, 1 / 3), "same")
        expected = mean / np.linalg.norm(mean)
        np.testing.assert_allclose(row, expected, atol=1e-3 * expected.max())


def test_heights_have_the_factor_of_copper():
    # At theta = 45 degrees: (1 + 0) / (0.5 * cos 45) = 2.828.
    wavelength = (2 * 1.54056 + 1.54439) / 3
    q = 4 * np.pi / wavelength * np.sin(np.pi / 4)
    assert line_heights(np.array([q]), np.array([3.0]))[0] == pytest.approx(9 * 2 * np.sqrt(2))
    assert line_heights(np.array([8.2]), np.array([3.0]))[0] == 0.0  # beyond its reach


def test_a_scan_and_its_prototype_have_the_same_root():
    prototypes = library(3)
    roots, masks = scan_roots(ideal(prototypes, 1)[None], MEASURED_ALL[None])
    drawn = draw_roots(
        prototypes.q, prototypes.height, prototypes.offsets, np.array([1]), prototypes.grid
    )
    assert roots[0] @ drawn[0] > 0.995
    assert masks.shape == (1, 1000) and masks.all()
    assert np.linalg.norm(roots) == pytest.approx(1.0, abs=1e-5)


def test_a_point_of_a_root_is_measured_if_both_of_its_points_are():
    mask = MEASURED_ALL.copy()
    mask[101] = False
    _, masks = scan_roots(np.ones((1, 2000)), mask[None])
    assert np.flatnonzero(~masks[0]).tolist() == [50]


def test_an_unsuitable_grid_is_refused():
    q, amplitude, offsets = line_lists(2)
    with pytest.raises(ValueError, match="got 2000 points uniform in q"):
        build_prototypes(q, amplitude, offsets, np.zeros(2), GRID._replace(axis="q"))
    with pytest.raises(ValueError, match="8 n points"):
        build_prototypes(q, amplitude, offsets, np.zeros(2), GRID._replace(length=2001))


# --- Scores --------------------------------------------------------------------------------------


def test_shifting_reads_further_on():
    row = np.array([1.0, 2.0, 3.0, 4.0])
    assert shifted(row, 1).tolist() == [2, 3, 4, 0]
    assert shifted(row, -2).tolist() == [0, 0, 1, 2]
    assert shifted(row, 0).tolist() == [1, 2, 3, 4]


def test_exact_cosines_agree_with_a_slow_loop():
    rng = np.random.default_rng(0)
    root, drawn = rng.random(30).astype(np.float32), rng.random((4, 30)).astype(np.float32)
    mask = np.zeros(30, bool)
    mask[4:22] = True
    root *= mask
    found = exact_cosines(root, mask, drawn)
    for c in range(4):
        for column, shift in enumerate(SHIFTS):
            product = own = theirs = 0.0
            for x in range(30):
                y = x + shift
                if 0 <= y < 30 and mask[y]:
                    product += float(root[y]) * float(drawn[c, x])
                    own += float(root[y]) ** 2
                    theirs += float(drawn[c, x]) ** 2
            expected = product / np.sqrt(own * theirs) if own else 0.0
            assert found[c, column] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("points", [-6, 0, 9])
def test_a_smaller_cell_is_found_as_a_positive_shift(points):
    prototypes = library(3)
    roots, masks = scan_roots(ideal(prototypes, 0, points * STEP)[None], MEASURED_ALL[None])
    drawn = draw_roots(prototypes.q, prototypes.height, prototypes.offsets, np.arange(3), GRID)
    cosines = exact_cosines(roots[0], masks[0], drawn)
    assert SHIFTS[int(cosines[0].argmax())] == points
    assert cosines[0].max() > 0.98 > cosines[1:].max()


def test_the_prior_is_students_t():
    shift = np.array([-0.01, 0.0005, 0.012, 0.03])
    for kind in range(3):
        t = scipy.stats.t(PRIOR.freedom[kind], PRIOR.mean[kind], PRIOR.scale[kind])
        ratio = t.logpdf(shift) - t.logpdf(PRIOR.mean[kind])
        np.testing.assert_allclose(PRIOR.log(shift, np.full(4, kind)), ratio, atol=1e-12)
        assert PRIOR.log_peak(np.array(kind)) == pytest.approx(t.logpdf(PRIOR.mean[kind]))


def test_the_prior_decides_between_a_measured_and_a_computed_twin():
    # The same lines twice; the sample's cell is 1.1 % smaller, as it is against computed ones.
    q, amplitude, offsets = line_lists(1)
    twice = build_prototypes(
        np.tile(q, 2), np.tile(amplitude, 2), np.array([0, len(q), 2 * len(q)]),
        np.array([MEASURED, OLDER_COMPUTED]), GRID,
    )  # fmt: skip
    for points, expected in ((0, 0), (5, 1)):
        roots, masks = scan_roots(ideal(twice, 0, points * STEP)[None], MEASURED_ALL[None])
        drawn = draw_roots(twice.q, twice.height, twice.offsets, np.arange(2), GRID)
        assert best_of(roots, masks[0], twice, np.arange(2), drawn, 2)[0, 0] == expected


def test_the_coarse_choice_never_loses_an_exact_duplicate():
    prototypes = library(600)
    entries = np.arange(0, 600, 7)
    patterns = np.stack([ideal(prototypes, entry) for entry in entries])
    masks = np.repeat(MEASURED_ALL[None], len(entries), axis=0)
    masks[::2, 1200:] = False  # a shorter scan
    roots, measured = scan_roots(patterns * masks, masks)
    chosen = coarse_choice(roots, measured, prototypes, count=3)
    assert all(entry in row for entry, row in zip(entries, chosen, strict=True))


def test_the_coarse_choice_takes_what_is_allowed():
    prototypes = library(50)
    roots, masks = scan_roots(ideal(prototypes, 4)[None], MEASURED_ALL[None])
    allowed = np.ones(50, bool)
    allowed[[4, 7]] = False
    chosen = coarse_choice(roots, masks, prototypes, allowed=allowed, count=48)
    assert sorted(chosen[0].tolist()) == np.flatnonzero(allowed).tolist()
    of_each = coarse_choice(roots, masks, prototypes, allowed=allowed[None], count=48)
    assert sorted(of_each[0].tolist()) == np.flatnonzero(allowed).tolist()


# --- Evidence ------------------------------------------------------------------------------------


def evidence_of(prototypes, pattern, mask=MEASURED_ALL, chosen=None):
    chosen = np.arange(prototypes.size) if chosen is None else chosen
    roots, measured = scan_roots(pattern[None], mask[None])
    fine, fine_measured = scan_roots(pattern[None], mask[None], 1)
    drawn = draw_roots(prototypes.q, prototypes.height, prototypes.offsets, chosen, GRID)
    found = weigh(fine[0], fine_measured[0], roots[0], measured[0], prototypes, chosen, drawn)
    return found, {name: found.features[:, i] for i, name in enumerate(FEATURES)}


def test_evidence_for_the_right_structure():
    prototypes = library(12)
    found, figures = evidence_of(prototypes, ideal(prototypes, 3, 0.004))
    assert found.shift[3] == pytest.approx(0.004, abs=0.6 * STEP)
    assert found.displacement[3] == 0.0
    assert figures["cosine"].argmax() == 3 and figures["cosine"][3] > 0.98
    assert figures["lead"][3] == 0.0
    assert figures["missing"][3] < 0.02 and figures["left_over"][3] < 0.02
    assert figures["peaks_explained"][3] > 0.99
    others = np.delete(np.arange(12), 3)
    assert (figures["left_over"][others] > 0.1).all()


def test_a_line_that_should_be_seen_is_missed_and_one_that_is_foreign_is_left_over():
    q = np.array([1.5, 2.5, 3.5, 4.5], np.float32)
    prototypes = build_prototypes(q, np.ones(4), np.array([0, 4]), np.zeros(1), GRID)
    height = prototypes.height
    whole = ideal_pattern(q, height, GRID)
    without = ideal_pattern(q[[0, 1, 3]], height[[0, 1, 3]], GRID)
    foreign = ideal_pattern(np.append(q, 3.0), np.append(height, height[1]), GRID)
    _, perfect = evidence_of(prototypes, whole)
    _, lacking = evidence_of(prototypes, without)
    _, added = evidence_of(prototypes, foreign)
    assert lacking["missing"][0] > 0.05 > 3 * perfect["missing"][0]
    assert added["left_over"][0] > 0.1 > 10 * perfect["left_over"][0]
    assert lacking["left_over"][0] < 0.02 and added["missing"][0] < 0.02
    assert added["peaks_explained"][0] < 0.9 and lacking["peaks_explained"][0] > 0.99


@pytest.mark.parametrize("displacement", [-8e-4, 8e-4])
def test_a_displaced_sample_is_found_as_such(displacement):
    prototypes = library(5)
    own = slice(prototypes.offsets[2], prototypes.offsets[3])
    q = displaced(prototypes.q[own], displacement, 1.54184)
    found, figures = evidence_of(prototypes, ideal_pattern(q, prototypes.height[own], GRID))
    assert found.displacement[2] * displacement > 0.0
    assert figures["cosine"][2] > figures["cosine_first"][2]


def test_the_elastic_cosine_forgives_a_cell_of_another_shape():
    # The lower half of the lines two points (of the grid) further on, the upper half as far back.
    prototypes = library(6)
    own = slice(prototypes.offsets[1], prototypes.offsets[2])
    q = prototypes.q[own] * np.exp(np.where(prototypes.q[own] < 2.5, STEP, -STEP))
    _, bent = evidence_of(prototypes, ideal_pattern(q, prototypes.height[own], GRID))
    _, straight = evidence_of(prototypes, ideal(prototypes, 1))
    assert bent["cosine_elastic"][1] > bent["cosine"][1] + 0.008
    assert straight["cosine_elastic"][1] < straight["cosine"][1] + 0.004
    for figures in (bent, straight):
        assert (figures["cosine_elastic"] >= figures["cosine"] - 1e-5).all()


def test_evidence_is_blind_to_what_was_not_measured():
    prototypes = library(6)
    mask = grid_q(GRID) < 3.2
    pattern = ideal(prototypes, 1)
    _, cut = evidence_of(prototypes, pattern * mask, mask)
    assert cut["cosine"].argmax() == 1 and cut["cosine"][1] > 0.98
    assert cut["missing"][1] < 0.02
    assert cut["covered"][1] == pytest.approx(mask.mean())


# --- All together --------------------------------------------------------------------------------


def test_match_finds_each_structure_of_a_library():
    prototypes = library(80)
    entries = np.arange(0, 80, 9)
    patterns = np.stack([ideal(prototypes, entry, 0.003) for entry in entries])
    masks = np.repeat(MEASURED_ALL[None], len(entries), axis=0)
    found = match(patterns, masks, prototypes, by_cosine(), best=10)
    assert found.entry.shape == (len(entries), 10)
    assert found.entry[:, 0].tolist() == entries.tolist()
    total = np.exp(found.log_probability).sum(axis=1) + found.not_in_library
    np.testing.assert_allclose(total, 1.0, atol=1e-9)
    np.testing.assert_allclose(found.vote.sum(axis=1), 1.0, atol=1e-9)
    assert (np.diff(found.log_probability, axis=1) <= 0).all()
    np.testing.assert_allclose(found.shift[:, 0], 0.003, atol=0.6 * STEP)


def test_match_is_the_same_for_one_scan_as_for_many():
    prototypes = library(30)
    patterns = np.stack([ideal(prototypes, entry) for entry in range(20)])
    masks = np.ones((20, GRID.length), bool)
    many = match(patterns, masks, prototypes, by_cosine(), best=5)
    one = match(patterns[17:18], masks[17:18], prototypes, by_cosine(), best=5)
    assert one.entry[0].tolist() == many.entry[17].tolist()
    np.testing.assert_allclose(one.log_probability[0], many.log_probability[17], atol=1e-4)


def test_all_looks_have_their_own_best_of_what_the_last_chooses():
    prototypes = library(900)
    masks = np.ones((1, GRID.length), bool)
    first, last = ideal(prototypes, 3)[None], ideal(prototypes, 700)[None]
    chosen = coarse_choice(*scan_roots(last, masks), prototypes)[0]
    assert 3 not in chosen  # so that the first look cannot have it
    own, of_last = match_looks([first, last], masks, prototypes, by_cosine())
    for column, alone in zip(of_last, match(last, masks, prototypes, by_cosine()), strict=True):
        np.testing.assert_array_equal(column, alone)
    assert of_last.entry[0, 0] == 700
    assert np.isin(own.entry[0], chosen).all()
    assert own.entry[0].tolist() != of_last.entry[0].tolist()
    [cosine] = exact_cosines(scan_roots(first, masks)[0], masks[0, ::2], prototypes.roots(chosen))
    assert set(own.entry[0]) >= set(chosen[np.argsort(-cosine.max(axis=1))[:20]])


def test_what_is_not_allowed_has_no_probability():
    prototypes = library(8)
    allowed = np.zeros(8, bool)
    allowed[[2, 5]] = True
    found = match(ideal(prototypes, 4)[None], MEASURED_ALL[None], prototypes, by_cosine(),
                  allowed=allowed)  # fmt: skip
    possible = np.exp(found.log_probability[0]) > 0
    assert set(found.entry[0][possible].tolist()) == {2, 5}
    nothing = match(ideal(prototypes, 4)[None], MEASURED_ALL[None], prototypes, by_cosine(),
                    allowed=np.zeros(8, bool))  # fmt: skip
    assert nothing.not_in_library[0] == pytest.approx(1.0)


def test_an_empty_pattern_and_a_grid_of_another_length_give_finite_numbers():
    grid = Grid(0.65, 5.65, 1024)
    q, amplitude, offsets = line_lists(5)
    prototypes = build_prototypes(q, amplitude, offsets, np.zeros(5), grid)
    masks = np.ones((1, 1024), bool)
    for pattern in (np.zeros(1024), ideal_pattern(q[: offsets[1]], amplitude[: offsets[1]], grid)):
        found = match(pattern[None], masks, prototypes, by_cosine())
        assert all(np.isfinite(field).all() for field in found)
    assert found.entry[0, 0] == 0


def test_wrong_shapes_are_refused():
    prototypes = library(3)
    with pytest.raises(ValueError, match=r"expected patterns \[n, 2000\], n > 0, got \[1, 10\]"):
        match(np.zeros((1, 10)), np.ones((1, 10)), prototypes, by_cosine())
    with pytest.raises(ValueError, match=r"expected masks \[1, 2000\]"):
        match(np.zeros((1, 2000)), np.ones((2, 2000)), prototypes, by_cosine())


def test_rows_that_are_zero_stay_zero():
    assert unit(np.zeros((1, 4))).tolist() == [[0, 0, 0, 0]]
