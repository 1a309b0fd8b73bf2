"""Draws docs/architecture.png: how data and gradients go. Run from anywhere."""

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

PLACE = Path(__file__).with_name("architecture.png")
GREY, RED = "0.35", "#c0392b"
WIDTH, HEIGHT = 2.3, 0.8
# What stands where: center (x, y), text, face color.
BOXES = {
    "structures": (1.4, 4.2, "crystal structures\nor generated crystals", "#eef3f8"),
    "ideal": (4.4, 4.2, "ideal patterns\nxrd/ideal, profiles", "#eef3f8"),
    "classifier": (7.4, 4.2, "classifier C = G∘F\nAlgorithm 1", "#fdf2e3"),
    "frozen": (10.4, 4.2, "frozen: variables,\nprototypes (Eq. 1)", "#e8f4ea"),
    "imperfect": (1.4, 2.4, "imperfect patterns\nsimulated or measured", "#eef3f8"),
    "refiner": (4.4, 2.4, "refiner R\nAlgorithm 2", "#fdf2e3"),
    "refined": (7.4, 2.4, "refined patterns", "#eef3f8"),
    "losses": (10.4, 2.4, "ℓ_pred + α ℓ_reg + β ℓ_proto\nmethod/losses", "#fdf2e3"),
    "model": (4.4, 0.7, "model.npz: R, C, calibration\nmodel/", "#e8f4ea"),
    "answer": (1.4, 0.7, "class, phase, confidence,\npage: commands/", "#e8f4ea"),
    "evaluation": (7.4, 0.7, "against the truth\nevaluation/, report/", "#e8f4ea"),
}
DATA = [
    ("structures", "ideal"), ("ideal", "classifier"), ("classifier", "frozen"),
    ("imperfect", "refiner"), ("refiner", "refined"), ("refined", "losses"), ("frozen", "losses"),
    ("refined", "evaluation"), ("refiner", "model"), ("model", "answer"), ("ideal", "imperfect"),
]  # fmt: skip
GRADIENTS = [("losses", "refined"), ("refined", "refiner")]


def edge(start: str, end: str) -> tuple[tuple[float, float], tuple[float, float]]:
    """Returns where an arrow leaves one box and meets another."""
    (x, y), (u, v) = BOXES[start][:2], BOXES[end][:2]
    if abs(x - u) > WIDTH:
        side = 0.5 * WIDTH if u > x else -0.5 * WIDTH
        return (x + side, y), (u - side, v)
    side = 0.5 * HEIGHT if v > y else -0.5 * HEIGHT
    return (x, y + side), (u, v - side)


def draw() -> Figure:
    """Returns the picture."""
    figure = Figure((11.8, 4.9), dpi=110)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 11.8), ylim=(0, 4.9))
    axes.axis("off")
    for x, y, text, color in BOXES.values():
        corner = x - 0.5 * WIDTH, y - 0.5 * HEIGHT
        axes.add_patch(
            FancyBboxPatch(corner, WIDTH, HEIGHT, "round,pad=0.05", fc=color, ec=GREY, lw=1)
        )
        axes.text(x, y, text, ha="center", va="center", fontsize=9)
    for pairs, color, offset in ((DATA, GREY, 0.0), (GRADIENTS, RED, -0.25)):
        for start, end in pairs:
            (x, y), (u, v) = edge(start, end)
            axes.annotate(
                "", (u, v + offset), (x, y + offset),
                arrowprops={"arrowstyle": "-|>", "color": color, "lw": 1.4},
            )  # fmt: skip
    axes.text(10.4, 1.55, "gradients, through the frozen\nclassifier, to R alone", color=RED,
              fontsize=8, ha="center")  # fmt: skip
    return figure


if __name__ == "__main__":
    draw().savefig(PLACE)
