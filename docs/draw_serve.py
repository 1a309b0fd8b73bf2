"""Draws docs/serve-*.png: the live page as a browser shows it. Run from anywhere.

    python docs/draw_serve.py

Starts the program on a free port and drops the examples, a made mixture of two of them and a scan
without a wavelength; needs Playwright and an installed Chromium.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

PLACE = Path(__file__).parent
ROOT = PLACE.parent
EXAMPLES = ROOT / "examples"
WAIT = 60_000  # ms


def columns(name: str) -> list[list[str]]:
    """Returns the rows of an example, without its header."""
    lines = (EXAMPLES / f"{name}.xy").read_text().splitlines()
    return [line.split() for line in lines if not line.startswith("#")]


def drop(page: Page, name: str, rows: list[tuple[str, float]], header: str = "") -> None:
    """Drops a scan that is made here."""
    text = header + "".join(f"{angle} {counts:.0f}\n" for angle, counts in rows)
    page.set_input_files(
        "#files", [{"name": name, "mimeType": "text/plain", "buffer": text.encode()}]
    )


def answered(page: Page, name: str) -> None:
    """Looks at a scan as soon as it has an answer."""
    row = page.locator("#body tr", has=page.locator("strong", has_text=name))
    expect(row.locator(".tag")).to_be_visible(timeout=WAIT)
    row.locator("strong").click()
    page.wait_for_timeout(1500)  # until the curves are drawn


def draw(page: Page, address: str, suffix: str) -> None:
    """Goes through the page and keeps what it looks like."""

    def keep(state: str, first: str, last: str) -> None:
        """From the top of one element to the bottom of another."""
        boxes = [page.locator(name).bounding_box() for name in (first, last)]
        assert boxes[0] and boxes[1]
        width = page.viewport_size["width"] if page.viewport_size else 1280
        top = page.evaluate("scrollY") + boxes[0]["y"] - 8
        bottom = page.evaluate("scrollY") + boxes[1]["y"] + boxes[1]["height"] + 8
        page.screenshot(
            path=PLACE / f"serve-{state}{suffix}.png", full_page=True,
            clip={"x": 0, "y": top, "width": width, "height": bottom - top},
        )  # fmt: skip

    page.goto(address)
    page.get_by_role("button", name="Try the examples").click()
    answered(page, "glass")
    drop(page, "unknown.xy", [(a, float(c)) for a, c in columns("zincite")])
    page.get_by_role("button", name="Co Kα for unknown.xy").wait_for()
    answered(page, "corundum")
    keep("files", "h1", "#scans")
    keep("answer", "#title", "#plot")
    both = zip(columns("rutile"), columns("corundum"), strict=True)
    header = "# wavelength 1.54184 angstrom\n"
    drop(page, "mixture.xy", [(a, float(c) + float(d)) for (a, c), (_, d) in both], header)
    answered(page, "mixture")
    page.locator("#elements-text").fill("Ti O Al")
    page.keyboard.press("Enter")
    expect(page.locator("#ranked")).to_contain_text("ranked in", timeout=WAIT)
    page.locator("#further-rows tr").first.click()
    page.wait_for_timeout(1500)
    keep("mixture", "#title", "#further")


def main() -> None:
    """Draws the pictures, 1280 and 400 pixels wide."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    command = [sys.executable, str(ROOT / "main.py"), "--mode=serve", "--port=0"]
    program = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        assert program.stderr
        found = (re.search(r"http://\S+", line) for line in program.stderr)
        address = next(match[0] for match in found if match)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            for width, suffix in ((1280, ""), (400, "-narrow")):
                page = browser.new_page(viewport={"width": width, "height": 900})
                draw(page, address, suffix)
                page.close()
            browser.close()
    finally:
        program.terminate()
        program.wait()


if __name__ == "__main__":
    main()
