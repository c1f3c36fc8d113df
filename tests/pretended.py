"""A device that is only pretended: real numbers under tensors that say "meta", so that a GPU's rules can be tried.

Inside `Pretended()`, `tensor.to("meta")` gives such a tensor. Computing with one of them and one of the CPU raises
RuntimeError, as on a GPU. What would make the CPU wait for a GPU is listed in `Pretended().waits`: reading a number,
copying back, a shape that depends on values, and a copy there that is waited for.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.modules import rnn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

aten = torch.ops.aten
CPU, THERE = torch.device("cpu"), torch.device("meta")
BY_VALUE = {aten.nonzero.default, aten.masked_select.default, aten.equal.default, aten.is_nonzero.default,
            aten._unique2.default, aten.repeat_interleave.Tensor}  # fmt: skip
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}


class There(Tensor):
    """Says that it is on "meta", and has its numbers in `held`."""

    @staticmethod
    def __new__(cls, value: Tensor) -> "There":
        made = Tensor._make_wrapper_subclass(cls, value.shape, strides=value.stride(), dtype=value.dtype, device="meta")
        made.held = value
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        raise RuntimeError(f"{function} outside of Pretended()")

    def tolist(self) -> Any:
        return self.to("cpu").tolist()


def held(value: Any) -> Any:
    return value.held if isinstance(value, There) else value


def there(value: Any) -> Any:
    return There(value) if isinstance(value, Tensor) and not isinstance(value, There) else value


class Pretended(TorchDispatchMode):
    """See above."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = dict(kwargs or {})
        to = torch.device(kwargs["device"]) if kwargs.get("device") is not None else None
        flat = tree_flatten((args, kwargs))[0]
        moved = [part for part in flat if isinstance(part, There)]
        if not moved and to != THERE:
            return function(*args, **kwargs)
        if function is aten._local_scalar_dense.default:
            self.waits.append("a number is read")
            return function(held(args[0]))
        if to is not None:
            kwargs["device"] = CPU
        if function is aten._to_copy.default:
            return self.copied(held(args[0]), kwargs, bool(moved), to or (THERE if moved else CPU))
        if function is aten.copy_.default and isinstance(args[0], There):
            args[0].held.copy_(held(args[1]))
            return args[0]
        left = [part for part in flat if isinstance(part, Tensor) and not isinstance(part, There) and part.dim()]
        if function in INDEXING:
            index = [part for part in args[1] if part is not None]
            self.waits += ["an index is copied" for part in index if not isinstance(part, There)]
            self.waits += ["a mask picks" for part in index if part.dtype == torch.bool]
            left = [part for part in left if not any(part is each for each in index)]
        elif function is aten._pack_padded_sequence.default:
            left = [part for part in left if part is not args[1]]    # lengths stay on the CPU
        if left and moved:
            raise RuntimeError(f"{function} computes with tensors of the device and of the CPU: {left[0].shape}")
        if function in BY_VALUE:
            self.waits.append(str(function))
        out = function(*tree_map(held, args), **tree_map(held, kwargs))
        if function._schema.name.endswith("_") and isinstance(args[0], There):
            return args[0]
        if function is aten._pack_padded_sequence.default:
            return There(out[0]), out[1]
        return tree_map(there, out)

    def copied(self, value: Tensor, options: dict, was_there: bool, to: torch.device) -> Tensor:
        later = options.pop("non_blocking", False)
        out = aten._to_copy.default(value, **options)
        if to == THERE:
            if not was_there and not later:
                self.waits.append("a copy there is waited for")
            return There(out)
        if was_there:
            self.waits.append("a tensor is copied back")
        return out


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Pretended]:
    """`with pretended() as device:`"""
    # With batch_first, torch's recurrent networks turn their output over in place, which There cannot follow.
    for name in ("gru", "lstm", "rnn_tanh", "rnn_relu"):
        monkeypatch.setattr(rnn._VF, name, time_first(getattr(rnn._VF, name)))
    # torch.tensor(…, device="meta") makes tensors without numbers, and asks nobody.
    made = torch.tensor
    monkeypatch.setattr(torch, "tensor", lambda *args, device="cpu", **kwargs: made(*args, **kwargs).to(device))
    monkeypatch.setattr(Tensor, "new_tensor", lambda self, data: torch.tensor(data, device=self.device).to(self.dtype))
    monkeypatch.setattr(rnn, "_rnn_impls", {"RNN_TANH": rnn._VF.rnn_tanh, "RNN_RELU": rnn._VF.rnn_relu})
    return Pretended


def time_first(network: Callable) -> Callable:
    def run(x: Tensor, *args: Any) -> Any:
        if not isinstance(args[2], bool) or args[-1] is not True:    # packed, or time first already
            return network(x, *args)
        output, *rest = network(x.transpose(0, 1), *args[:-1], False)
        return output.transpose(0, 1), *rest

    return run
