"""The figure of one refined scan, drawn thousands of times.

Belongs here: how that figure looks. It is one of a fixed layout whose curves are exchanged,
which is several times as fast as a new one each time; nothing global is touched.
"""

import io
import warnings

import numpy as np

from imitation_refinement.report.figures import RAW_COLOR, REFINED_COLOR
from imitation_refinement.report.plots import new_figure

_BACKGROUND_COLOR, _CANDIDATE_COLOR = "#009E73", "#8b2a78"
_DPI = 100


class ScanFigure:
    """Draws the measured scan with its background and, below it, the refined pattern.

    Args:
        with_candidate: whether a candidate's calculated pattern is drawn over the refined one.
    """

    def __init__(self, with_candidate: bool = False) -> None:
        self._figure = new_figure(9, 4.6, layout=None)
        self._figure.subplots_adjust(left=0.09, right=0.985, top=0.92, bottom=0.11, hspace=0.08)
        self._panels = self._figure.subplots(2, 1, sharex=True)
        upper, lower = self._panels
        (self._measured,) = upper.plot([], [], color=RAW_COLOR, lw=0.8, label="measured")
        (self._background,) = upper.plot(
            [], [], color=_BACKGROUND_COLOR, lw=1.2, label="background"
        )
        (self._refined,) = lower.plot([], [], color=REFINED_COLOR, lw=0.8, label="refined")
        self._candidate = None
        if with_candidate:
            (self._candidate,) = lower.plot(
                [], [], color=_CANDIDATE_COLOR, lw=0.8, label="first candidate"
            )
        for panel, label in ((upper, "counts"), (lower, "counts")):
            panel.set_yscale("function", functions=(lambda y: np.sqrt(np.maximum(y, 0)), np.square))
            panel.set_ylabel(f"{label} (square-root scale)", fontsize=8)
            panel.legend(loc="upper right", frameon=False, fontsize=8, ncols=2)
            panel.tick_params(labelsize=8)
        lower.set_xlabel("2θ (degrees)", fontsize=9)

    def __call__(
        self,
        title: str,
        measured: tuple[np.ndarray, np.ndarray],
        background: tuple[np.ndarray, np.ndarray],
        refined: tuple[np.ndarray, np.ndarray],
        candidate: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> bytes:
        """Returns a PNG.

        Args:
            title: plain text.
            measured: angles in degrees and counts.
            background: the same of the background.
            refined: the same of the refined pattern.
            candidate: the same of a candidate's calculated pattern.
        """
        # Matplotlib takes what stands between two dollar signs for a formula.
        self._panels[0].set_title(title.replace("$", r"\$"), loc="left", fontsize=9.5)
        curves = (
            (self._measured, measured),
            (self._background, background),
            (self._refined, refined),
        )
        for line, points in curves:
            line.set_data(*points)
        if self._candidate is not None:
            self._candidate.set_data(*(candidate or ([], [])))
        for panel, (_, counts) in zip(self._panels, (measured, refined), strict=True):
            panel.set_ylim(0.0, 1.06 * max(float(counts.max(initial=0.0)), 1e-12))
        self._panels[1].set_xlim(measured[0][0], measured[0][-1])
        buffer = io.BytesIO()
        with warnings.catch_warnings():
            # The font lacks letters of some scripts; a box stands for them in the title.
            warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
            # The least compression is twice as fast and a third larger.
            self._figure.savefig(
                buffer, format="png", dpi=_DPI, metadata={"Software": None},
                pil_kwargs={"compress_level": 1},
            )  # fmt: skip
        return buffer.getvalue()
