"""What the visitors of the page have dropped, in bounded memory.

Belongs here: sessions, their files and their latest results. A session is one opened page; its name
is a secret that only this page was given. Nothing is on the disk.
"""

import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from imitation_refinement.commands.inputs import Input
from imitation_refinement.commands.scan_results import Failed, Refined
from imitation_refinement.errors import UserError
from imitation_refinement.phases.identify import Phases
from imitation_refinement.xrd.formats import Record

FILE_BYTES = 50_000_000  # of one file
ALL_BYTES = 1_000_000_000  # of all files of all sessions, with their patterns
SESSIONS = 16
LIBRARIES = 3  # sessions with structures of their own
FILES = 2000  # of a session
PATTERNS = 2000  # of a file
RESULTS = 100  # that a session keeps; about 200 kB each, the others are found anew when asked for
_LABEL = 200  # characters


@dataclass
class File:
    """A dropped file.

    Attributes:
        one: its name, bytes, wavelength and elements, as refining takes them.
        elements: the same as text, of `parse_elements`.
        records: of its patterns; empty if it could not be read.
        size: bytes that it takes.
    """

    one: Input
    elements: str = ""
    records: list[Record] = field(default_factory=list)
    size: int = 0


@dataclass
class Session:
    """One opened page.

    Attributes:
        files: by identifier, in the order in which they came.
        structures: own CIF files, bytes by name.
        phases: what scans are compared with, the own structures among it.
        results: latest ones, by (identifier of the file, number of the pattern).
        last: identifier that was given last.
    """

    phases: Phases | None
    files: dict[str, File] = field(default_factory=dict)
    structures: dict[str, bytes] = field(default_factory=dict)
    results: OrderedDict[tuple[str, int], Refined | Failed] = field(default_factory=OrderedDict)
    last: int = 0

    def keep(self, key: tuple[str, int], result: Refined | Failed) -> None:
        """Keeps a result, and lets the oldest go."""
        self.results[key] = result
        self.results.move_to_end(key)
        while len(self.results) > RESULTS:
            self.results.popitem(last=False)

    def forget(self, identifier: str) -> None:
        """Drops the results of a file."""
        for key in [key for key in self.results if key[0] == identifier]:
            del self.results[key]

    def place_of(self, label: str) -> str | None:
        """Returns the identifier of the file of this name."""
        found = (key for key, file in self.files.items() if str(file.one.path) == label)
        return next(found, None)


class Store:
    """The sessions, and what they hold together.

    Args:
        phases: what every session begins with.
        all_bytes: that files may take.
    """

    def __init__(self, phases: Phases | None, all_bytes: int = ALL_BYTES):
        self._phases, self._all_bytes = phases, all_bytes
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self.coming = 0  # bytes of files that are on their way

    def open(self) -> str:
        """Begins a session and returns its secret; the one longest unused may have to go."""
        while len(self._sessions) >= SESSIONS:
            empty = [key for key, one in self._sessions.items() if not one.files]
            del self._sessions[(empty or list(self._sessions))[0]]
        secret = secrets.token_urlsafe(24)
        self._sessions[secret] = Session(self._phases)
        return secret

    def get(self, secret: str) -> Session | None:
        """Returns a session; None if there is none."""
        session = self._sessions.get(secret)
        if session is not None:
            self._sessions.move_to_end(secret)
        return session

    def let_structures_go(self, session: Session) -> None:
        """Ends the sessions longest unused that have a library of their own, but for a few.

        A library joined with the shipped one takes some 200 MB.
        """
        own = [
            key
            for key, one in self._sessions.items()
            if one is not session and one.phases is not self._phases
        ]
        for key in own[: max(len(own) - LIBRARIES + 1, 0)]:
            del self._sessions[key]

    @contextmanager
    def arriving(self) -> Iterator[Callable[[int], None]]:
        """Gives what counts bytes on their way; at the end of the block they are a file's, or gone.

        Raises:
            UserError: there is no room for them.
        """
        came = 0

        def count(more: int) -> None:
            nonlocal came
            self.check_room(more)
            came, self.coming = came + more, self.coming + more

        try:
            yield count
        finally:
            self.coming -= came

    @property
    def used(self) -> int:
        """Bytes that all files take, those on their way too."""
        held = sum(
            sum(file.size for file in one.files.values())
            + sum(len(data) for data in one.structures.values())
            for one in self._sessions.values()
        )
        return held + self.coming

    def check_room(self, more: int) -> None:
        """Raises UserError if so many bytes more are too many."""
        if self.used + more > self._all_bytes:
            raise UserError(
                f"the page holds {self._all_bytes // 10**6} MB of files and no more; save the "
                "results, then reload the page, or refine the folder with --mode=refine"
            )


def size_of(data: bytes, records: list[Record]) -> int:
    """Returns how many bytes a file and its patterns take."""
    scans = [record.scan for record in records if record.scan is not None]
    return len(data) + sum(scan.two_theta.nbytes + scan.counts.nbytes for scan in scans)


def label_of(name: str) -> str:
    """Returns a name from a browser as a relative path that can be shown; it is never opened."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    kept = [
        "".join(c if c.isprintable() else "_" for c in part)
        for part in parts
        if part not in ("/", "..", ".")
    ]
    label = "/".join(kept)[-_LABEL:].strip("/")
    return label if label.strip(" .") else "scan"
