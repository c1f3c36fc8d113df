"""Training with all that a long run needs: a schedule, clipping, a progress bar, and checkpoints to resume from.

{doc}`teacher_forcing` writes the loop in ten lines; this is the same loop for all later chapters.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from seq2seq.kit.checkpoint import Checkpoint
from seq2seq.kit.progress import Progress

if TYPE_CHECKING:
    from seq2seq.sequences import Batch

    Loss = Callable[[nn.Module, Batch], Tensor]


@dataclass
class History:
    """What a training run leaves to look at."""

    losses: list[float] = field(default_factory=list)   # nats per token, one per step
    tokens: int = 0                                     # target tokens learned from
    seconds: float = 0.0


def rate_at(step: int, steps: int, warmup: int) -> float:
    """The share of the full learning rate used at a step, counted from 0: up over `warmup` steps, then down to 0."""
    return min((step + 1) / max(1, warmup), (steps - step) / max(1, steps - warmup), 1.0)


def train_step(
    model: nn.Module, batch: Batch, optimizer: torch.optim.Optimizer, loss: Loss | None = None, clip: float = 1.0,
) -> Tensor:
    """One gradient step -> the loss before it, a scalar. Gradients longer than `clip` are shortened to it."""
    if loss is None:
        from seq2seq.teacher_forcing import cross_entropy as loss
    value = loss(model, batch)
    optimizer.zero_grad()
    value.backward()
    nn.utils.clip_grad_norm_(model.parameters(), clip)   # Pascanu et al. (2013)
    optimizer.step()
    return value.detach()


def train(
    model: nn.Module, batches: Iterable[Batch], steps: int, *, loss: Loss | None = None, lr: float = 5e-3,
    warmup: int = 100, clip: float = 1.0, until: int | None = None, checkpoint: str | os.PathLike | None = None,
    label: str = "training",
) -> History:
    """Train with Adam: the learning rate rises to `lr` over `warmup` steps, then falls in a line to zero at `steps`.

    loss: the chapter's `cross_entropy` if left out. until: stop after that many steps of the same schedule.
    checkpoint: a file to resume from if it exists, written every 200 steps and at the end; give the same batches again.
    Raises ValueError if the batches run out too early.
    """
    device = next(model.parameters()).device
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_at(step, steps, warmup))
    history = History()
    if checkpoint:
        saver = Checkpoint(checkpoint, model=model, optimizer=optimizer, schedule=schedule)
        history = History(**saver.resume())
    done, last = len(history.losses), steps if until is None else min(until, steps)

    model.train()
    progress = Progress(islice(batches, done, last), label, total=last - done)
    start = time.perf_counter() - history.seconds
    for batch in progress:
        value = train_step(model, batch.to(device), optimizer, loss, clip)
        schedule.step()
        history.losses.append(value.item())
        history.tokens += int((batch.tgt[:, 1:] != 0).sum())
        history.seconds = time.perf_counter() - start
        progress.note(f"loss {history.losses[-1]:.2f}")
        if checkpoint and (len(history.losses) % 200 == 0 or len(history.losses) == last):
            saver.save(**vars(history))
    if len(history.losses) < last:
        raise ValueError(f"the batches ran out after {len(history.losses)} of {last} steps; use training_batches")
    return history
