"""The command line: flags, devices, dispatch. The installed command and `main.py` start here."""
# ruff: noqa: E402

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

# Before JAX is imported: XLA prints a screenful at each program that it takes from the compilation
# cache, about processor features that are its own scheduling hints (prefer-no-gather), as an error.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags, logging
from ml_collections import config_flags

from imitation_refinement.config import MAY_DIFFER, first_difference, parse_flags
from imitation_refinement.errors import UserError
from imitation_refinement.runtime import devices
from imitation_refinement.runtime.files import read_json, user_cache
from imitation_refinement.runtime.loop import Interrupted
from imitation_refinement.runtime.terminal import in_utf8, log_plainly

if TYPE_CHECKING:
    from imitation_refinement.applications import Application
    from imitation_refinement.phases.compositions import Elements
    from imitation_refinement.phases.identify import Phases
    from imitation_refinement.runtime.shard import Shard

# Each imports what it needs when it runs: using a model takes no training code.
STAGES = ("all", "data", "classifier", "judge", "refiner", "train", "evaluate", "report")
OUTPUTS = {
    "refine": "refined", "inspect": "inspected", "benchmark": "benchmark", "unmix": "unmixed",
    "export": "exported", "save": "model.npz", "library": "library.npz",
}  # fmt: skip
_BATCHES = ("refine", "benchmark", "unmix", "library")  # that can be cut up
# Which of these modes a flag is for; elsewhere it has no effect.
_MEANT_FOR = {
    "wavelength": ("refine", "inspect", "unmix"), "elements": ("refine",),
    "library": ("refine", "serve"), "cif": ("refine",), "adapt": ("refine",),
    "components": ("unmix",), "pictures": ("refine",),
    "shard": _BATCHES, "merge": _BATCHES, "cluster": _BATCHES,
    "port": ("serve",), "token": ("serve",),
}  # fmt: skip

_CONFIG = config_flags.DEFINE_config_file("config", None, "Config file; a preset after a colon.")
_MODE = flags.DEFINE_enum(
    "mode",
    "all",
    (*STAGES, *OUTPUTS, "serve"),
    "What to do. The first eight train: each runs what it needs and has not been done; `train` is "
    "classifier, judge and refiner. `inspect` tells what the files of --input hold and refines "
    "nothing. The others use a model: `refine` cleans and classifies the patterns of --input, "
    "`benchmark` measures it on a manifest of labelled ones, `unmix` takes a "
    "library of mixtures apart, `export` writes it for serving, `save` writes a run's as one file. "
    "`library` makes a library of phases from structure files; `serve` opens a page for a browser, "
    "into which scans are dropped.",
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run; default: runs/<config and preset>."
)
_MODEL = flags.DEFINE_string(
    "model",
    None,
    "Model file to use. Default: that of --workdir; that of the finished run of --config; the one "
    "shipped with the package.",
)
_INPUT = flags.DEFINE_multi_string(
    "input",
    [],
    "refine, inspect, unmix: pattern files, folders, glob patterns or manifests (for unmix each "
    "folder, and each .npz or stack, is one spread); benchmark: a manifest.",
)
_OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "Where results go. Default: " + ", ".join(f"{v} ({k})" for k, v in OUTPUTS.items()) + ".",
)
_WAVELENGTH = flags.DEFINE_string(
    "wavelength",
    None,
    "refine, inspect, unmix: such as CuKa, or in angstrom, for files that do not state theirs.",
)
_ELEMENTS = flags.DEFINE_string(
    "elements",
    None,
    "refine: what is known of the composition: 'Ca C O' (no others), +Fe (must), -Cl (must not).",
)
_LIBRARY = flags.DEFINE_multi_string(
    "library",
    [],
    "refine, serve: libraries of phases to compare with, files of --mode=library or folders of CIF "
    "files; `shipped` is the one of the package, which is the default; `none` for none.",
)
_ADAPT = flags.DEFINE_boolean(
    "adapt",
    False,
    "refine: first let the refiner learn from the scans of few raw counts among the input, by "
    "predicting one half of the counts from the other.",
)
_CIF = flags.DEFINE_string("cif", None, "refine: a CIF file or a folder of them to compare with.")
_PICTURES = flags.DEFINE_integer(
    "pictures",
    None,
    "refine: how many patterns get a picture (default 200); 0 writes no file of any pattern alone.",
    lower_bound=0,
)
_SHARD = flags.DEFINE_string(
    "shard",
    None,
    "refine, benchmark, unmix, library: do the part i/n of the inputs (unmix: of the spreads), i "
    "from 0, into its own table.",
)
_MERGE = flags.DEFINE_bool(
    "merge", False, "refine, benchmark, unmix, library: put what the shards did together."
)
_CLUSTER = flags.DEFINE_string(
    "cluster",
    None,
    "refine, benchmark, unmix, library: spread the work over the workers of a Dask scheduler, "
    "tcp://HOST:PORT, or over the cores of this machine: `local`.",
)
_COMPONENTS = flags.DEFINE_integer(
    "components", None, "unmix: how many components; estimated if not given."
)
_HOST = flags.DEFINE_string("host", "127.0.0.1", "serve: address to listen at.")
_PORT = flags.DEFINE_integer("port", None, "serve: port to listen at; 0 for any. Default: 8765.")
_TOKEN = flags.DEFINE_string(
    "token", None, "serve: what the address must end in; needed with another --host."
)
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


def main(argv: list[str]) -> int:
    """Does what --mode names and returns the exit status."""
    if len(argv) > 1:
        raise UserError(f"{argv[1]!r} is no flag; flags begin with --, as in --mode=refine")
    application = None
    if _CONFIG.value is not None:
        from imitation_refinement.applications import check_config

        application = check_config(_CONFIG.value)
    if _MODE.value in (*OUTPUTS, "serve"):
        devices.enable_compilation_cache()
        return _use_model(_MODE.value)
    if application is None:
        raise UserError("--config is missing, as in --config=configs/xrd.py")
    _train(application, _MODE.value)
    return 0


def _train(application: "Application", mode: str) -> None:
    """Does what a mode names in the work directory."""
    from imitation_refinement.applications import run_application
    from imitation_refinement.runtime.workdir import WorkDir

    config = _CONFIG.value
    devices.initialize_distributed(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    devices.enable_compilation_cache()
    devices.keep_freed_memory()
    devices.collect_garbage_rarely()
    workdir = WorkDir(_WORKDIR.value or _default_workdir(sys.argv), config.run.tensorboard)
    logging.info("work directory %s; %s", workdir.path, devices.describe())
    run_application(application, config, workdir, mode)
    devices.sync("end")
    workdir.close()


def _use_model(mode: str) -> int:
    """Does what needs a trained model, or scans alone; nothing is trained here."""
    for name, modes in _MEANT_FOR.items():
        if mode not in modes and flags.FLAGS[name].value:
            logging.warning("--%s has no effect with --mode=%s", name, mode)
    if _MERGE.value and not _SHARD.value and mode in _BATCHES:
        from imitation_refinement.commands.batches import merge_batch

        return merge_batch(mode, Path(_OUTPUT.value or OUTPUTS[mode]).expanduser())
    if mode in ("refine", "inspect", "benchmark", "unmix", "library") and not _INPUT.value:
        example = {"benchmark": "manifest.csv", "library": "cifs/"}.get(mode, "'scans/*.xy'")
        raise UserError(f"--mode={mode} needs --input, as in --input={example}")
    if mode == "benchmark" and len(_INPUT.value) > 1:
        raise UserError("--input: --mode=benchmark takes one manifest")
    if mode == "serve":
        return _serve()
    output = Path(_OUTPUT.value or OUTPUTS[mode]).expanduser()
    if mode == "library":
        from imitation_refinement.commands.library import run_library

        return run_library(_INPUT.value, output, shard=_shard(), cluster=_CLUSTER.value)
    if mode == "inspect":
        from imitation_refinement.commands.inspect_scans import inspect_scans

        return inspect_scans(_INPUT.value, output, _WAVELENGTH.value)
    cut_up = mode in _BATCHES and (_SHARD.value or _CLUSTER.value)
    if cut_up or (mode == "unmix" and _several_spreads(output)):
        return _in_shards(mode, output)
    from imitation_refinement.model.find import load_model
    from imitation_refinement.model.portable import save_model

    place = _model_place()
    if mode == "save" and place is None:
        raise UserError("--mode=save needs --workdir of a finished run")
    devices.keep_freed_memory()
    model = load_model(place)
    logging.info("model: %s, %s", model.describe(), place or "shipped with the package")
    if mode == "refine":
        from imitation_refinement.commands.refine_scans import refine_scans

        cif = Path(_CIF.value) if _CIF.value else None
        phases, elements = _phases(), _elements()
        if _ADAPT.value:
            if not phases:
                raise UserError("--adapt: the refiner of few counts needs a library of phases")
            from imitation_refinement.commands.adapt_refiner import adapted_phases

            phases = adapted_phases(phases, _INPUT.value, _WAVELENGTH.value)
        more = {} if _PICTURES.value is None else {"pictures": _PICTURES.value}
        return refine_scans(
            model, _INPUT.value, output, _WAVELENGTH.value, cif, phases=phases, elements=elements,
            **more,
        )  # fmt: skip
    if mode == "benchmark":
        from imitation_refinement.commands.benchmark import run_benchmark

        return run_benchmark(model, Path(_INPUT.value[0]), output)
    if mode == "unmix":
        from imitation_refinement.commands.unmix_library import run_unmix

        return run_unmix(model, _INPUT.value, output, _WAVELENGTH.value, _COMPONENTS.value)
    if mode == "export":
        from imitation_refinement.model.export import export_model

        export_model(model, output)
    else:
        save_model(model, output)
    logging.info("written: %s", output)
    return 0


def _serve() -> int:
    """Serves the live page; what can be wrong with the flags is said before anything is loaded."""
    from imitation_refinement.model.find import load_model
    from imitation_refinement.serve import run

    token = _TOKEN.value or ""
    run.check_installed()
    run.check_host(_HOST.value, token)
    place, phases = _model_place(), _phases()
    model = load_model(place)
    logging.info("model: %s, %s", model.describe(), place or "shipped with the package")
    options = [f"--model={place}"] if place else []
    options += [f"--library={name}" for name in _LIBRARY.value]
    port = run.PORT if _PORT.value is None else _PORT.value
    return run.serve(model, phases, options, _HOST.value, port, token)


def _several_spreads(output: Path) -> bool:
    from imitation_refinement.commands.unmix_shards import list_spreads

    return len(list_spreads(_INPUT.value, _WAVELENGTH.value, output)[0]) > 1


def _in_shards(mode: str, output: Path) -> int:
    """Does the part of --shard, or all of a batch on --cluster."""
    from imitation_refinement.commands.batches import run_batch
    from imitation_refinement.commands.setup import Setup

    setup, elements = Setup(os.getcwd(), str(_model_place() or "")), None
    if mode == "refine":
        if _PICTURES.value:
            raise UserError(
                "--pictures: --shard and --cluster write tables alone; refine the few that you want"
                " to look at without them"
            )
        if _ADAPT.value:
            raise UserError(
                "--adapt: learns from all scans together; leave it out with --shard and --cluster"
            )
        setup = setup._replace(libraries=tuple(_libraries()), cif=_CIF.value or "")
        elements = _elements()
    return run_batch(
        mode, setup, _INPUT.value, output, wavelength=_WAVELENGTH.value, elements=elements,
        components=_COMPONENTS.value, shard=_shard(), cluster=_CLUSTER.value,
    )  # fmt: skip


def _shard() -> "Shard | None":
    from imitation_refinement.runtime.shard import parse_shard

    return parse_shard(_SHARD.value) if _SHARD.value else None


def _libraries() -> list[str]:
    """The names of --library; none for none."""
    from imitation_refinement.phases.library import shipped_library

    named = _LIBRARY.value or (["shipped"] if shipped_library().is_file() else ["none"])
    return [] if "none" in named else named


def _phases() -> "Phases | None":
    """Returns the phases of --library; None if there is none."""
    from imitation_refinement.phases.identify import load_phases

    named = _libraries()
    if not named:
        return None
    phases = load_phases(named, user_cache("phases"))
    logging.info("library: %s", phases.describe())
    return phases


def _elements() -> "Elements | None":
    """What --elements says, which needs a library."""
    from imitation_refinement.phases.compositions import parse_elements

    if _ELEMENTS.value and not _libraries():
        raise UserError("--elements: says nothing without a library of phases")
    return parse_elements(_ELEMENTS.value) if _ELEMENTS.value else None


def _model_place() -> Path | None:
    """Returns the file or folder of the model to use, None for the shipped one.

    Raises:
        UserError: the finished run of --config was made with another config.
    """
    from imitation_refinement.model.portable import is_model

    named = _MODEL.value or _WORKDIR.value
    if named:
        return Path(named).expanduser()
    if _CONFIG.value is None:
        return None
    folder = Path(_default_workdir(sys.argv))
    if not is_model(folder):
        logging.info("%s holds no finished run", folder)
        return None
    difference = first_difference(read_json(folder / "config.json"), _CONFIG.value, MAY_DIFFER)
    if difference:
        name, old, new = difference
        raise UserError(
            f"{folder} holds a run with config.{name} = {old!r}, this one has {new!r}; "
            "leave the override out, or name another --workdir or --model"
        )
    return folder


def entry_point() -> None:
    """Parses flags, runs, and turns every error of a user's into one line and an exit code."""
    in_utf8()
    log_plainly()
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
