"""Starting the live page: the model and the phases are loaded and tried once, then it is served.

Belongs here: addresses and the server. What is served is `app`'s.
"""

import importlib.util
import socket
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from urllib.parse import quote

from absl import logging

from imitation_refinement.commands.inputs import Input
from imitation_refinement.commands.scan_results import Refined
from imitation_refinement.errors import UserError
from imitation_refinement.model.model import Model
from imitation_refinement.phases.compositions import parse_elements
from imitation_refinement.phases.identify import Phases
from imitation_refinement.serve import answers, safety
from imitation_refinement.serve.desk import EXAMPLES
from imitation_refinement.serve.reader import Reader

INSTALL = "from the checkout: .venv/bin/pip install -e '.[app]'"
PORT = 8765
SHORTEST_TOKEN = 16  # characters
_EVERYWHERE = ("0.0.0.0", "::")
_CONNECTIONS = 400  # at once; more are answered with 503


def check_installed() -> None:
    """Raises UserError if the server is not installed."""
    for name in ("starlette", "uvicorn"):
        if importlib.util.find_spec(name) is None:
            raise UserError(f"--mode=serve needs {name}; {INSTALL}")


def check_host(host: str, token: str) -> None:
    """Raises UserError if others could reach the page without a token."""
    if host in ("127.0.0.1", "localhost", "::1"):
        return
    if len(token) < SHORTEST_TOKEN:
        raise UserError(
            f"--host={host}: others can reach the page there; give --token= with at least"
            f" {SHORTEST_TOKEN} characters, which they must know"
        )


def serve(
    model: Model, phases: Phases | None, options: Sequence[str], host: str, port: int, token: str
) -> int:
    """Serves the page until Ctrl-C.

    Args:
        model: what refines and classifies.
        phases: what scans are compared with.
        options: --model and --library as given.
        host: address to listen at.
        port: 0 for any that is free.
        token: that the address must end in; '' for none.

    Raises:
        UserError: the server is not installed, or host or port cannot be used.
    """
    check_host(host, token)
    check_installed()
    import uvicorn

    from imitation_refinement.serve.app import Site

    listening = _listening(host, port)
    shown = "127.0.0.1" if host in _EVERYWHERE else host
    shown = f"[{shown}]" if ":" in shown else shown
    hosts = () if host in _EVERYWHERE else tuple(dict.fromkeys((shown, *safety.LOOPBACK)))
    reader = Reader()
    warm_up(model, phases, reader)
    site = Site(model, phases, options, hosts, token, reader=reader)
    config = uvicorn.Config(
        site.app(), log_level="warning", access_log=False, server_header=False,
        limit_concurrency=_CONNECTIONS, timeout_graceful_shutdown=3,
    )  # fmt: skip
    query = f"?token={quote(token)}" if token else ""
    logging.info(
        "open http://%s:%d/%s in a browser; Ctrl-C ends", shown, listening.getsockname()[1], query
    )
    uvicorn.Server(config).run(sockets=[listening])
    return 0


def warm_up(model: Model, phases: Phases | None, reader: Reader) -> None:
    """Answers an example, so that the first visitor does not wait for what is done once."""
    folder = resources.files("imitation_refinement.serve") / EXAMPLES
    data = (folder / "rutile.xy").read_bytes()
    one = Input(Path("rutile.xy"), data=data)
    (record,) = reader.read("rutile.xy", data, None)
    result = answers.refined(model, phases, one, record)
    if phases is not None and isinstance(result, Refined):
        result = answers.ranked(result, phases, parse_elements("-Xe"))
    answers.told(result, model, phases)


def _listening(host: str, port: int) -> socket.socket:
    if not 0 <= port < 65536:
        raise UserError(f"--port={port}: is not between 0 and 65535")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=256)
    except OSError as error:
        why = error.strerror or error
        raise UserError(
            f"--host={host} --port={port}: {why}; give another --port, or 0 for any"
        ) from error
