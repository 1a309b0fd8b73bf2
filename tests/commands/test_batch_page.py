"""The page about a batch: what it is given, and how it behaves in a browser."""

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest
from browser import visit
from fake_model import SYSTEMS
from made_records import EVIL, GRID, HEADER, Q, record

from imitation_refinement.commands import batch_page
from imitation_refinement.commands.batch_page import BatchPage, packed, packed_floats, plot_data
from imitation_refinement.commands.cif_match import Match
from imitation_refinement.commands.scan_results import Failed, runs, thinned
from imitation_refinement.xrd.grid import Grid, two_theta_from_q
from imitation_refinement.xrd.scans import PlacedScan, q_per_radian


def page_of(*records) -> str:
    page = BatchPage(GRID, SYSTEMS, HEADER)
    for one in records:
        page.add(one)
    return page.render()


def embedded(page: str, name: str) -> dict:
    text = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', page, re.S)
    assert text is not None
    return json.loads(text[1])


def unpacked(values) -> np.ndarray:
    levels = np.frombuffer(base64.b64decode(values["levels"]), "<u2")
    return values["low"] + values["step"] * levels


# --- what is packed ---------------------------------------------------------------------------


def test_packing_keeps_65536_levels():
    values = np.concatenate([[-3.0, 7.0], np.random.default_rng(0).uniform(-3, 7, 1000)])
    assert np.abs(unpacked(packed(values)) - values).max() <= 0.5001 * 10.0 / 65535
    np.testing.assert_array_equal(unpacked(packed(np.full(3, 2.5))), [2.5, 2.5, 2.5])
    assert unpacked(packed(np.zeros(0))).size == 0
    floats = np.frombuffer(base64.b64decode(packed_floats(Q)), "<f4")
    np.testing.assert_allclose(floats, Q, rtol=1e-7)


def test_thinning_keeps_every_peak():
    x = np.arange(100_000.0)
    y = np.zeros(100_000)
    spikes = np.random.default_rng(1).choice(100_000, 40, replace=False)
    y[spikes] = 1 + np.arange(40)
    thin_x, thin_y = thinned(x, y, 2000)
    assert len(thin_x) <= 4000 and np.all(np.diff(thin_x) > 0)
    largest = [part.max() for part in np.array_split(y, 2000)]
    assert set(np.unique(largest)) <= set(thin_y)
    np.testing.assert_array_equal(y[thin_x.astype(int)], thin_y)
    same = thinned(x[:3999], y[:3999], 2000)
    np.testing.assert_array_equal(same[0], x[:3999])


def test_stretches_of_a_mask():
    mask = np.array([1, 1, 0, 0, 1, 0, 1], bool)
    assert runs(mask) == [[0, 2], [4, 5], [6, 7]] and runs(np.zeros(3, bool)) == []


def test_curves_have_the_units_of_the_scan():
    one = record()
    plot = plot_data(one, GRID)
    ((first, last),) = plot["runs"]
    q = Q[first:last]
    per_degree = q_per_radian(two_theta_from_q(q, 1.54184), 1.54184)
    # Background as it was measured: 20 % of 1000 per unit of q.
    assert unpacked(plot["background"]) == pytest.approx(200.0 * per_degree, rel=1e-3)
    np.testing.assert_allclose(unpacked(plot["counts"]), one.scan.counts, rtol=1e-3)
    np.testing.assert_allclose(unpacked(plot["angle"]), one.scan.two_theta, atol=2e-3)
    refined = unpacked(plot["refined"])
    assert refined.max() == pytest.approx(100.0) and q[refined.argmax()] == pytest.approx(3, 2e-3)
    np.testing.assert_array_equal(refined, unpacked(plot["input"]))


# --- which are kept ---------------------------------------------------------------------------


def test_those_that_want_attention_come_first_and_are_kept(monkeypatch):
    monkeypatch.setattr(batch_page, "ROWS", 8)
    monkeypatch.setattr(batch_page, "PLOTS", 3)
    page = BatchPage(GRID, SYSTEMS, HEADER)
    for number in range(30):
        page.add(record(f"sure{number}", confidence=0.9 - 0.01 * number))
    page.add(Failed("broken", Path("broken.xy"), "broken.xy: empty"))
    page.add(record("glass", verdict="not recognised", confidence=0.2))
    for number in range(2):
        page.add(record(f"unsure{number}", verdict="ambiguous", confidence=0.5 - 0.1 * number))
    text = page.render()
    names = [row["name"] for row in embedded(text, "data")["rows"]]
    assert names == [
        "unsure1", "unsure0", "glass", "broken", "sure29", "sure28", "sure27", "sure26",
    ]  # fmt: skip
    assert re.findall(r'id="plot-(\d+)"', text) == ["33", "32", "31"]
    assert "34 patterns: 30 confident, 1 failed, 1 not recognised, 2 ambiguous" in text
    assert "8 of 34 rows" in text and "the curves of 3 patterns" in text
    assert 'id="limits"' not in page_of(record())


def test_two_hundred_patterns_stay_below_20_megabytes():
    one = record()
    angle = np.arange(15.0, 92.0, 0.01)
    counts = np.random.default_rng(0).poisson(500.0, len(angle)).astype(float)
    grid = Grid()
    background = np.random.default_rng(1).uniform(size=grid.length).astype(np.float32)
    big = one._replace(
        scan=one.scan._replace(two_theta=angle, counts=counts),
        placed=PlacedScan(background, np.ones(grid.length, bool), background, 500.0),
        refined=background,
    )
    page = BatchPage(grid, SYSTEMS, HEADER)
    for _ in range(2):
        page.add(big)
    two, one_more = len(page.render()), len(json.dumps(plot_data(big, grid)))
    assert two + 198 * (one_more + 2000) < 20e6


def test_the_header_says_where_the_answers_come_from():
    (without,) = re.findall(r'<p class="soft">(.*?)</p>', page_of(record()), re.S)[:1]
    assert "confidence is that of the crystal system" in without and "library" not in without
    page = BatchPage(GRID, SYSTEMS, HEADER | {"library": "12 structures"})
    page.add(record())
    (with_one,) = re.findall(r'<p class="soft">(.*?)</p>', page.render(), re.S)[:1]
    assert "comparing each pattern with a library of 12 structures" in with_one


# --- text from files --------------------------------------------------------------------------


def test_names_and_notes_cannot_become_markup():
    text = page_of(
        record(EVIL, notes=(EVIL,), matches=(Match(EVIL, 0.5, Q[:3], np.ones(3)),)),
        Failed(EVIL, Path(EVIL), EVIL),
    )
    assert EVIL not in text and "onerror=alert(1)>" not in text
    assert "<b>" not in text.split("<footer")[1].split("</footer>")[0]
    assert embedded(text, "data")["rows"][0]["name"] == EVIL


# --- in a browser -----------------------------------------------------------------------------

_LOOK = """
await wait(300);
const plot = document.getElementById("plot");
const names = () => all("#body tr").map((row) => row.cells[0].textContent);
const column = (title) => all("#columns button").find((b) => b.textContent === title);
const pick = async (name, value) => {
  document.querySelector(`input[name="${name}"][value="${value}"]`).click();
  await wait(200);
};
found.title = document.title;
found.start = names();
found.shown = document.getElementById("title").textContent;
column("confidence").click();
found.falling = names();
found.sorted = all("th[aria-sort]").map((h) => [h.textContent, h.getAttribute("aria-sort")]);
column("confidence").click();
found.rising = names();
column("name").click();
found.byName = names();
const filter = document.getElementById("filter");
filter.value = "qua CUB";
filter.dispatchEvent(new Event("input"));
found.filtered = names();
filter.value = "";
filter.dispatchEvent(new Event("input"));
const verdict = document.getElementById("verdict");
verdict.value = "failed";
verdict.dispatchEvent(new Event("input"));
found.failed = names();
document.querySelector("#body tr").click();
found.hidden = document.getElementById("view").hidden;
verdict.value = "";
verdict.dispatchEvent(new Event("input"));

all("#body tr").find((row) => row.cells[0].textContent === "quartz").click();
await wait(300);
const tip = () => {
  const trace = plot.data.find((t) => t.name === "refined");
  const y = trace.customdata.map((c) => (c ? c[0] : -1));
  const top = y.indexOf(Math.max(...y));
  return [trace.x[top], trace.y[top], ...trace.customdata[top]];
};
found.axis = {};
for (const axis of ["two_theta", "d", "q"]) {
  await pick("axis", axis);
  found.axis[axis] = [tip(), plot._fullLayout.xaxis.title.text, plot._fullLayout.xaxis.range];
}
found.scale = {};
for (const scale of ["linear", "log", "sqrt"]) {
  await pick("scale", scale);
  found.scale[scale] = [tip()[1], plot._fullLayout.yaxis2.type];
}
found.traces = plot.data.map((t) => [t.name, t.yaxis, t.visible]);
found.buttons = all(".modebar-btn").map((b) => b.dataset.title);
found.peaks = all("#peaks tr").map((row) => [...row.cells].map((c) => c.textContent));
found.classes = all("#classes tr").map((row) => row.cells[0].textContent);
found.images = [];
for (const format of ["png", "svg"]) {
  found.images.push((await Plotly.toImage(plot, { format, width: 400, height: 300 })).slice(0, 18));
}
const rows = all("#body tr");
rows[0].focus();
rows[0].dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowDown", bubbles: true }));
found.next = [document.getElementById("title").textContent, rows[1].cells[0].textContent];
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict:
    matches = (
        Match("<i>quartz</i>", 0.91, np.array([3.0, 4.0]), np.array([100.0, 30.0])),
        Match("other", 0.2, np.array([2.0]), np.array([100.0])),
    )
    page = page_of(
        record("quartz", confidence=0.8, matches=matches),
        record("Alumina", confidence=0.95, best=4, wavelength=0.71073, notes=(EVIL,)),
        record("unsure", verdict="ambiguous", confidence=0.4, best=2),
        record("glass", verdict="not recognised", refined=np.zeros(GRID.length, np.float32)),
        Failed("broken", Path("broken.xy"), "broken.xy: empty"),
    )
    return visit(page, _LOOK, tmp_path_factory.mktemp("browser"))


def test_the_page_loads_without_a_word_of_complaint(found):
    assert found["problems"] == []
    assert found["title"] == "Refined patterns"


def test_the_table_sorts_and_filters(found):
    assert found["start"] == ["unsure", "glass", "broken", "quartz", "Alumina"]
    assert found["shown"] == "unsure"
    assert found["falling"] == ["Alumina", "quartz", "unsure", "glass", "broken"]
    assert found["sorted"] == [["confidence", "descending"]]
    assert found["rising"] == ["unsure", "quartz", "Alumina", "glass", "broken"]
    assert found["byName"] == ["Alumina", "broken", "glass", "quartz", "unsure"]
    assert found["filtered"] == ["quartz"]
    assert found["failed"] == ["broken"] and found["hidden"] is True
    assert found["next"] == ["broken", "broken"]


def test_the_axis_switches_between_angle_d_and_q(found):
    angle = float(two_theta_from_q(np.array([3.0]), 1.54184)[0])
    expected = {"two_theta": angle, "d": 2 * np.pi / 3.0, "q": 3.0}
    for axis, place in expected.items():
        (x, _, height, hover_angle, hover_d, hover_q), title, limits = found["axis"][axis]
        assert x == pytest.approx(place, rel=3e-3)
        assert (hover_angle, hover_d, hover_q) == pytest.approx(tuple(expected.values()), rel=3e-3)
        assert height == pytest.approx(100.0)
        assert title.startswith({"two_theta": "2θ", "d": "d (Å)", "q": "Q"}[axis])
        assert (limits[0] > limits[1]) == (axis == "d")


def test_the_intensity_is_linear_a_root_or_logarithmic(found):
    assert found["scale"]["linear"] == [pytest.approx(100.0), "linear"]
    assert found["scale"]["sqrt"] == [pytest.approx(10.0), "linear"]
    assert found["scale"]["log"] == [pytest.approx(100.0), "log"]


def test_curves_sticks_and_tables_of_a_pattern(found):
    assert [trace[0] for trace in found["traces"]] == [
        "measured", "background", "without background", "refined",
        "&lt;i&gt;quartz&lt;/i&gt; (match 0.91)", "other (match 0.20)",
    ]  # fmt: skip
    assert [trace[2] for trace in found["traces"][-2:]] == [True, "legendonly"]
    ((angle, d, intensity, _, in_raw),) = found["peaks"]
    assert float(d) == pytest.approx(2 * np.pi / 3.0, abs=1e-3) and in_raw == "yes"
    assert float(intensity) == 100.0
    assert float(angle) == pytest.approx(two_theta_from_q(np.array([3.0]), 1.54184)[0], abs=0.01)
    assert found["classes"][0] == "cubic"


def test_pictures_can_be_saved_and_nothing_can_be_uploaded(found):
    assert found["images"] == ["data:image/png;bas", "data:image/svg+xml"]
    assert found["buttons"] and not any(
        word in title.lower() for title in found["buttons"] for word in ("share", "cloud", "edit")
    )


def test_what_is_left_out_and_notes_on_the_batch_are_listed_as_text():
    page = BatchPage(GRID, SYSTEMS, HEADER)
    page.add(record())
    assert 'id="left-out"' not in page.render()
    page.left_out = [(Path(f"{EVIL}.md"), "no ending of a pattern"), (Path("b"), EVIL)]
    page.notes = [f"--cif had no effect {EVIL}"]
    text = page.render()
    section = text.split('id="left-out"')[1].split("</section>")[0]
    assert "Left out (2)" in section and "no ending of a pattern" in section
    assert "--cif had no effect" in section and EVIL not in text
