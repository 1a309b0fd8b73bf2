"""A result as a notebook shows it: figures and tables, the numbers of a batch, no script."""

import base64
import re

import numpy as np
import pytest
from fake_model import FakeModel
from made_phases import EXAMPLES, by_cosine

import imitation_refinement
from imitation_refinement.commands import analysis
from imitation_refinement.commands.refine_scans import refine_scans
from imitation_refinement.phases import identify
from imitation_refinement.phases.compositions import parse_elements
from imitation_refinement.phases.identify import load_phases
from imitation_refinement.phases.prototypes import GRID


@pytest.fixture(scope="module")
def phases(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identify, "load_calibration", by_cosine)
        return load_phases([EXAMPLES], tmp_path_factory.mktemp("cache"))


def scans(*names: str):
    return [imitation_refinement.read_patterns(EXAMPLES / f"{n}.xy", None)[0] for n in names]


def test_a_scan_is_shown_with_its_figure_and_candidates(phases):
    found = imitation_refinement.analyze(scans("rutile", "glass"), FakeModel(GRID), phases)
    html = found._repr_html_()
    pictures = re.findall(r'src="data:image/png;base64,(.*?)"', html)
    assert len(pictures) == 1  # of glass nothing was refined
    assert base64.b64decode(pictures[0]).startswith(b"\x89PNG")
    assert re.search(r"<td>1</td><td>TiO2</td><td></td><td>P4_2/mnm \(136\)</td>", html)
    assert "<h4>glass: not recognised</h4>" in html
    assert "<script" not in html and "http" not in html


def test_the_numbers_are_those_of_a_batch(phases, tmp_path, monkeypatch):
    (one,) = imitation_refinement.analyze(
        scans("rutile")[0], FakeModel(GRID), phases, "-Cl"
    ).records
    kept = []
    monkeypatch.setattr(
        "imitation_refinement.commands.refine_scans.write_patterns",
        lambda folder, result, *rest: kept.append(result) or [],
    )
    refine_scans(
        FakeModel(GRID), [str(EXAMPLES / "rutile.xy")], tmp_path, None, phases=phases,
        elements=parse_elements("-Cl"),
    )  # fmt: skip
    np.testing.assert_array_equal(one.refined, kept[0].refined)
    assert [c.formula for c in one.candidates] == [c.formula for c in kept[0].candidates]
    assert one.identified.answer.systems.tolist() == kept[0].identified.answer.systems.tolist()


def test_text_is_escaped_and_many_are_cut(phases, monkeypatch):
    monkeypatch.setattr(analysis, "SHOWN", 1)
    named = [scan._replace(notes=("<b>x</b>",)) for scan in scans("glass", "glass")]
    html = imitation_refinement.analyze(named, FakeModel(GRID), phases)._repr_html_()
    assert "&lt;b&gt;x" in html and "1 more in records" in html
