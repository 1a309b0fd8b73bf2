import numpy as np
import pytest

from imitation_refinement.errors import UserError
from imitation_refinement.model.model_file import read_model_file, write_model_file
from imitation_refinement.phases.calibration_file import load_calibration, save_calibration
from imitation_refinement.phases.candidates import Calibration
from imitation_refinement.phases.deviations import FIGURES as DEVIATIONS
from imitation_refinement.phases.evidence import FEATURES
from imitation_refinement.phases.posterior import Posterior, probabilities
from imitation_refinement.phases.stacking import FIGURES, LEADERS, absent, fit_trees


def some_calibration():
    rng = np.random.default_rng(0)
    figures, hidden, none = len(FEATURES), 4, 3
    shapes = {
        "mean": figures, "scale": figures, "linear": figures, "hidden": (figures, hidden),
        "hidden_bias": hidden, "out": hidden, "vote_linear": figures, "vote_out": hidden,
        "none_hidden": (3 * figures + 3, none), "none_bias": none, "none_out": none,
        "none_offset": (),
    }  # fmt: skip
    posterior, known = (
        Posterior(**{k: 1.0 + rng.random(s).astype(np.float32) for k, s in shapes.items()})
        for _ in range(2)
    )
    x = rng.normal(size=(400, 6))
    stacks = (fit_trees(x, x[:, i] > 0.0, np.ones(400)) for i in range(2))
    return Calibration(posterior, known, *stacks, np.array([[0.9, 0.8], [0.7, 0.6]]), absent=0.4)


def test_a_calibration_is_read_as_it_was_written(tmp_path):
    written = some_calibration()
    save_calibration(tmp_path / "phases.npz", written, "on nothing")
    read = load_calibration(tmp_path / "phases.npz")
    assert read.levels.tolist() == [[0.9, 0.8], [0.7, 0.6]] and read.absent == 0.4
    features = np.random.default_rng(1).normal(size=(2, 5, len(FEATURES)))
    assert not np.array_equal(written.posterior.linear, written.known.linear)
    for before, after in zip(written[:2], read[:2], strict=True):
        given = (probabilities(features, posterior) for posterior in (before, after))
        for a, b in zip(*given, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5)
    figures = np.random.default_rng(2).normal(size=(50, 6))
    for before, after in zip(written[2:4], read[2:4], strict=True):
        np.testing.assert_array_equal(absent(figures, before), absent(figures, after))
    assert np.abs(absent(figures, read.stack) - absent(figures, read.known_stack)).max() > 0.1


def test_what_is_no_calibration_or_of_other_figures_is_refused(tmp_path):
    path = tmp_path / "phases.npz"
    with pytest.raises(UserError, match="cannot be read"):
        load_calibration(path)
    path.write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"phases\.npz"):
        load_calibration(path)
    save_calibration(path, some_calibration(), "on nothing")
    header, arrays = read_model_file(path)
    header.pop("format", None)
    write_model_file(path, {**header, "features": ["cosine"]}, arrays)
    with pytest.raises(UserError, match="fitted to other figures"):
        load_calibration(path)
    write_model_file(path, {**header, "deviations": ["lines"]}, arrays)
    with pytest.raises(UserError, match="fitted to other figures"):
        load_calibration(path)
    del header["version"]  # the first had none
    write_model_file(path, header, {**arrays, "stack/hidden": np.zeros(3)})
    with pytest.raises(UserError, match=r"phases\.npz: .* of version 1, this program reads 2; use"):
        load_calibration(path)
    write_model_file(path, {**header, "kind": "xrd"}, arrays)
    with pytest.raises(UserError, match="holds no calibration of phases"):
        load_calibration(path)


def test_the_shipped_calibration_suits_this_version():
    calibration = load_calibration()
    for posterior in (calibration.posterior, calibration.known):
        assert posterior.linear.shape == (len(FEATURES),)
    looks, deviating = 2 * (LEADERS * len(FIGURES) + LEADERS + 2), 2 * len(DEVIATIONS)
    for trees in (calibration.stack, calibration.known_stack):
        assert len(trees.figure) > 1 and trees.figure.max() < looks + deviating
        assert trees.figure.max() >= looks  # deviations are asked
    assert ((calibration.levels > 0.5) & (calibration.levels < 1.0)).all()
