"""How much work a chapter may do: `smoke` (a few steps), `cpu` (what the website shows) or `full` (GPU runners).

The environment variable SEQ2SEQ_BUDGET chooses; `cpu` is the default. Budgets count steps, never seconds.
"""

import os
from numbers import Integral
from typing import TypeVar

T = TypeVar("T")
NAMES = ("smoke", "cpu", "full")


def name() -> str:
    """The budget in force. Raises ValueError when SEQ2SEQ_BUDGET is none of the three names."""
    chosen = os.environ.get("SEQ2SEQ_BUDGET", "cpu")
    if chosen not in NAMES:
        raise ValueError(f"SEQ2SEQ_BUDGET is {chosen!r}; set it to one of {', '.join(NAMES)}, or unset it")
    return chosen


def choose(*, smoke: T, cpu: T, full: T) -> T:
    """The value for the budget in force: `choose(smoke=2, cpu=20, full=200)`."""
    return {"smoke": smoke, "cpu": cpu, "full": full}[name()]


def steps(cpu: int, full: int | None = None, smoke: int = 3) -> int:
    """Training steps for the budget in force; without `full`, the full budget takes as many as `cpu`.

    Raises ValueError for steps that are no whole number above 0.
    """
    for given in (smoke, cpu, cpu if full is None else full):
        if isinstance(given, bool) or not isinstance(given, Integral) or given < 1:
            raise ValueError(f"training takes a whole number of steps, at least 1, not {given!r}")
    return choose(smoke=smoke, cpu=cpu, full=cpu if full is None else full)
