"""What many patterns are in sum, and the page that says it."""

import html
import re

from browser import visit
from made_records import EVIL

from imitation_refinement.commands import summary as module
from imitation_refinement.commands.summary import COLUMNS, Kinds, Summary
from imitation_refinement.commands.summary_page import write_page

RECEIPT = {
    "shard": [0, 3], "rows": 7, "chunks": 1, "seconds": 2.0, "machine": "node", "command": EVIL,
}  # fmt: skip


def row(number: int, verdict="confident", **values) -> dict:
    """A row with what every row has."""
    own = {"name": f"scan{number}", "input": f"in/scan{number}.xy", "verdict": verdict}
    return dict.fromkeys(COLUMNS) | own | values


def summed(*rows: dict) -> Summary:
    summary = Summary()
    for one in rows:
        summary.add(one)
    return summary


def test_counts_by_hand():
    quartz = {"formula": "SiO2", "mineral": "Quartz", "space_group_number": 154}
    found = summed(
        row(0, system="trigonal", confidence=0.97, **quartz),
        row(1, "ambiguous", system="trigonal", confidence=0.52, reason="p is 0.52", **quartz),
        row(2, system="cubic", confidence=1.0, formula="Si", space_group_number=227),
        row(3, "not recognised", reason="nothing rises above background and noise"),
        row(4, "failed", error="in/scan4.xy: line 7: no number"),
        row(5, "failed", error="in/scan5.xy: line 9: no number"),
        row(6, "left out", error="a CIF file"),
        row(7, "ambiguous", system="trigonal", confidence=0.4, notes="3 points dropped; long"),
    )
    assert found.verdicts == {
        "confident": 2, "ambiguous": 2, "not recognised": 1, "failed": 2, "left out": 1,
    }  # fmt: skip
    assert found.systems["trigonal"] == {"confident": 1, "ambiguous": 2}
    assert found.phases == {("SiO2", "Quartz", 154): 2, ("Si", "", 227): 1}
    assert found.confident[("SiO2", "Quartz", 154)] == 1
    assert [place for place, count in enumerate(found.histogram[True]) if count] == [19]
    assert {place: n for place, n in enumerate(found.histogram[False]) if n} == {8: 1, 10: 1}
    assert found.reasons["failed"].commonest(9) == [("in/scan4.xy: line 7: no number", 2)]
    assert found.notes.commonest(9) == [("3 points dropped", 1), ("long", 1)]
    # Of each verdict the least confident first; what was left out is in no sample.
    assert [one["name"] for one in found.wanting()] == ["scan7", "scan1", "scan3", "scan4", "scan5"]
    assert [one["name"] for one in found.by_chance()] == [f"scan{i}" for i in (0, 1, 2, 3, 4, 5, 7)]


def test_kinds_are_bounded(monkeypatch):
    monkeypatch.setattr(module, "_KINDS", 3)
    kinds = Kinds()
    for word in "aabcdefga":
        kinds.add(word, "")
    assert kinds.commonest(9) == [("d", 4), ("a", 3), ("b", 1), ("c", 1)]


def test_the_sample_is_bounded_and_does_not_depend_on_the_order():
    rows = [row(i, "ambiguous", confidence=(i * 37 % 1000) / 1000) for i in range(1000)]
    found, backwards = summed(*rows), summed(*reversed(rows))
    least = [one["confidence"] for one in found.wanting()]
    assert least == [i / 1000 for i in range(module.WANTING)]
    names = {one["name"] for one in found.by_chance()}
    assert len(names) == module.BY_CHANCE == len(found.by_chance())
    assert {one["name"] for one in backwards.by_chance()} == names
    # Drawn from all of them: 100 of 1,000 have every part.
    assert {int(name[4:]) // 200 for name in names} == set(range(5))


def test_inputs_of_the_sample_are_named_once_and_by_row():
    found = summed(
        row(0, "ambiguous", confidence=0.5), row(1, input="a.zarr", row=17), row(2, input="x.xy")
    )
    assert found.sample_inputs() == ["in/scan0.xy", "a.zarr[17]", "x.xy"]


def page_of(summary: Summary, folder, missing="") -> str:
    write_page(folder / "p.html", summary, [RECEIPT], missing, "summary.parquet", "sample.txt")
    return (folder / "p.html").read_text()


def test_text_from_files_cannot_become_markup(tmp_path):
    page = page_of(
        summed(row(0, "failed", name=EVIL, error=EVIL, notes=EVIL, formula=EVIL)), tmp_path
    )
    assert (
        EVIL not in page and html.escape(EVIL, quote=False)[:20] in page and "<script" not in page
    )


def test_nothing_at_all_has_a_page(tmp_path):
    assert "<h1>0 patterns</h1>" in page_of(Summary(), tmp_path, "1, 2")


def test_the_page_of_a_million_is_small_and_whole(tmp_path):
    found = summed(*(row(i, "ambiguous", confidence=i / 500, reason=f"{i}") for i in range(500)))
    found.verdicts["confident"] += 999_500
    page = page_of(found, tmp_path, "2")
    assert len(page) < 200_000
    assert re.search(r"<h1>1,000,000 patterns: 999,500 confident, 500 ambiguous</h1>", page)
    seen = visit(  # whose script the page itself would not let in
        page.replace("default-src 'none';", "default-src 'none'; script-src 'unsafe-inline';"),
        "found.rows = all('#verdicts tbody tr').length; found.missing = all('#missing').length;"
        "found.title = document.title; found.bins = all('.bins div').length;",
        tmp_path,
    )
    assert seen == {
        "rows": 2, "missing": 1, "title": "Refined patterns, in sum", "bins": 20, "problems": [],
    }  # fmt: skip
