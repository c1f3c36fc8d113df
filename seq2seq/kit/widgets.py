"""Things to look inside with: a vector as bars, weights to explore, frames to step through, and controls that a model
answers to.

`strip`, `explorer` and `stepper` are plain HTML with a few lines of script, so they work in Jupyter, in Colab and on
the site's static pages. Where no script runs (GitHub's preview, a printed page, a reader's choice) all that they would
show step by step is there at once, as a list. `live` needs a kernel, and is a stepper where there is none.
"""

from __future__ import annotations

import base64
import io
import math
import os
import re
import traceback
import wave
from collections.abc import Callable, Mapping, Sequence
from html import escape, unescape
from importlib.util import find_spec
from typing import Any

import numpy as np

from seq2seq.kit.progress import in_notebook

STYLE = """
.stepper { margin: 1em 0; }
.stepper-controls { display: flex; flex-wrap: wrap; gap: .5em; align-items: center; margin-bottom: .75em; }
.stepper-controls[hidden] { display: none; }
.stepper-controls button { font: inherit; color: inherit; background: none; border: 1px solid currentColor;
  border-radius: .3em; padding: .15em .8em; min-height: 2.2em; cursor: pointer; }
.stepper-controls button:disabled { opacity: .45; cursor: default; }
.stepper-controls input { flex: 1 1 10em; min-width: 10em; max-width: 24em; min-height: 2.2em; }
.stepper-controls :focus-visible { outline: 3px solid #0072B2; outline-offset: 2px; }
.stepper-frames { margin: 0; padding-left: 2em; overflow-x: auto; }
.stepper[data-ready] .stepper-frames { list-style: none; padding-left: 0; }
""".strip()

# Sets up every stepper on the page that is not set up yet, so one page may hold many, shown in any order.
SCRIPT = """
document.querySelectorAll(".stepper:not([data-ready])").forEach(function (root) {
  root.dataset.ready = "";
  const frames = Array.from(root.querySelector(".stepper-frames").children);
  const [back, play, next] = root.querySelectorAll("button");
  const slider = root.querySelector("input"), place = root.querySelector("output");
  const list = root.querySelector(".stepper-frames");
  let timer = null;
  function show(step) {
    frames.forEach(function (frame, i) { frame.hidden = i !== step; });
    slider.value = step + 1;
    slider.setAttribute("aria-valuetext", "step " + (step + 1) + " of " + frames.length);
    place.textContent = (step + 1) + " / " + frames.length;
    back.disabled = step === 0;
    next.disabled = step === frames.length - 1;
  }
  function stop() {
    clearInterval(timer);
    timer = null;
    play.textContent = "Play";
    list.setAttribute("aria-live", "polite");
  }
  function step() { return Number(slider.value) - 1; }
  back.onclick = function () { stop(); show(Math.max(0, step() - 1)); };
  next.onclick = function () { stop(); show(Math.min(frames.length - 1, step() + 1)); };
  slider.oninput = function () { stop(); show(step()); };
  root.onkeydown = function (event) {
    const to = { ArrowLeft: step() - 1, ArrowRight: step() + 1, Home: 0, End: frames.length - 1 }[event.key];
    const plain = !(event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey);
    if (to === undefined || !plain || event.target.matches("input, textarea, select")) { return; }
    event.preventDefault();
    stop();
    show(Math.min(frames.length - 1, Math.max(0, to)));
  };
  play.onclick = function () {
    if (timer) { stop(); return; }
    if (step() === frames.length - 1) { show(0); }
    play.textContent = "Pause";
    list.setAttribute("aria-live", "off");
    timer = setInterval(function () {
      if (step() < frames.length - 1) { show(step() + 1); }
      if (step() === frames.length - 1) { stop(); }
    }, 1200);
  };
  root.querySelector(".stepper-controls").hidden = false;
  stop();
  show(0);
});
""".strip()


EXPLORER_STYLE = """
.explorer { margin: 1em 0; }
.explorer-row { display: flex; flex-wrap: wrap; gap: .35em; align-items: flex-end; padding: 0; margin: .4em 0; }
.explorer-row[hidden] { display: none; }
.explorer-source { display: flex; flex-direction: column; text-align: center; min-width: 1.6em; }
.explorer-source i { height: 3em; display: flex; align-items: flex-end; }
.explorer-source i b { flex: 1; background: #d55e00; border-radius: .15em .15em 0 0; transition: height .15s; }
.explorer-source span { border-top: 1px solid currentColor; padding: 0 .2em; }
.explorer button { font: inherit; color: inherit; background: none; border: 1px solid currentColor;
  border-radius: .3em; padding: .1em .5em; min-height: 2.2em; min-width: 2.2em; cursor: pointer; }
.explorer button[aria-pressed="true"] { outline: 3px solid #d55e00; }
.explorer button:focus-visible { outline: 3px solid #0072B2; outline-offset: 2px; }
.explorer output { display: block; min-height: 1.5em; }
""".strip()

# A target's button, pointed at, tapped or reached with the arrow keys, raises the bars of the sources it looks at.
EXPLORER_SCRIPT = """
document.querySelectorAll(".explorer:not([data-ready])").forEach(function (root) {
  root.dataset.ready = "";
  const bars = root.querySelectorAll(".explorer-source b"), says = root.querySelector("output");
  const targets = Array.from(root.querySelectorAll("button"));
  function look(target) {
    target.dataset.weights.split(" ").forEach(function (weight, i) { bars[i].style.height = 100 * weight + "%"; });
    targets.forEach(function (other) {
      other.setAttribute("aria-pressed", other === target);
      other.tabIndex = other === target ? 0 : -1;
    });
    says.textContent = target.dataset.says;
  }
  targets.forEach(function (target, place) {
    target.onmouseenter = target.onfocus = target.onclick = function () { look(target); };
    target.onkeydown = function (event) {
      const last = targets.length - 1;
      const to = { ArrowLeft: place - 1, ArrowRight: place + 1, Home: 0, End: last }[event.key];
      if (to === undefined || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) { return; }
      event.preventDefault();
      targets[Math.min(last, Math.max(0, to))].focus();
    };
  });
  root.querySelector(".explorer-list").hidden = true;
  root.querySelectorAll(".explorer-row").forEach(function (row) { row.hidden = false; });
  look(targets[0]);
});
""".strip()


def plain(html: str) -> str:
    """What a piece of HTML says, without its markup, its style and its script."""
    html = re.sub(r"<(style|script)>.*?</\1>", " ", html, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


class Stepper:
    """Frames that the reader steps through; see `stepper`."""

    def __init__(self, frames: Sequence[str], label: str, texts: Sequence[str] | None = None):
        if not frames or isinstance(frames, str) or isinstance(texts, str):
            raise ValueError("a stepper needs at least one frame, in a list; texts are a list too")
        if texts is not None and len(texts) != len(frames):
            raise ValueError(f"{len(frames)} frames need {len(frames)} texts, not {len(texts)}")
        self.frames, self.label = list(frames), label
        self.texts = list(texts) if texts is not None else [plain(frame) for frame in frames]
        if not label.strip() or not all(text.strip() for text in self.texts):
            raise ValueError("a stepper needs a label, and words in every frame; give texts for frames without any")

    def html(self) -> str:
        """The widget: controls that wait for the script, and every frame as an item of a list."""
        name, last = escape(self.label, quote=True), len(self.frames)
        items = "\n".join(f"<li>{frame}</li>" for frame in self.frames)
        return f"""<style>{STYLE}</style>
<div class="stepper" role="group" aria-label="{name}">
<div class="stepper-controls" hidden>
<button type="button">Back</button>
<button type="button">Play</button>
<button type="button">Next</button>
<input type="range" min="1" max="{last}" value="1" step="1" aria-label="{name}">
<output aria-hidden="true">1 / {last}</output>
</div>
<ol class="stepper-frames" tabindex="0" aria-label="{name}">
{items}
</ol>
</div>
<script>{SCRIPT}</script>"""

    def __repr__(self) -> str:
        return "\n".join([self.label, *(f"{i}. {text}" for i, text in enumerate(self.texts, 1))])

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        return {"text/html": self.html(), "text/plain": repr(self)}


def stepper(frames: Sequence[str], *, label: str, texts: Sequence[str] | None = None) -> Stepper:
    """Frames to step through with buttons, a slider, or the arrow keys, Home and End wherever in it the focus is.

    frames: one piece of HTML for each step. label: what screen readers call the widget. texts: the frames in words,
    where nothing can be drawn; left out, they are the frames without their markup.
    """
    return Stepper(frames, label, texts)


def strip(values: Sequence[float], *, label: str, limit: float | None = None) -> str:
    """The numbers of a vector as one row of bars, orange upwards from zero and blue downwards; HTML for a frame.

    values: a list, or a tensor of one dimension. label: what they are, such as "context vector, 64 of its 128
    numbers". limit: the value that fills the height; left out, it is 1, or the largest value where that is more.
    Frames that are compared with each other need the same limit.
    """
    values = [float(value) for value in values]
    if not values or not label.strip() or not all(map(math.isfinite, values)):
        raise ValueError("a strip needs a label, and at least one number, all of them finite")
    limit = max(1.0, *map(abs, values)) if limit is None else limit
    if not 0 < limit < math.inf:
        raise ValueError(f"the limit of a strip is a number above 0, not {limit}")
    bars = "".join(
        f'<rect x="{i + 0.08}" y="{limit - max(value, 0):.3f}" width="0.84" height="{abs(value):.3f}" '
        f'fill="{"#d55e00" if value > 0 else "#1f7fc4"}"/>'
        for i, value in enumerate(max(-limit, min(limit, value)) for value in values)
    )
    size, last = f"0 0 {len(values)} {2 * limit:g}", len(values) - 1
    says = f"{label}: {len(values)} numbers between {min(values):.2f} and {max(values):.2f}"
    small = "font-size:.8em;line-height:1.2;font-variant-numeric:tabular-nums"
    return (
        f'<div class="strip" role="img" aria-label="{escape(says, quote=True)}" style="display:grid;'
        f'grid-template-columns:auto minmax(0,1fr);column-gap:.4em;max-width:{max(12, len(values))}em">'
        f'<div style="display:flex;flex-direction:column;justify-content:space-between;text-align:right;{small}">'
        f"<span>{limit:g}</span><span>−{limit:g}</span></div>"
        f'<svg viewBox="{size}" preserveAspectRatio="none" width="100%" height="44" aria-hidden="true">'
        f'<rect width="{len(values)}" height="{2 * limit:g}" fill="currentColor" fill-opacity=".06"/>{bars}'
        f'<path d="M0 {limit:g}H{len(values)}" stroke="currentColor" stroke-opacity=".5" '
        'vector-effect="non-scaling-stroke"/></svg>'
        f'<div style="grid-column:2;display:flex;justify-content:space-between;gap:1em;{small}">'
        f"<span>0</span><span>{escape(label)}</span><span>{last}</span></div></div>"
    )


def sound(samples: Sequence[float], rate: int, *, label: str) -> Sound:
    """Something to listen to: samples from -1 to 1, `rate` of them a second. label: what is heard."""
    if not len(samples) or not label.strip():
        raise ValueError("a sound needs samples and a label that says what is heard")
    return Sound(samples, rate, label)


class Sound:
    """A control that plays a sound, which it carries in itself, 16 bits a sample; see `sound`."""

    def __init__(self, samples: Sequence[float], rate: int, label: str):
        numbers = np.clip(np.asarray(samples, dtype=float), -1, 1)
        file = io.BytesIO()
        with wave.open(file, "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(rate)
            out.writeframes((32767 * numbers).round().astype("<i2").tobytes())
        self.wav, self.label = file.getvalue(), label

    def __repr__(self) -> str:
        return f"[Sound: {self.label}]"

    def _repr_html_(self) -> str:
        says, data = escape(self.label), base64.b64encode(self.wav).decode()
        return (
            f'<figure class="sound" style="margin:1em 0"><audio controls preload="metadata" aria-label="{says}" '
            f'style="max-width:100%" src="data:audio/wav;base64,{data}"></audio>'
            f"<figcaption>{says}</figcaption></figure>"
        )


def explorer(
    sources: Sequence[str], targets: Sequence[str], weights: Sequence[Sequence[float]], *, label: str,
    share: float = 0.1,
) -> str:
    """Target tokens that show, when pointed at, tapped or reached with the arrow keys, which sources they look at.

    weights: for each target, a number from 0 to 1 for each source. HTML, for a frame or for `IPython.display.HTML`. In
    words, and where no script runs, each target names the sources with at least `share` of its weight.
    """
    rows = [[float(weight) for weight in row] for row in weights]
    if not label.strip() or not sources or len(rows) != len(targets) or any(len(row) != len(sources) for row in rows):
        raise ValueError(
            f"an explorer needs a label, and for each of {len(targets)} targets {len(sources)} weights, one a source; "
            f"not {len(rows)} rows of {sorted({len(row) for row in rows})}"
        )
    if not all(-1e-6 <= weight <= 1 + 1e-6 for row in rows for weight in row):
        raise ValueError("weights lie between 0 and 1")

    def says(target: str, row: list[float]) -> str:
        seen = sorted((pair for pair in zip(row, sources, strict=True) if pair[0] >= share), reverse=True)
        looks = ", ".join(f"{source} {weight:.0%}" for weight, source in seen)
        return escape(f"{target} looks at {looks or 'nothing in particular'}", quote=True)

    told = [says(target, row) for target, row in zip(targets, rows, strict=True)]
    columns = "".join(
        f'<span class="explorer-source"><i><b style="height:0"></b></i><span>{escape(source)}</span></span>'
        for source in sources
    )
    buttons = "".join(
        f'<button type="button" data-weights="{" ".join(f"{weight:.3f}" for weight in row)}" data-says="{text}">'
        f"{escape(target)}</button>"
        for target, row, text in zip(targets, rows, told, strict=True)
    )
    return f"""<style>{EXPLORER_STYLE}</style>
<div class="explorer" role="group" aria-label="{escape(label, quote=True)}">
<div class="explorer-row" hidden aria-hidden="true">{columns}</div>
<div class="explorer-row" hidden>{buttons}</div>
<output aria-live="polite"></output>
<ul class="explorer-list">{"".join(f"<li>{text}</li>" for text in told)}</ul>
</div>
<script>{EXPLORER_SCRIPT}</script>"""


def answered(answer: Callable[..., Any], values: Mapping[str, Any]) -> str:
    """What `answer` says to these values, as HTML, under a line that names them."""
    said = answer(**values)
    asked = ", ".join(f"{name.replace('_', ' ')}: <b>{escape(str(value))}</b>" for name, value in values.items())
    return f"<p>{asked}</p>{said if isinstance(said, str) else said._repr_html_()}"


class Live(Stepper):
    """Controls over a function, and a stepper in the same output for whatever cannot show them; see `live`."""

    def __init__(self, answer: Callable[..., Any], examples: Sequence[dict], label: str, controls: Mapping[str, Any]):
        import ipywidgets
        from IPython.display import HTML, display

        def attempt(values: Mapping[str, Any]) -> str:
            try:
                return answered(answer, values)
            except Exception as error:
                said, trace = escape(f"{type(error).__name__}: {error}"), escape(traceback.format_exc())
                return f"<details><summary>{said}</summary><pre>{trace}</pre></details>"

        super().__init__([attempt(values) for values in examples], label)
        made = {name: ipywidgets.interactive.widget_from_abbrev(control) for name, control in controls.items()}
        for name, control in made.items():
            if control is None:
                raise ValueError(f"{name}={controls[name]!r} makes no control; give a string, a range or a list")
            control.description, control.style.description_width = name.replace("_", " "), "initial"
            if control.has_trait("continuous_update"):
                control.continuous_update = False
        output = ipywidgets.interactive_output(lambda **values: display(HTML(attempt(values))), made)
        self.box = ipywidgets.VBox([ipywidgets.HTML(f"<b>{escape(label)}</b>"), *made.values(), output])

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, Any]:
        view = {"version_major": 2, "version_minor": 0, "model_id": self.box.model_id}
        return {"application/vnd.jupyter.widget-view+json": view, **super()._repr_mimebundle_()}


def live(answer: Callable[..., Any], *, label: str, examples: Sequence[Any], **controls: Any) -> Stepper:
    """Controls that `answer` replies to, where a kernel runs; elsewhere its answers to the examples, as a stepper.

    answer: takes the controls' values by name and returns HTML, or an object that shows itself as HTML. examples: the
    values that the page answers beforehand; with several controls each is a dictionary. controls: as for
    `ipywidgets.interact`, a string makes a text box (Enter sends it), (0.1, 2.0) or (1, 9, 2) a slider, a list a menu.

    The site's build sets SEQ2SEQ_WIDGETS=static; there an answer that fails stops the build. In a notebook the error
    is shown in the answer's place.

        live(pronounce, label="How does the model say it?", examples=["knight", "queue"], word="knight")
    """
    if not controls:
        raise ValueError("live needs a control, such as word='knight'")
    if isinstance(examples, str):
        raise ValueError(f"examples are a list, such as [{examples!r}]")
    if len(controls) > 1 and not all(isinstance(example, Mapping) for example in examples):
        raise ValueError(f"with several controls an example is a dictionary, such as {dict.fromkeys(controls, '…')}")
    name = next(iter(controls))
    asked = [example if isinstance(example, Mapping) else {name: example} for example in examples]
    if in_notebook() and find_spec("ipywidgets") and os.environ.get("SEQ2SEQ_WIDGETS") != "static":
        return Live(answer, asked, label, controls)
    return Stepper([answered(answer, values) for values in asked], label)
