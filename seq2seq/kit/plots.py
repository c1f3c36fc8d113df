"""Figures that read well on a light and on a dark page, and to a colour-blind reader.

Every figure is drawn as inline SVG whose text and axes take the page's own text colour; curves use four colours that
differ in lightness as well as hue and keep a contrast of 3:1 against white and against the dark page.
"""

import html
import io
import re
from collections.abc import Sequence

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

# After Okabe and Ito (2008), darkened where a white page needs it.
colors = {"blue": "#1f7fc4", "orange": "#d55e00", "green": "#0b9a6d", "purple": "#b0639a", "grey": "#7a7a7a"}
INK = "#010203"  # stands for the page's text colour until the SVG is written


class Picture:
    """A finished figure: inline SVG with a text alternative, and as PNG where no HTML can go, such as in a PDF."""

    def __init__(self, svg: str, png: bytes, alt: str):
        self.svg, self.png, self.alt = svg, png, alt

    def __repr__(self) -> str:
        return f"[Figure: {self.alt}]"

    def _repr_png_(self) -> bytes:
        return self.png

    def _repr_html_(self) -> str:
        return f'<div class="picture" role="img" aria-label="{html.escape(self.alt, quote=True)}">{self.svg}</div>'


def use() -> None:
    """Set the book's matplotlib style."""
    names = [colors[name] for name in ("blue", "orange", "green", "purple", "grey")]
    settings = {
        "figure.figsize": (6.4, 3.4),
        "figure.constrained_layout.use": True,
        "axes.prop_cycle": matplotlib.cycler(color=names, marker=list("os^Dv")),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": colors["grey"],
        "grid.alpha": 0.25,
        "lines.markersize": 5,
        "legend.frameon": False,
        "font.size": 11,
        "font.family": "sans-serif",
        "image.interpolation": "none",   # a cell of a heat map is a pixel of the file, not hundreds
        "savefig.transparent": True,
        "svg.fonttype": "none",
    }
    inked = ["text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "axes.titlecolor"]
    matplotlib.rcParams.update(settings | dict.fromkeys(inked, INK))


def show(figure: Figure, alt: str) -> Picture:
    """Close a figure and return it for display. alt: what the figure shows, for a reader who cannot see it."""
    if not alt.strip():
        plt.close(figure)
        raise ValueError("a figure needs a text alternative: say what it shows")
    file = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": alt}):  # ids that differ between the figures of a page
        figure.savefig(file, format="svg")
    raster = io.BytesIO()
    figure.savefig(raster, format="png", dpi=150, transparent=False, facecolor="white")
    plt.close(figure)
    svg = file.getvalue()[file.getvalue().index("<svg") :]
    svg = svg.replace(INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return Picture(svg, raster.getvalue(), alt)


def loss_curve(losses: Sequence[float], floor: float | None = None, window: int = 20) -> Picture:
    """Training loss in nats against steps, averaged over `window` steps, with the predicted floor if there is one."""
    if len(losses) == 0:
        raise ValueError("there are no losses to draw: train for at least one step")
    if window < 1:
        raise ValueError(f"a mean of {window} steps cannot be drawn; window must be at least 1")
    means = [sum(losses[max(0, i - window) : i]) / min(i, window) for i in range(1, len(losses) + 1)]
    figure, axes = plt.subplots()
    axes.plot(range(1, len(losses) + 1), losses, color=colors["grey"], alpha=0.35, marker="")
    axes.plot(range(1, len(losses) + 1), means, marker="", label=f"mean of {window} steps")
    verb = "falls" if means[-1] < losses[0] else "goes"
    alt = f"Training loss {verb} from {losses[0]:.2f} to {means[-1]:.2f} nats per token over {len(losses):,} steps."
    if floor is not None:
        axes.axhline(floor, color=colors["orange"], linestyle="--", label=f"predicted floor {floor:.2f}")
        alt += f" The predicted floor is {floor:.2f}."
    axes.set(xlabel="step", ylabel="loss (nats per token)", ylim=(0, None))
    axes.legend()
    return show(figure, alt)
