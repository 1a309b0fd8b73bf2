"""A run that was begun by an earlier layout of the code goes on here, and its model loads.

`begun_run.py` says what the archive holds and how it is made.
"""

import json
import zipfile

import numpy as np
import pytest
from begun_run import MACHINE, PLACE, STOPS, machine
from program import Program

from imitation_refinement.model.find import load_model
from imitation_refinement.model.model_file import read_model_file


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    folder = tmp_path_factory.mktemp("begun")
    with zipfile.ZipFile(PLACE) as archive:
        archive.extractall(folder)
    return folder


def test_a_model_of_before_loads_and_answers(begun):
    model = load_model(begun / "model.npz")
    x = np.zeros((2, model.grid.length, 1), np.float32)
    x[:, 100:103] = 1.0
    answer = model.assess(x)
    np.testing.assert_array_equal(answer.refined[0], answer.refined[1])
    np.testing.assert_allclose(answer.probabilities.sum(axis=1), 1.0, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("stage", STOPS)
def test_a_run_of_before_goes_on_to_the_same_bits(begun, stage):
    output = Program(begun)(begun / stage)  # compiled as users have it: bits depend on that
    assert STOPS[stage].replace("first step", "resumed at step") in output
    expected = read_model_file(begun / "model.npz")[1]
    found = read_model_file(begun / stage / "model.npz")[1]
    assert found.keys() == expected.keys()
    same = json.loads((begun / MACHINE).read_text()) == machine()
    for name, array in expected.items():
        if same:
            np.testing.assert_array_equal(found[name], array, err_msg=name)
        else:  # another processor or compiler adds up in another order
            np.testing.assert_allclose(found[name], array, rtol=0.05, atol=5e-3, err_msg=name)
