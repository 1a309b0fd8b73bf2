"""What is found out about each measured pattern: refined, named, compared.

Belongs here: the way from placed patterns to records, batch by batch, in order; trouble with a
pattern is a record of its own. Which files an input names is in `inputs`, reading them in `reading`
and `read_ahead`; the model's answer is `model.Model.assess`'s, the phases are `phases.identify`'s.
Nothing is written.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from imitation_refinement.commands.cif_match import CifMatcher, Match
from imitation_refinement.commands.inputs import Input, entered
from imitation_refinement.commands.ledger import LeftOut, Notes, in_a_line
from imitation_refinement.commands.peak_table import peak_table
from imitation_refinement.commands.reading import Reading
from imitation_refinement.commands.scan_results import Failed, Names, Refined, told_by
from imitation_refinement.model.model import Assessment, Model
from imitation_refinement.model.placed import as_arrays
from imitation_refinement.phases.identify import Phases
from imitation_refinement.phases.named import Identified
from imitation_refinement.phases.prototypes import GRID
from imitation_refinement.xrd.scans import PlacedScan, Scan, on_grid

BATCH = 256  # patterns that go through the model together
_FULL = 0.99  # share of the grid from which on nothing is said of what is missing


class _Read(NamedTuple):
    """One pattern of a file, or why there is none.

    Attributes:
        input: the file.
        name: of the pattern.
        scan, placed: as read, and on the model's grid; None if it cannot be used.
        error: why not.
    """

    input: Input
    name: str
    scan: Scan | None = None
    placed: PlacedScan | None = None
    error: str = ""


def _patterns(
    readings: Iterable[tuple[Input, Reading]],
    left: list[LeftOut],
    progress: Callable[[int], None],
) -> Iterator[_Read]:
    """Names the patterns of some inputs; errors take their place."""
    names, number, last = Names(), 0, None
    for whole, reading in readings:
        for one, found in entered(whole, reading, left):
            if one.path is not last:
                number, last = number + 1, one.path
                progress(number)
            record = found.record
            if error := record.reason if record.scan is None else found.trouble:
                yield _Read(one, names(record.name), error=error)
            else:
                yield _Read(one, names(record.name), record.scan, found.scan)


def records(
    readings: Iterable[tuple[Input, Reading]],
    left: list[LeftOut],
    model: Model,
    matcher: CifMatcher,
    phases: Phases | None,
    progress: Callable[[int], None] = lambda _: None,
    cells: bool = True,
) -> Iterator[tuple[Input, Refined | Failed]]:
    """Yields the record of each pattern of some inputs, in order, and the input it is of.

    Names are unique among these inputs.

    Args:
        readings: of `read_placed`, on the model's grid.
        left: is added to.
        model: see `refine_scans`.
        matcher: compares with CIF files.
        phases: see `refine_scans`.
        progress: is told how many files were begun, at each.
        cells: see `phases.identify.Phases.identify`.
    """
    for batch in _chunks(_patterns(readings, left, progress), BATCH):
        for one, result in zip(batch, _each(model, batch, matcher, phases, cells), strict=True):
            yield one.input, result


def _chunks(items: Iterator, size: int) -> Iterator[list]:
    while chunk := list(itertools.islice(items, size)):
        yield chunk


def _each(
    model: Model, batch: list[_Read], matcher: CifMatcher, phases: Phases | None, cells: bool
) -> list[Refined | Failed]:
    """Returns one record for each item, in order; trouble with one is its own alone."""
    try:
        return list(_assessed(model, batch, matcher, phases, cells))
    except Exception as error:
        if len(batch) == 1:
            one = batch[0]
            return [Failed(one.name, one.input.path, in_a_line(one.input.path, error))]
        return [result for one in batch for result in _each(model, [one], matcher, phases, cells)]


def _assessed(
    model: Model, batch: list[_Read], matcher: CifMatcher, phases: Phases | None, cells: bool
) -> Iterator[Refined | Failed]:
    """Puts a batch through the model; yields one record for each item, in order."""
    good = [(one.scan, one.placed) for one in batch if one.scan and one.placed]
    identified: list[Identified | None] = [None] * len(good)
    if good:
        raw, mask = as_arrays([placed for _, placed in good], model.grid.length)
        answer = model.assess(raw, mask)
        if phases:
            known = [one.input.elements for one in batch if one.scan]
            on_grids = _on_phase_grid(good, model)
            identified = list(phases.identify(on_grids, known, cells=cells))
    index = 0
    for one in batch:
        scan, placed = one.scan, one.placed
        if scan is None or placed is None:
            yield Failed(one.name, one.input.path, one.error)
            continue
        own = identified[index]
        refined, change, refiner = _shown(model, answer, index, placed, own)
        matches: tuple[Match, ...] = ()
        trouble: tuple[str, ...] = ()
        # Nothing lies beside a file whose bytes were given.
        if one.input.data is None and np.any(refined[placed.mask] > 0):
            matches, trouble = matcher(one.input.path, refined, placed.mask, scan.wavelength)
        result = Refined(
            name=one.name,
            path=one.input.path,
            scan=scan,
            placed=placed,
            class_names=model.class_names,
            refined=refined,
            raw_probabilities=answer.raw_probabilities[index],
            probabilities=answer.probabilities[index],
            distances=answer.distances[index],
            confidence=float(answer.confidence[index]),
            verdict=str(answer.verdict[index]),
            reason=placed.signal or str(answer.reason[index]),
            change=change,
            peaks=peak_table(refined, raw[index, :, 0], placed.mask, model.grid, scan.wavelength),
            matches=matches,
            notes=tuple(Notes((*scan.notes, *_coverage(placed.mask), *trouble)).told()),
            refiner=refiner,
        )
        yield told_by(result, own) if own else result
        index += 1


def _shown(
    model: Model, answer: Assessment, index: int, placed: PlacedScan, own: Identified | None
) -> tuple[np.ndarray, float, str]:
    """The pattern that is shown as refined, its change (see `Assessment`), and by which refiner.

    Where a library was asked, what its refiner denoised: it is nearer to the truth and to a longer
    scan than what the shipped model makes (docs/quick-scans.md). A model of the user's own shows
    what it does.
    """
    if placed.signal:  # a refiner may make something out of nothing
        return np.zeros_like(placed.pattern), float(answer.change[index]), ""
    if model.shipped and own is not None and own.denoised is not None:
        change = np.abs(own.denoised - placed.pattern)[placed.mask].mean(dtype=np.float64)
        return own.denoised, float(change), "phases"
    return answer.refined[index, :, 0], float(answer.change[index]), "model"


def _on_phase_grid(good: list[tuple[Scan, PlacedScan]], model: Model) -> list[PlacedScan]:
    """The scans on the grid of the prototypes, which the shipped model shares."""
    if model.grid == GRID:
        return [placed for _, placed in good]
    return [on_grid(scan, GRID) for scan, _ in good]


def _coverage(mask: np.ndarray) -> tuple[str, ...]:
    share = float(np.mean(mask))
    if share >= _FULL:
        return ()
    return (f"{share:.0%} of the model's range was measured; nothing is said of the rest",)


def refine_one(
    model: Model, one: Input, name: str, scan: Scan, phases: Phases | None = None
) -> Refined | Failed:
    """Returns what `refine_scans` would find out about one pattern; nothing is written.

    Args:
        model: what refines and classifies.
        one: its file, with its bytes and what is known of its composition.
        name: of the pattern.
        scan: as it was read.
        phases: see `refine_scans`.
    """
    try:
        read = _Read(one, name, scan, on_grid(scan, model.grid))
    except Exception as error:
        return Failed(name, one.path, in_a_line(one.path, error))
    return _each(model, [read], CifMatcher(model.grid), phases, True)[0]
