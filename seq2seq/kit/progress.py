"""A progress bar that also behaves where nobody watches: on the website, under nbval, in a log file."""

import html
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this (Colab's included)."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and hasattr(shell, "kernel")


class Progress:
    """Iterate over `steps` showing how far it is; `note(text)` adds a few words, such as the loss.

    In a notebook one output is rewritten in place. It is emptied after the last step, so a finished bar leaves nothing.
    """

    def __init__(self, steps: Iterable[T], label: str, total: int | None = None, every: float = 0.5):
        self.steps, self.label, self.every = steps, label, every
        self.total = len(steps) if total is None else total
        self.text, self.handle = "", None

    def note(self, text: str) -> None:
        """Words shown behind the bar from the next refresh on."""
        self.text = text

    def __iter__(self) -> Iterator[T]:
        if not in_notebook():
            bar = tqdm(self.steps, desc=self.label, total=self.total, mininterval=2, disable=None)
            for step in bar:
                yield step
                bar.set_postfix_str(self.text, refresh=False)
            return
        self.start = self.shown = time.perf_counter()
        for done, step in enumerate(self.steps, 1):
            yield step
            if time.perf_counter() - self.shown > self.every:
                self.show(done)
        if self.handle is not None:
            self.handle.update({"text/html": "", "text/plain": ""}, raw=True)

    def show(self, done: int) -> None:
        from IPython.display import display

        seconds = time.perf_counter() - self.start
        text = f"{done:,} of {self.total:,} steps, {seconds:.0f} s" + (f", {self.text}" if self.text else "")
        label = html.escape(self.label)
        bar = (
            f'<div class="progress-line"><progress value="{done}" max="{max(self.total, 1)}" aria-label="{label}">'
            f"</progress> {label}: {html.escape(text)}</div>"
        )
        bundle = {"text/html": bar, "text/plain": f"{self.label}: {text}"}
        if self.handle is None:
            self.handle = display(bundle, raw=True, display_id=True)
        else:
            self.handle.update(bundle, raw=True)
        self.shown = time.perf_counter()
