"""What each request of the page does: it changes a session, or answers from it.

Belongs here: the order of the work, and checks of what is asked. HTTP is `app`'s. Sessions are
changed by the event loop alone, so that no two requests change one at once; what computes or reads
a file runs in `work`'s threads on values that do not change.
"""

import tempfile
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from imitation_refinement.commands.inputs import Input
from imitation_refinement.commands.scan_results import Refined
from imitation_refinement.errors import UserError
from imitation_refinement.model.model import Model
from imitation_refinement.phases.compositions import parse_elements
from imitation_refinement.phases.identify import Phases
from imitation_refinement.serve import answers
from imitation_refinement.serve.answers import Chosen
from imitation_refinement.serve.reader import Reader
from imitation_refinement.serve.results import command_of, is_plain, manifest_of, write_results
from imitation_refinement.serve.store import FILES, PATTERNS, File, Session, Store, size_of
from imitation_refinement.serve.structures import MOST, file_name, joined, read_structures
from imitation_refinement.serve.work import Work
from imitation_refinement.xrd.wavelengths import parse_wavelength

EXAMPLES = "examples"
Told = dict[str, Any]


class Refused(Exception):
    """A request that is answered with a status and a line."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status = status


class Attachment(NamedTuple):
    """A file to save.

    Attributes:
        name: of the file.
        kind: media type.
        content: its bytes, or where it lies.
        folder: to be removed once it was sent.
    """

    name: str
    kind: str
    content: bytes | Path
    folder: tempfile.TemporaryDirectory | None = None


class Desk:
    """Does what is asked.

    Args:
        model: what refines and classifies.
        phases: what scans are compared with; None for nothing.
        options: --model and --library as they were given, for the command that is shown.
        store: of sessions.
        reader: of files.
    """

    def __init__(
        self,
        model: Model,
        phases: Phases | None,
        options: Sequence[str],
        store: Store,
        reader: Reader,
    ):
        self._model, self._phases, self._options = model, phases, tuple(options)
        self._store, self._reader = store, reader
        self._computing, self._reading = Work("compute"), Work("read")
        self._writing = Work("write")  # minutes for many files; answers go on meanwhile

    def close(self) -> None:
        """Ends threads and the process that reads."""
        self._computing.close()
        self._reading.close()
        self._writing.close()
        self._reader.close()

    # --- files -----------------------------------------------------------------------------------

    async def added(self, session: Session, label: str, data: bytes) -> Told:
        """Reads a file and takes it into a session, in the place of one of the same name.

        Its bytes are counted as arriving.
        """
        file = await self._read(Input(Path(label), data=data))
        if label.lower().endswith(".cif") and not any(r.scan for r in file.records):
            if len(session.structures) >= MOST:
                raise Refused(413, f"{label}: {MOST} structures are here already")
            name = file_name(label)
            session.structures[name] = data
            return {"structure": name, "input": label}
        self._store.check_room(file.size - len(data))
        identifier = session.place_of(label)
        if identifier is None:
            if len(session.files) >= FILES:
                raise Refused(413, f"{label}: {FILES} files are here already")
            session.last += 1
            identifier = str(session.last)
        session.forget(identifier)
        session.files[identifier] = file
        return _told(identifier, file)

    async def _read(self, one: Input, elements: str = "") -> File:
        try:
            given = None if one.wavelength is None else str(one.wavelength)
            records = await self._reading(self._reader.read, str(one.path), one.data, given)
        except UserError as error:
            return File(one._replace(trouble=str(error)), elements, [], len(one.data or b""))
        if len(records) > PATTERNS:
            why = f"{one.path}: has {len(records)} patterns; refine it with --mode=refine"
            return File(one._replace(trouble=why), elements, [], len(one.data or b""))
        return File(one, elements, records, size_of(one.data or b"", records))

    async def examples(self, session: Session, _: Told) -> Told:
        """Takes in the scans that are shipped."""
        folder = resources.files("imitation_refinement.serve") / EXAMPLES
        found = sorted(
            (f"imitation_refinement/serve/{EXAMPLES}/{one.name}", one.read_bytes())
            for one in folder.iterdir()
        )
        with self._store.arriving() as count:
            count(sum(len(data) for _, data in found))
            return {"files": [await self.added(session, *one) for one in found]}

    async def wavelength(self, session: Session, body: Told) -> Told:
        """Reads a file again with a wavelength."""
        identifier, file = _file(session, body)
        given = _field(body, "wavelength", str)
        parse_wavelength(given)
        one = file.one._replace(wavelength=given, trouble="")
        read = await self._read(one, file.elements)
        if session.files.get(identifier) is file:
            session.forget(identifier)
            session.files[identifier] = read
        return _told(identifier, read)

    async def remove(self, session: Session, body: Told) -> Told:
        """Forgets a file."""
        identifier, _ = _file(session, body)
        session.forget(identifier)
        del session.files[identifier]
        return {}

    async def structures(self, session: Session, _: Told) -> Told:
        """Makes candidates of the CIF files that were dropped."""
        if not session.structures:
            raise Refused(400, "no structure was dropped")
        own, left = await self._computing(read_structures, dict(session.structures))
        self._store.let_structures_go(session)
        session.phases = await self._computing(joined, self._phases, own)
        session.results.clear()
        return {"library": session.phases.describe(), "own": len(own), "leftOut": left}

    # --- answers ---------------------------------------------------------------------------------

    async def _found(self, session: Session, body: Told) -> tuple[Refined, Phases | None]:
        """The result of a pattern, kept or found, and the phases that it was compared with."""
        identifier, file = _file(session, body)
        number = _field(body, "pattern", int)
        if not 0 <= number < len(file.records):
            raise Refused(404, f"{file.one.path}: has no such pattern")
        key, one, phases = (identifier, number), file.one, session.phases
        result = session.results.get(key)  # of these phases: others forget all results
        if result is None:
            result = await self._computing(
                answers.refined, self._model, phases, one, file.records[number]
            )
            if _is_as_it_was(session, identifier, file, one, phases):
                session.keep(key, result)
        if not isinstance(result, Refined):
            raise UserError(result.error)
        return result, phases

    async def answer(self, session: Session, body: Told) -> Told:
        """Refines a pattern and names its phases."""
        result, phases = await self._found(session, body)
        return await self._computing(answers.told, result, self._model, phases)

    async def elements(self, session: Session, body: Told) -> Told:
        """Says what a sample may hold, or all of them, and ranks the phases of a pattern anew."""
        result, phases = await self._found(session, body)
        if phases is None:
            raise UserError("elements: say nothing without a library of phases")
        identifier, file = _file(session, body)
        text, number = _field(body, "elements", str), _field(body, "pattern", int)
        known = parse_elements(text) if text.strip() else None
        every = list(session.files) if _field(body, "all", bool) else [identifier]
        for other in every:
            session.forget(other)
            changed = session.files[other]
            changed.one, changed.elements = changed.one._replace(elements=known), text.strip()
        one = file.one
        result = await self._computing(answers.ranked, result, phases, known)
        if _is_as_it_was(session, identifier, file, one, phases):
            session.keep((identifier, number), result)
        return await self._computing(answers.told, result, self._model, phases)

    async def overlay(self, session: Session, body: Told) -> Told:
        """Lays a candidate over a pattern, its lines where they were moved."""
        result, phases = await self._found(session, body)
        if phases is None:
            raise UserError("no library of phases is loaded")
        cell, displacement = body.get("cell"), body.get("displacement")
        for value in (cell, displacement):
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, int | float)
            ):
                raise Refused(400, "cell, displacement: expected numbers")
        beside = Chosen(0, _field(body, "beside", int)) if "beside" in body else None
        return await self._computing(
            answers.overlay, result, self._model, phases, _chosen(body), cell, displacement, beside
        )

    async def cif(self, session: Session, body: Told) -> Attachment:
        """Returns a candidate's CIF file."""
        result, phases = await self._found(session, body)
        if phases is None:
            raise UserError("no library of phases is loaded")
        name, text = await self._computing(answers.cif, result, phases, _chosen(body))
        return Attachment(name, "chemical/x-cif", text.encode())

    # --- results ---------------------------------------------------------------------------------

    def _options_of(self, session: Session) -> tuple[str, ...]:
        if not session.structures or session.phases is self._phases:
            return self._options
        named = any(option.startswith("--library") for option in self._options)
        first = () if named or self._phases is None else ("--library=shipped",)
        kept = tuple(option for option in self._options if option != "--library=none")
        return (*kept, *first, "--library=cifs")

    async def command(self, session: Session, _: Told) -> Told:
        """Returns the command that gives the same results, and its manifest."""
        files = list(session.files.values())
        if not files:
            return {"command": "", "manifest": None}
        manifest = None if is_plain(files) else manifest_of(files)
        command = command_of(files, self._options_of(session))
        return {"command": command, "manifest": manifest}

    async def results(self, session: Session, _: Told) -> Attachment:
        """Returns what that command would write, as a zip."""
        files = [File(file.one, file.elements) for file in session.files.values()]
        if not files:
            raise Refused(400, "no file was dropped")
        folder = tempfile.TemporaryDirectory(prefix="imitation-refinement-")
        try:
            packed = await self._writing(
                write_results, self._model, session.phases, files, self._options_of(session),
                Path(folder.name),
            )  # fmt: skip
        except BaseException:
            folder.cleanup()
            raise
        return Attachment(packed.name, "application/zip", packed, folder)


def _is_as_it_was(
    session: Session, identifier: str, file: File, one: Input, phases: Phases | None
) -> bool:
    """Returns whether nothing that an answer depends on was changed while it was found."""
    return session.files.get(identifier) is file and file.one is one and session.phases is phases


def _field(body: dict[str, Any], name: str, kind: type) -> Any:
    value = body.get(name)
    if type(value) is not kind:  # a bool is no int here
        raise Refused(400, f"{name}: expected {kind.__name__}")
    return value


def _chosen(body: dict[str, Any]) -> Chosen:
    return Chosen(_field(body, "phase", int), _field(body, "rank", int))


def _file(session: Session, body: dict[str, Any]) -> tuple[str, File]:
    identifier = _field(body, "file", str)
    if identifier not in session.files:
        raise Refused(404, "this file is not here any more")
    return identifier, session.files[identifier]


def _told(identifier: str, file: File) -> Told:
    """What the page is told of a file."""
    error = file.one.trouble.removeprefix(f"{file.one.path}: ")
    return {
        "file": identifier,
        "input": str(file.one.path),
        "wavelength": file.one.wavelength,
        "elements": file.elements,
        "error": error,
        "patterns": answers.inspected(file.one, file.records),
    }
