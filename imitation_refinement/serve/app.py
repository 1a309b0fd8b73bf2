"""The live page over HTTP: routes, limits of what comes in, and headers of what goes out.

Belongs here: the form of requests and answers. Who may ask is `safety`'s, what is done `desk`'s.
"""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from absl import logging
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from imitation_refinement.errors import UserError
from imitation_refinement.model.model import Model
from imitation_refinement.phases.identify import Phases
from imitation_refinement.serve import safety
from imitation_refinement.serve.desk import Attachment, Desk, Refused
from imitation_refinement.serve.page import STATIC, render
from imitation_refinement.serve.reader import Reader
from imitation_refinement.serve.store import FILE_BYTES, Session, Store, label_of
from imitation_refinement.serve.work import Busy

UPLOAD_SECONDS = 120.0  # that a file may be on its way
_BODY_BYTES = 100_000  # of what is asked
_Answer = Callable[[Session, dict[str, Any]], Awaitable[dict[str, Any] | Attachment]]


class Site:
    """The page and what it needs.

    Args:
        model: what refines and classifies.
        phases: what scans are compared with; None for nothing.
        options: --model and --library as they were given, for the command that is shown.
        hosts: names under which it is served; empty for any.
        token: that the page must be asked for with; '' for none.
        store: of sessions; a new one if not given.
        reader: of files; likewise.
    """

    def __init__(
        self,
        model: Model,
        phases: Phases | None,
        options: Sequence[str] = (),
        hosts: Sequence[str] = safety.LOOPBACK,
        token: str = "",
        store: Store | None = None,
        reader: Reader | None = None,
    ):
        self._model, self._phases = model, phases
        self._hosts, self._token = tuple(hosts), token
        self._store = store or Store(phases)
        self._desk = Desk(model, phases, options, self._store, reader or Reader())

    def app(self) -> ASGIApp:
        """Returns the application, for a server or a test."""
        desk = self._desk
        posts: dict[str, _Answer] = {
            "examples": desk.examples, "wavelength": desk.wavelength, "remove": desk.remove,
            "answer": desk.answer, "elements": desk.elements, "overlay": desk.overlay,
            "cif": desk.cif, "structures": desk.structures, "command": desk.command,
            "results": desk.results,
        }  # fmt: skip
        routes = [
            Route("/", self._page),
            Route("/static/{name}", self._static),
            Route("/api/files", self._upload, methods=["PUT"]),
            *(
                Route(f"/api/{name}", partial(self._post, answer), methods=["POST"])
                for name, answer in posts.items()
            ),
        ]

        @contextlib.asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            yield
            desk.close()

        handlers: Any = {
            Refused: lambda _, error: _said(str(error), error.status),
            UserError: lambda _, error: _said(str(error), 422),
            Busy: lambda _, __: _said("too much waits already; try again in a moment", 503),
        }
        return self._guarded(
            Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)
        )

    def _guarded(self, app: ASGIApp) -> ASGIApp:
        """Refuses what `safety` refuses, and adds its headers to every answer."""
        extra = [(k.lower().encode(), v.encode()) for k, v in safety.HEADERS.items()]

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return

            async def with_headers(message: Message) -> None:
                if message["type"] == "http.response.start":
                    message["headers"] = [*message["headers"], *extra]
                await send(message)

            asked = Request(scope)
            reason = safety.refusal(
                asked.method, scope["path"], asked.headers, asked.query_params, self._hosts,
                self._token,
            )  # fmt: skip
            if reason:
                await _said(reason, 403)(scope, receive, with_headers)
                return
            try:
                await app(scope, receive, with_headers)
            except Exception:  # it was answered with 500; the page goes on
                logging.exception("the live page failed at %s", scope["path"])

        return guarded

    async def _page(self, _: Request) -> Response:
        return HTMLResponse(render(self._store.open(), self._model, self._phases))

    async def _static(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in STATIC:
            raise Refused(404, "no such file")
        content, kind = STATIC[name]()
        return Response(content, media_type=kind)

    def _session(self, request: Request) -> Session:
        session = self._store.get(request.headers.get(safety.SESSION, ""))
        if session is None:
            raise Refused(403, "this page is not known any more; reload it")
        return session

    async def _post(self, answer: _Answer, request: Request) -> Response:
        session = self._session(request)
        try:
            body = json.loads(await _body(request, _BODY_BYTES))
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            raise Refused(400, "expected a JSON object")
        found = await answer(session, body)
        return _attached(found) if isinstance(found, Attachment) else JSONResponse(found)

    async def _upload(self, request: Request) -> Response:
        session = self._session(request)
        label = label_of(request.query_params.get("name", ""))
        stated = request.headers.get("content-length", "")
        if stated.isdigit() and int(stated) > FILE_BYTES:
            raise Refused(413, f"{label}: larger than {FILE_BYTES // 10**6} MB")
        with self._store.arriving() as count:
            data = await _body(request, FILE_BYTES, label, count)
            return JSONResponse(await self._desk.added(session, label, data))


async def _body(
    request: Request,
    most: int,
    label: str = "request",
    count: Callable[[int], None] = lambda _: None,
) -> bytes:
    """Returns the body of a request, refused as soon as it is too large or too slow."""
    parts, size = [], 0
    try:
        async with asyncio.timeout(UPLOAD_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise Refused(413, f"{label}: larger than {most / 1e6:g} MB")
                count(len(part))
                parts.append(part)
    except TimeoutError:
        raise Refused(408, f"{label}: took more than {UPLOAD_SECONDS:.0f} s to come") from None
    return b"".join(parts)


def _said(reason: str, status: int) -> JSONResponse:
    return JSONResponse({"error": reason}, status)


def _attached(file: Attachment) -> Response:
    """A file to save, and the removal of its folder."""
    plain = re.sub(r"[^\w.+()-]", "_", file.name, flags=re.ASCII)
    headers = {"Content-Disposition": f'attachment; filename="{plain}"'}
    done = BackgroundTask(file.folder.cleanup) if file.folder else None
    if isinstance(file.content, bytes):
        return Response(file.content, 200, headers, file.kind, done)
    return FileResponse(file.content, 200, headers, file.kind, done)
