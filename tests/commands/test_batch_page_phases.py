"""The page about a batch with a library of phases, in a browser: candidates by mouse and keys."""

import numpy as np
import pytest
from browser import visit
from fake_model import SYSTEMS
from made_records import EVIL, GRID, HEADER, record

from imitation_refinement.commands.batch_page import BatchPage, cell_words
from imitation_refinement.phases.candidates import NOT_IN_LIBRARY, Answer, Calibration, Candidate
from imitation_refinement.phases.cell_fit import CellFit
from imitation_refinement.phases.identify import Phases
from imitation_refinement.phases.named import Identified, Named
from imitation_refinement.phases.prototypes import GRID as PHASE_GRID
from imitation_refinement.phases.prototypes import build_prototypes
from imitation_refinement.xrd.grid import Grid, two_theta_from_q
from imitation_refinement.xrd.scans import PlacedScan

LINES = ((3.0,), (2.2, 3.0), (4.0,), (3.0,), (3.0,), (3.0,))  # of six candidates; the peak is at 3


def made_phases() -> Phases:
    """Prototypes with LINES, all of the same height; nothing else of a library is looked at."""
    q = np.concatenate([np.array(lines) for lines in LINES])
    offsets = np.concatenate([[0], np.cumsum([len(lines) for lines in LINES])])
    prototypes = build_prototypes(q, np.ones(len(q)), offsets, np.zeros(len(LINES)), PHASE_GRID)
    prototypes = prototypes._replace(height=np.ones(len(q), np.float32))
    return Phases(None, prototypes, Calibration(None, None, None, None, np.full((2, 2), 0.9)))


def named(entry, formula="NaCl", mineral="", probability=0.1) -> Named:
    candidate = Candidate(entry, (entry,), (entry,), entry, 14, 1, probability)
    return Named(candidate, formula, mineral, 14, "P2_1/c", "monoclinic", "mine", f"id{entry}",
                 ("a", "b"), 0.9, 0.8, 0.25, 0.3, 0.0012, 0.0)  # fmt: skip


def identified(verdict, *candidates, further=()) -> Identified:
    systems = np.array([0.05, 0.7, 0.05, 0.05, 0.05, 0.05, 0.05])
    answer = Answer(verdict, "", systems, ((14, 0.7),), (), 0.55)
    return Identified(answer, candidates, further)


PHASE_HEADER = HEADER | {"library": "12 structures <of mine>, 7 of them measured"}
_LOOK_AT_PHASES = """
await wait(300);
const plot = document.getElementById("plot");
const text = (id) => document.getElementById(id).textContent;
const cells = (row) => [...row.cells].map((c) => c.textContent);
const traces = () => plot.data.map((t) => [t.name, t.yaxis, t.x.filter((x) => x != null).length]);
const rows = () => all("#candidate-rows tr");
const chosenRows = () => rows().map((row) => row.getAttribute("aria-selected"));
const state = async () => {
  await wait(300);
  return { chosen: chosenRows(), traces: traces(), said: text("agreement"),
    peaks: all("#peaks tr").map((row) => row.cells[5] && row.cells[5].textContent) };
};
const press = (node, key) =>
  node.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
all("#body tr").find((row) => row.cells[0].textContent === "mixed").click();
found.head = all("#columns th").map((h) => h.textContent);
found.row = cells(all("#body tr")[0]);
found.tag = document.querySelector("#body .tag").className;
found.sub = [...all("#body td.group")[0].querySelectorAll("sub")].map((s) => s.textContent);
found.answer = text("answer");
found.header = document.querySelector("header .soft").textContent;
found.verdicts = all("#verdict option").map((o) => o.textContent);
found.rows = rows().map(cells);
found.links = all("#candidate-rows a").map((a) => [a.textContent, a.getAttribute("href")]);
found.absent = text("absent");
found.further = [text("left"), all("#further-rows tr").map(cells)];
found.together = [text("shares"), text("unexplained")];
found.systems = all("#classes tr").map(cells);
found.first = await state();
found.curves = plot.data.filter((t) => ["refined", "refined − candidate"].includes(t.name))
  .map((t) => Math.max(...t.customdata.map((c) => (c ? c[0] : -1e9))));
rows()[1].click();
found.second = await state();
rows()[1].focus();
press(rows()[1], "ArrowDown");
found.focused = rows().indexOf(document.activeElement);
found.third = await state();
press(rows()[2], "Enter");
found.none = await state();
rows()[5].click();
found.undrawn = [await state(), rows()[5].tabIndex];
press(rows()[0], "Enter");
await state();
for (const scale of ["linear", "log"]) {
  document.querySelector(`input[name="scale"][value="${scale}"]`).click();
  await wait(200);
}
found.log = plot._fullLayout.yaxis4.type;
const glass = all("#body tr").find((row) => row.cells[0].textContent === "glass");
glass.click();
await wait(200);
found.glass = ["candidates", "further"].map((id) => document.getElementById(id).hidden);
const filter = document.getElementById("filter");
filter.value = "p21/c nacl";
filter.dispatchEvent(new Event("input"));
found.filtered = all("#body tr").map((row) => row.cells[0].textContent);
found.wide = document.documentElement.scrollWidth <= window.innerWidth;
found.title = document.title;
"""


@pytest.fixture(scope="module")
def phases_found(tmp_path_factory) -> dict:
    first = named(0, "NaCl0.5", EVIL, 0.31)
    rest = [named(entry, "Fe2O3", "Hematite") for entry in range(1, 6)]
    page = BatchPage(GRID, SYSTEMS, PHASE_HEADER)
    glass = record("glass", verdict="not recognised", refined=np.zeros(GRID.length, np.float32),
                   identified=identified("not recognised"))  # fmt: skip
    further = ((named(1, "ZnO"), named(2, "CuO")), (named(3, "MgO"),))
    answer = identified(NOT_IN_LIBRARY, first, *rest, further=further)
    answer = answer._replace(shares=(0.6, 0.3, 0.1), left=2.0 * np.pi / np.array([2.0, 3.0]))
    mixed = record("mixed", verdict=NOT_IN_LIBRARY, confidence=0.7, identified=answer)
    page.add(mixed, made_phases(), ["mixed.candidate-1.cif", "mixed.candidate-2.cif"])
    page.add(glass, made_phases())
    text = page.render()
    assert EVIL not in text and "<of mine>" not in text
    return visit(text, _LOOK_AT_PHASES, tmp_path_factory.mktemp("browser"))


def test_the_table_names_phases(phases_found):
    assert phases_found["problems"] == [] and phases_found["title"] == "Refined patterns"
    values = dict(zip(phases_found["head"], phases_found["row"], strict=True))
    assert values["formula"] == "NaCl0.5" and values["mineral"] == EVIL
    assert values["space group"] == "P21/c (14)" and phases_found["sub"] == ["1"]
    assert values["phase"] == "31 %" and values["system"] == "monoclinic"
    assert phases_found["tag"] == "tag not-in-the-library"
    assert phases_found["verdicts"] == ["all", NOT_IN_LIBRARY, "not recognised"]
    assert "library of 12 structures <of mine>" in phases_found["header"]
    assert phases_found["answer"].startswith("monoclinic 70 %, P21/c (14), NaCl0.5 (")
    assert phases_found["filtered"] == ["mixed"] and phases_found["wide"]


def test_a_fitted_cell_in_words():
    def words(cell, deviation):
        return cell_words(CellFit(np.array(cell), np.array(deviation), 0.0, 24))

    hexagonal = [4.75912, 4.75912, 12.9926, 90.0, 90.0, 120.0]
    assert words(hexagonal, [3e-4, 3e-4, 1.2e-3, 0.0, 1e-12, 2e-11]) == (
        "a = 4.7591(3) Å, c = 12.993(1) Å, from 24 lines"
    )
    rhombohedral = [5.1, 5.1, 5.1, 55.3, 55.3, 55.3]
    assert words(rhombohedral, [2e-2] * 3 + [1.0] * 3) == "a = 5.10(2) Å, α = 55(1)°, from 24 lines"


def test_candidates_are_ranked_with_their_files(phases_found):
    rows = phases_found["rows"]
    assert [row[0] for row in rows] == list("123456")
    assert rows[1][:10] == [
        "2", "Fe2O3", "Hematite", "P21/c (14)", "10 %", "80 %", "25 %", "30 %", "0.12", "2",
    ]  # fmt: skip
    names = [f"mixed.candidate-{rank}.cif" for rank in (1, 2)]
    assert phases_found["links"] == [[name, name] for name in names]
    assert phases_found["absent"] == "not in the library: 55 %"
    said, rows = phases_found["further"]
    assert "the first leaves 30 % of it" in said
    assert [row[:3] for row in rows] == [
        ["second", "1", "ZnO"], ["", "2", "CuO"], ["third", "1", "MgO"],
    ]  # fmt: skip
    # Peaks at d = 2 and 3 angstrom: 2 theta = 2 asin(1.5418 / 2 d).
    assert phases_found["together"] == [
        "Fitted together, of the calculated intensity (which is no share of mass) NaCl0.5 has 60 %,"
        " ZnO has 30 %, MgO has 10 %.",
        "Peaks left over, the strongest first: 2θ = 45.34°, 29.78°.",
    ]
    assert phases_found["systems"][0] == ["monoclinic", "70 %"]
    assert phases_found["glass"] == [True, True]


def test_a_candidate_is_drawn_with_its_difference_and_what_does_not_agree(phases_found):
    def names(state):
        return [name for name, *_ in state["traces"]]

    def marks(state):
        return {name: count for name, _, count in state["traces"] if " not " in name}

    first, second, third = (phases_found[key] for key in ("first", "second", "third"))
    assert first["chosen"] == ["true", *4 * ["false"], None]
    assert names(first)[4].startswith("NaCl0.5 (&lt;/script&gt;")
    assert names(first)[5] == "refined − candidate" and first["traces"][5][1] == "y4"
    assert first["traces"][6][1:] == ["y3", 2]  # a line at 3
    assert marks(first) == {} and "It explains all peaks" in first["said"]
    assert first["peaks"] == ["yes"]
    # The candidate fits, so that the difference is small beside the pattern.
    refined, difference = phases_found["curves"]
    assert refined == pytest.approx(100.0) and difference < 25.0
    # A line at 2.2 that is not there.
    angle = float(two_theta_from_q(np.array([2.2 / 1.0012]), 1.54184)[0])
    assert marks(second) == {"line not seen": 1} and f"2θ {angle:.2f}°" in second["said"]
    # By the arrow key: a line at 4, and none at the peak.
    assert phases_found["focused"] == 2 and third["chosen"][2] == "true"
    assert marks(third) == {"peak not explained": 1} and third["peaks"] == ["no"]
    # Chosen again, it goes.
    none, (undrawn, tab) = phases_found["none"], phases_found["undrawn"]
    assert "true" not in none["chosen"] and len(none["traces"]) == 4 and none["peaks"] == [None]
    assert undrawn == none and tab == -1 and phases_found["log"] == "linear"


def test_two_hundred_patterns_with_candidates_stay_below_20_megabytes():
    rng = np.random.default_rng(0)
    angle = np.arange(15.0, 92.0, 0.01)
    counts = rng.poisson(500.0, len(angle)).astype(float)
    pattern = rng.uniform(size=Grid().length).astype(np.float32)
    q = np.sort(rng.uniform(1.2, 5.6, (6, 250)), axis=1).ravel()
    prototypes = build_prototypes(q, np.ones(len(q)), 250 * np.arange(7), np.zeros(6), PHASE_GRID)
    phases = Phases(None, prototypes, Calibration(None, None, None, None, np.full((2, 2), 0.9)))
    candidates = [named(i % 6, "Ca2Mg5Si8O22(OH)2", "Magnesiohornblende") for i in range(10)]
    answer = identified("ambiguous", *candidates, further=(tuple(candidates), tuple(candidates)))
    one = record(identified=answer)
    big = one._replace(
        scan=one.scan._replace(two_theta=angle, counts=counts),
        placed=PlacedScan(pattern, np.ones(len(pattern), bool), pattern, 500.0),
        refined=pattern,
    )
    sizes = []
    for count in (1, 3):
        page = BatchPage(Grid(), SYSTEMS, PHASE_HEADER)
        for _ in range(count):
            page.add(big, phases)
        sizes.append(len(page.render()))
    assert sizes[0] + 199 * (sizes[1] - sizes[0]) / 2 < 20e6
