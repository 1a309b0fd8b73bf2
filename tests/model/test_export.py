import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax import export
from tiny_model import LENGTH, patterns, tiny_model

from imitation_refinement.model.export import (
    ARTEFACT,
    DESCRIPTION,
    LOADER,
    OUTPUTS,
    PLATFORMS,
    export_model,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    files = export_model(tiny_model(), folder)
    assert sorted(files) == sorted(folder.iterdir())
    return folder


@pytest.fixture(scope="module")
def artefact(folder):
    return export.deserialize(bytearray((folder / ARTEFACT).read_bytes()))


@pytest.mark.parametrize("count", [1, 37])
def test_it_gives_what_the_model_gives_for_any_number_of_patterns(artefact, count):
    x = patterns(count, seed=count)
    live, found = tiny_model().assess(x), artefact.call(x)
    assert found.keys() == OUTPUTS.keys()
    for name, values in found.items():
        expected = getattr(live, name)
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-5)


def test_it_is_for_every_platform(artefact, folder):
    assert artefact.platforms == PLATFORMS == ("cpu", "cuda", "tpu")
    described = json.loads((folder / DESCRIPTION).read_text())
    assert described["platforms"] == list(PLATFORMS)
    assert described["written_by"]["jax"] == jax.__version__
    assert described["class_names"] == list(tiny_model().class_names)
    assert len(described["q"]) == LENGTH
    assert described["level"] == tiny_model().calibration.level


def test_patterns_of_another_length_are_refused(artefact):
    with pytest.raises(ValueError, match="shape"):
        artefact.call(np.zeros((2, LENGTH - 1, 1), np.float32))


def test_the_loader_needs_nothing_of_ours(folder):
    text = (folder / LOADER).read_text()
    assert len(text.splitlines()) <= 12
    check = (
        "import runpy, sys\n"
        f"found = runpy.run_path({str(folder / LOADER)!r}, run_name='__main__')\n"
        "assert not {'flax', 'imitation_refinement'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", check], capture_output=True, text=True, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    printed = np.fromstring(done.stdout.replace("[", " ").replace("]", " "), sep=" ")
    expected = tiny_model().assess(np.zeros((2, LENGTH, 1))).probabilities
    np.testing.assert_allclose(printed, expected.ravel(), atol=1e-5)
