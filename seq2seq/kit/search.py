"""What every search needs: a model that is left as it was found, and rows picked out of a decoder's state."""

import copy
import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Number
from typing import Any

from torch import Tensor, nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Dropout is off inside. Then every part of the model has its mode back, after an error or an interrupt too."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def reorder(state: Any, index: Tensor) -> Any:
    """A decoder's state with its rows picked by `index` (B',): for beams, and for batches that shrink.

    Every tensor, batch first, is picked: in tuples, lists, dictionaries and dataclasses, however nested. Numbers,
    strings and None stay as they are. Raises TypeError for anything else, since it may hold rows too.
    """
    if isinstance(state, Tensor):
        return state.index_select(0, index)
    if state is None or isinstance(state, Number | str):
        return state
    if isinstance(state, tuple | list):
        parts = [reorder(part, index) for part in state]
        return type(state)(*parts) if hasattr(state, "_fields") else type(state)(parts)
    if isinstance(state, dict):
        picked = copy.copy(state)
        picked.update({key: reorder(value, index) for key, value in state.items()})
        return picked
    if dataclasses.is_dataclass(state) and not isinstance(state, type):
        picked = copy.copy(state)
        for name in getattr(state, "__dict__", None) or [field.name for field in dataclasses.fields(state)]:
            object.__setattr__(picked, name, reorder(getattr(state, name), index))   # frozen ones too
        return picked
    raise TypeError(
        f"a state of type {type(state).__name__} may hold rows that cannot be picked; "
        "use tensors in tuples, lists, dictionaries or dataclasses"
    )
