"""How long the live page lets one wait: first answers, ranking anew, moving a candidate.

    python benchmarks/serve.py [--rounds=5]

Serves the page in this process, drops the scans of examples/ and a mixture of two of them, and
prints median and longest time of each kind of question as a client on the same machine sees them,
and how much processor time the answers took, in all threads of this process. Files are read in
another process, which is in the wall time alone.
"""

import argparse
import http.client
import json
import re
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from imitation_refinement.model.find import load_model
from imitation_refinement.phases.identify import load_phases
from imitation_refinement.runtime.files import user_cache
from imitation_refinement.serve.app import Site
from imitation_refinement.serve.reader import Reader
from imitation_refinement.serve.run import warm_up

EXAMPLES = Path(__file__).parents[1] / "examples"
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


@contextmanager
def served() -> Iterator[int]:
    """Serves the page; gives its port."""
    model, phases = load_model(), load_phases(["shipped"], user_cache("phases"))
    reader = Reader()
    warm_up(model, phases, reader)
    site = Site(model, phases, reader=reader)
    server = uvicorn.Server(uvicorn.Config(site.app(), port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()


def scans() -> dict[str, bytes]:
    """Returns the files that are dropped, the mixture of rutile and corundum the last."""
    found = {name: (EXAMPLES / f"{name}.xy").read_bytes() for name in SCANS}
    tables = [
        [line.split() for line in found[name].decode().splitlines() if not line.startswith("#")]
        for name in SCANS[:2]
    ]
    rows = [(a, float(c) + float(d)) for (a, c), (_, d) in zip(*tables, strict=True)]
    text = "".join(f"{angle} {counts:.0f}\n" for angle, counts in rows)
    return found | {"mixture": f"# wavelength 1.54184 angstrom\n{text}".encode()}


class Clock:
    """Wall and processor seconds by kind of question."""

    def __init__(self) -> None:
        self.times: dict[str, list[tuple[float, float]]] = {}

    @contextmanager
    def __call__(self, kind: str) -> Iterator[None]:
        """Takes the time of a block."""
        wall, used = time.perf_counter(), time.process_time()
        yield
        took = time.perf_counter() - wall, time.process_time() - used
        self.times.setdefault(kind, []).append(took)


def ask_all(page: Page, clock: Clock, number: int) -> None:
    """Asks everything about every scan once."""
    for name, data in scans().items():
        kind = "mixture: " if name == "mixture" else ""
        with clock(f"{kind}from the drop to the first answer"):
            told = page.ask("PUT", f"/api/files?name={number}-{name}.xy", data)
            which = {"file": told["file"], "pattern": 0}
            page.post("answer", **which)
        for known, text in ELEMENTS.items():
            with clock(kind + known):
                page.post("elements", **which, elements=text, all=False)
        with clock(f"{kind}a candidate moved"):
            page.post("overlay", **which, phase=0, rank=0, cell=0.001)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with served() as port:
        page, clock = Page(port), Clock()
        ask_all(page, Clock(), 0)  # what is compiled or drawn once
        for number in range(1, rounds + 1):
            ask_all(page, clock, number)
    print("| | median (s) | longest (s) | processor, median (s) | times |")
    print("| --- | --- | --- | --- | --- |")
    for kind, times in clock.times.items():
        wall, used = zip(*times, strict=True)
        print(
            f"| {kind} | {statistics.median(wall):.2f} | {max(wall):.2f} |"
            f" {statistics.median(used):.2f} | {len(times)} |"
        )


if __name__ == "__main__":
    main()
