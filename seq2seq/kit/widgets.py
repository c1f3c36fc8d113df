"""Widgets that need no kernel: they work in Jupyter, in Colab and on the site's static pages.

A widget here is plain HTML with a few lines of script. Where no script runs (GitHub's preview, a printed page, a
reader's choice) all that it would show step by step is there at once, as a list.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape, unescape

STYLE = """
.stepper { margin: 1em 0; }
.stepper-controls { display: flex; flex-wrap: wrap; gap: .5em; align-items: center; margin-bottom: .75em; }
.stepper-controls[hidden] { display: none; }
.stepper-controls button { font: inherit; color: inherit; background: none; border: 1px solid currentColor;
  border-radius: .3em; padding: .15em .8em; min-height: 2.2em; cursor: pointer; }
.stepper-controls button:disabled { opacity: .45; cursor: default; }
.stepper-controls input { flex: 1 1 8em; min-width: 6em; max-width: 24em; min-height: 2.2em; }
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


def plain(html: str) -> str:
    """What a piece of HTML says, without its markup."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


class Stepper:
    """Frames that the reader steps through; see `stepper`."""

    def __init__(self, frames: Sequence[str], label: str, texts: Sequence[str] | None = None):
        if not frames:
            raise ValueError("a stepper needs at least one frame")
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
    """Frames to step through with a slider, with buttons or by itself; arrow keys, Home and End move the slider.

    frames: one piece of HTML for each step. label: what screen readers call the widget. texts: the frames in words,
    where nothing can be drawn; left out, they are the frames without their markup.
    """
    return Stepper(frames, label, texts)
