"""Figures of patterns, embeddings and training: arrays in, PNG bytes out.

Belongs here: how things look, not what is true about them. Three words: `plots` are the pieces that
figures share, a *figure* is one image, and a *picture* (`tasks.Picture`) is a figure with what a
page says of it, in `pictures`. This is the only door to scikit-learn's t-SNE; that to matplotlib is
`plots`. Colours are those of Okabe and Ito, which colour-blind readers can tell apart; classes
differ in marker as well.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from imitation_refinement.report.plots import (
    Axes,
    few_ticks,
    new_figure,
    png,
    rows_of_patterns,
    styled,
)

CLASS_COLORS = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2", "#D55E00", "#000000")
CLASS_MARKERS = "osD^vPX"
RAW_COLOR, REFINED_COLOR, TRUTH_COLOR = "#D55E00", "#0072B2", "#C8C8C8"
ROOT_LABEL = "intensity (maximum = 1; square-root scale)"


def pick_examples(before: ArrayLike, after: ArrayLike) -> dict[str, int]:
    """Indices of the best, median and worst change of a distance [n] (lower is better)."""
    order = np.argsort(np.asarray(after) - np.asarray(before), kind="stable")
    return {
        "best": int(order[0]),
        "median": int(order[(len(order) - 1) // 2]),
        "worst": int(order[-1]),
    }


@styled
def overlays(
    axis: ArrayLike,
    raw: ArrayLike,
    refined: ArrayLike,
    truth: ArrayLike | None,
    titles: Sequence[str],
    axis_name: str,
) -> bytes:
    """Raw and refined over the true pattern, one pair of panels for each of the m rows [m, L]."""
    raw, refined = (np.atleast_2d(np.asarray(a)) for a in (raw, refined))
    truth = None if truth is None else np.atleast_2d(np.asarray(truth))
    figure = new_figure(10, 0.9 + 2.7 * len(raw))
    outer = figure.add_gridspec(len(raw), 1)
    for row, title in enumerate(titles):
        panels: Any = outer[row].subgridspec(2, 1).subplots(sharex=True)
        pairs = (("raw", raw[row], RAW_COLOR), ("refined", refined[row], REFINED_COLOR))
        for panel, (name, pattern, color) in zip(panels, pairs, strict=True):
            if truth is not None:
                panel.fill_between(axis, truth[row], color=TRUTH_COLOR, lw=0, label="truth")
            _pattern(panel, axis, pattern, name, color)
        panels[0].set_title(title, loc="left", fontsize=10.5)
        panels[1].set_xlabel(axis_name if row == len(raw) - 1 else "")
    figure.supylabel(ROOT_LABEL, fontsize=10)
    return png(figure)


@styled
def heat_maps(
    axis: ArrayLike,
    raw: ArrayLike,
    refined: ArrayLike,
    truth: ArrayLike | None,
    labels: ArrayLike,
    class_names: Sequence[str],
    axis_name: str,
    max_rows: int = 280,
) -> bytes:
    """Raw, refined and true patterns [n, L] as stacks in one order, sorted by class [n].

    Within a class patterns have the order of the last stack's centre of mass, so that equal rows
    are the same pattern and neighbours look alike. More than max_rows are thinned evenly.
    """
    axis, labels = np.asarray(axis), np.asarray(labels)
    stacks = {"raw": np.asarray(raw), "refined": np.asarray(refined)}
    if truth is not None:
        stacks["truth"] = np.asarray(truth)
    last = list(stacks.values())[-1]
    centre = (last * axis).sum(axis=1) / np.maximum(last.sum(axis=1), 1e-12)
    order = np.lexsort((centre, labels))
    if len(order) > max_rows:
        order = order[np.linspace(0, len(order) - 1, max_rows).astype(int)]
    rows = labels[order]
    figure = new_figure(1.6 + 3.3 * len(stacks), 6.2)
    panels = figure.subplots(1, len(stacks), sharey=True)
    for panel, (name, stack) in zip(panels, stacks.items(), strict=True):
        image = rows_of_patterns(panel, axis, stack[order], 400)
        for boundary in np.flatnonzero(np.diff(rows)) + 1:
            panel.axhline(boundary, color="white", lw=0.8)
        panel.set(title=name, xlabel=axis_name)
    present = np.unique(rows)
    middles = [float(np.flatnonzero(rows == label).mean()) + 0.5 for label in present]
    panels[0].set_yticks(middles, [class_names[label] for label in present])
    panels[0].tick_params(axis="y", length=0)
    figure.colorbar(image, ax=panels, pad=0.01, aspect=40, label=ROOT_LABEL)
    return png(figure)


def tsne(points: ArrayLike, seed: int = 0) -> NDArray[np.float64]:
    """Two-dimensional t-SNE of points [m, D], m >= 3, float64 [m, 2]."""
    from sklearn.manifold import TSNE  # a second to import, and only this needs it

    points = np.asarray(points, np.float64)
    perplexity = min(30.0, (len(points) - 1) / 3)
    model = TSNE(perplexity=perplexity, init="pca", random_state=seed)
    with threadpool_limits(1):  # on busy cores its threads spin: 46 s for 20 points
        return np.asarray(model.fit_transform(points), np.float64)


@styled
def embedding_map(
    embedding_raw: ArrayLike,
    embedding_refined: ArrayLike,
    prototypes: ArrayLike,
    labels: ArrayLike,
    class_names: Sequence[str],
    *,
    seed: int = 0,
    max_points: int = 400,
) -> bytes:
    """Joint t-SNE of embeddings before and after refinement [n, D] and prototypes [K, D]."""
    labels = np.asarray(labels)
    chosen = np.arange(len(labels))
    if len(chosen) > max_points:
        rng = np.random.default_rng(np.random.SeedSequence((seed, len(labels))))
        chosen = np.sort(rng.choice(len(labels), max_points, replace=False))
    before, after = np.asarray(embedding_raw)[chosen], np.asarray(embedding_refined)[chosen]
    flat = tsne(np.concatenate([before, after, np.asarray(prototypes)]), seed)
    count = len(chosen)
    stacks = (("raw", flat[:count]), ("refined", flat[count : 2 * count]))
    figure = new_figure(11, 5.6)
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for panel, (name, points) in zip(panels, stacks, strict=True):
        for k, class_name in enumerate(class_names):
            color, marker = _class_style(k)
            member = labels[chosen] == k
            panel.scatter(
                *points[member].T, s=18, color=color, marker=marker, alpha=0.65, lw=0,
                label=class_name,
            )  # fmt: skip
            panel.scatter(
                *flat[2 * count + k], s=110, color=color, marker=marker, edgecolor="black",
                linewidth=1.6, zorder=3,
                label="prototypes" if k == len(class_names) - 1 else None,
            )  # fmt: skip
        panel.set(title=name, xticks=(), yticks=(), xlabel="t-SNE 1 (no unit)")
    panels[0].set_ylabel("t-SNE 2 (no unit)")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, names, loc="outside lower center", ncols=min(len(names), 8), frameon=False
    )
    return png(figure)


@styled
def confusion_matrices(matrices: Mapping[str, ArrayLike], class_names: Sequence[str]) -> bytes:
    """Confusion matrices [K, K] of counts side by side, by name; rows are the true class."""
    figure = new_figure(1.5 + 4.6 * len(matrices), 5.6)
    panels = figure.subplots(1, len(matrices), sharey=True, squeeze=False)[0]
    for panel, (name, matrix) in zip(panels, matrices.items(), strict=True):
        counts = np.asarray(matrix, np.float64)
        share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        image = panel.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for row, column in np.ndindex(*share.shape):
            color = "white" if share[row, column] > 0.55 else "black"
            text = f"{100 * share[row, column]:.0f}" if counts[row].sum() else "–"
            panel.text(column, row, text, ha="center", va="center", color=color, fontsize=9)
        ticks = range(len(class_names))
        panel.set_xticks(ticks, class_names, rotation=45, ha="right", rotation_mode="anchor")
        panel.set_yticks(ticks, class_names)
        panel.set(title=name, xlabel="recognised as")
        panel.spines[:].set_visible(False)
    panels[0].set_ylabel("true class")
    figure.colorbar(image, ax=panels, pad=0.01, label="share of the true class (numbers in %)")
    return png(figure)


@styled
def learning_curves(records: Sequence[Mapping[str, Any]]) -> bytes:
    """Each loss term of metrics.jsonl records {'stage', 'step', term: value} against the step.

    A row of panels for each kind of stage (what stands before the first '/': classifier, refiner),
    a panel for each term, a line for each stage of that kind (folds, seeds). Raises ValueError
    when no record holds a term.
    """
    curves = curves_of(records)
    if not curves:
        raise ValueError("no loss terms in the records")
    columns = min(5, max(len(terms) for terms in curves.values()))
    heights = {kind: -(-len(terms) // columns) for kind, terms in curves.items()}
    figure = new_figure(2.5 * columns + 0.4, 2.4 * sum(heights.values()) + 0.5 * len(curves))
    parts = figure.subfigures(len(curves), 1, height_ratios=list(heights.values()), squeeze=False)
    for part, (kind, terms) in zip(parts[:, 0], curves.items(), strict=True):
        part.suptitle(kind, fontsize=11, fontweight="bold")
        panels = part.subplots(heights[kind], columns, squeeze=False).ravel()
        for panel, (term, lines) in zip(panels, terms.items(), strict=False):
            _curve_panel(panel, term, lines)
        if len({stage for lines in terms.values() for stage in lines}) > 1:
            panels[0].legend(fontsize=8, frameon=False, title=kind, title_fontsize=8)
        for panel in panels[len(terms) :]:
            panel.set_visible(False)
    return png(figure)


def curves_of(
    records: Sequence[Mapping[str, Any]],
) -> dict[str, dict[str, dict[str, list[tuple[float, float]]]]]:
    """Nested dict kind -> term -> stage -> [(step, value)], without what is not a finite number."""
    curves: dict[str, dict[str, dict[str, list[tuple[float, float]]]]] = {}
    for record in records:
        stage = str(record.get("stage", "training"))
        for term, value in record.items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if term in ("stage", "step") or not number or not np.isfinite(value):
                continue
            lines = curves.setdefault(stage.split("/")[0], {}).setdefault(term, {})
            lines.setdefault(stage, []).append((float(record["step"]), float(value)))
    return curves


def _curve_panel(panel: Axes, term: str, lines: Mapping[str, list[tuple[float, float]]]) -> None:
    for index, (stage, points) in enumerate(lines.items()):
        marker = "o" if len(points) == 1 else None
        name = stage.partition("/")[2].replace("_", " ")
        color = CLASS_COLORS[(4 + index) % len(CLASS_COLORS)]
        panel.plot(*np.array(points).T, color=color, lw=1.2, marker=marker, label=name)
    values = np.array([value for points in lines.values() for _, value in points])
    if values.min() > 0 and values.max() > 30 * values.min():
        panel.set_yscale("log")
    panel.set_title(term.replace("_", " "), fontsize=10)
    panel.set_xlabel("step")
    few_ticks(panel, 3, whole=True)
    panel.grid(alpha=0.25)


def _pattern(panel: Axes, axis: ArrayLike, pattern: ArrayLike, name: str, color: str) -> None:
    """One pattern on a square-root scale, on which weak lines can be seen."""
    panel.plot(axis, pattern, color=color, lw=0.9, label=name)
    panel.set_yscale("function", functions=(lambda y: np.sqrt(np.maximum(y, 0)), np.square))
    panel.set(xlim=(np.min(axis), np.max(axis)), ylim=(0, 1.15), yticks=(0, 0.1, 0.5, 1))
    panel.legend(loc="upper right", framealpha=0.85, edgecolor="none", ncols=2)


def _class_style(k: int) -> tuple[str, str]:
    turn, place = divmod(k, len(CLASS_COLORS))  # from the eighth class on, pairs are new
    return CLASS_COLORS[place], CLASS_MARKERS[(place + turn) % len(CLASS_MARKERS)]
