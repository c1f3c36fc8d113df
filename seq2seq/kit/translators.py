"""Two translators of talks, English to Chinese, at the `full` budget: `make talks`. Hours on a GPU, and a download.

The translation sections of the chapters train on a few thousand messages, which are at hand everywhere. This is what
the same models come to on a corpus a hundred times as large. It has not been run so far: the goals are a published
course's.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from seq2seq.kit import budget, corpora, device, seed_everything
from seq2seq.kit.records import accelerator, commit
from seq2seq.kit.training import train

if TYPE_CHECKING:    # the chapters import the kit
    from seq2seq.encoder_decoder import EncoderDecoder
    from seq2seq.sequences import Batch, Vocab

SENTENCES = 256    # in a batch


class Recipe(NamedTuple):
    make: Callable[[Vocab, Vocab], EncoderDecoder]
    loss: Callable[[nn.Module, Batch], Tensor]
    steps: int
    lr: float
    warmup: int
    goal: float      # BLEU
    hours: float


def recipe(name: str) -> Recipe:
    """How the "RNN" or the "Transformer" is trained."""
    from seq2seq.ablation import smoothed
    from seq2seq.attention import attention_model
    from seq2seq.cached_decoding import fuse
    from seq2seq.transformer import transformer_model

    width, layers = budget.choose(smoke=(16, 1), cpu=(128, 2), full=(512, 6))
    steps = budget.steps(cpu=200, full=30_000 if name == "Transformer" else 15_000)
    if name == "Transformer":
        def make(english: Vocab, chinese: Vocab) -> EncoderDecoder:
            return fuse(transformer_model(english, chinese, width, 8, layers, 0.1))

        return Recipe(make, smoothed(0.1), steps, lr=7e-4, warmup=steps // 8, goal=25.0, hours=3)
    if name == "RNN":
        def make(english: Vocab, chinese: Vocab) -> EncoderDecoder:
            return attention_model(english, chinese, width // 2, width, dropout=0.3)

        return Recipe(make, smoothed(0.1), steps, lr=2e-3, warmup=steps // 8, goal=14.6, hours=1)
    raise ValueError(f"there is an RNN and a Transformer, no {name!r}")


def in_bfloat16(loss: Callable[[nn.Module, Batch], Tensor]) -> Callable[[nn.Module, Batch], Tensor]:
    """The same loss, computed in bfloat16 where the GPU has units for it."""
    def value(model: nn.Module, batch: Batch) -> Tensor:
        kind = batch.src.device.type
        able = kind == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        with torch.autocast(kind, torch.bfloat16, enabled=able):
            return loss(model, batch)

    return value


def translated(model: EncoderDecoder, examples: list, english: Vocab, chinese: Vocab, width: int) -> list[list[str]]:
    """What beam search finds for each English sentence."""
    from seq2seq.decoding import beam_search
    from seq2seq.sequences import batches

    order = sorted(range(len(examples)), key=lambda i: len(examples[i].source))
    pairs = [(english.encode(examples[i].source), []) for i in order]
    said: list[list[str]] = []
    for batch in batches(pairs, 64):
        batch = batch.to(device())
        found = beam_search(model, batch.src, batch.src_padding, corpora.LONGEST, width, alpha=1.0)
        said += [chinese.decode(best[0].ids) for best in found]
    in_order = dict(zip(order, said, strict=True))
    return [in_order[i] for i in range(len(examples))]


def trained(name: str, data: corpora.Splits, folder: Path) -> dict:
    """Train one translator, or go on where it was stopped; score it -> BLEU, hours, and what it was."""
    from seq2seq.bottleneck import bleu
    from seq2seq.rnn import vocabularies
    from seq2seq.sequences import numericalise, training_batches

    how, start = recipe(name), time.perf_counter()
    english, chinese = vocabularies(data.train, min_count=3)
    seed_everything(0)
    model = how.make(english, chinese).to(device())
    stream = training_batches(numericalise(data.train, english, chinese), SENTENCES, 0)
    history = train(model, stream, how.steps, loss=in_bfloat16(how.loss), lr=how.lr, warmup=how.warmup,
                    checkpoint=folder / f"{name}.pt", label=name)    # fmt: skip
    asked = budget.choose(smoke=3, cpu=200, full=2000)
    some = data.test[:: max(1, len(data.test) // asked)][:asked]
    said = translated(model, some, english, chinese, width=5)
    examples = [{"English": " ".join(e.source), "said": "".join(s), "gold": "".join(e.target)}
                for e, s in zip(some[:20], said, strict=False)]  # fmt: skip
    return {
        "model": name, "bleu": round(bleu(said, some), 2), "goal": how.goal, "hours": round(history.seconds / 3600, 4),
        "hours with search": round((time.perf_counter() - start) / 3600, 4), "most hours": how.hours,
        "parameters": sum(weights.numel() for weights in model.parameters()), "steps": how.steps,
        "loss": history.losses[-1], "sentences": len(data.train), "scored": len(some), "budget": budget.name(),
        "device": accelerator(device()) or "CPU", "torch": torch.__version__, "commit": commit(), "examples": examples,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", default=["RNN", "Transformer"], help="RNN or Transformer (default: both)")
    parser.add_argument("--out", type=Path, default=Path("_build/talks"))
    options = parser.parse_args()
    try:
        data = corpora.talks()
    except (corpora.MissingCorpus, corpora.DamagedCorpus) as error:
        sys.exit(str(error))
    print(data, flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    missed = []
    for name in options.names:
        found = trained(name, data, options.out)
        (options.out / f"{name}.json").write_text(json.dumps(found, indent=1, ensure_ascii=False))
        print(f"{name}: {found['bleu']} BLEU after {found['hours']:.2f} hours; the goal is {found['goal']} within "
              f"{found['most hours']}", flush=True)  # fmt: skip
        if found["bleu"] < found["goal"] or found["hours with search"] > found["most hours"]:
            missed.append(name)
    if missed and budget.name() == "full":
        sys.exit(f"short of the goal: {', '.join(missed)}")


if __name__ == "__main__":
    main()
