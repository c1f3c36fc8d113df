"""Speed beside other libraries, drawn when the site is built from `benchmarks/speed.json`: `{benchmarks} words`,
`sentences`, `GRU` or `machine`.

The record (`make benchmarks`) has the seconds of every round, in which all systems took their turn. A ratio is the
median over the rounds of one system's seconds by ours of the same round, with its quartiles. The share of the peak is
taken likewise, by the seconds of a product of two large matrices in that round.
"""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import numpy as np
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

RECORD = Path("benchmarks/speed.json")
COLUMNS = {"training": "training", "greedy, 1": "greedy, one at a time", "greedy, 64": "greedy, 64 at a time",
           "beam 5, 1": "beam of 5, one at a time", "beam 5, 64": "beam of 5, 64 at a time"}  # fmt: skip


def quartiles(values: np.ndarray) -> tuple[float, float, float]:
    """The median, and the quartiles on both sides of it."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return float(middle), float(low), float(high)


def ratio(figure: dict, name: str, by: str = "ours") -> tuple[float, float, float]:
    """How many times as fast as `name` the system `by` is, each round by itself: median and quartiles."""
    times = figure["times"]
    return quartiles(np.array(times[name]) / np.array(times[by]))


def rate(figure: dict, name: str) -> float:
    """Tokens, or sources, a second: the median over the rounds."""
    return figure["count"] / float(np.median(figure["times"][name]))


def share(figure: dict, name: str, product: int) -> float:
    """Of what the machine multiplies at best, the part that this system used, for work that had to be done."""
    used = figure["operations"] / np.array(figure["times"][name])
    return float(np.median(used * np.array(figure["times"]["product"]) / product))


def digits(number: float) -> str:
    """Three digits that count: 12,300 and 1.23."""
    number = float(f"{number:.3g}")
    return f"{number:,.{max(0, 2 - int(np.floor(np.log10(number))))}f}"


def cell(figure: dict, name: str, product: int) -> str:
    if name not in figure["times"]:
        return "–"
    told = f"{digits(rate(figure, name))} a second, {100 * share(figure, name, product):.0f} %"
    if name == "ours":
        return told
    middle, low, high = map(digits, ratio(figure, name))
    return f"<b>{middle}</b> ({low}–{high})<br>{told}"


def table(group: dict, product: int) -> str:
    """A row for each system: how many times as fast ours is, what it does a second, its share of the peak."""
    figures = {figure["what"]: figure for figure in group["figures"]}
    names = list(dict.fromkeys(name for figure in group["figures"] for name in figure["times"] if name != "product"))
    head = "".join(f'<th scope="col">{text}</th>' for text in ("system", *COLUMNS.values()))
    cells = {name: [cell(figures[what], name, product) for what in COLUMNS] for name in names}
    rows = ["".join(f"<td>{text}</td>" for text in (html.escape(name), *row)) for name, row in cells.items()]
    rows += [f"<td>{html.escape(name)}</td>" + f"<td>{html.escape(why)}</td>" + "<td>–</td>" * (len(COLUMNS) - 1)
             for name, why in group["missing"].items()]  # fmt: skip
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f'<table class="table results"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def described(group: dict) -> str:
    """Sizes, and what the systems lack, in a sentence each."""
    size = group["sizes"]
    heads = f", {size['heads']} heads" if size["heads"] else ""
    said = (f"{group['parameters']:,} parameters: {size['layers']} and {size['layers']} layers, {size['width']} wide"
            f"{heads}, {size['hidden']} hidden units, {size['vocab']:,} symbols. Sources of up to {size['length']} "
            f"symbols, outputs of {size['length']}; a training step has {size['batch']} of them.")  # fmt: skip
    return " ".join([said, *(f"{name}: {note}." for name, note in group["notes"].items())])


def machine(record: dict) -> str:
    """Where, when and with what."""
    made, groups = record["provenance"], record["groups"].values()
    versions = {package: number for group in groups for package, number in group["versions"].items()}
    peaks = [made["product"] / t for group in groups for figure in group["figures"] for t in figure["times"]["product"]]
    libraries = ", ".join(f"{name} {number}" for name, number in sorted(versions.items()))
    return (f"Measured on: {made['machine']}, {made['threads']} thread, single precision, {made['date']}, "
            f"{made['seconds']:.0f} seconds in all, other load {made['load']:.1f}. A product of two matrices ran at "
            f"{np.median(peaks) / 1e9:.0f} billion operations a second, the peak. {libraries}.")  # fmt: skip


class Benchmarks(SphinxDirective):
    """`{benchmarks} words`, `sentences`, `GRU` or `machine`."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        kind = directives.choice(self.arguments[0], ("words", "sentences", "gru", "machine"))
        path = Path(self.env.srcdir) / RECORD
        self.env.note_dependency(str(path))
        if not path.is_file():
            return [nodes.paragraph("", "No speeds are on record in this version of the book.")]
        record = json.loads(path.read_text("utf-8"))
        if kind == "machine":
            return [nodes.paragraph("", machine(record))]
        group = record["groups"]["GRU" if kind == "gru" else kind]
        drawn = table(group, record["provenance"]["product"])
        return [nodes.paragraph("", described(group)), nodes.raw("", drawn, format="html")]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("benchmarks", Benchmarks)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
