"""Which refiner's pattern users see, and that all files say which."""

import csv
import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
from fake_model import CUT, FakeModel
from made_phases import EXAMPLES, by_cosine

import imitation_refinement
from imitation_refinement.commands.refine_scans import refine_scans
from imitation_refinement.phases import identify
from imitation_refinement.phases.identify import load_phases
from imitation_refinement.phases.prototypes import GRID
from imitation_refinement.phases.refining import Refined


class ShippedModel(FakeModel):
    """The same, as if it were that of the package."""

    shipped = True


@pytest.fixture(scope="module")
def phases(tmp_path_factory):
    """The five phases of the examples; what is denoised is the pattern above a half."""

    def both(placed):
        pattern = np.stack([one.pattern for one in placed])
        return Refined(pattern, np.where(pattern > 0.5, pattern, 0.0).astype(np.float32))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identify, "load_calibration", by_cosine)
        found = load_phases([EXAMPLES], tmp_path_factory.mktemp("cache"))
    return dataclasses.replace(found, refiner=SimpleNamespace(both=both))


def analyzed(name, model, phases):
    (scan,) = imitation_refinement.read_patterns(EXAMPLES / f"{name}.xy", None)
    return imitation_refinement.analyze(scan, model, phases).records[0]


def test_with_a_library_what_its_refiner_denoised_is_shown(phases):
    one = analyzed("rutile", ShippedModel(GRID), phases)
    raw, mask = one.placed.pattern, one.placed.mask
    np.testing.assert_array_equal(one.refined, np.where(raw > 0.5, raw, 0.0))
    assert one.refiner == "phases"
    apart = np.abs(one.refined.astype(np.float64) - raw)
    assert one.change == pytest.approx(apart[mask].sum() / mask.sum(), rel=1e-5)
    high = analyzed("rutile", FakeModel(GRID), phases)
    assert 0 < len(one.peaks.two_theta) < len(high.peaks.two_theta)


def test_what_the_model_says_is_of_its_own_pattern(phases):
    ours, theirs = (analyzed("rutile", kind(GRID), phases) for kind in (ShippedModel, FakeModel))
    for name in ("probabilities", "raw_probabilities", "distances"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    assert ours.verdict == theirs.verdict and ours.confidence == theirs.confidence


def test_a_model_of_ones_own_and_one_without_a_refiner_of_phases_show_their_pattern(phases):
    plain = dataclasses.replace(phases, refiner=None)
    for model, own in ((FakeModel(GRID), phases), (ShippedModel(GRID), plain)):
        one = analyzed("rutile", model, own)
        raw = one.placed.pattern
        np.testing.assert_array_equal(one.refined, np.where(raw > CUT, raw, 0.0))
        assert one.refiner == "model"


def test_files_say_by_which_refiner(phases, tmp_path):
    scans = [str(EXAMPLES / f"{name}.xy") for name in ("rutile", "glass")]
    told = {}
    for name, own in (("with", phases), ("without", None)):
        refine_scans(ShippedModel(GRID), scans, tmp_path / name, None, phases=own)
        results = json.loads((tmp_path / name / "results.json").read_text())["results"]
        with open(tmp_path / name / "summary.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        told[name] = [one["refiner"] for one in results]
        assert [row["refiner"] for row in rows] == [one or "" for one in told[name]]
    assert told == {"with": ["phases", None], "without": ["model", None]}
