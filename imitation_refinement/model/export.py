"""Serving: refine and classify as one compiled-anywhere artefact that needs JAX and nothing of us.

Belongs here: the pure function that is exported, and the folder that is written. The artefact is
StableHLO by `jax.export`, for any batch size and for CPU, CUDA and TPU. It is for delivery, not for
keeping: JAX reads artefacts of releases up to about six months older. What is kept is the model
file, from which it can be exported again.
"""

import importlib.metadata
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from imitation_refinement import __version__
from imitation_refinement.errors import UserError
from imitation_refinement.method import networks
from imitation_refinement.method.classifier import distance_of, predict
from imitation_refinement.method.refiner import refine
from imitation_refinement.model.model import Model, classifier_network
from imitation_refinement.runtime.files import atomic_file, atomic_write_json, atomic_write_text

PLATFORMS = ("cpu", "cuda", "tpu")
ARTEFACT, DESCRIPTION, LOADER = "model.jaxexport", "model.json", "load_model.py"
OUTPUTS = {
    "refined": "float32 [n, L, 1], mean of the refiners",
    "probabilities": "float32 [n, K], calibrated, of the refined patterns",
    "raw_probabilities": "float32 [n, K], calibrated, of the patterns as they came",
    "distances": "float32 [n, K], of the refined patterns to each prototype",
}

_LOADER_TEXT = f'''"""Loads the exported model; needs jax, flatbuffers and numpy, nothing else."""

from pathlib import Path

import numpy as np
from jax import export

FILE = Path(__file__).with_name("{ARTEFACT}")
apply = export.deserialize(bytearray(FILE.read_bytes())).call
if __name__ == "__main__":
    print(apply(np.zeros((2, {{length}}, 1), np.float32))["probabilities"])
'''


def exported_function(model: Model) -> Callable[[jax.Array], dict[str, jax.Array]]:
    """Returns the pure function x float32 `[n, L, 1]` -> `OUTPUTS`; the arrays are its constants.

    The same as `Model.assess` without masks and verdicts.
    """
    refiner = networks.build_refiner(model.refiner_spec)
    network = classifier_network(model.classifier_spec, len(model.class_names))
    distance = distance_of(model.classifier_spec)
    classify = partial(predict, model.classifier, network=network, distance=distance)
    calibration = model.calibration

    def function(x: jax.Array) -> dict[str, jax.Array]:
        every = [refine(params, x, network=refiner) for params in model.refiners]
        refined = jnp.mean(jnp.stack(every), axis=0)
        before, after = classify(x), classify(refined)
        return {
            "refined": refined,
            "probabilities": jax.nn.softmax(after.logits / calibration.temperature),
            "raw_probabilities": jax.nn.softmax(before.logits / calibration.raw_temperature),
            "distances": after.distances,
        }

    return function


def export_model(
    model: Model, folder: str | Path, platforms: tuple[str, ...] = PLATFORMS
) -> list[Path]:
    """Writes artefact, description and a loader into a folder; returns the three files.

    Args:
        model: a calibrated model.
        folder: created; existing files are replaced.
        platforms: where the artefact shall run, as JAX calls them.

    Raises:
        UserError: `flatbuffers` is not installed; the folder cannot be written.
    """
    folder = Path(folder)
    paths = [folder / name for name in (ARTEFACT, DESCRIPTION, LOADER)]
    (size,) = export.symbolic_shape("n")
    x = jax.ShapeDtypeStruct((size, *model.input_shape), np.float32)
    exported = export.export(jax.jit(exported_function(model)), platforms=platforms)(x)
    try:
        content = exported.serialize()
    except ImportError as error:
        raise UserError("--mode=export needs flatbuffers: pip install flatbuffers") from error
    with atomic_file(paths[0]) as file:
        file.write(content)
    atomic_write_json(paths[1], describe(model, exported))
    atomic_write_text(paths[2], _LOADER_TEXT.format(length=model.grid.length))
    return paths


def describe(model: Model, exported: export.Exported) -> dict[str, Any]:
    """Returns what a user of the artefact must know, JSON-able."""
    calibration = model.calibration
    return {
        "input": f"float32 [n, {model.grid.length}, 1], n >= 1: patterns on `q`, maximum 1",
        "outputs": OUTPUTS,
        "class_names": list(model.class_names),
        "q": model.q.tolist(),
        "level": calibration.level,
        "limits": dict(calibration.limits),
        "origin": {name: model.origin.get(name) for name in ("name", "version", "config_sha256")},
        "platforms": list(exported.platforms),
        "calling_convention_version": exported.calling_convention_version,
        "written_by": {
            "imitation-refinement": __version__,
            **{name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "numpy")},
        },
    }
