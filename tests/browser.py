"""Opens a page in headless Chromium, lets a script of ours loose on it and reads what it found."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

# In front of everything else, so that nothing goes wrong unseen.
_WATCH = """<script>
window.problems = [];
window.addEventListener("error", (e) => problems.push("error: " + e.message));
window.addEventListener("unhandledrejection", (e) => problems.push("rejection: " + e.reason));
document.addEventListener("securitypolicyviolation",
  (e) => problems.push("policy: " + e.blockedURI));
for (const level of ["error", "warn"]) {
  const say = console[level];
  console[level] = (...words) => { problems.push(level + ": " + words.join(" ")); say(...words); };
}
</script>"""
_REPORT = """<script>
(async () => {
  const found = {};
  const wait = (ms) => new Promise((done) => setTimeout(done, ms));
  const all = (selector) => [...document.querySelectorAll(selector)];
  try { await (async () => { %s })(); } catch (e) { problems.push("test: " + e.stack); }
  const node = document.createElement("pre");
  node.id = "found";
  node.textContent = JSON.stringify({ ...found, problems });
  document.body.append(node);
})();
</script>"""


def browser() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome", "chrome"):
        if path := shutil.which(name):
            return path
    pytest.skip("no Chromium is installed")


def visit(page: str, script: str, folder: Path) -> dict:
    """What `script` put into `found`, and under `problems` all errors and warnings of the page."""
    file = folder / "page.html"
    head, body = page.split("<head>", 1)
    text = head + "<head>" + _WATCH + body.replace("</body>", _REPORT % script + "</body>")
    file.write_text(text, encoding="utf-8")
    command = [
        browser(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--disable-background-networking", f"--user-data-dir={folder / 'profile'}",
        "--window-size=1400,1500", "--virtual-time-budget=30000", "--dump-dom", file.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    return json.loads(html.unescape(found[1]))
