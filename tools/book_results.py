"""Results on record, drawn when the site is built: `{results} table`, `dots`, `lengths`, `latency` or `machines`.

A record's rows with a PER on the test words are results; runs that differ in the seed alone are one system. The system
that the others are compared with is BASE. Intervals are those of the chapters, bootstraps over the test words, which a
record allows that keeps the edits of every word.
"""

from __future__ import annotations

import html
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from book_addresses import addresses
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

FOLDER = Path("seq2seq/records")
BASE = "GRU, two directions, context vector at every step"
BESIDE = "attention-lengths", {"hidden_size": 244}   # the system with attention that has as many parameters as BASE
# The system that each study runs when it is given no setting.
NAMES = {"bottleneck-variants": BASE, "bottleneck-g2p-en": "g2p-en, published weights",
         "bottleneck-tagger": "tagger, one label per letter", "decoding-beams": "beam of five",
         "attention-lengths": "GRU, two directions, attention", "attention-long": "attention, trained for long",
         "attention-long-beam": "attention, trained for long, beam of five",
         "alignment-joint": "joint n-gram, no network", "guided_attention-words": "small GRU, 400 steps",
         "ablation-architectures": "equal steps and size", "exposure_bias-words": "1,200 steps",
         "nonautoregressive-systems": "Transformer, 2,500 steps",
         "nonautoregressive-remedies": "Transformer, 2,500 steps",
         "comparison-systems": "one size, 2,500 steps, own rate",
         "transformer-long": "Transformer, trained for long",
         "transformer-long-beam": "Transformer, trained for long, beam of five"}  # fmt: skip
# Scored on a part of the test words, most of them after a few hundred pairs: their chapters compare them.
ELSEWHERE = {"joining-counts", "joining-halves", "joining-stacks", "pretraining-counts"}
WORDS = {"context": "context vector at the {} only", "bidirectional": "one direction", "summary": "{} of the states",
         "cell": "{} cell", "hidden_size": "{} wide", "task": "{}", "attention": "{} attention",
         "guidance": "guidance {}", "name": "{}", "system": "{}", "rounds": "rounds {}", "distilled": "distilled",
         "beam": "beam of {}", "model": "{}", "prefixes": "{}"}  # fmt: skip
VALUES = {"initial": "start", "rnn": "plain RNN", "lstm": "LSTM", "GRU": "first seed of the first row",
          ("model", "GRU"): "GRU with attention", ("prefixes", "gold"): "gold prefixes",
          **{("prefixes", name): f"scheduled sampling, {name}" for name in (
              "linear", "exponential", "inverse sigmoid", "a coin a sentence", "two passes", "two passes, half gold",
              "four passes")},
          ("prefixes", "risk"): "minimum risk", ("prefixes", "risk without gold"): "minimum risk, drawn answers alone",
          "AR": "left to right", "AR, 6 + 1 layers": "left to right, 6 + 1 layers"}


@dataclass
class System:
    """What is on record for one setting: a row for each seed."""

    study: str
    setting: dict[str, Any]
    rows: list[dict]

    @property
    def name(self) -> str:
        name = NAMES.get(self.study, self.study)
        known = [WORDS[k].format(VALUES.get((k, v), VALUES.get(v, v))) for k, v in self.setting.items() if k in WORDS]
        return f"{'the same' if name == BASE else name}, {', '.join(known)}" if known else name

    @property
    def is_base(self) -> bool:
        return self.name == BASE

    def values(self, measure: str) -> list[float]:
        return [row["result"][measure] for row in self.rows]

    def mean(self, measure: str) -> float:
        return float(np.mean(self.values(measure)))

    def words(self) -> np.ndarray | None:
        """(words, 2): edits and reference length of every test word, summed over the seeds, where they are kept."""
        results = [row["result"] for row in self.rows]
        if not all({"edits", "lengths"} <= result.keys() for result in results):
            return None
        from seq2seq.kit.records import words_of  # late: it brings torch

        return words_of(results)


def systems(folder: Path) -> list[System]:
    """Every system scored on the test words: the one that others are compared with first, then by PER."""
    found: dict[tuple[str, str], System] = {}
    for path in sorted(path for path in folder.glob("*.json") if path.stem not in ELSEWHERE):
        for row in json.loads(path.read_text("utf-8"))["rows"]:
            setting = {key: value for key, value in row["settings"].items() if key != "seed"}
            if {"per", "wer"} <= row["result"].keys() and setting.get("split", "test") == "test":
                key = path.stem, json.dumps(setting, sort_keys=True)
                found.setdefault(key, System(path.stem, setting, [])).rows.append(row)
    return sorted(found.values(), key=lambda system: (not system.is_base, system.mean("per")))


def difference(system: System, base: System) -> str:
    """PER less that of the base, in points, with the interval of the difference where the records allow one."""
    from seq2seq import bottleneck  # late: it brings torch

    ours, theirs = system.words(), base.words()
    if ours is None or theirs is None or ours.shape != theirs.shape:
        return signed(system.mean("per") - base.mean("per"))
    gap, low, high = map(signed, bottleneck.difference(ours, theirs))
    return f"{gap} ({low} to {high})"


def signed(gap: float) -> str:
    """A difference of rates in points: +1.0."""
    return f"{100 * gap:+.1f}".replace("-", "−")


def spread(values: list[float]) -> str:
    """The mean of the seeds, and the lowest and highest."""
    mean = f"{100 * float(np.mean(values)):.1f} %"
    return mean if len(values) == 1 else f"{mean} ({100 * min(values):.1f}–{100 * max(values):.1f})"


def parameters(system: System) -> str:
    """How many numbers the system learned, in millions, where its record holds that."""
    counts = {row["result"].get("parameters") for row in system.rows} - {None}
    return f"{max(counts) / 1e6:.2f} M" if counts else ""


def minutes(system: System) -> str:
    """What the longest run took, training and scoring together, and "GPU" where it ran on one."""
    longest = max((row["provenance"] for row in system.rows), key=lambda made: made["seconds"])
    taken = longest["seconds"] / 60
    told = f"{taken:.0f}" if taken >= 0.95 else f"{taken:.1f}" if taken >= 0.05 else "< 0.1"
    return html.escape(told) + (" GPU" if longest.get("accelerator") else "")


def table(found: list[System], link: str) -> str:
    """One row a system. link: where the record files are, ending in a slash."""
    base = found[0] if found[0].is_base else None
    heads = ["system", "PER", "difference", "WER", "seeds", "parameters", "minutes", "record"]
    rows = []
    for system in found:
        compared = difference(system, base) if base and system is not base else ""
        file = f"{system.study}.json"
        record = f'<a href="{html.escape(link + file)}">{html.escape(system.study)}</a>'
        cells = [html.escape(system.name), spread(system.values("per")), compared, spread(system.values("wer")),
                 str(len(system.rows)), parameters(system), minutes(system), record]  # fmt: skip
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    return f'<table class="table results"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def dots(found: list[System]) -> str:
    """The same as a picture: a dot for each seed, a bar for their mean, a line for its interval over words."""
    from seq2seq import rnn  # late: it brings torch

    step = 0.05
    top = step * np.ceil(max(max(system.values("per")) for system in found) / step + 0.2)

    def place(value: float) -> str:
        return f"{100 * value / top:.2f}%"

    rows, said = [], []
    for system in found:
        marks = "".join(f'<i style="left:{place(value)}"></i>' for value in system.values("per"))
        if (words := system.words()) is not None:
            low, high = rnn.interval(words)
            marks += f'<s style="left:{place(low)};width:{place(high - low)}"></s>'
        marks += f'<b style="left:{place(system.mean("per"))}"></b>'
        said.append(f"{system.name} {100 * system.mean('per'):.1f} %")
        rows.append(f'<div class="dots-row"><span class="dots-name">{html.escape(system.name)}</span>'
                    f'<span class="dots-track">{marks}</span></div>')  # fmt: skip
    ticks = "".join(f'<span style="left:{place(value)}">{100 * value:.0f} %</span>'
                    for value in np.arange(0, top + step / 2, step))  # fmt: skip
    return (f'<div class="dots" role="img" aria-label="Mean PER: {html.escape("; ".join(said))}">{"".join(rows)}'
            f'<div class="dots-row dots-axis"><span class="dots-name">PER</span>'
            f'<span class="dots-track">{ticks}</span></div></div>')  # fmt: skip


def lengths(found: list[System]) -> str:
    """How the error grows with the length of the word: bars of the first system, and of BESIDE if on record."""
    shown = {"one vector": found[0]}
    for system in found:
        if (system.study, system.setting) == BESIDE:
            shown["attention"] = system
    means = {name: by_length(system) for name, system in shown.items()}
    rem = 11 / max(max(groups.values()) for groups in means.values())
    bars, said = [], []
    for group in means["one vector"]:
        rates = {name: groups[group] for name, groups in means.items()}
        pair = "".join(f'<span><b>{100 * rate:.0f} %</b><i style="height:{rem * rate:.2f}rem"></i></span>'
                       for rate in rates.values())  # fmt: skip
        bars.append(f"<div><p>{pair}</p><em>{html.escape(group)}</em></div>")
        said.append(f"{group} letters " + ", ".join(f"{name} {100 * rate:.0f} %" for name, rate in rates.items()))
    key = "".join(f"<span><i></i>{name}</span>" for name in means) if len(means) > 1 else ""
    label = html.escape(f"Phonemes wrong, by length of the word: {'; '.join(said)}")
    return (f'<div role="img" aria-label="{label}"><p class="bars-key">{key}</p>'
            f'<div class="bars">{"".join(bars)}</div></div>')  # fmt: skip


def by_length(system: System) -> dict[str, float]:
    """Mean PER over the seeds for each group of lengths."""
    groups = [row["result"]["by_length"] for row in system.rows]
    return {name: float(np.mean([group[name] for group in groups])) for name in groups[0]}


def latency(folder: Path) -> str:
    """Milliseconds a word of the systems that were timed in one run, by device and number of words at a time."""
    record = folder / "nonautoregressive-latency.json"
    if not record.is_file():
        return "<p>No times are on record in this version of the book.</p>"
    rows = json.loads(record.read_text("utf-8"))["rows"]
    heads, columns, named = ["words at a time"], [], []
    for row in rows:
        made = row["provenance"]
        where = "GPU" if made.get("accelerator") else "CPU"
        named.append(f"{where}: {made.get('accelerator') or made['machine'].split(',')[0] + ', one thread'}")
        took = row["result"]["milliseconds"]
        for size in next(iter(took.values())):
            heads.append(f"{where}, {size}")
            columns.append({name: times[size] for name, times in took.items()})
    body = "".join(f"<tr><td>{html.escape(name)}</td>" + "".join(f"<td>{c[name]:.2f}</td>" for c in columns) + "</tr>"
                   for name in columns[0])  # fmt: skip
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in heads)
    return (f'<p>{html.escape("; ".join(named))}.</p>'
            f'<table class="table results"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>')  # fmt: skip


def measured_on(found: list[System]) -> str:
    """The machines, in words."""
    made = [dict(row["provenance"]) for system in found for row in system.rows]
    for row in made:
        row["where"] = f"{row['accelerator']} beside {row['machine']}" if row.get("accelerator") else row["machine"]
    return "; ".join(sorted({f"{row['where']}, torch {row['torch']}, {row['date'][:7]}" for row in made}))


class Results(SphinxDirective):
    """`{results} table`, `dots`, `lengths`, `latency` or `machines`."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        kind = directives.choice(self.arguments[0], ("table", "dots", "lengths", "latency", "machines"))
        folder = Path(self.env.srcdir) / FOLDER
        found = systems(folder)
        if not found:
            return [nodes.paragraph("", "No pronunciation result is on record in this version of the book.")]
        if kind == "machines":
            return [nodes.paragraph("", f"Measured on: {measured_on(found)}.")]
        at = addresses(self.env.app)
        link = f"{at['@repository@']}/blob/{at['@branch@']}/{FOLDER.as_posix()}/"
        drawing = {"table": lambda: table(found, link), "dots": lambda: dots(found), "lengths": lambda: lengths(found),
                   "latency": lambda: latency(folder)}  # fmt: skip
        return [nodes.raw("", drawing[kind](), format="html")]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("results", Results)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
