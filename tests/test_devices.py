"""Every chapter's models, losses and training steps on another device, which is pretended: no GPU is needed.

Models, losses and classes are found in the modules of the library. A class or a loss that no case below trains fails
the tests: give it a case.
"""

import ast
import copy
import importlib
import inspect
import random
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from pretended import There, pretended  # noqa: F401
from torch import Tensor, nn

from seq2seq import ablation, alignment, attention, copying, exposure_bias, guided_attention, nonautoregressive
from seq2seq import rnn, sampling, sequence_labelling, sequences, teacher_forcing
from seq2seq.encoder_decoder import EncoderDecoder
from seq2seq.kit import device_of, seed_everything
from seq2seq.kit.training import train, train_step
from seq2seq.sequences import Batch, Vocab, collate, training_batches
from seq2seq.teacher_forcing import cross_entropy
from seq2seq.transformer import transformer_model

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = {path.stem: importlib.import_module(f"seq2seq.{path.stem}") for path in ROOT.glob("seq2seq/[a-z]*.py")}
WORDS = Vocab("abcdefghijk")
Loss = Callable[[nn.Module, Batch], Tensor]


class Case(NamedTuple):
    make: Callable[[], nn.Module]
    loss: Loss = cross_entropy
    waits: int = 0               # how often a step waits for the device
    meta: bool = True            # whether it can do without numbers
    same_length: bool = False    # whether targets are as long as their sources


def defined(kind: Callable[[object], bool]) -> dict[str, object]:
    """What the library's modules define and `kind` is true of, by module and name."""
    return {f"{stem}.{name}": value for stem, module in sorted(LIBRARY.items()) for name, value in vars(module).items()
            if getattr(value, "__module__", None) == module.__name__ and not name.startswith("_") and kind(value)}


def parameters(function: Callable) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(function).parameters)


def makes_a_model(function: object) -> bool:
    """Whether it returns an encoder–decoder and needs nothing but vocabularies."""
    if not inspect.isfunction(function) or inspect.signature(function).return_annotation is not EncoderDecoder:
        return False
    needed = [p for p in parameters(function).values() if p.default is p.empty]
    return bool(needed) and all(p.annotation is Vocab for p in needed)


def is_loss(value: object) -> bool:
    """Whether it is called with a model and a batch, and returns a tensor."""
    call = vars(value).get("__call__") if inspect.isclass(value) else value if inspect.isfunction(value) else None
    if call is None or inspect.signature(call).return_annotation is not Tensor:
        return False
    names = [name for name, p in parameters(call).items() if name != "self" and p.default is p.empty]
    return names == ["model", "batch"]


def found() -> dict[str, Case]:
    """The models that need nothing but vocabularies."""
    makers = defined(makes_a_model)
    return {name: Case(partial(make, *[WORDS] * sum(p.default is p.empty for p in parameters(make).values())))
            for name, make in makers.items()}  # fmt: skip


def directed(name: str) -> nn.Module:
    return guided_attention.directed_model(WORDS, WORDS, 6, 10, attention=guided_attention.ATTENTIONS[name])


def copies(system: str) -> nn.Module:
    return copying.copy_model(copying.CopyVocab(WORDS, WORDS), system, 6, 10)


def small() -> nn.Module:
    return attention.attention_model(WORDS, WORDS, 6, 10)


def around(encoder: nn.Module, **sizes: int) -> nn.Module:
    """A decoder for an encoder."""
    return EncoderDecoder(encoder, rnn.RNNDecoder(len(WORDS), 6, 10, **sizes))


class ElmanTagger(nn.Module):
    """The loop over a source, written out, with a label for each state."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.score = nn.Embedding(len(WORDS), 5), nn.Linear(7, len(WORDS))
        self.reader = sequences.ElmanRNN(5, 7)

    def forward(self, src: Tensor, src_padding: Tensor) -> Tensor:
        return self.score(self.reader(self.embedding(src), src_padding))


class WithGiven(EncoderDecoder):
    """Weights that are not computed, but given."""

    def forward(self, batch: Batch) -> Tensor:
        self.decoder.attention = alignment.Given(batch.src_padding.float())
        return super().forward(batch)


def given() -> nn.Module:
    model = small()
    return WithGiven(model.encoder, model.decoder)


def watched(model: nn.Module, batch: Batch) -> Tensor:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guided_attention, "device", lambda: device_of(model))
        return guided_attention.Watched(1.0, collate([([4, 5], [6])]))(model, batch)


def label_loss(model: nn.Module, batch: Batch) -> Tensor:
    return nn.functional.cross_entropy(model(batch.src, batch.src_padding), batch.tgt[:, 1])


V, NAR = len(WORDS), {"width": 12, "heads": 3, "layers": 1}
transformer = partial(transformer_model, WORDS, WORDS, 12, 3, 1)
CASES = found() | {
    "Classifier": Case(lambda: sequences.Classifier(V, V, 5, 7), label_loss),
    "Classifier, Elman": Case(lambda: sequences.Classifier(V, V, 5, 7, cell="elman"), label_loss),
    "ElmanRNN": Case(ElmanTagger, sequence_labelling.tag_loss, same_length=True),
    "Tagger": Case(lambda: sequence_labelling.Tagger(V, V, 5, 8), sequence_labelling.tag_loss, same_length=True),
    "bag and window": Case(lambda: teacher_forcing.build(WORDS, WORDS, positions=9, hidden_size=10)),
    **{f"context, {cell}": Case(partial(rnn.context_model, WORDS, WORDS, 6, 10, 2, 0.1, cell=cell)) for cell in ("rnn", "gru")},
    # The lengths of packed sequences have to be known on the CPU.
    "context, lstm": Case(partial(rnn.context_model, WORDS, WORDS, 6, 10, 2, 0.1, cell="lstm"), waits=24, meta=False),
    **{f"context, {how}": Case(partial(rnn.context_model, WORDS, WORDS, 6, 10, summary=how)) for how in ("mean", "max")},
    **{f"attention, {score}": Case(partial(attention.attention_model, WORDS, WORDS, 6, 10, attention=make))
       for score, make in attention.SCORES.items()},
    "endless": Case(small, sampling.endless_loss),
    "given weights": Case(given),
    **{f"directed, {name}": Case(partial(directed, name), guided_attention.guided_loss) for name in guided_attention.ATTENTIONS},
    # Every 50 steps it looks at a batch: a number is read. (`device` is the CPU here: see `watched`.)
    "Watched": Case(partial(directed, "content"), watched, waits=1, meta=False),
    **{f"Transformer, {norm}": Case(partial(transformer, norm=norm, dropout=0.1)) for norm in ("pre", "post")},
    "Transformer, learned positions": Case(partial(transformer, learned=True, tied=False)),
    "Transformer, smoothed": Case(transformer, ablation.smoothed(0.1)),
    "Transformer, fused": Case(lambda: importlib.import_module("seq2seq.cached_decoding").fuse(transformer())),
    **{f"deep, {wiring}": Case(partial(ablation.deep_model, WORDS, WORDS, 12, 3, 2, wiring=wiring)) for wiring in ablation.WIRINGS},
    **{f"deep without {part}": Case(partial(ablation.deep_model, WORDS, WORDS, 12, 3, 2, part=part)) for part in ablation.EXCHANGES},
    "NAT": Case(lambda: nonautoregressive.nat_model(WORDS, WORDS, **NAR, max_len=9), nonautoregressive.nat_loss),
    "NAT, masked": Case(lambda: nonautoregressive.nat_model(WORDS, WORDS, **NAR, max_len=9), nonautoregressive.cmlm_loss),
    "NAT, glancing": Case(lambda: nonautoregressive.nat_model(WORDS, WORDS, **NAR, max_len=9), nonautoregressive.glance_loss),
    # torch has no CTC without numbers
    "CTC": Case(lambda: nonautoregressive.ctc_model(WORDS, WORDS, **NAR), nonautoregressive.ctc_loss, meta=False),
    # The gate is remembered as a number.
    **{f"copies, {system}": Case(partial(copies, system), copying.CopyLoss(1.0), waits=2, meta=False) for system in copying.DECODERS},
    "counting": Case(partial(exposure_bias.follower, WORDS, 5, 7)),
    **{f"scheduled, {passes} passes": Case(small, exposure_bias.ScheduledSampling(lambda step: 0.5, passes=passes)) for passes in (0, 2)},
    # Candidates are lists of Python's.
    "minimum risk": Case(small, exposure_bias.minimum_risk, waits=1000, meta=False),
}


def pairs_for(case: Case) -> list[tuple[list[int], list[int]]]:
    """Words and what is learned from them: their letters, turned round."""
    draw = random.Random(0)
    sources = [[draw.randrange(4, V) for _ in range(draw.randrange(1, 7))] for _ in range(47)]
    return [(source, source[::-1] if case.same_length else source[::-1][: draw.randrange(1, 7)]) for source in sources]


def batch_for(case: Case) -> Batch:
    return next(training_batches(pairs_for(case), 5))


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.meta])
def test_a_training_step_needs_no_numbers(name):
    case = CASES[name]
    model = case.make().to("meta")
    value = train_step(model, batch_for(case).to("meta"), torch.optim.Adam(model.parameters()), case.loss)
    assert value.is_meta and value.shape == ()
    assert all(weights.grad is None or weights.grad.is_meta for weights in model.parameters())


@pytest.mark.parametrize("name", CASES)
def test_a_training_step_on_a_device_mixes_nothing_and_waits_rarely(name, pretended):  # noqa: F811
    case = CASES[name]
    seed_everything(0)
    here = case.make()
    model, batch = copy.deepcopy(here), batch_for(case)
    seed_everything(1)
    expected = train_step(here, batch, torch.optim.Adam(here.parameters()), copy.deepcopy(case.loss))
    with pretended() as device:
        model.to("meta")
        assert all(isinstance(weights, There) for weights in model.parameters())
        seed_everything(1)
        device.waits.clear()
        value = train_step(model, batch.to("meta"), torch.optim.Adam(model.parameters()), copy.deepcopy(case.loss))
        assert len(device.waits) <= case.waits, device.waits
        assert value.item() == pytest.approx(expected.item(), rel=1e-5), "another loss than on the CPU"
