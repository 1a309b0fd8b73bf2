"""Models as files: saving one, loading it, and where the shipped one and that of a run lie.

Belongs here: the way between a `Model` and named plain arrays. The bytes of the file are in
`model_file`; what `load_model` accepts beside files is in `find`.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import numpy as np

from imitation_refinement.errors import UserError
from imitation_refinement.method import networks
from imitation_refinement.method.classifier import Classifier
from imitation_refinement.model.acceptance import Calibration, Cloud
from imitation_refinement.model.model import ClassifierSpec, Model, RefinerSpec, classifier_network
from imitation_refinement.model.model_file import read_model_file, write_model_file
from imitation_refinement.runtime.files import read_json
from imitation_refinement.xrd.grid import Grid

Tree = Any
MODEL_FILE = "model.npz"  # of a finished run, in its folder


def save_model(model: Model, path: str | Path) -> None:
    """Writes a model as one .npz of plain arrays with checksums.

    Raises:
        UserError: it cannot be written.
    """
    header = {
        "class_names": list(model.class_names),
        "grid": model.grid._asdict(),
        "classifier": model.classifier_spec._asdict(),
        "refiner": model.refiner_spec._asdict(),
        "refiners": len(model.refiners),
        "calibration": {**model.calibration._asdict(), "cloud": None},
        "origin": model.origin,
    }
    cloud = model.calibration.cloud._asdict()
    trees = {"classifier": model.classifier._asdict(), "cloud": cloud}
    trees |= {f"refiner{index}": tree for index, tree in enumerate(model.refiners)}
    write_model_file(path, header, dict(_flat(trees)))


def is_model(path: str | Path) -> bool:
    """Returns whether `load_model` has something to load there: a model file or a finished run."""
    path = Path(path).expanduser()
    if not path.is_dir():
        return path.suffix == ".npz" and path.is_file()
    if (path / MODEL_FILE).exists():
        return True
    if not (path / "config.json").exists():
        return False
    config = read_json(path / "config.json")
    parts = [f"refiner/fold_{k}" for k in range(config["evaluate"]["run_folds"])]
    return all((path / "stages" / f"{part}.json").exists() for part in ("classifier", *parts))


def shipped_model() -> Any:
    """Returns where the package keeps its model, as a resource of `importlib`."""
    return resources.files("imitation_refinement") / "pretrained" / "xrd.npz"


def load_file(path: Path) -> Model:
    """Loads what `save_model` wrote and verifies it; raises as `find.load_model`."""
    header, arrays = read_model_file(path)
    trees = _nested(arrays)
    try:
        model = Model(
            class_names=tuple(header["class_names"]),
            grid=Grid(**header["grid"]),
            classifier_spec=ClassifierSpec(**header["classifier"]),
            classifier=Classifier(**trees["classifier"]),
            refiner_spec=RefinerSpec(**header["refiner"]),
            refiners=tuple(trees[f"refiner{index}"] for index in range(header["refiners"])),
            calibration=Calibration(**{**header["calibration"], "cloud": Cloud(**trees["cloud"])}),
            origin=header["origin"],
        )
        _check_shapes(model)
    except (KeyError, TypeError, ValueError, UserError) as error:
        raise UserError(
            f"{path}: does not fit this version of the program ({error}); train and save it again"
        ) from error
    return model


def _check_shapes(model: Model) -> None:
    """Compares the arrays with what the networks need, without computing anything."""
    x = jax.ShapeDtypeStruct((1, *model.input_shape), np.float32)
    classes, key = len(model.class_names), jax.eval_shape(lambda: jax.random.key(0))
    classifier = classifier_network(model.classifier_spec, classes)
    refiner = networks.build_refiner(model.refiner_spec)
    needed = jax.eval_shape(partial(classifier.init, train=False), key, x)
    output = jax.eval_shape(partial(classifier.apply, train=False), needed, x)
    prototypes = jax.ShapeDtypeStruct((classes, output.embedding.shape[1]), np.float32)
    _compare({"batch_stats": {}, **needed}, model.classifier.variables)
    _compare(prototypes, model.classifier.prototypes)
    width = output.embedding.shape[1]
    cloud = {
        name: jax.ShapeDtypeStruct((width,) * axes, np.float32)
        for name, axes in (("center", 1), ("whitening", 2))
    }
    _compare(cloud, model.calibration.cloud._asdict())
    needed = jax.eval_shape(refiner.init, key, x)["params"]
    for params in model.refiners:
        _compare(needed, params)


def _compare(needed: Tree, found: Tree) -> None:
    shapes = [
        {jax.tree_util.keystr(path): leaf.shape for path, leaf in pairs}
        for pairs in map(jax.tree_util.tree_leaves_with_path, (needed, found))
    ]
    for name in sorted(shapes[0].keys() | shapes[1].keys()):
        first, second = (part.get(name, "none") for part in shapes)
        if first != second:
            raise ValueError(f"{name}: needs shape {first}, has {second}")


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    for name, branch in tree.items():
        if isinstance(branch, Mapping):
            yield from _flat(branch, f"{prefix}{name}/")
        else:
            yield prefix + name, np.asarray(branch)


def _nested(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, array in arrays.items():
        *folders, name = path.split("/")
        place = tree
        for folder in folders:
            place = place.setdefault(folder, {})
        place[name] = array
    if "classifier" in tree:  # a network without batch norm has no statistics, and no entry
        tree["classifier"].get("variables", {}).setdefault("batch_stats", {})
    return tree
