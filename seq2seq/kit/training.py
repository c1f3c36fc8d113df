"""The training loop with all that a long run needs: a schedule, clipping, a progress bar, checkpoints.

The chapter on teacher forcing writes the loop itself, in ten lines; the later chapters use this one.
"""

from __future__ import annotations

import copy
import hashlib
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from seq2seq.kit.checkpoint import Checkpoint, drawn_apart, generators
from seq2seq.kit.progress import Progress

if TYPE_CHECKING:
    from seq2seq.sequences import Batch

    Loss = Callable[[nn.Module, Batch], Tensor]

SAVE_EVERY = 200   # steps
LOOK_EVERY = 20    # steps between two looks at the losses: a look waits until a GPU has done all it was given
PAD = 0            # seq2seq.sequences.Vocab.pad; a chapter's module cannot be imported here, since it imports the kit
STARTS = WeakKeyDictionary()   # model -> {checkpoint's path: the weights it first came with}


@dataclass
class History:
    """What a training run leaves to look at."""

    losses: list[float] = field(default_factory=list)   # nats per token, one per step
    tokens: int = 0                                     # target tokens learned from
    seconds: float = 0.0


def device_of(model: nn.Module) -> torch.device:
    """Where a model's numbers are; the CPU for a model without any, such as the tick machine."""
    first = next(chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if first is None else first.device


def rate_at(step: int, steps: int, warmup: int) -> float:
    """The share of the full learning rate used at a step, counted from 0: up over `warmup` steps, then down to 0."""
    return min((step + 1) / max(1, warmup), (steps - step) / max(1, steps - warmup), 1.0)


def train_step(
    model: nn.Module, batch: Batch, optimizer: torch.optim.Optimizer, loss: Loss | None = None, clip: float = 1.0,
) -> Tensor:
    """One gradient step -> the loss before it, a scalar: no number if its gradient is not finite.

    Gradients longer than `clip` are shortened to it. Nothing here waits for a GPU.
    """
    value = (loss or default_loss())(model, batch)
    optimizer.zero_grad()
    value.backward()
    length = nn.utils.clip_grad_norm_(model.parameters(), clip)   # Pascanu et al. (2013)
    optimizer.step()
    return value.detach() + 0 * length


def train(
    model: nn.Module, batches: Iterable[Batch], steps: int, *, loss: Loss | None = None, lr: float = 5e-3,
    warmup: int = 100, clip: float = 1.0, until: int | None = None, checkpoint: str | os.PathLike | None = None,
    label: str = "training",
) -> History:
    """Train with Adam: the learning rate rises to `lr` over `warmup` steps, then falls in a line to zero at `steps`.

    batches: at least `steps` of them, such as `training_batches`. loss: of (model, batch), a scalar in nats per token;
    if left out, `seq2seq.teacher_forcing.cross_entropy`. clip: the greatest length of a gradient. until: stop after
    that many steps of the same schedule. A part of the model that is in eval mode keeps it, unless all of it is.

    checkpoint: a file to go on from if it exists, written every 200 steps and at the end. A resumed training equals an
    uninterrupted one: give the same settings, batches and model (built with the same seed). The batches may draw from
    Python's, NumPy's and torch's global generators.

    Raises ValueError if the batches run out, if the file belongs to a run with other settings, batches or another
    model, and when the loss or its gradient was not finite at a step. The losses are looked at every 20 steps; the
    weights are then those of the last look at which all was well, and so is the file.
    """
    checked = [(steps >= 0, "steps", steps), (lr > 0, "lr", lr), (warmup >= 0, "warmup", warmup),
               (clip > 0, "clip", clip), (until is None or until >= 0, "until", until)]
    for fine, name, value in checked:
        if not fine:
            raise ValueError(f"cannot train with {name}={value}; lr and clip must be above 0, the others not below")
    learned = [weights for weights in model.parameters() if weights.requires_grad]
    if not learned:
        raise ValueError("there is nothing to train: the model has no parameters, or all of them are frozen")
    loss, device = loss or default_loss(), device_of(model)
    optimizer = torch.optim.Adam(learned, lr=lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_at(step, steps, warmup))
    history, start = History(), generators()
    if checkpoint is not None:
        settings = {"steps": steps, "lr": lr, "warmup": warmup, "clip": clip, "loss": name_of(loss),
                    "first weights (a model's seed)": first_weights(model, checkpoint)}
        saver = Checkpoint(checkpoint, settings, model=model, optimizer=optimizer, schedule=schedule)
        before = copy.deepcopy(model.state_dict())
        if saved := saver.resume():
            start, learned_last = saved.pop("start"), saved.pop("batch")
            history = History(**saved)
    done, last = len(history.losses), steps if until is None else min(until, steps)

    if not any(part.training for part in model.modules()):
        model.train()
    stream = drawn_apart(batches, start)
    skipped = deque(islice(stream, done), maxlen=1)    # the weights of the file have learned from them
    if skipped and fingerprint(skipped[0]) != learned_last:
        model.load_state_dict(before)
        raise ValueError(f"{checkpoint} was written by a run with other batches; make them anew with the same pairs, "
                         "size and seed, or delete the file to train from the start, or give another path")
    progress = Progress(islice(stream, max(0, last - done)), label, total=max(0, last - done))
    clock, sound = time.perf_counter() - history.seconds, copy.deepcopy(model.state_dict())
    unread: list[tuple[Tensor, Tensor]] = []    # loss and tokens of the steps since the last look
    for step, batch in enumerate(progress, done + 1):
        value = train_step(model, batch.to(device), optimizer, loss, clip)
        unread.append((value, (batch.tgt[:, 1:] != PAD).sum()))
        schedule.step()
        keep = checkpoint is not None and (step % SAVE_EVERY == 0 or step == last)
        if keep or step % LOOK_EVERY == 0 or step == last:
            read(unread, history, model, sound)
            history.seconds = time.perf_counter() - clock
            progress.note(f"loss {history.losses[-1]:.2f}")
            sound = copy.deepcopy(model.state_dict())
        if keep:
            saver.save(start=start, batch=fingerprint(batch), **vars(history))
    read(unread, history, model, sound)
    if len(history.losses) < last:
        raise ValueError(f"the batches ran out after {len(history.losses)} of {last} steps; use training_batches")
    return history


def read(unread: list[tuple[Tensor, Tensor]], history: History, model: nn.Module, sound: dict[str, Tensor]) -> None:
    """Move what `unread` holds of some steps into the history, or put the model back and raise ValueError."""
    if not unread:
        return
    losses, tokens = map(torch.stack, zip(*unread, strict=True))
    losses = losses.tolist()
    if bad := [step for step, value in enumerate(losses, len(history.losses) + 1) if not math.isfinite(value)]:
        model.load_state_dict(sound)
        raise ValueError(f"training stopped: at step {bad[0]} the loss or its gradient was not finite; the weights "
                         f"are those after step {len(history.losses)} again")
    history.losses += losses
    history.tokens += int(tokens.sum())
    unread.clear()


def default_loss() -> Loss:
    """The cross-entropy of the chapter on teacher forcing, imported late: that chapter imports the kit."""
    from seq2seq.teacher_forcing import cross_entropy

    return cross_entropy


def name_of(loss: Loss) -> str:
    """What a checkpoint calls a loss."""
    return getattr(loss, "__qualname__", type(loss).__qualname__)


def digest(tensors: Mapping[str, Tensor]) -> str:
    """A hash of tensors and their names."""
    found = hashlib.sha256()
    for name, tensor in tensors.items():
        found.update(name.encode() + tensor.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:12]


def fingerprint(batch: Batch) -> str:
    """A hash of a batch, to know it by when a training is resumed."""
    return digest({name: part for name, part in vars(batch).items() if isinstance(part, Tensor)})


def first_weights(model: nn.Module, path: str | os.PathLike) -> str:
    """A hash of the weights with which the model was first given to a training with this checkpoint.

    First, because a reader who interrupts a training runs its cell again, with the model half trained.
    """
    paths = STARTS.setdefault(model, {})
    path = str(Path(path).expanduser().resolve())
    if path not in paths:
        paths[path] = digest(model.state_dict())
    return paths[path]
