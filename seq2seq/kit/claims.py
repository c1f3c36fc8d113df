"""Claims: sentences of the book that a run of the book must confirm.

A claim that does not hold raises ClaimError where SEQ2SEQ_CLAIMS is "strict" (the book's own builds and tests; 1,
true, yes and on mean the same) and warns where it is "lenient" (or 0, false, no, off) or unset, so that a reader who
changes a model can go on. At the `smoke` budget nothing is trained, so claims are shown as skipped.
"""

import html
import json
import os
import warnings

from seq2seq.kit import budget

SETTINGS = dict.fromkeys(("strict", "1", "true", "yes", "on"), True) | dict.fromkeys(
    ("lenient", "0", "false", "no", "off", ""), False)
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
        data = html.escape(json.dumps(vars(self)))
        return (
            f'<div class="claim claim-{self.verdict}" data-claim="{data}">'
            f"<p><strong>Claim {WORDS[self.verdict]}.</strong> {html.escape(self.text)}</p>"
            f'<p class="claim-measured">Measured: {html.escape(self.measured)}</p></div>'
        )


def strict() -> bool:
    """Whether a claim that does not hold is an error. Raises ValueError for a value that means neither."""
    chosen = os.environ.get("SEQ2SEQ_CLAIMS", "")
    if chosen.strip().lower() not in SETTINGS:
        raise ValueError(f"SEQ2SEQ_CLAIMS is {chosen!r}; set it to strict or lenient, or unset it")
    return SETTINGS[chosen.strip().lower()]


def claim(text: str, holds: bool, measured: str) -> ClaimResult:
    """State `text`, a sentence of the chapter, with the evidence of this run.

    holds: whether this run confirms it. measured: the figures, in words a reader understands.
    Raises ClaimError if it does not hold and SEQ2SEQ_CLAIMS is "strict"; warns otherwise. Raises TypeError for evidence
    that is neither true nor false, such as a number or a list.
    """
    truth = holds.item() if getattr(holds, "shape", None) == () else holds    # NumPy's and torch's own
    if not isinstance(truth, bool):
        raise TypeError(f"a claim holds or not: give True or False, not {holds!r}; use all(…) for several at once")
    if not (isinstance(text, str) and isinstance(measured, str)):
        raise TypeError(f"a claim and its evidence are words, not {text!r} and {measured!r}")
    is_strict = strict()
    if budget.name() == "smoke":
        return ClaimResult(text, "skipped", measured)
    if not truth:
        message = f"This run does not confirm: {text} Measured: {measured}"
        if is_strict:
            raise ClaimError(message)
        warnings.warn(message, stacklevel=2)
    return ClaimResult(text, "holds" if truth else "fails", measured)
