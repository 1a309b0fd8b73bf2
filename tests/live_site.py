"""The live page on a free port of this machine, in a thread, and a client of it."""

import http.client
import json
import re
import threading
import time
from contextlib import contextmanager
from urllib.parse import quote

import uvicorn
from fake_model import FakeModel

from imitation_refinement.phases.prototypes import GRID
from imitation_refinement.serve.app import Site
from imitation_refinement.serve.reader import Reader


class Client:
    """Asks the page; `session` is that of the page that was opened last."""

    def __init__(self, port: int):
        self.port, self.host = port, f"127.0.0.1:{port}"
        self.session = re.search(r'name="session" content="(.*?)"', self.get("/")[2].decode())[1]

    def request(self, method, path, body=None, headers=()):
        """Returns status, headers and bytes of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def get(self, path, **headers):
        return self.request(
            "GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()}
        )

    def ask(self, name, **body):
        """Returns status and JSON (or bytes) of what is asked of this session."""
        return self._told("POST", f"/api/{name}", json.dumps(body))

    def put(self, name: str, data: bytes):
        """Drops a file."""
        return self._told("PUT", f"/api/files?name={quote(name)}", data)

    def _told(self, method, path, body):
        status, headers, found = self.request(method, path, body, {"X-Session": self.session})
        is_json = headers["content-type"].startswith("application/json")
        return status, json.loads(found) if is_json else found


@contextmanager
def live_site(phases, **site):
    """Serves the page with a fake model; gives the port."""
    reader = site.pop("reader", None) or Reader()
    app = Site(FakeModel(GRID), phases, reader=reader, **site).app()
    config = uvicorn.Config(app, port=0, log_level="error", lifespan="on")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()
