"""Denoisers agree with slow references, gain what theory says, and never see a test row."""

import numpy as np
import pytest
import pywt
import scipy.signal
import sklearn.decomposition

from imitation_refinement.baselines import denoise

SIGMA = 0.05
LENGTH = 2000


def clean_patterns(count=20, length=LENGTH, width=(6.0, 12.0), seed=0) -> np.ndarray:
    """Gaussian peaks on nothing, maximum 1, float64 [n, L]."""
    rng, x = np.random.default_rng(seed), np.arange(float(length))
    rows = []
    for _ in range(count):
        places = rng.uniform(0.05, 0.95, 8) * length
        heights, widths = rng.uniform(0.1, 1.0, 8), rng.uniform(*width, 8)
        peaks = heights * np.exp(-0.5 * ((x[:, None] - places) / widths) ** 2)
        rows.append(peaks.sum(axis=1))
    pattern = np.stack(rows)
    return pattern / pattern.max(axis=1, keepdims=True)


def noisy_patterns(clean, seed=1) -> np.ndarray:
    return clean + np.random.default_rng(seed).normal(0, SIGMA, clean.shape)


def every(kind):
    return [(kind, settings) for settings in denoise.candidates(kind)]


EVERY = [pair for kind in denoise.KINDS for pair in every(kind)]


# ---- Wavelet shrinkage ----


def slow_universal(pattern, wavelet, level, rule) -> np.ndarray:
    """One pattern, coefficient by coefficient, as textbooks have it (no exact zeros)."""
    coefficients = pywt.wavedec(pattern, wavelet, mode="symmetric", level=level)
    sigma = np.median(np.abs(coefficients[-1])) / 0.6744898
    t = sigma * np.sqrt(2 * np.log(len(pattern)))
    for detail in coefficients[1:]:
        for i, c in enumerate(detail):
            if abs(c) < t:
                detail[i] = 0.0
            elif rule == "soft":
                detail[i] = c - t if c > 0 else c + t
            elif rule == "garrote":
                detail[i] = c - t**2 / c
    return pywt.waverec(coefficients, wavelet, mode="symmetric")[: len(pattern)]


@pytest.mark.parametrize("rule", denoise.RULES)
@pytest.mark.parametrize("length", [200, 201])
def test_universal_shrinkage_is_the_textbook_one(rule, length):
    patterns = noisy_patterns(clean_patterns(3, length))
    found = denoise.wavelet_shrinkage(
        patterns, wavelet="sym8", level=3, rule=rule, threshold="universal"
    )
    for row, pattern in zip(found, patterns, strict=True):
        np.testing.assert_allclose(row, slow_universal(pattern, "sym8", 3, rule), atol=1e-6)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("hard", [0.0, 0.0, 2.0, -4.0, 0.0]),
        ("soft", [0.0, 0.0, 0.0, -2.0, 0.0]),
        ("garrote", [0.0, 0.0, 0.0, -3.0, 0.0]),
    ],
)
def test_shrinkage_by_hand(rule, expected):
    details = np.array([[0.0, 1.0, 2.0, -4.0, -1.5]])
    np.testing.assert_array_equal(denoise.shrink(details, 2.0, rule), [expected])
    np.testing.assert_array_equal(denoise.shrink(details, np.zeros((1, 1)), rule), details)
    others = np.random.default_rng(0).normal(0, 2, (4, 50))
    np.testing.assert_allclose(denoise.shrink(others, 1.3, rule), pywt.threshold(others, 1.3, rule))


@pytest.mark.parametrize("length", [16, 47, 500, 501])
@pytest.mark.parametrize("rule", denoise.RULES)
@pytest.mark.parametrize("wavelet", ["db4", "sym8"])
def test_threshold_zero_reconstructs(monkeypatch, wavelet, rule, length):
    patterns = noisy_patterns(clean_patterns(2, length))
    patterns[0, : length // 3] = 0.0
    monkeypatch.setattr(denoise, "noise_level", lambda detail: np.zeros((len(detail), 1)))
    for threshold in denoise.THRESHOLDS:
        found = denoise.wavelet_shrinkage(
            patterns, wavelet=wavelet, level=5, rule=rule, threshold=threshold
        )
        np.testing.assert_allclose(found, patterns, atol=1e-12)


def test_noise_level_of_white_noise_whatever_is_cut_off():
    rng = np.random.default_rng(2)
    details = rng.normal(0, 3.0, (4, 20000))
    details[1, 4000:] = 0.0  # sparse: the quarter
    details[2, :9000] = 0.0  # the median of the others
    details[3] = 0.0
    found = denoise.noise_level(details)
    assert found.shape == (4, 1) and found[3, 0] == 0.0
    np.testing.assert_allclose(found[:3, 0], 3.0, rtol=0.05)


def test_sure_threshold_agrees_with_trying_every_one():
    rng = np.random.default_rng(3)
    signal = np.where(rng.random((6, 300)) < 0.3, 5.0, 0.0)
    details = signal + rng.normal(0, 1, (6, 300))
    found = denoise.sure_threshold(details)
    for row, c in enumerate(details):
        tried = [t for t in [0.0, *np.abs(c)] if t <= np.sqrt(2 * np.log(300))]
        risk = [
            300 - 2 * np.sum(np.abs(c) <= t) + np.sum(np.minimum(np.abs(c), t) ** 2) for t in tried
        ]
        assert found[row, 0] == pytest.approx(tried[int(np.argmin(risk))])
    # Noise alone: the universal threshold, and with no coefficient below it none at all.
    quiet = denoise.sure_threshold(rng.normal(0, 1, (2, 300)))
    np.testing.assert_allclose(quiet, np.sqrt(2 * np.log(300)))
    assert denoise.sure_threshold(np.full((1, 300), 9.0))[0, 0] == 0.0


def test_soft_universal_shrinkage_obeys_the_oracle_inequality():
    """Donoho and Johnstone 1994, theorem 1: mean squared error at most (2 ln n + 1) times
    sigma^2 + sum min(theta^2, sigma^2), theta the true details; far below the noise that went in.
    """
    clean = clean_patterns(40)
    settings = {"wavelet": "sym8", "level": 5, "rule": "soft", "threshold": "universal"}
    found = denoise.wavelet_shrinkage(noisy_patterns(clean), **settings)
    error = np.square(found - clean).sum(axis=1).mean()
    smooth_part, *details = pywt.wavedec(clean, "sym8", mode="symmetric", level=5, axis=1)
    ideal = sum(np.minimum(d**2, SIGMA**2).sum(axis=1).mean() for d in details)
    kept = SIGMA**2 * smooth_part.shape[1]  # what is not shrunk keeps its noise
    assert error <= kept + (2 * np.log(LENGTH) + 1) * (SIGMA**2 + ideal)
    assert error < SIGMA**2 * LENGTH / 3


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("wavelet", ["db4", "sym8"])
def test_wavelets_take_out_the_noise_of_their_levels(wavelet, levels):
    """Known gain: of white noise 2^-levels is in the part that is kept, and broad peaks all are.

    Reached: 2.03 and 2.04, 4.09 and 4.09, 8.12 and 8.16 for 1, 2 and 3 levels.
    """
    clean = clean_patterns(40, width=(40.0, 80.0))
    settings = {"wavelet": wavelet, "rule": "hard", "threshold": "universal"}
    found = denoise.wavelet_shrinkage(noisy_patterns(clean), level=levels, **settings)
    assert SIGMA**2 / np.square(found - clean).mean() == pytest.approx(2**levels, rel=0.05)


def test_sparse_patterns_with_noise_on_their_peaks_alone_are_denoised():
    """Most points are exactly zero, so that the plain median finds no noise: the sparse trap."""
    clean = clean_patterns(20)
    supported = clean > 0.01
    assert supported.mean() < 0.3
    raw = np.where(supported, noisy_patterns(clean), 0.0)
    finest = pywt.wavedec(raw, "sym8", level=5, axis=1)[-1]
    assert (np.median(np.abs(finest), axis=1) == 0).all()
    settings = {"wavelet": "sym8", "level": 5, "rule": "hard", "threshold": "universal"}
    found = denoise.wavelet_shrinkage(raw, **settings)
    before, after = (np.square(x - clean)[supported].mean() for x in (raw, found))
    assert after < 0.7 * before


@pytest.mark.parametrize(("kind", "settings"), every("dwt"))
def test_sparse_clean_patterns_are_unharmed(kind, settings):
    """Narrow peaks, and peaks of a single point, on exact zeros: nothing is noise.

    Not with thresholds by level, which take what fills a coarse level for noise.
    """
    narrow = clean_patterns(5, 400, width=(2.0, 3.0))
    narrow[narrow < 1e-6] = 0.0
    sticks = np.zeros((2, 400))
    sticks[0, [50, 120, 333]] = 1.0, 0.5, 0.05
    sticks[1, 200] = 1.0
    patterns = np.concatenate([narrow, sticks])
    found = denoise.fit(kind, settings, patterns)(patterns)
    change = np.abs(found - patterns).max(axis=1)
    assert np.isfinite(change).all()
    if settings["threshold"] != "level":
        assert (change[:5] < 0.05).all() and (change[5:] < 0.2).all()


# ---- Smoothing ----


def test_savitzky_golay_by_hand_and_on_its_own_polynomials():
    pattern = np.zeros((1, 11))
    pattern[0, 5] = 35.0
    found = denoise.smooth(pattern, window=5, order=2)
    np.testing.assert_allclose(found[0, 3:8], [-3, 12, 17, 12, -3], atol=1e-12)
    x = np.arange(60.0)
    cubic = np.stack([1 + 2 * x - 0.3 * x**2 + 0.01 * x**3])
    np.testing.assert_allclose(
        denoise.smooth(cubic, window=9, order=2)[:, 4:-4], cubic[:, 4:-4], rtol=1e-10
    )


@pytest.mark.parametrize("settings", denoise.candidates("savitzky_golay"))
def test_savitzky_golay_takes_out_the_noise_that_its_weights_say(settings):
    """White noise keeps the share sum w^2 of its variance."""
    noise = np.random.default_rng(5).normal(0, 1, (20, LENGTH))
    weights = scipy.signal.savgol_coeffs(settings["window"], settings["order"])
    assert denoise.smooth(noise, **settings).var() == pytest.approx((weights**2).sum(), rel=0.05)


def test_pca_without_smoothing_is_the_reconstruction_of_scikit_learn():
    training, test = clean_patterns(30, 80, seed=6), clean_patterns(5, 80, seed=7)
    settings = {"components": 7, "window": 1, "order": 0}
    pca = sklearn.decomposition.PCA(7, svd_solver="full").fit(training)
    expected = np.maximum(pca.inverse_transform(pca.transform(test)), 0)
    found = denoise.fit("smoothed_pca", settings, training)(test)
    np.testing.assert_allclose(found, expected / expected.max(axis=1, keepdims=True), atol=1e-5)


def test_smoothed_components_are_orthonormal_smooth_and_no_more_than_there_are():
    training = noisy_patterns(clean_patterns(12, 300))
    components = denoise.principal_components(training)
    mean, basis = denoise.smoothed_basis(components, components=50, window=15, order=2)
    assert mean.shape == (1, 300) and basis.shape == (11, 300)
    np.testing.assert_allclose(basis @ basis.T, np.eye(11), atol=1e-10)
    _, rough = denoise.smoothed_basis(components, components=50, window=1, order=0)
    assert np.square(np.diff(basis)).sum() < 0.2 * np.square(np.diff(rough)).sum()
    _, few = denoise.smoothed_basis(components, components=4, window=1, order=0)
    np.testing.assert_allclose(np.abs(few @ rough.T), np.eye(4, 11), atol=1e-10)
    with pytest.raises(ValueError, match="two training patterns"):
        denoise.principal_components(training[:1])


# ---- All of them ----


@pytest.mark.parametrize(("kind", "settings"), EVERY)
@pytest.mark.parametrize("length", [200, 301])
def test_output_is_a_pattern_and_rows_do_not_know_each_other(kind, settings, length):
    patterns = noisy_patterns(clean_patterns(12, length)).astype(np.float32)
    patterns[2], patterns[9] = patterns[1], 0.0
    denoiser = denoise.fit(kind, settings, patterns[:8])
    found = denoiser(patterns)
    assert found.shape == patterns.shape and found.dtype == np.float32
    assert (found >= 0).all() and np.isfinite(found).all()
    expected = np.ones(12)
    if kind != "smoothed_pca":  # which turns nothing into the nearest pattern of its span
        expected[9] = 0.0
    np.testing.assert_array_equal(found.max(axis=1), expected)
    for row in (2, 9, 10):
        np.testing.assert_allclose(denoiser(patterns[row : row + 1])[0], found[row], atol=1e-6)
    assert np.abs(found - patterns).max() > 1e-3  # not the identity


@pytest.mark.parametrize(
    ("kind", "settings", "gain"),
    [
        ("dwt", {"wavelet": "sym8", "level": 5, "rule": "garrote", "threshold": "universal"}, 4.0),
        ("dwt", {"wavelet": "sym8", "level": 5, "rule": "soft", "threshold": "sure"}, 4.0),
        ("dwt", {"wavelet": "sym8", "level": 5, "rule": "soft", "threshold": "level"}, 1.8),
        ("savitzky_golay", {"window": 15, "order": 2}, 4.0),
        ("smoothed_pca", {"components": 5, "window": 15, "order": 2}, 6.0),
    ],
)
def test_white_noise_falls_by_a_known_factor(kind, settings, gain):
    """Smooth peaks on a background, with white noise; for PCA they are mixtures of five."""
    clean = clean_patterns(60) + 0.3
    if kind == "smoothed_pca":
        shares = np.random.default_rng(8).dirichlet(np.ones(5), 60)
        clean = shares @ clean[:5]
        clean /= clean.max(axis=1, keepdims=True)
    raw = np.maximum(noisy_patterns(clean), 0)
    raw /= raw.max(axis=1, keepdims=True)
    found = denoise.fit(kind, settings, raw[:40])(raw[40:])

    def error(patterns):  # on the scale that fits best: a maximum is the noisiest of points
        scale = (patterns * clean[40:]).sum() / np.square(patterns).sum()
        return np.square(scale * patterns - clean[40:]).mean()

    assert error(raw[40:]) / error(found) > gain


def test_rounding_errors_are_not_taken_for_a_pattern():
    training = clean_patterns(6, 100)
    training[2] = 0.0
    settings = {"components": 5, "window": 1, "order": 0}
    found = denoise.fit("smoothed_pca", settings, training)(training)
    assert (found[2] == 0).all() and (found[[0, 1, 3, 4, 5]].max(axis=1) == 1).all()


def test_unknown_names_are_refused():
    for call in (
        lambda: denoise.candidates("median"),
        lambda: denoise.fit("median", {}, np.ones((2, 50))),
    ):
        with pytest.raises(ValueError, match="median.*dwt"):
            call()
    settings = {"wavelet": "db4", "level": 2, "rule": "soft", "threshold": "universal"}
    for name, value in (("rule", "firm"), ("threshold", "mdl")):
        with pytest.raises(ValueError, match=value):
            denoise.wavelet_shrinkage(np.ones((1, 50)), **settings | {name: value})


# ---- Choosing ----


class Labelled:
    """Patterns of two classes, told apart by where their one peak is; groups of two."""

    patterns = np.maximum(noisy_patterns(np.eye(40)[np.tile([10, 30], 10)]), 0).astype(np.float32)
    labels = np.tile([0, 1], 10)
    groups = np.arange(20) // 2

    @staticmethod
    def logits(patterns):
        return np.stack([patterns[:, :20].sum(axis=1), patterns[:, 20:].sum(axis=1)], axis=1)

    @classmethod
    def choose(cls, kind="savitzky_golay", logits=None, groups=None, labels=None):
        groups = cls.groups if groups is None else groups
        labels = cls.labels if labels is None else labels
        return denoise.choose(kind, cls.patterns, labels, groups, logits or cls.logits, seed=0)


def test_no_group_is_both_fitted_to_and_denoised(monkeypatch):
    """The trap: a denoiser that knows its training rows gives them away."""
    seen = []

    def spy(kind, training):
        known = {row.tobytes() for row in training}

        def denoiser(patterns):
            seen.append((len(training), len(patterns)))
            leaked = {row.tobytes() for row in patterns} & known
            assert not leaked
            groups = [
                {int(g) for g, p in zip(Labelled.groups, Labelled.patterns, strict=True)
                 if p.tobytes() in rows}
                for rows in (known, {row.tobytes() for row in patterns})
            ]  # fmt: skip
            assert not groups[0] & groups[1]
            return patterns

        return lambda settings: denoiser

    monkeypatch.setattr(denoise, "fitter", spy)
    choice = Labelled.choose("smoothed_pca")
    assert len(seen) == 5 * len(choice.table)
    assert {test for _, test in seen} == {4} and {train for train, _ in seen} == {16}


def test_best_accuracy_wins_and_its_settings_come_back():
    def logits(patterns):  # right where smoothing has spread the peak far
        spread = (patterns > 0.3).sum(axis=1) > 4
        right = np.eye(2)[Labelled.labels]
        return np.where(spread[:, None], right, 1 - right)

    choice = Labelled.choose(logits=logits)
    accuracies = [row["accuracy"] for row in choice.table]
    assert choice.accuracy == max(accuracies) > min(accuracies)
    best = choice.table[int(np.argmax(accuracies))]
    assert choice.settings.items() <= best.items()
    assert choice.settings in denoise.candidates("savitzky_golay")


@pytest.mark.parametrize("kind", denoise.KINDS)
def test_of_equals_the_mildest(kind):
    choice = Labelled.choose(kind, logits=lambda x: np.zeros((len(x), 2)))
    assert {row["accuracy"] for row in choice.table} == {0.5}
    change = [row["change"] for row in choice.table]
    mildest = choice.table[int(np.argmin(change))]
    assert choice.settings.items() <= mildest.items() and max(change) > min(change)


def test_unknown_classes_are_not_scored():
    labels = np.where(np.arange(20) < 10, Labelled.labels, -1)
    choice = Labelled.choose(logits=lambda x: np.tile([1.0, 0.0], (len(x), 1)), labels=labels)
    assert choice.accuracy == 0.5
    with pytest.raises(ValueError, match="0 labels"):
        Labelled.choose(labels=np.full(20, -1))
    with pytest.raises(ValueError, match="1 groups"):
        Labelled.choose(groups=np.zeros(20))


def test_choice_depends_on_the_seed_alone():
    first, again = Labelled.choose("smoothed_pca"), Labelled.choose("smoothed_pca")
    assert first == again
