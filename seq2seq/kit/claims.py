"""Claims: sentences of the book that a run of the book must confirm.

A claim that does not hold raises ClaimError where SEQ2SEQ_CLAIMS=strict (the book's own builds and tests) and
warns everywhere else, so that a reader who changes a model can go on. At the `smoke` budget nothing is trained,
so claims are shown as skipped.
"""

import html
import json
import os
import warnings

from seq2seq.kit import budget

WORDS = {"holds": "holds", "fails": "does not hold", "skipped": "skipped at the smoke budget"}


class ClaimError(AssertionError):
    """A claim of the book that this run did not confirm."""


class ClaimResult:
    """What one claim came to; displays as a box on the page and as a line in a terminal."""

    def __init__(self, text: str, verdict: str, measured: str):
        self.text, self.verdict, self.measured = text, verdict, measured

    def __repr__(self) -> str:
        return f"Claim {WORDS[self.verdict]}: {self.text} Measured: {self.measured}"

    def _repr_html_(self) -> str:
        data = html.escape(json.dumps(vars(self), ensure_ascii=False), quote=True)
        return (
            f'<div class="claim claim-{self.verdict}" data-claim="{data}">'
            f"<p><strong>Claim {WORDS[self.verdict]}.</strong> {html.escape(self.text)}</p>"
            f'<p class="claim-measured">Measured: {html.escape(self.measured)}</p></div>'
        )


def claim(text: str, holds: bool, measured: str) -> ClaimResult:
    """State `text`, a sentence of the chapter, with the evidence of this run.

    holds: whether this run confirms it. measured: the figures, in words a reader understands.
    Raises ClaimError if it does not hold and SEQ2SEQ_CLAIMS is "strict"; warns otherwise.
    """
    if budget.name() == "smoke":
        return ClaimResult(text, "skipped", measured)
    if not holds:
        message = f"This run does not confirm: {text} Measured: {measured}"
        if os.environ.get("SEQ2SEQ_CLAIMS") == "strict":
            raise ClaimError(message)
        warnings.warn(message, stacklevel=2)
    return ClaimResult(text, "holds" if holds else "fails", measured)
