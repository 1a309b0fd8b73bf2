"""The command line: flags, devices, dispatch. The installed command and `main.py` start here."""
# ruff: noqa: E402

import logging as standard_logging
import os
import sys
from pathlib import Path
from typing import NoReturn

# Before JAX is imported: XLA prints a screenful at each program that it takes from the compilation
# cache, about processor features that are its own scheduling hints (prefer-no-gather), as an error.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags, logging
from ml_collections import config_flags

from imitation_refinement import devices, pipeline
from imitation_refinement.config import parse_flags
from imitation_refinement.config_spec import MAY_DIFFER, check_config
from imitation_refinement.errors import UserError
from imitation_refinement.loop import Interrupted
from imitation_refinement.run import Run
from imitation_refinement.workdir import WorkDir
from imitation_refinement.xrd.refine_scans import refine_scans

MODES = ("all", "data", "classifier", "judge", "refiner", "train", "evaluate", "report", "refine")

_CONFIG = config_flags.DEFINE_config_file("config", None, "Config file; a preset after a colon.")
_MODE = flags.DEFINE_enum(
    "mode",
    "all",
    MODES,
    "Which stages to run; each first runs what it needs and has not been done. `train` is "
    "classifier, judge and refiner; `refine` refines the patterns of --input.",
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run; default: runs/<config and preset>."
)
_INPUT = flags.DEFINE_multi_string("input", [], "refine: files of two columns, or glob patterns.")
_OUTPUT = flags.DEFINE_string("output", "refined", "refine: folder for the results.")
_WAVELENGTH = flags.DEFINE_string("wavelength", None, "refine: such as CuKa, or in angstrom.")
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "host:port of process 0, or `auto` on clusters that JAX knows."
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many processes share the run.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which of them this is.")


def _default_workdir(argv: list[str]) -> str:
    """Returns runs/xrd for configs/xrd.py and runs/xrd-smoke for configs/xrd.py:smoke."""
    words = iter(argv)
    path = next(
        value or next(words)
        for flag, _, value in (word.partition("=") for word in words)
        if flag in ("--config", "-config")
    )
    name, _, preset = path.partition(":")
    return str(Path("runs", "-".join(filter(None, [Path(name).stem, preset]))))


def main(argv: list[str]) -> None:
    """Runs the stages that --mode names."""
    if len(argv) > 1:
        raise UserError(f"{argv[1]!r} is no flag; flags begin with --, as in --mode=refine")
    if _CONFIG.value is None:
        raise UserError("--config is missing, as in --config=configs/xrd.py")
    if _MODE.value == "refine" and not _INPUT.value:
        raise UserError("--mode=refine needs --input, as in --input='scans/*.xy'")
    config = _CONFIG.value
    check_config(config)
    devices.initialize_distributed(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    devices.enable_compilation_cache()
    workdir = WorkDir(_WORKDIR.value or _default_workdir(sys.argv), config.run.tensorboard)
    workdir.claim(config, MAY_DIFFER)
    logging.info("work directory %s; %s", workdir.path, devices.describe())
    run = Run(config, workdir)
    if _MODE.value == "refine":
        refine_scans(run, _INPUT.value, Path(_OUTPUT.value), _WAVELENGTH.value)
    else:
        pipeline.run_stages(run, _MODE.value)
    devices.sync("end")
    workdir.close()


def _log_plainly() -> None:
    """Shows time and message of our own lines; of libraries, which are talkative, only warnings."""
    package = str(Path(__file__).parent)

    def ours(record: standard_logging.LogRecord) -> bool:
        return record.pathname.startswith(package) or record.levelno >= standard_logging.WARNING

    logging.set_verbosity(logging.INFO)
    handler = logging.get_absl_handler()
    handler.setFormatter(standard_logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    handler.addFilter(ours)


def entry_point() -> None:
    """Parses flags, runs, and turns every error of a user's into one line and an exit code."""
    _log_plainly()
    try:
        app.run(main, flags_parser=parse_flags)
    except UserError as error:
        _leave(f"error: {error}", 1)
    except Interrupted as interrupted:
        _leave(f"{interrupted}; the same command goes on from there", interrupted.exit_status)


def _leave(message: str, status: int) -> NoReturn:
    """Ends at once: at an ordinary exit a background thread may print a traceback after us."""
    print(message, file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(status)
