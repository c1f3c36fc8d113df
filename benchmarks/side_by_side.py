"""`make benchmarks`: tokens a second in training and words a second in decoding, beside other libraries, in one run.

For each figure the systems take turns (A B C, B C A, …), and what counts is the ratio of two that stand in the same
round: whatever else the machine does, both have it. The times of every round go to benchmarks/speed.json, from which
the site draws its tables; `tools/book_benchmarks.py` has the statistic. One thread, float32.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from book_benchmarks import ratio
from peers import Peer, Sizes, a_batch, our_transformer, peers, quiet, versions
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from seq2seq.decoding import reorder
from seq2seq.encoder_decoder import EncoderDecoder
from seq2seq.kit.records import provenance
from seq2seq.kit.training import train_step
from seq2seq.sequences import Batch, Vocab

RECORD = Path(__file__).with_name("speed.json")
SIZES = {
    "words": Sizes(44, 128, 4, 2, 512, 10, 128),        # the Transformer at its defaults, which pronounces
    "sentences": Sizes(4000, 256, 8, 2, 1024, 20, 32),
    "GRU": Sizes(44, 128, 0, 1, 256, 10, 128),          # the context model at its defaults, in one direction
}
TINY = {
    "words": Sizes(44, 16, 2, 1, 16, 4, 3),
    "sentences": Sizes(60, 16, 2, 2, 16, 5, 3),
    "GRU": Sizes(44, 8, 0, 1, 8, 4, 3),
}
ROWS, WIDTH, SIDE = (1, 64), 5, 1024
LEAST, MOST = 5, 60     # rounds
SHARE = {"training": 1.5, "greedy, 1": 0.6, "greedy, 64": 1, "beam 5, 1": 1, "beam 5, 64": 1.5}


class Unequal(AssertionError):
    """Two systems did not do the same work."""


def interleaved(jobs: dict[str, Callable[[], object]], seconds: float) -> dict[str, list[float]]:
    """Take turns until the seconds are used up -> each one's seconds, a list for each with a place for each round.

    Each has run once before. Every round begins with another one, so that nobody always comes first.
    """
    names, times, start = list(jobs), {name: [] for name in jobs}, time.perf_counter()
    while len(done := times[names[0]]) < MOST and (len(done) < LEAST or time.perf_counter() - start < seconds):
        first = len(done) % len(names)
        for name in names[first:] + names[:first]:
            begun = time.perf_counter()
            jobs[name]()
            times[name].append(time.perf_counter() - begun)
    return times


def product(side: int) -> Callable[[], Tensor]:
    """A product of two matrices, which is as fast as this machine multiplies: 2 side³ operations."""
    a, b = torch.randn(2, side, side)
    return lambda: a @ b


def operations(sizes: Sizes, kind: str, what: str, rows: int, width: int = 1) -> int:
    """Multiplications and additions of matrices that the work takes, by the book's model.

    Nothing is counted twice, nor what padding takes. A GRU's are counted by hand, since torch does not.
    """
    if kind == "GRU":
        each = (2 * sizes.layers - 1) * 6 * sizes.hidden**2     # from step to step, and from layer to layer
        reads = each + 6 * sizes.width * sizes.hidden
        writes = each + 6 * (sizes.width + sizes.hidden) * sizes.hidden + 2 * sizes.hidden * sizes.vocab
        once = sizes.length * (reads + width * writes) - (width - 1) * writes
        return rows * once * (3 if what == "training" else 1)
    model = our_transformer(sizes)
    batch, total = a_batch(sizes, rows, padded=True), 0
    for length, times in Counter((~batch.src_padding).sum(dim=1).tolist()).items():
        one = Batch(batch.src[:1, :length], batch.tgt[:1], batch.src_padding[:1, :length])
        with FlopCounterMode(display=False) as counter:
            if what == "training":
                model(one).sum().backward()
            else:
                with torch.no_grad():
                    steps(model, one.src, one.src_padding, sizes.length, width)
        total += times * counter.get_total_flops()
    return total


def steps(model: EncoderDecoder, src: Tensor, padding: Tensor, length: int, width: int) -> None:
    """What a search computes: the encoder and a first step once, then a step for each token of `width` outputs."""
    state = model.decoder.init_state(model.encoder(src, padding))
    token = torch.full((len(src),), Vocab.bos)
    for t in range(length):
        _, state, _ = model.decoder.step(token, state)
        if t == 0:
            rows = torch.arange(len(src)).repeat_interleave(width)
            token, state = token[rows], reorder(state, rows)


def check_training(found: list[Peer], sizes: Sizes, padded: bool) -> None:
    """Equal size, and from equal weights an equal loss."""
    batch = a_batch(sizes, sizes.batch, padded=padded)
    counts = {p.name: sum(w.numel() for w in p.model.parameters() if w.requires_grad) for p in found if p.model}
    losses = {p.name: p.loss(batch).item() for p in found if p.loss}
    for name, count in counts.items():
        if abs(count - counts["ours"]) > sizes.vocab:           # Marian and JoeyNMT learn no bias for the symbols
            raise Unequal(f"{name} has {count:,} parameters, ours {counts['ours']:,}")
    for name, loss in losses.items():
        if abs(loss - losses["ours"]) > 1e-3 * losses["ours"]:
            raise Unequal(f"{name} begins with the loss {loss}, ours with {losses['ours']}, with the same weights")


def check_output(outputs: dict[str, Tensor], sizes: Sizes, rows: int) -> None:
    """All write as many tokens, and, but for near ties that rounding decides, the same ones."""
    expected = outputs["ours"]
    for name, ids in outputs.items():
        if ids.shape != (rows, sizes.length) or (ids == Vocab.eos).any():
            raise Unequal(f"{name} writes {tuple(ids.shape)} tokens in place of {(rows, sizes.length)}, or stops early")
        if (share := (ids == expected).all(dim=1).double().mean().item()) < 0.9:
            raise Unequal(f"{name} writes what ours does for {share:.0%} of the sources, with the same weights")


def measure(sizes: Sizes, kind: str, seconds: float, side: int = SIDE) -> tuple[list[dict], list[Peer], dict[str, str]]:
    """All figures of one group of systems: a dictionary for each, with every time."""
    padded = kind != "GRU"
    found, missing = peers(sizes, kind)
    check_training(found, sizes, padded)
    for peer in found:
        if peer.model:
            peer.model.eval()
    batch, figures = a_batch(sizes, sizes.batch, padded=padded), []

    def figure(what: str, count: int, jobs: dict[str, Callable], flops: int) -> None:
        times = interleaved(jobs | {"product": product(side)}, seconds * SHARE[what])
        figures.append({"what": what, "count": count, "operations": flops,
                        "times": {name: [float(f"{t:.4g}") for t in row] for name, row in times.items()}})  # fmt: skip
        print(f"  {what}, {len(times['ours'])} rounds", flush=True)
        for name in times:
            middle, low, high = ratio(figures[-1], name)
            took = 1000 * float(np.median(times[name]))
            print(f"    {name:28} {took:9.2f} ms, ours {middle:.2f} times as fast ({low:.2f}–{high:.2f})", flush=True)

    for rows in ROWS:
        sources = a_batch(sizes, rows, padded=padded)
        asked = sources.src, sources.src_padding, sizes.length
        greedy = {p.name: partial(p.greedy, *asked) for p in found}
        beam = {p.name: partial(p.beam, *asked, WIDTH) for p in found if p.beam}
        for name, width, jobs in (("greedy", 1, greedy), (f"beam {WIDTH}", WIDTH, beam)):
            work = operations(sizes, kind, "decoding", rows, width)
            with torch.inference_mode():
                check_output({system: job() for system, job in jobs.items()}, sizes, rows)
                figure(f"{name}, {rows}", rows, jobs, work)

    jobs = {}
    for peer in found:
        if peer.loss:
            peer.model.train()
            optimizer = torch.optim.Adam(peer.model.parameters(), lr=1e-4)
            jobs[peer.name] = lambda p=peer, o=optimizer: train_step(p.model, batch, o, lambda _, b: p.loss(b))
            jobs[peer.name]()
    figure("training", int((batch.tgt[:, 1:] != Vocab.pad).sum()), jobs,
           operations(sizes, kind, "training", sizes.batch))  # fmt: skip
    return figures, found, missing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=7.0, help="for a figure, about (default: 7)")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, to try the command; nothing is recorded")
    parser.add_argument("--record", type=Path, default=RECORD, help="where the result goes (default: %(default)s)")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message="The PyTorch API of nested tensors")
    torch.set_num_threads(1)
    quiet()
    load, start = os.getloadavg()[0], time.perf_counter()
    if load > 0.5 and not arguments.tiny:
        print(f"warning: other programs are running here (load {load:.1f}); on idle cores the spread is smaller")
    groups = {}
    for name, sizes in (TINY if arguments.tiny else SIZES).items():
        print(name, sizes._asdict(), flush=True)
        kind, side = "GRU" if name == "GRU" else "Transformer", 32 if arguments.tiny else SIDE
        figures, found, missing = measure(sizes, kind, arguments.seconds, side)
        for absent, why in missing.items():
            print(f"  {absent}: {why}")
        count = sum(weights.numel() for weights in found[0].model.parameters())
        groups[name] = {"sizes": sizes._asdict(), "parameters": count, "versions": versions(found), "missing": missing,
                        "notes": {p.name: p.note for p in found if p.note}, "figures": figures}  # fmt: skip
    made = provenance("", time.perf_counter() - start)
    made |= {"command": "make benchmarks", "load": round(load, 2), "product": 2 * SIDE**3}
    del made["source"]
    if arguments.tiny:
        sys.exit()
    arguments.record.write_text(json.dumps({"provenance": made, "groups": groups}, indent=1) + "\n")
    print(f"{made['seconds']:.0f} s; the result is in {arguments.record}")


if __name__ == "__main__":
    main()
