"""A trained refiner of phases: using it on placed scans, and its file of plain arrays.

Belongs here: the value that is shipped. What it computes is in `refining`, how it is trained in
`refiner_training`; the bytes of the file are `model_file`'s.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from imitation_refinement.errors import UserError
from imitation_refinement.method import networks
from imitation_refinement.method.networks import UNet
from imitation_refinement.method.refiner import Tree
from imitation_refinement.model.model_file import read_model_file, write_model_file
from imitation_refinement.phases.adaptation import adapted
from imitation_refinement.phases.prototypes import GRID
from imitation_refinement.phases.refining import CHANNELS, Refined, both_refined, shown
from imitation_refinement.xrd.scans import PlacedScan, Scan

SHIPPED = Path(__file__).parents[1] / "pretrained" / "refiner.npz"


class PhaseRefiner(NamedTuple):
    """A refiner of scans on `prototypes.GRID`.

    Attributes:
        network: its name, a key of `networks.REFINERS`.
        params: its parameters.
    """

    network: str
    params: Tree

    @property
    def module(self) -> UNet:
        """The network."""
        return networks.build_refiner(SimpleNamespace(network=self.network, dtype="float32"))

    def __call__(self, placed: Sequence[PlacedScan]) -> np.ndarray:
        """Returns the refined patterns of some scans, at least one, float32 `[n, L]`."""
        return self.both(placed).pattern

    def both(self, placed: Sequence[PlacedScan]) -> Refined:
        """Returns the refined and the denoised patterns of some scans, at least one."""
        columns = (
            np.stack([getattr(one, name) for one in placed])
            for name in ("pattern", "excess", "noise", "mask")
        )
        pattern, excess, noise, mask = columns
        return both_refined(self.params, shown(pattern, excess, noise, mask), mask, self.module)

    def adapted(self, scans: Sequence[Scan], *, seed: int = 0) -> "PhaseRefiner":
        """Returns the refiner after some steps on the scans at hand; see `adaptation.adapted`."""
        return self._replace(params=adapted(self.params, scans, GRID, self.module, seed=seed))


def save_refiner(path: str | os.PathLike[str], refiner: PhaseRefiner, made: str) -> None:
    """Writes a refiner; `made` says how it was trained, in a sentence.

    Raises:
        UserError: it cannot be written.
    """
    header = {"kind": "refiner of phases", "network": refiner.network, "made": made}
    flat = flatten_dict(refiner.params, sep="/")
    write_model_file(path, header, {name: np.asarray(a, np.float32) for name, a in flat.items()})


def load_refiner(path: str | os.PathLike[str] | None = None) -> PhaseRefiner:
    """Reads a refiner; the shipped one without a path.

    Raises:
        UserError: missing or damaged, or its arrays are not those of its network.
    """
    path = SHIPPED if path is None else path
    header, arrays = read_model_file(path)
    if header.get("kind") != "refiner of phases" or header["network"] not in networks.REFINERS:
        raise UserError(f"{path}: holds no refiner of phases; train and save it again")
    refiner = PhaseRefiner(header["network"], unflatten_dict(arrays, sep="/"))
    x = jax.ShapeDtypeStruct((1, GRID.length, CHANNELS), np.float32)
    needed = jax.eval_shape(refiner.module.init, jax.random.key(0), x)["params"]
    shapes = [{k: a.shape for k, a in flatten_dict(tree, sep="/").items()}
              for tree in (needed, refiner.params)]  # fmt: skip
    if shapes[0] != shapes[1]:
        raise UserError(f"{path}: does not fit this version of the program; train it again")
    return refiner
