import doctest
import subprocess
import sys

import numpy as np
import pytest
from program import ROOT
from tiny_model import LENGTH, patterns, tiny_model

import imitation_refinement
from imitation_refinement import api
from imitation_refinement.errors import UserError
from imitation_refinement.model import find, portable
from imitation_refinement.model.acceptance import NO_SIGNAL, NOT_RECOGNISED
from imitation_refinement.xrd.grid import two_theta_from_q
from imitation_refinement.xrd.scans import Scan, on_grid

WAVELENGTH = 1.54184


@pytest.fixture(autouse=True)
def shipped(tmp_path_factory, monkeypatch):
    path = tmp_path_factory.getbasetemp() / "shipped.npz"
    if not path.exists():
        portable.save_model(tiny_model(), path)
    monkeypatch.setattr(find, "shipped_model", lambda: path)
    api._shipped.cache_clear()
    yield
    api._shipped.cache_clear()


def counts(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A measured scan of three peaks."""
    two_theta = np.arange(16.0, 90.0, 0.05)
    peaks = sum(np.exp(-0.5 * ((two_theta - place) / 0.3) ** 2) for place in (25.0, 40.0, 60.0))
    return two_theta, np.random.default_rng(seed).poisson(1000.0 * peaks + 20.0).astype(float)


def scan(seed: int = 0) -> Scan:
    return Scan(*counts(seed), WAVELENGTH, "made up")


def test_every_public_name_is_there():
    for name in imitation_refinement.__all__:
        assert getattr(imitation_refinement, name).__name__ == name
        assert name in dir(imitation_refinement)
    with pytest.raises(AttributeError, match="no attribute 'refinement'"):
        _ = imitation_refinement.refinement


def test_importing_the_package_imports_nothing_heavy():
    check = (
        "import sys, imitation_refinement\n"
        "assert not {'jax', 'flax', 'numpy', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", check], check=True)


def test_the_examples_of_the_documentation_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savetxt("scan.xy", np.column_stack(counts()))
    result = doctest.testmod(api, raise_on_error=False)
    assert result.attempted >= 8 and result.failed == 0


def test_scans_are_placed_on_the_grid_and_assessed_with_their_masks():
    two_theta, measured = counts()
    half = Scan(two_theta[:700], measured[:700], WAVELENGTH, "half")
    model = tiny_model()
    found = imitation_refinement.classify([scan(), half], model)
    placed = [on_grid(one, model.grid) for one in (scan(), half)]
    raw = np.stack([one.pattern for one in placed])[..., None]
    expected = model.assess(raw, np.stack([one.mask for one in placed]))
    for first, second in zip(found, expected, strict=True):
        np.testing.assert_array_equal(first, second)
    assert not found.refined[1, -50:].any()  # 2 theta up to 51 degrees was measured
    assert two_theta_from_q(model.q[-50:], WAVELENGTH).min() > 51.0


def test_a_single_scan_and_the_shipped_model_are_enough():
    np.testing.assert_array_equal(
        imitation_refinement.refine(scan()), imitation_refinement.refine([scan()], tiny_model())
    )


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_of_any_rank_scale_and_precision_mean_the_same(scale, dtype):
    x = patterns(2)
    expected = tiny_model().assess(x).refined[..., 0]
    values = x.astype(dtype) * dtype(scale)
    for form in (values, values[..., 0], values[..., 0].tolist()):
        found = imitation_refinement.refine(form)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    found = imitation_refinement.refine(values[0, :, 0])
    np.testing.assert_allclose(found, expected[:1], rtol=1e-4, atol=1e-5)


def test_negative_intensities_count_as_nothing():
    x = patterns(1)[..., 0]
    below = np.where(x > 0.01, x, -5.0)
    above = np.where(x > 0.01, x, 0.0)
    np.testing.assert_array_equal(
        imitation_refinement.refine(below), imitation_refinement.refine(above)
    )


def test_nothing_is_not_recognised():
    answer = imitation_refinement.classify(np.zeros(LENGTH))
    assert answer.verdict[0] == "not recognised"


def test_a_scan_without_peaks_is_not_recognised():
    two_theta, _ = counts()
    flat = np.random.default_rng(3).poisson(100.0, len(two_theta)).astype(float)
    answer = imitation_refinement.classify(Scan(two_theta, flat, WAVELENGTH, "flat"))
    assert (answer.verdict[0], answer.reason[0]) == (NOT_RECOGNISED, NO_SIGNAL)


def test_no_scans_give_no_answers():
    assert imitation_refinement.refine([]).shape == (0, LENGTH)


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match=r"the points of model.q, got \[4, 255\]"):
        imitation_refinement.refine(np.zeros((4, LENGTH - 1)))
    with pytest.raises(ValueError, match=r"got \[1, 1, 256, 1\]"):
        imitation_refinement.refine(np.zeros((1, 1, LENGTH, 1)))
    with pytest.raises(TypeError, match="expected scans or real numbers, got complex128"):
        imitation_refinement.refine(np.zeros(LENGTH, complex))
    with pytest.raises(TypeError, match="expected scans or real numbers, got <U"):
        imitation_refinement.refine("scan.xy")
    bad = np.zeros((3, LENGTH))
    bad[2, 1] = np.inf
    with pytest.raises(ValueError, match="pattern 2 holds numbers that are not finite"):
        imitation_refinement.refine(bad)


def test_phases_are_named_from_python():
    phases = imitation_refinement.load_phases(
        str(ROOT / "examples")
    )  # of the CIF files beside the scans
    scans = imitation_refinement.read_patterns(ROOT / "examples" / "corundum.xy", wavelength="CuKa")
    (found,) = imitation_refinement.identify(scans, phases)
    assert (found.candidates[0].formula, found.candidates[0].space_group_number) == ("Al2O3", 167)
    (found,) = imitation_refinement.identify(scans[0], phases, elements="-Al")
    assert "Al" not in "".join(one.formula for one in found.candidates)
    assert imitation_refinement.identify([], phases) == []
    with pytest.raises(UserError, match="'Xx' is no element"):
        imitation_refinement.identify(scans, phases, elements="Xx")
