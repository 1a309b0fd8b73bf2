"""The live page in headless Chromium: the whole flow, by mouse and keyboard, and axe's opinion."""

import json
import re
import zipfile

import pytest
from browser import browser
from live_site import live_site
from made_phases import EXAMPLES, by_cosine
from made_records import EVIL
from scan_case_files import xy
from test_serve import _sum, scan

from imitation_refinement.phases import identify
from imitation_refinement.phases.identify import load_phases

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 400, "height": 800}


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identify, "load_calibration", by_cosine)
        phases = load_phases([EXAMPLES], tmp_path_factory.mktemp("cache"))
    with live_site(phases) as port:
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as playwright:
        program = playwright.chromium.launch(executable_path=browser(), args=["--no-sandbox"])
        yield program
        program.close()


@pytest.fixture
def page(chromium, address):
    """An opened page; whatever it complains of fails the test."""
    page, problems = chromium.new_page(viewport=WIDE), []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "console", lambda said: said.type in ("error", "warning") and problems.append(said.text)
    )
    page.goto(address)
    page.problems = problems
    yield page
    page.close()
    assert problems == []


def drop(page, **files: bytes) -> None:
    page.set_input_files(
        "#files", [{"name": n, "mimeType": "text/plain", "buffer": b} for n, b in files.items()]
    )


def row(page, name: str):
    return page.locator("#body tr", has=page.locator("strong", has_text=name))


def answered(page, name: str) -> str:
    """The answer about a scan, as soon as there is one."""
    place = row(page, name).locator("td.answer")
    sync_api.expect(place.locator(".tag")).to_be_visible(timeout=20_000)
    return place.inner_text()


def traces(page) -> list[str]:
    page.wait_for_timeout(300)
    return page.evaluate("document.getElementById('plot').data.map((t) => t.name)")


def settled(locator, text: str) -> None:
    sync_api.expect(locator).to_contain_text(text, timeout=20_000)


def test_from_the_drop_to_the_results(page, tmp_path):
    drop(page, **{"rutile.xy": scan("rutile"), "bare.xy": xy().encode(), "words.xy": b"no data\n",
                  "both.xy": _sum("rutile", "corundum")})  # fmt: skip
    assert "TiO2" in answered(page, "rutile")
    settled(row(page, "rutile").locator("td.read"), "λ 1.54184 Å, stated in the file")
    settled(row(page, "words.xy").locator("td.read"), "0 lines with two numbers")
    # A wavelength is asked for, and the others went on.
    settled(row(page, "bare").locator("td.read"), "Its wavelength is not stated")
    assert row(page, "bare").locator(".tag").count() == 0
    row(page, "bare").get_by_role("button", name="Co Kα for bare.xy").click()
    answered(page, "bare")
    settled(row(page, "bare").locator("td.read"), "λ 1.79026 Å, as you said")
    # The picture, on every axis and scale, with another candidate and its lines moved.
    row(page, "rutile").locator("strong").click()
    assert {"measured", "background", "refined", "refined − candidate"} <= set(traces(page))
    for label in ("d", "Q", "linear", "log"):
        page.get_by_label(label, exact=True).check()
        assert page.get_by_label(label, exact=True).is_checked() and traces(page)
    before = page.locator("#agreement").inner_text()
    assert re.search(r"Its cell fitted to this scan: a = \d\.\d+\(\d+\) Å, .* \d+ lines", before)
    page.locator("#cell").evaluate(
        "(node) => { node.value = 3; node.dispatchEvent(new Event('input')); }"
    )
    settled(page.locator("#cell-value"), "+3.00 %")
    sync_api.expect(page.locator("#agreement")).not_to_have_text(before)
    page.get_by_role("button", name="As fitted").click()
    sync_api.expect(page.locator("#agreement")).to_have_text(before)
    page.locator("#candidate-rows tr").nth(1).click()
    second = page.locator("#candidate-rows tr").nth(1).locator("td").nth(1).inner_text()
    settled(page.locator("#agreement"), f"Drawn: {second}")
    # A second phase.
    answered(page, "both")
    row(page, "both").locator("strong").click()
    assert "peak not explained" in traces(page)
    page.locator("#further-rows tr").first.click()
    settled(page.locator("#further-rows tr[aria-selected=true]"), "second")
    assert "refined − both" in traces(page)
    # What is saved.
    with page.expect_download() as saved:
        page.get_by_role("button", name="save the CIF file of").first.click()
    assert "_atom_site_label" in saved.value.path().read_text()
    settled(page.locator("#command"), "--input=manifest.csv --output=refined")
    page.locator("#manifest summary").click()
    settled(page.locator("#manifest-text"), "bare.xy,CoKa,")
    with page.expect_download(timeout=60_000) as saved:
        page.get_by_role("button", name="Save all as zip").click()
    with zipfile.ZipFile(saved.value.path()) as archive:
        results = json.loads(archive.read("refined/results.json"))["results"]
    assert sorted(one["name"] for one in results) == ["bare", "both", "rutile", "words"]
    page.get_by_role("button", name="remove words.xy").click()
    sync_api.expect(row(page, "words.xy")).to_have_count(0)


def test_elements_rank_anew_by_clicks_and_text(page):
    drop(page, **{"rutile.xy": scan("rutile"), "zincite.xy": scan("zincite")})
    assert "TiO2" in answered(page, "rutile") and "ZnO" in answered(page, "zincite")
    row(page, "rutile").locator("strong").click()
    titanium = page.get_by_role("button", name="Ti:")
    for state in ("must occur", "may occur, and no others", "must not occur", "unknown"):
        titanium.click()
        sync_api.expect(titanium).to_have_accessible_name(f"Ti: {state}")
    titanium.click()
    sync_api.expect(page.locator("#elements-text")).to_have_value("+Ti")
    page.locator("#elements-text").fill("-Ti")
    page.keyboard.press("Enter")
    sync_api.expect(row(page, "rutile").locator("td.answer")).not_to_contain_text("Ti")
    settled(page.locator("#ranked"), "ranked in")
    assert "ZnO" in answered(page, "zincite")
    page.locator("#elements-text").fill("-Zn")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Use for all scans").click()
    sync_api.expect(row(page, "zincite").locator("td.answer")).not_to_contain_text("Zn")
    settled(page.locator("#command"), "--elements=-Zn")
    page.locator("#elements-text").fill("Xx")
    page.keyboard.press("Enter")
    settled(page.locator("#message"), "'Xx' is no element")
    sync_api.expect(page.locator("#asked-words")).to_have_text("-Zn")
    page.problems[:] = [said for said in page.problems if "422" not in said]  # of the browser


def test_own_structures_are_dropped(page):
    drop(page, **{"zincite.xy": scan("zincite")})
    answered(page, "zincite")
    structures = page.locator("#candidate-rows tr").first.locator("td").nth(9)
    sync_api.expect(structures).to_have_text("1")
    drop(page, **{"mine.cif": (EXAMPLES / "zincite.cif").read_bytes()})
    sync_api.expect(page.locator("#message")).to_contain_text("1 of them yours", timeout=30_000)
    answered(page, "zincite")
    sync_api.expect(structures).to_have_text("2", timeout=20_000)  # the library's and this one


def test_of_a_folder_what_is_named_as_a_scan_is_read(page, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("rutile.xy", ".hidden.xy", "paper.pdf"):
        (folder / name).write_bytes(scan("rutile"))
    page.set_input_files("#directory", folder)
    answered(page, "rutile")
    settled(page.locator("#message"), "2 files of the folder are named as no scans are")
    settled(page.locator("#command"), "--input=mine/rutile.xy")
    assert page.locator("#body tr").count() == 1


def test_text_from_files_is_text(page):
    title = page.title()
    drop(page, **{EVIL.replace("/", "_") + ".xy": scan("rutile"), "<b>words.xy": b"<i>no data\n"})
    settled(page.locator("#body"), "<script>document.title")
    settled(page.locator("#body"), "<b>words.xy")
    answered(page, "script")
    assert page.title() == title and page.locator("#body b, #body i, #body img").count() == 0


def test_by_keyboard_alone(page):
    press = page.keyboard.press

    def tab_to(locator, most=60):
        for _ in range(most):
            press("Tab")
            if locator.evaluate("(node) => node === document.activeElement"):
                return
        raise AssertionError(f"Tab does not lead to {locator}")

    tab_to(page.get_by_role("button", name="Try the examples"))
    press("Enter")
    for name in ("corundum", "glass", "rutile", "tenorite"):
        answered(page, name)
    tab_to(page.locator("#body tr").first)
    press("ArrowDown")
    press("ArrowDown")
    settled(page.locator("#title"), "rutile")
    tab_to(page.get_by_role("button", name="H: unknown", exact=True))
    for key in ("ArrowDown", "ArrowRight", "ArrowRight"):
        press(key)
    assert page.evaluate("document.activeElement.textContent") == "B"
    press("Enter")
    settled(page.locator("#asked-words"), "+B")
    tab_to(page.get_by_role("button", name="Clear"))
    press("Enter")
    settled(page.locator("#asked-words"), "nothing is known")
    sync_api.expect(page.locator("#candidate-rows tr").nth(1)).to_be_visible(timeout=20_000)
    tab_to(page.locator("#candidate-rows tr").first)
    press("ArrowDown")
    sync_api.expect(page.locator("#candidate-rows tr").nth(1)).to_have_attribute(
        "aria-selected", "true"
    )
    tab_to(page.locator("#cell"))
    before = page.locator("#cell-value").inner_text()
    press("ArrowRight")
    sync_api.expect(page.locator("#cell-value")).not_to_have_text(before)
    tab_to(page.get_by_role("button", name="Save all as zip"))
    with page.expect_download(timeout=60_000) as saved:
        press("Enter")
    assert saved.value.suggested_filename == "refined.zip"


def test_axe_finds_nothing_and_nothing_is_cut_off(page):
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe is missing"
    ).Axe()

    def check(state):
        for size in (WIDE, NARROW):
            page.set_viewport_size(size)
            page.wait_for_timeout(300)  # Plotly draws for the new width
            found = axe.run(page).response["violations"]
            told = [(one["id"], [node["html"][:200] for node in one["nodes"]]) for one in found]
            assert told == [], (state, size)
            assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], state

    check("empty")
    drop(page, **{"bare.xy": xy().encode(), "bare2.xy": xy().encode(), "words.xy": b"no data\n",
                  "both.xy": _sum("rutile", "corundum")})  # fmt: skip
    answered(page, "both")
    row(page, "both").locator("strong").click()
    page.get_by_role("button", name="O: unknown", exact=True).click()
    settled(page.locator("#ranked"), "ranked in")
    page.locator("#further-rows tr").first.click()
    page.locator("#all-wavelengths").get_by_role("button", name="Cu Kα for 2 files").wait_for()
    check("answered")
