"""The page and the pictures of an unmixed library.

Belongs here: wording and looks. Numbers come from `unmix_library`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from imitation_refinement.commands.spread import Spread
from imitation_refinement.report.figures import RAW_COLOR, REFINED_COLOR
from imitation_refinement.report.page import render_page
from imitation_refinement.report.plots import (
    Axes,
    few_ticks,
    new_figure,
    png,
    rows_of_patterns,
    styled,
)
from imitation_refinement.tasks import Picture
from imitation_refinement.xrd.convolutive import Phases
from imitation_refinement.xrd.grid import Q_LABEL, Grid, grid_q

_COLUMNS = 4  # of maps


def page_of(
    results: Mapping[str, Any],
    spread: Spread,
    told: Phases,
    refined: np.ndarray,
    grid: Grid,
) -> str:
    """Returns the page of an unmixed library, as HTML.

    Args:
        results: of `unmix_library.summary`.
        spread: the library.
        told: its components, shares and shifts.
        refined: the refined components, `[K, L, 1]`.
        grid: of the patterns.
    """
    measured = spread.mask.any(axis=0)
    q = grid_q(grid)[measured]
    titles = [
        "{component}: {crystal_system} ({confidence:.0%}, {verdict})".format_map(item)
        for item in results["components"]
    ]
    pictures = [
        Picture(
            "The library",
            "Every pattern, without background, sorted by its largest component; white lines part "
            "those of different components.",
            heat_map(q, spread.pattern[:, measured], told.shares),
        ),
        Picture(
            "Components",
            "As unmixed (orange) and refined (blue); square-root scale.",
            components(q, told.components[:, measured], refined[:, measured, 0], titles),
        ),
        Picture(
            "Where they are",
            "Share of each component in the intensity of a pattern, 0 (light) to 1 (dark), over "
            + ("the composition." if spread.composition is not None else "the patterns' order."),
            maps(told.shares, spread.composition, spread.elements),
        ),
    ]
    return render_page("unmix.html.j2", r=results, pictures=pictures)


@styled
def heat_map(q: np.ndarray, pattern: np.ndarray, shares: np.ndarray) -> bytes:
    """Patterns `[n, L]` as rows, sorted by their largest share `[n, K]` and its size."""
    largest = shares.argmax(axis=1)
    order = np.lexsort((-shares.max(axis=1), largest))
    figure = new_figure(11, 5.5)
    panel = figure.subplots()
    image = rows_of_patterns(panel, q, pattern[order], 700)
    for boundary in np.flatnonzero(np.diff(largest[order])) + 1:
        panel.axhline(float(boundary), color="white", lw=0.9)
    panel.set(xlabel=Q_LABEL, ylabel="largest component")
    present = np.unique(largest)
    middles = [float(np.flatnonzero(largest[order] == k).mean()) + 0.5 for k in present]
    panel.set_yticks(middles, [str(k + 1) for k in present])
    panel.tick_params(axis="y", length=0)
    figure.colorbar(image, ax=panel, pad=0.01, label="intensity (maximum 1)")
    return png(figure)


@styled
def components(q: np.ndarray, raw: np.ndarray, refined: np.ndarray, titles: Sequence[str]) -> bytes:
    """Raw and refined components `[K, L]`, one panel for each, as PNG bytes."""
    figure = new_figure(10, 0.8 + 1.7 * len(raw))
    panels = figure.subplots(len(raw), 1, sharex=True, squeeze=False)[:, 0]
    for panel, before, after, title in zip(panels, raw, refined, titles, strict=True):
        panel.plot(q, np.sqrt(before), color=RAW_COLOR, lw=0.8, label="unmixed")
        # Below, mirrored: two curves on one line would hide each other.
        panel.plot(q, -np.sqrt(np.maximum(after, 0)), color=REFINED_COLOR, lw=0.8, label="refined")
        panel.axhline(0, color="#5b6675", lw=0.5)
        panel.set(xlim=(q[0], q[-1]), ylim=(-1.1, 1.1), yticks=())
        panel.set_title(title, loc="left", fontsize=10)
    panels[0].legend(loc="upper right", ncols=2, frameon=False)
    panels[-1].set_xlabel(Q_LABEL)
    figure.supylabel("square root of intensity; refined downwards", fontsize=10)
    return png(figure)


@styled
def maps(shares: np.ndarray, composition: np.ndarray | None, elements: Sequence[str]) -> bytes:
    """Shares `[n, K]` over the composition `[n, e]`: a triangle for 3 elements, else points."""
    count = shares.shape[1]
    columns = min(_COLUMNS, count)
    rows = -(-count // columns)
    figure = new_figure(2.6 * columns + 0.6, 2.5 * rows + 0.3)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for k, panel in enumerate(panels):
        if k >= count:
            panel.set_visible(False)
            continue
        panel.set_title(f"component {k + 1}", fontsize=10)
        if composition is not None and composition.shape[1] == 3:
            image = _triangle(panel, composition, shares[:, k], elements)
        else:
            x, name = np.arange(len(shares)), "pattern"
            if composition is not None:
                x, name = composition[:, 0], f"share of {elements[0]}"
            image = panel.scatter(x, shares[:, k], c=shares[:, k], s=12, **_SCALE)
            panel.set(xlabel=name, ylim=(-0.05, 1.05))
            few_ticks(panel, 4)
    figure.colorbar(image, ax=panels, pad=0.02, aspect=30, label="share of the intensity")
    return png(figure)


_SCALE: dict[str, Any] = {
    "cmap": "viridis_r", "vmin": 0, "vmax": 1, "edgecolor": "#5b6675", "linewidth": 0.2,
}  # fmt: skip


def _triangle(panel: Axes, composition: np.ndarray, share: np.ndarray, names: Sequence[str]) -> Any:
    """A ternary diagram: the first element at the lower left, the second right, the third above."""
    parts = composition / np.maximum(composition.sum(axis=1, keepdims=True), 1e-12)
    height = np.sqrt(0.75)
    panel.plot([0, 1, 0.5, 0], [0, 0, height, 0], color="#5b6675", lw=0.8)
    x, y = parts[:, 1] + 0.5 * parts[:, 2], height * parts[:, 2]
    image = panel.scatter(x, y, c=share, s=14, **_SCALE)
    for x0, y0, name in zip((0, 1, 0.5), (-0.1, -0.1, height + 0.05), names, strict=True):
        panel.text(x0, y0, name, ha="center", fontsize=9)
    panel.set(xlim=(-0.15, 1.15), ylim=(-0.16, 1.05), aspect="equal")
    panel.set_axis_off()
    return image
