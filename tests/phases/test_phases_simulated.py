"""Simulated scans: profiles and texture by hand, and examples made of them."""

import numpy as np
import pytest

from imitation_refinement.phases.fitting import (
    ABSENT,
    ITSELF,
    KNOWN,
    LIBRARIES,
    OTHER,
    PART,
    WHOLE,
    Atoms,
    Facts,
    make_examples,
    scans_of,
)
from imitation_refinement.phases.prototypes import build_prototypes
from imitation_refinement.phases.simulated import (
    Laboratory,
    peaks,
    simulate_measurement,
    strained,
    textured,
)
from imitation_refinement.xrd.crystals import CRYSTAL_SYSTEMS
from imitation_refinement.xrd.diffraction import merge_lines, reflections
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.scans import on_grid

GRID = Grid(0.65, 5.65, 2000)
CUBIC, TRICLINIC = CRYSTAL_SYSTEMS.index("cubic"), CRYSTAL_SYSTEMS.index("triclinic")
ROCK_SALT = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
QUIET = Laboratory(
    counts=(1e5, 1.001e5), background=(0.001, 0.002), step=(0.02, 0.021), textured=0.0,
    grains=0.0, displacement=0.0, zero=0.0, impure=0.0, stripped=1.0, subtracted=0.0,
    smoothed=0.0,
)  # fmt: skip


def rock_salt(edge=5.64):
    positions = np.concatenate([ROCK_SALT, ROCK_SALT + [0.5, 0.5, 0.5]]) % 1.0
    return Atoms(edge * np.eye(3), np.array([11] * 4 + [17] * 4), positions)


def lines_of(atoms):
    return reflections(
        atoms.lattice, atoms.positions, atoms.numbers, q_min=0.3, q_max=6.6, wavelength=1.5418,
        b_iso=0.5,
    )  # fmt: skip


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_peak_keeps_its_area_and_has_its_width(eta):
    x = np.arange(10.0, 50.0, 0.005)
    y = peaks(x, np.array([30.0]), np.array([2.0]), np.array([0.2]), eta, np.array([0.0]))
    # Of a Lorentzian, 2 / pi arctan(24) = 97.3 % lie within 12 full widths.
    expected = 2.0 if eta == 0.0 else 2.0 * 2.0 / np.pi * np.arctan(24.0)
    assert y.sum() * 0.005 == pytest.approx(expected, rel=2e-3)
    above = x[y > 0.5 * y.max()]
    assert np.ptp(above) == pytest.approx(0.2, abs=0.011)


def test_asymmetry_moves_width_to_lower_angles_and_keeps_the_area():
    x = np.arange(10.0, 50.0, 0.005)
    y = peaks(x, np.array([30.0]), np.array([1.0]), np.array([0.2]), 0.0, np.array([0.3]))
    above = x[y > 0.5 * y.max()]
    assert 30.0 - above[0] == pytest.approx(0.13, abs=0.011)
    assert above[-1] - 30.0 == pytest.approx(0.07, abs=0.011)
    assert y.sum() * 0.005 == pytest.approx(1.0, rel=2e-3)


def test_strain_keeps_the_crystal_system():
    rng = np.random.default_rng(0)
    cubic = strained(4.0 * np.eye(3), CUBIC, 1.01, 0.01, rng)
    np.testing.assert_allclose(cubic, 4.04 * np.eye(3))
    tetragonal = strained(np.eye(3), CRYSTAL_SYSTEMS.index("tetragonal"), 1.0, 0.01, rng)
    assert tetragonal[0, 0] == tetragonal[1, 1] != tetragonal[2, 2]
    monoclinic = strained(np.eye(3), CRYSTAL_SYSTEMS.index("monoclinic"), 1.0, 0.01, rng)
    metric = monoclinic @ monoclinic.T
    assert metric[0, 1] == metric[1, 2] == 0.0 != metric[0, 2]
    triclinic = strained(np.eye(3), TRICLINIC, 1.0, 0.01, rng)
    assert np.count_nonzero(np.abs(triclinic @ triclinic.T) > 1e-9) == 9


def test_texture_is_along_one_direction():
    # A tetragonal lattice of one atom: its (00l) are one direction; r = 1 changes nothing.
    lattice = np.diag([3.0, 3.0, 9.0])
    found = reflections(
        lattice, np.zeros((1, 3)), np.array([26]), q_min=0.3, q_max=5.0, wavelength=1.5418,
        b_iso=0.0,
    )  # fmt: skip
    arguments = lattice, found.hkl, found.q, found.intensity
    same = textured(*arguments, 1.0, 0)
    np.testing.assert_allclose(same, found.intensity)
    factor = textured(*arguments, 0.5, 0) / found.intensity
    assert factor.max() == pytest.approx(0.5**-3)  # along the axis: r^-3
    along = found.hkl[factor > 7.9]
    direction = along / np.linalg.norm(along, axis=1, keepdims=True)
    np.testing.assert_allclose(np.abs(direction @ direction[0]), 1.0, atol=1e-9)


def test_a_quiet_laboratory_measures_the_lines_where_they_are():
    atoms = rock_salt()
    found = lines_of(atoms)
    scan = simulate_measurement(
        atoms.lattice, found.hkl, found.q, found.intensity, np.random.default_rng(1), QUIET
    ).scan
    q, intensity = merge_lines(found.q, found.intensity)
    strongest = q[intensity.argmax()]  # (200): 2 pi / 2.82
    assert strongest == pytest.approx(2 * np.pi / 2.82)
    top = scan.two_theta[scan.counts.argmax()]
    # The line lies at the angle of K-alpha 1.
    expected = 2 * np.degrees(np.arcsin(strongest * scan.wavelength / (4 * np.pi)))
    assert top == pytest.approx(expected, abs=0.09)  # the stated wavelength may be the mean
    assert np.all(scan.counts >= 0) and np.all(np.diff(scan.two_theta) > 0)


def test_scans_of_any_laboratory_can_be_placed_and_are_reproducible():
    atoms = rock_salt()
    found = lines_of(atoms)
    impurity = np.array([1.4, 2.9]), np.array([1.0, 0.5])
    for seed in range(30):
        first, second = (
            simulate_measurement(
                atoms.lattice, found.hkl, found.q, found.intensity, np.random.default_rng(seed),
                impurity=impurity,
            ).scan
            for _ in range(2)
        )  # fmt: skip
        np.testing.assert_array_equal(first.counts, second.counts)
        placed = on_grid(first, GRID)
        assert np.isfinite(placed.pattern).all() and placed.mask.any()


def test_draws_keep_their_values():
    """Parts of pairs and examples on disk are of these draws: another order would mix two sets."""
    found = lines_of(rock_salt())
    impurity = np.array([1.4, 2.9]), np.array([1.0, 0.5])
    told = []
    for seed in range(6):
        measured = simulate_measurement(
            5.64 * np.eye(3), found.hkl, found.q, found.intensity, np.random.default_rng(seed),
            impurity=impurity,
        )  # fmt: skip
        counts = measured.scan.counts
        told.append((len(counts), counts.sum(), measured.expected.sum(), measured.raw))
    lengths, sums, peaks_alone, raw = zip(*told, strict=True)
    # By the program as it was when the first pairs were made.
    assert lengths == (1889, 1736, 3029, 829, 3386, 8940)
    np.testing.assert_allclose(
        sums, (1104308.0, 6162.0, 418021.0, 1328.9755710541983, 22859.0, 2074558.0), rtol=1e-12
    )
    expected = (
        637824.79142575,
        1149.87443603,
        31251.20772743,
        517.72989516,
        5279.69704652,
        564001.52606010,
    )
    np.testing.assert_allclose(peaks_alone, expected, rtol=1e-9)
    assert raw == (False, True, True, False, True, True)


def test_examples_leave_out_what_they_say():
    # Two determinations of rock salt, one entry of another edge (another phase), random others.
    rng = np.random.default_rng(0)
    lists = []
    for edge in (5.64, 5.65, 4.21):
        found = lines_of(rock_salt(edge))
        q, intensity = merge_lines(found.q, found.intensity, min_relative=1e-3)
        lists.append((q, np.sqrt(intensity)))
    lists += [(np.sort(rng.uniform(0.8, 5.5, 20)), rng.random(20)) for _ in range(80)]
    prototypes = build_prototypes(
        np.concatenate([q for q, _ in lists]).astype(np.float32),
        np.concatenate([a for _, a in lists]),
        np.concatenate([[0], np.cumsum([len(q) for q, _ in lists])]),
        np.zeros(len(lists)), GRID,
    )  # fmt: skip
    phase = np.array([0, 0, *range(1, len(lists) - 1)])
    system = np.full(len(lists), CUBIC)
    third = np.arange(len(lists)) % 3
    facts = Facts(
        phase, system, phase, lambda entry: rock_salt((5.64, 5.65, 4.21)[entry]),
        lambda entry: third == entry % 3, lambda entry: third == 2,
        lambda entry: np.flatnonzero(phase == phase[entry]),
    )  # fmt: skip

    def as_it_is(scans):
        return np.stack([scan.pattern for scan in scans])

    entries = np.array([0, 2] * 6)
    found = make_examples(entries, facts, prototypes, as_it_is)
    assert set(found.situation.tolist()) == {OTHER, ABSENT, ITSELF}
    of_first, of_third = found.formula == 0, found.formula == 1
    other, absent = found.situation == OTHER, found.situation == ABSENT
    assert (found.right[other & of_first].sum(axis=1) == 1).all()  # the other determination
    assert not found.right[absent].any()
    assert not (other & of_third).any()  # it has no other
    assert found.right[(found.situation == ITSELF) & of_first].sum(axis=1).tolist() in (
        [2] * np.count_nonzero((found.situation == ITSELF) & of_first),
    )
    assert found.features.shape[:2] == found.right.shape
    there = np.isfinite(found.features).all(axis=2)
    assert (there == np.isfinite(found.features).any(axis=2)).all()  # a candidate or none
    assert not found.right[~there].any() and (found.system[~there] == -1).all()
    # Which prototypes they are, and how each was found.
    assert (found.entry[~there] == -1).all() and (system[found.entry[there]] == CUBIC).all()
    own = np.isin(found.entry, [0, 1]) & of_first[:, None]
    np.testing.assert_array_equal(
        found.right[there], (own | (found.entry == 2) & of_third[:, None])[there]
    )
    assert (
        np.abs(found.shift[found.right]) < 0.02
    ).all() and found.displacement.shape == there.shape
    assert set(found.scope.tolist()) == {WHOLE, PART, KNOWN}
    whole, known = (there[found.scope == scope].sum(axis=1) for scope in (WHOLE, KNOWN))
    assert (whole == 60).all() and (known <= 1 + len(lists) // 3).all() and (known > 0).all()
    # Scans are looked at twice, here at the same pattern.
    np.testing.assert_array_equal(found.look[::2], found.look[1::2])
    assert (np.diff(found.look[::2]) > 0).all()
    np.testing.assert_array_equal(found.features[::2], found.features[1::2])
    assert not found.complete[of_first & (found.scope == KNOWN)].any()  # 0 and 2 modulo 3
    assert found.complete[of_third & (found.scope == KNOWN)][:, 0].all()
    # Its scans are made again, for what they deviate by.
    numbers = np.unique(found.look // LIBRARIES)
    again = scans_of(entries[numbers], numbers, facts, prototypes, 0)
    strongest = [again[i].strongest for i in np.searchsorted(numbers, found.look // LIBRARIES)]
    np.testing.assert_array_equal(strongest, found.counts)
    # Where the last entry is what the third is, who has it has the phase.
    twin = facts._replace(same_of=lambda entry: np.array([82, 2] if entry == 2 else [0, 1]))
    known = make_examples(entries, twin, prototypes, as_it_is)
    changed = absent & (known.situation == OTHER)
    np.testing.assert_array_equal(known.features, found.features)
    assert changed[of_third & absent & (found.scope == WHOLE)].all() and not changed[of_first].any()
    assert (known.right & ~found.right).any() and not found.right[changed].any()
    # Where the second is another phase by the same name, who has no more has not the phase.
    unlike = facts._replace(same_of=lambda entry: np.array([entry]))
    known = make_examples(entries, unlike, prototypes, as_it_is)
    np.testing.assert_array_equal(known.features, found.features)
    assert (known.situation[other & of_first] == ABSENT).all()
    assert not known.right[other & of_first].any()
    assert (known.situation[~other] == found.situation[~other]).all()
