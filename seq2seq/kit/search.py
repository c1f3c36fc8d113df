"""What every search over decoders needs and no chapter teaches yet."""

from typing import Any

from torch import Tensor


def reorder(state: Any, index: Tensor) -> Any:
    """A decoder's state with its rows picked by `index` (B',): for beams, and for batches that shrink.

    Tensors are picked from inside tuples, lists and dictionaries; anything else, such as a count, stays as it is.
    """
    if isinstance(state, Tensor):
        return state.index_select(0, index)
    if isinstance(state, dict):
        return {key: reorder(value, index) for key, value in state.items()}
    if not isinstance(state, (tuple, list)):
        return state
    parts = [reorder(part, index) for part in state]
    return type(state)(*parts) if hasattr(state, "_fields") else type(state)(parts)
