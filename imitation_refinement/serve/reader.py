"""Reading files of strangers in a process of its own, which a bad one cannot take along.

Belongs here: the process, its limits of time and memory, and beginning it anew. How a file is read
is `formats`'s.
"""

import multiprocessing
import signal
import threading
from multiprocessing.connection import Connection
from pathlib import Path

from imitation_refinement.commands.ledger import in_a_line
from imitation_refinement.errors import UserError
from imitation_refinement.xrd.formats import Record, read_records

SECONDS = 20.0  # for one file; the slowest of our samples takes one
_START_SECONDS = 60.0
_MEMORY = 4 << 30  # bytes that the process may take


class Reader:
    """Reads files one after the other; any thread may call it.

    Args:
        seconds: for one file; the process is ended after it.
    """

    def __init__(self, seconds: float = SECONDS):
        self._seconds = seconds
        self._lock = threading.Lock()
        self._context = multiprocessing.get_context("spawn")
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None

    def read(self, label: str, data: bytes, wavelength: str | None) -> list[Record]:
        """Returns the record of each pattern of a file; see `formats.read_records`.

        A scan over 2 theta may do without a wavelength, which is then NaN.

        Args:
            label: the file's name, for its ending and for messages.
            data: its bytes.
            wavelength: for a file that does not state its own.

        Raises:
            UserError: it cannot be read, or not in time.
        """
        with self._lock:
            pipe = self._started()
            try:
                pipe.send((label, data, wavelength))
                if not pipe.poll(self._seconds):
                    self._end()
                    raise UserError(
                        f"{label}: took more than {self._seconds:.0f} s to read; convert it to"
                        " two columns"
                    )
                found = pipe.recv()
            except (EOFError, OSError) as error:
                self._end()
                raise UserError(
                    f"{label}: ended the process that read it; please report this file"
                ) from error
        if isinstance(found, str):
            raise UserError(found)
        return found

    def close(self) -> None:
        """Ends the process."""
        with self._lock:
            self._end()

    def _started(self) -> Connection:
        if self._pipe is not None and self._process is not None and self._process.is_alive():
            return self._pipe
        self._end()
        self._pipe, theirs = self._context.Pipe()
        self._process = self._context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        if not self._pipe.poll(_START_SECONDS):
            self._end()
            raise UserError("the process that reads files did not start; is the memory full?")
        self._pipe.recv()
        return self._pipe

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None


def _serve(pipe: Connection) -> None:
    """What the process does: reads what comes until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    try:
        import resource
    except ImportError:  # not on Windows
        pass
    else:
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    pipe.send("ready")
    while True:
        try:
            label, data, wavelength = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            found = read_records(Path(label), wavelength, look_only=True, data=data)
        except Exception as error:  # whatever it is, it is this file's trouble alone
            pipe.send(in_a_line(Path(label), error))
        else:
            pipe.send(found)
