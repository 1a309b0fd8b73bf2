"""The refiner of phases, adapted to the scans of a batch before they are refined.

Belongs here: which scans of the inputs are learned from. How is `phases.adaptation`'s.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from absl import logging

from imitation_refinement.commands.inputs import list_inputs, read_each
from imitation_refinement.phases.identify import Phases
from imitation_refinement.xrd.scans import Scan

FEW_COUNTS = 500.0  # of the strongest point, of scans that are learned from
MOST = 200  # scans that are learned from; more are held in memory in vain


def adapted_phases(phases: Phases, inputs: Sequence[str], wavelength: str | float | None) -> Phases:
    """Returns the phases with a refiner that has learned from the scans of few raw counts.

    Nothing is learned from a label, and the same files in the same order give the same refiner.
    Files that cannot be read are passed over; refining tells of them.

    Args:
        phases: with a refiner.
        inputs: see `inputs.list_inputs`.
        wavelength: for files that do not say theirs.
    """
    scans = list(itertools.islice(_quick_scans(inputs, wavelength), MOST))
    if not scans or phases.refiner is None:
        logging.warning(
            "--adapt had no effect: no scan holds raw counts of at most %g at its strongest point",
            FEW_COUNTS,
        )
        return phases
    logging.info("adapting the refiner to %d scans of few counts", len(scans))
    return dataclasses.replace(phases, refiner=phases.refiner.adapted(scans))


def _quick_scans(inputs: Sequence[str], wavelength: str | float | None) -> Iterator[Scan]:
    files, _ = list_inputs(inputs, wavelength, None)
    for _, record in read_each(files, []):
        scan = record.scan
        if scan is None or not 0 < scan.counts.max() <= FEW_COUNTS:
            continue
        if np.all(scan.counts % 1.0 == 0.0):
            yield scan
