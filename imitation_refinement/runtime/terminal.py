"""How the program speaks in a terminal: the form of log lines, and UTF-8 whatever the locale is."""

import io
import logging as standard_logging
import os
import sys
from pathlib import Path

from absl import logging


def log_plainly() -> None:
    """Shows time and message of our own lines; of libraries, which are talkative, only warnings."""
    package = str(Path(__file__).parents[1])

    def ours(record: standard_logging.LogRecord) -> bool:
        return record.pathname.startswith(package) or record.levelno >= standard_logging.WARNING

    logging.set_verbosity(logging.INFO)
    handler = logging.get_absl_handler()
    handler.setFormatter(standard_logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    handler.addFilter(ours)


def in_utf8() -> None:
    """Starts the program anew in UTF-8 where the locale is another: names of files may have any."""
    if sys.getfilesystemencoding() != "utf-8" and not sys.flags.utf8_mode:
        os.environ["PYTHONUTF8"] = "1"  # for the processes that this one starts
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
