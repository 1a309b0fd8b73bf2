import numpy as np
import pytest
from reference_still import STILL

from imitation_refinement.xrd import library as libraries
from imitation_refinement.xrd.crystals import Crystal, random_prototype, strained
from imitation_refinement.xrd.grid import Grid, grid_q, two_theta_from_q
from imitation_refinement.xrd.ranges import Options, profile

GRID = Grid()
DIFFRACTION = libraries.Diffraction(GRID)
CORNERS = np.array([(0.0, 0.0), (1.0, 0.0), (0.5, np.sqrt(0.75))])
# Rock salt: four formula units in a cube, one in the primitive cell.
ROCK_SALT = Crystal(
    cell=np.array([5.64, 5.64, 5.64, 90.0, 90.0, 90.0]),
    primitive=np.array([(0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0)]),
    numbers=np.array([11, 17]),
    positions=np.array([(0.0, 0.0, 0.0), (0.5, 0.5, 0.5)]),
    space_group=225,
    system=6,
    prototype_id=0,
)


def rng(seed=0):
    return np.random.default_rng(seed)


def crystals(systems=(6, 5, 3, 2)):
    return [random_prototype(3, i, system).crystal for i, system in enumerate(systems)]


def simulate(ranges, options=Options(), seed=0, phases=None):  # noqa: B008
    phases = crystals() if phases is None else phases
    return libraries.simulate_library(phases, DIFFRACTION, rng(seed), ranges, options)


@pytest.fixture(scope="module")
def paper_like():
    return simulate(profile("paper_like"))


# --- Phase diagram -------------------------------------------------------------------------------


def test_composition_grid():
    points = libraries.composition_grid()
    assert points.shape == (66, 3)
    np.testing.assert_allclose(points.sum(axis=1), 1.0)
    assert len({tuple(p) for p in points.round(6)}) == 66
    assert points.min() == 0.0


@pytest.mark.parametrize("phases", [3, 4, 5, 6])
def test_phases_are_the_corners_and_points_apart(phases):
    for seed in range(20):
        found = libraries.phase_compositions(rng(seed), phases)
        np.testing.assert_array_equal(found[:3], np.eye(3))
        np.testing.assert_allclose(found.sum(axis=1), 1.0)
        plane = found @ CORNERS
        distance = np.linalg.norm(plane[:, None] - plane[None], axis=-1) + np.eye(phases)
        assert distance.min() >= 0.22


def test_number_of_phases_is_checked():
    with pytest.raises(ValueError, match="7 phases"):
        libraries.phase_compositions(rng(), 7)


def test_lever_rule_by_hand():
    # One phase at the centre: the point halfway to a corner holds both in equal parts.
    compositions = np.concatenate([np.eye(3), np.full((1, 3), 1 / 3)])
    points = np.array([(2 / 3, 1 / 6, 1 / 6), (0.5, 0.5, 0.0), (1 / 3, 1 / 3, 1 / 3)])
    np.testing.assert_allclose(
        libraries.phase_fractions(points, compositions),
        [(0.5, 0, 0, 0.5), (0.5, 0.5, 0, 0), (0, 0, 0, 1)],
        atol=1e-12,
    )


def test_solubility_by_hand():
    # s = 0.1: shares 0.7, 0.25, 0.05 become 0.75, 0.1875 and nothing, then 0.8 and 0.2.
    fraction = libraries.phase_fractions(np.array([(0.7, 0.25, 0.05)]), np.eye(3), 0.1)
    np.testing.assert_allclose(fraction, [(0.8, 0.2, 0.0)], atol=1e-12)


@pytest.mark.parametrize("phases", [3, 4, 5, 6])
def test_fractions_obey_gibbs_and_without_solubility_conserve_matter(phases):
    points = libraries.composition_grid()
    for seed in range(10):
        compositions = libraries.phase_compositions(rng(seed), phases)
        for solubility in (0.0, 0.18):
            fraction = libraries.phase_fractions(points, compositions, solubility)
            np.testing.assert_allclose(fraction.sum(axis=1), 1.0)
            assert fraction.min() >= 0.0
            assert np.max(np.sum(fraction > 1e-12, axis=1)) <= 3
            if solubility == 0.0:
                np.testing.assert_allclose(fraction @ compositions, points, atol=1e-10)
        alone = libraries.phase_fractions(compositions, compositions, 0.18)
        np.testing.assert_allclose(alone, np.eye(phases), atol=1e-9)


def test_alloying_is_linear_up_to_the_solubility_and_constant_beyond():
    composition = np.array([1.0, 0.0, 0.0])
    toward = np.array([-1.0, 1.0, 0.0])  # along an edge of length 1
    steps = np.array([0.0, 0.05, 0.1, 0.2, 0.4])
    moved = libraries.alloying(composition + steps[:, None] * toward, composition, 0.1)
    np.testing.assert_allclose(moved, [(0, 0), (0.5, 0), (1, 0), (1, 0), (1, 0)], atol=1e-12)


# --- Diffraction ---------------------------------------------------------------------------------


def test_texture_angles_of_a_centred_cube():
    # Primitive indices of (200), (220), (111) in the conventional cell.
    conventional = np.array([(2, 0, 0), (2, 2, 0), (1, 1, 1)])
    primitive = (conventional @ ROCK_SALT.primitive.T).round().astype(int)
    cosines = libraries.texture_cosines(ROCK_SALT, primitive, np.array([1.0, 0.0, 0.0]))
    np.testing.assert_allclose(cosines, [1, 1 / np.sqrt(2), 1 / np.sqrt(3)])


def test_texture_angle_is_between_plane_normals_also_where_axes_are_oblique():
    hexagonal = Crystal(
        cell=np.array([3.0, 3.0, 5.0, 90.0, 90.0, 120.0]),
        primitive=np.eye(3),
        numbers=np.array([12]),
        positions=np.zeros((1, 3)),
        space_group=191,
        system=5,
        prototype_id=0,
    )
    cosines = libraries.texture_cosines(
        hexagonal, np.array([(0, 0, 2), (1, 0, 0), (0, 1, 0)]), np.array([1.0, 0.0, 0.0])
    )
    np.testing.assert_allclose(cosines, [0.0, 1.0, 0.5], atol=1e-12)


def test_truth_has_the_lines_of_rock_salt():
    truth = libraries.truth_pattern(ROCK_SALT, DIFFRACTION)
    assert truth.max() == 1.0 and truth.dtype == np.float32
    assert grid_q(GRID)[truth.argmax()] == pytest.approx(2 * np.pi * 2 / 5.64, rel=5e-4)  # (200)
    forbidden = np.abs(grid_q(GRID) - 2 * np.pi / 5.64 * np.sqrt(2)) < 0.02  # (110)
    assert truth[forbidden].max() < 1e-5


def test_library_has_its_shapes_and_signs(paper_like):
    assert paper_like.raw.shape == paper_like.pattern.shape == (66, 2000)
    assert paper_like.truth.shape == (4, 2000)
    assert paper_like.pattern.dtype == paper_like.truth.dtype == np.float32
    assert paper_like.pattern.min() == 0.0
    assert np.all(paper_like.pattern <= paper_like.raw)
    np.testing.assert_allclose(paper_like.truth.max(axis=1), 1.0)
    assert np.median(paper_like.raw.max(axis=1)) == pytest.approx(1.1, abs=0.3)


def test_counts_are_whole_numbers_with_the_noise_of_counting():
    ranges = STILL._replace(counts=(1e4, 1e4), background=(0.2, 0.2))
    found = simulate(ranges, seed=5, phases=[ROCK_SALT] * 3)
    counts = found.raw * 1e4
    np.testing.assert_allclose(counts, np.rint(counts), atol=1e-2)
    gap = (grid_q(GRID) > 2.45) & (grid_q(GRID) < 2.95)  # rock salt has no line there
    change = np.diff(counts[:, gap], axis=1)  # neighbours differ by noise alone
    assert np.var(change) / (2 * counts[:, gap].mean()) == pytest.approx(1.0, rel=0.03)


def test_axial_strain_keeps_the_system_and_saturates():
    ranges = profile("paper_like")._replace(strain=(0.01, 0.01), spread=0.0)
    found = simulate(ranges, phases=crystals((6, 3, 5, 4, 0)))
    cubic, tetragonal, hexagonal, trigonal, triclinic = np.moveaxis(found.axial, 1, 0)
    np.testing.assert_array_equal(cubic, cubic[:, :1] * np.ones(3))
    for uniaxial in (tetragonal, hexagonal, trigonal):
        np.testing.assert_array_equal(uniaxial[:, 0], uniaxial[:, 1])
        assert np.any(uniaxial[:, 0] != uniaxial[:, 2])
    assert np.ptp(triclinic, axis=1).max() > 1e-4
    assert np.abs(found.axial).max() <= 1.3 * 0.01
    assert np.abs(found.axial).max() > 0.005


def test_truth_lies_on_the_mean_lattice():
    ranges = STILL._replace(strain=(0.02, 0.02))
    found = simulate(ranges, phases=[ROCK_SALT, *crystals((5, 3))], seed=2)
    weights = found.fraction[:, 0] / found.fraction[:, 0].sum()
    mean = float(weights @ found.axial[:, 0, 0])
    assert abs(mean) > 1e-3
    peak = grid_q(GRID)[found.truth[0].argmax()]
    assert peak * (1 + mean) == pytest.approx(2 * np.pi * 2 / 5.64, rel=5e-4)


def test_pure_point_shows_its_phase():
    found = simulate(STILL, phases=[ROCK_SALT, *crystals((5, 3))])
    point = int(np.argmax(found.fraction[:, 0]))
    assert found.fraction[point, 0] == 1.0
    pattern = found.pattern[point] / found.pattern[point].max()
    assert np.corrcoef(pattern, found.truth[0])[0, 1] > 0.999


def test_patterns_mix_by_the_fractions():
    # Noise-free: every pattern is a sum of those of the corners, weighted by fraction and by the
    # point's scale, which least squares finds.
    found = simulate(STILL, phases=crystals((6, 5, 3)))
    corners = found.raw[[int(np.argmax(found.fraction[:, k])) for k in range(3)]]
    shares = np.linalg.lstsq(corners.T.astype(float), found.raw.T.astype(float), rcond=None)[0].T
    pure = np.array([found.fraction[:, k].max() for k in range(3)])
    np.testing.assert_array_equal(pure, 1.0)
    # The scale of a corner divides its column and that of a point multiplies its row; an odds
    # ratio of two points that share phases is free of the second.
    mixed = np.flatnonzero(np.all(found.fraction[:, :2] > 0.1, axis=1))
    odds = shares[mixed, 0] / shares[mixed, 1]
    expected = found.fraction[mixed, 0] / found.fraction[mixed, 1]
    assert len(mixed) > 5
    np.testing.assert_allclose(odds / expected, np.median(odds / expected), rtol=2e-3)


def test_library_is_a_function_of_the_generator(paper_like):
    again, other = (simulate(profile("paper_like"), seed=seed) for seed in (0, 1))
    np.testing.assert_array_equal(paper_like.pattern, again.pattern)
    assert np.any(paper_like.pattern != other.pattern)


def test_phase_without_a_peak_is_refused():
    tiny = strained(ROCK_SALT, np.full(3, -0.9))
    assert not libraries.has_lines(tiny, DIFFRACTION)
    with pytest.raises(ValueError, match="phase 2 has no peak"):
        simulate(STILL, phases=[*crystals((6, 5)), tiny])


# --- Options -------------------------------------------------------------------------------------


def raw_of_rock_salt(options, seed=0):
    found = simulate(STILL, options, seed=seed, phases=[ROCK_SALT, *crystals((5, 3))])
    return found.raw[int(np.argmax(found.fraction[:, 0]))]


def test_displacement_shifts_the_whole_library():
    # Angle of the first strong line, at the height of rng's draw: the shift's sign and size.
    plain = raw_of_rock_salt(Options())
    moved = raw_of_rock_salt(Options(displacement=0.01))
    q = grid_q(GRID)
    height = {}
    for line in (2.0, 4.0):  # (200) and (400)
        near = np.abs(q - 2 * np.pi * line / 5.64) < 0.12
        before, after = (
            two_theta_from_q(np.sum(p[near] * q[near]) / np.sum(p[near]), GRID.wavelength)
            for p in (plain, moved)
        )
        theta = np.radians(before / 2)
        height[line] = -np.radians(after - before) / (2 * np.cos(theta))
    assert abs(height[2.0]) > 1e-4
    assert height[2.0] == pytest.approx(height[4.0], rel=0.1)


def test_doublet_splits_lines_at_high_angles():
    grid = grid_q(GRID)
    line = 2 * np.pi * np.sqrt(20) / 5.64  # (420)
    near = np.abs(grid - line) < 0.1

    def variance(pattern):
        weights = pattern[near] / pattern[near].sum()
        mean = weights @ grid[near]
        return weights @ (grid[near] - mean) ** 2

    added = variance(raw_of_rock_salt(Options(k_alpha2=1.0))) - variance(
        raw_of_rock_salt(Options())
    )
    # Two lines 2 : 1 at a distance delta have the variance 2/9 delta^2.
    delta = line * (1.54439 - 1.54056) / 1.54184
    assert added == pytest.approx(2 / 9 * delta**2, rel=0.1)


def test_missing_regions_are_missing_everywhere():
    found = simulate(STILL, Options(missing=0.2))
    blank = np.all(found.raw == 0.0, axis=0)
    assert np.sum(blank) >= 400
    assert not found.pattern[:, blank].any()
    assert np.all(found.truth.max(axis=1) == 1.0)


def test_no_background_is_left_beside_a_gap():
    ranges = STILL._replace(background=(0.5, 0.5), counts=(1e6, 1e6))
    found = simulate(ranges, Options(missing=0.1), phases=[ROCK_SALT] * 3)
    edge = np.flatnonzero(np.diff(np.all(found.raw == 0.0, axis=0).astype(int)) != 0)
    beside = np.zeros(2000, bool)
    for place in edge:
        beside[max(0, place - 20) : place + 20] = True
    quiet = beside & (found.truth[0] < 1e-4)  # away from peaks
    assert np.sum(quiet) > 20
    assert found.pattern[:, quiet].max() < 0.05


def test_spikes_are_single_points():
    plain, hot = (simulate(STILL, o).raw for o in (Options(), Options(spikes=5.0)))
    added = hot - plain
    assert np.sum(added > 0.19) / 66 == pytest.approx(5.0, abs=5 * np.sqrt(5 / 66))


def test_impurity_adds_lines_that_no_truth_has():
    plain, foreign = (simulate(STILL, o, seed=2) for o in (Options(), Options(impurity=0.5)))
    np.testing.assert_array_equal(plain.truth, foreign.truth)
    # Drawn last but for the scales of points, so compare shapes: foreign lines vary by point.
    share = foreign.raw / foreign.raw.sum(axis=1, keepdims=True)
    before = plain.raw / plain.raw.sum(axis=1, keepdims=True)
    added = (share - before).max(axis=0)
    assert np.sum(added > 0.2 * added.max()) < 200  # narrow lines
    assert added.max() > 1e-3
