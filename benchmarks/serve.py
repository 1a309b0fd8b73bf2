"""How long the live page lets one wait: first answers, ranking anew, moving a candidate.

    python benchmarks/serve.py [--rounds=5]

Starts the program on a free port, drops the scans of examples/ and prints medians and the longest
time of each kind of question, in seconds, as a client on the same machine sees them.
"""

import argparse
import http.client
import json
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
SCANS = ("rutile", "corundum", "tenorite", "zincite", "silicon")
ELEMENTS = {
    "ranked anew, may be one of five": "Ti O Al Cu Zn",
    "ranked anew, one must": "+O",
    "ranked anew, one must not": "-Cl",
    "ranked anew, nothing known": "",
}


class Page:
    """An opened page of the program that runs."""

    def __init__(self, port: int):
        self.line = http.client.HTTPConnection("127.0.0.1", port)
        self.line.request("GET", "/")
        found = re.search(
            r'name="session" content="(.*?)"', self.line.getresponse().read().decode()
        )
        assert found
        self.headers = {"X-Session": found[1]}

    def ask(self, method: str, path: str, body: bytes) -> dict:
        """Returns the JSON of an answer."""
        self.line.request(method, path, body, self.headers)
        answer = self.line.getresponse()
        content = answer.read()
        assert answer.status == 200, content
        return json.loads(content)

    def post(self, name: str, **body: object) -> dict:
        """Returns the JSON of the answer to a question."""
        return self.ask("POST", f"/api/{name}", json.dumps(body).encode())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    command = [sys.executable, str(ROOT / "main.py"), "--mode=serve", "--port=0"]
    start = time.perf_counter()
    program = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        assert program.stderr
        port = next(int(m[1]) for line in program.stderr if (m := re.search(r":(\d+)/ in", line)))
        print(f"started in {time.perf_counter() - start:.1f} s")
        times = measure(Page(port), rounds)
    finally:
        program.terminate()
        program.wait()
    print("| | median (s) | longest (s) | count |\n| --- | --- | --- | --- |")
    for name, values in times.items():
        print(f"| {name} | {statistics.median(values):.2f} | {max(values):.2f} | {len(values)} |")


def measure(page: Page, rounds: int) -> dict[str, list[float]]:
    """Returns the seconds of each kind of question."""
    times: dict[str, list[float]] = {}

    def since(start: float, kind: str) -> None:
        times.setdefault(kind, []).append(time.perf_counter() - start)

    for number in range(rounds):
        for name in SCANS:
            data = (ROOT / "examples" / f"{name}.xy").read_bytes()
            start = time.perf_counter()
            told = page.ask("PUT", f"/api/files?name={number}-{name}.xy", data)
            which = {"file": told["file"], "pattern": 0}
            page.post("answer", **which)
            since(start, "from the drop to the first answer")
            for kind, text in ELEMENTS.items():
                start = time.perf_counter()
                page.post("elements", **which, elements=text, all=False)
                since(start, kind)
            start = time.perf_counter()
            page.post("overlay", **which, phase=0, rank=0, cell=0.001)
            since(start, "a candidate moved")
    return times


if __name__ == "__main__":
    main()
