"""Training that survives a kill or a Colab disconnect: its last state in one file."""

import copy
import os
import random
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

T = TypeVar("T")


class Checkpoint:
    """Keeps the state of `parts` (a model, an optimiser, a schedule: anything with `state_dict`) in `path`.

    settings: what a run must have in common with the one that wrote the file, by name. A file is written whole or not
    at all, and read whole or not at all. Raises ValueError when it is damaged or belongs to another run or model.
    """

    def __init__(self, path: str | os.PathLike, settings: dict | None = None, **parts):
        kinds = {f"class of {name}": type(part).__qualname__ for name, part in parts.items()}
        self.path, self.parts = Path(path).expanduser(), parts
        self.settings = plain({**(settings or {}), **kinds}, "settings")
        if self.path.is_dir():
            raise ValueError(f"{self.path} is a folder; name a file in it")

    def resume(self) -> dict:
        """Restore every part and return what was saved beside them; an empty dict if there is no file yet."""
        if not self.path.exists():
            return {}
        before = {name: copy.deepcopy(part.state_dict()) for name, part in self.parts.items()}
        drawn = generators()
        try:
            saved = torch.load(self.path, map_location="cpu", weights_only=True)
            written = saved["settings"]
            different = [name for name in {**written, **self.settings}
                         if name not in written or name not in self.settings or written[name] != self.settings[name]]
            if not different:
                for name, part in self.parts.items():
                    part.load_state_dict(saved["parts"][name])
                restore(saved["generators"])
                restore_gpus(saved["gpus"])
                return saved["extra"]
        except Exception as error:
            for name, part in self.parts.items():
                part.load_state_dict(before[name])
            restore(drawn)
            raise ValueError(
                f"{self.path} is damaged or was written for other settings; "
                f"delete it to train from the start, or give another path ({error})"
            ) from error
        told = "; ".join(f"{name} {written.get(name)!r}, not {self.settings.get(name)!r}" for name in different)
        raise ValueError(
            f"{self.path} was written by a run with other settings ({told}); "
            "give those, or delete it to train from the start, or give another path"
        )

    def save(self, **extra) -> None:
        """Write every part's state, the random generators', and `extra`: numbers, strings, tensors, lists, dicts.

        Raises TypeError, before anything is written, for anything else.
        """
        state = {
            "parts": {name: plain(part.state_dict(), name) for name, part in self.parts.items()},
            "settings": self.settings,
            "extra": {name: plain(value, name) for name, value in extra.items()},
            "generators": generators(),
            "gpus": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        scratch = self.path.with_name(self.path.name + ".part")
        torch.save(state, scratch)
        os.replace(scratch, self.path)


def plain(value: object, name: str) -> object:
    """The value, NumPy's scalars in it as Python's. Raises TypeError for what could not be read back safely."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {plain(key, f"a key of {name}"): plain(part, f"{name}[{key!r}]") for key, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(plain(part, f"{name}[{i}]") for i, part in enumerate(value))
    if value is None or isinstance(value, Tensor) or type(value) in (bool, int, float, str):
        return value
    raise TypeError(
        f"a checkpoint keeps numbers, strings, tensors, lists, tuples and dictionaries; "
        f"{name} is of type {type(value).__name__}"
    )


def generators() -> dict:
    """The states of Python's, NumPy's and torch's global generators."""
    kind, keys, *rest = np.random.get_state()
    return {"python": random.getstate(), "numpy": (kind, keys.tolist(), *rest), "torch": torch.get_rng_state()}


def restore(states: dict) -> None:
    """Put the global generators back into the states that `generators` gave."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])


def restore_gpus(states: list[Tensor]) -> None:
    """The same for the GPUs', as far as this machine has them."""
    here = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if len(states) > here:
        warnings.warn(
            f"the checkpoint was written with {len(states)} GPUs and this machine has {here}: training goes on, "
            "but what it draws on a GPU, such as dropout, is not what the uninterrupted run would have drawn",
            stacklevel=4,
        )
    for index, state in enumerate(states[:here]):
        torch.cuda.set_rng_state(state, index)


@contextmanager
def drawing_from(states: dict) -> Iterator[None]:
    """Inside, the global generators go on from `states`, which is updated; outside, nothing has been drawn."""
    outside = generators()
    restore(states)
    try:
        yield
    finally:
        states.update(generators())
        restore(outside)


def drawn_apart(batches: Iterable[T], states: dict) -> Iterator[T]:
    """The batches; what they draw from global generators starts at `states` and leaves the model's dropout alone.

    So the same batches come again when a training is resumed, whatever has been drawn in between.
    """
    states = dict(states)
    with drawing_from(states):
        iterator = iter(batches)
    while True:
        with drawing_from(states):
            batch = next(iterator, None)
        if batch is None:
            return
        yield batch
