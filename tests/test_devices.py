"""Every chapter's models, losses and training steps on another device, which is pretended: no GPU is needed.

Models, losses and classes are found in the modules of the library. A class or a loss that no case below trains fails
the tests: give it a case.
"""

import ast
import copy
import importlib
import inspect
import itertools
import random
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from pretended import There, pretended  # noqa: F401
from torch import Tensor, nn

from seq2seq import (
    ablation,
    alignment,
    attention,
    copying,
    detection,
    exposure_bias,
    families,
    guided_attention,
    joining,
    multilabel,
    nonautoregressive,
    parsing,
    rnn,
    sampling,
    sequence_labelling,
    sequences,
    speech,
    tagging,
    teacher_forcing,
)
from seq2seq.encoder_decoder import EncoderDecoder
from seq2seq.kit import corpora, device_of, seed_everything
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
    lot: bool = False            # whether its loss depends on what a model draws by its probabilities
    batch: Callable[[], Batch] | None = None    # other batches than pairs of ids


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


def kept_inside() -> nn.Module:
    """A decoder kept inside a grammar of which every row of letters is."""
    letters = WORDS.symbols[4:]
    rows = [("", (one,)) for one in letters] + [("", pair) for pair in itertools.product(letters, repeat=2)]
    model = small()
    automaton = parsing.BracketAutomaton(rows, 1, "tokens", 20)
    return EncoderDecoder(model.encoder, parsing.ConstrainedDecoder(model.decoder, automaton, WORDS, 20))


def sets() -> Batch:
    """Targets that say nothing twice, one of them nothing at all."""
    return collate([([4, 5, 6], [7, 5, 9]), ([8], [4]), ([5, 4], []), ([9, 9], [5, 10, 4, 6, 8])])


def labeller() -> nn.Module:
    return around(multilabel.SumEncoder(len(WORDS), 10))


def sigmoids() -> nn.Module:
    return multilabel.SigmoidLabels(multilabel.SumEncoder(len(WORDS), 10, 0.1), len(WORDS), 10, 11, 0.1)


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
    model.decoder.attention = alignment.Given(torch.zeros(1, 1))
    return WithGiven(model.encoder, model.decoder)


def watched(model: nn.Module, batch: Batch) -> Tensor:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guided_attention, "device", lambda: device_of(model))
        return guided_attention.Watched(1.0, collate([([4, 5], [6])]))(model, batch)


def label_loss(model: nn.Module, batch: Batch) -> Tensor:
    return nn.functional.cross_entropy(model(batch.src, batch.src_padding), batch.tgt[:, 1])


def family(name: str) -> nn.Module:
    sizes = families.Sizes(V, 12, (3, 3), (1, 1), (20, 20), rows=20, buckets=8, far=12)
    return families.FamilyModel(families.FAMILIES[name], sizes)


def renumbered() -> nn.Module:
    model = family("bart")
    return families.writer(families.FamilyModel(model.switches, model.sizes, families.Ids(0, 1, 2)))


class AnySource(dict):
    """States for every source, made of its ids."""

    def __missing__(self, ids: tuple[int, ...]) -> Tensor:
        return torch.tensor(ids)[:, None] / torch.arange(1, 8)


def kept_states() -> nn.Module:
    """A decoder over states of every source that the cases draw, computed before."""
    return EncoderDecoder(joining.Kept(AnySource(), 7, 12), transformer().decoder)


def dialled() -> Batch:
    return speech.sound_batch(speech.dialled(3, 2, 4, seed=0), Vocab(speech.KEYS))


def whisper() -> nn.Module:
    decoder = speech.WhisperDecoder(16, 12, 3, 1, positions=9)
    return EncoderDecoder(speech.WhisperEncoder(12, 3, 1, positions=50, window=1.0), decoder)


V, NAR = len(WORDS), {"width": 12, "heads": 3, "layers": 1}
context = partial(rnn.context_model, WORDS, WORDS, 6, 10)
deep = partial(ablation.deep_model, WORDS, WORDS, 12, 3, 2)
nat = partial(nonautoregressive.nat_model, WORDS, WORDS, **NAR, max_len=9)
keys = partial(speech.recogniser, Vocab(speech.KEYS), hidden_size=10)
transformer = partial(transformer_model, WORDS, WORDS, 12, 3, 1)
CASES = found() | {
    "Classifier": Case(lambda: sequences.Classifier(V, V, 5, 7), label_loss),
    "Classifier, Elman": Case(lambda: sequences.Classifier(V, V, 5, 7, cell="elman"), label_loss),
    "ElmanRNN": Case(ElmanTagger, sequence_labelling.tag_loss, same_length=True),
    "Tagger": Case(lambda: sequence_labelling.Tagger(V, V, 5, 8), sequence_labelling.tag_loss, same_length=True),
    "WordTagger": Case(lambda: tagging.WordTagger(tagging.Lexicon("abcde", WORDS.symbols[4:]), V, 5, 8, letters=3),
                       sequence_labelling.tag_loss, same_length=True),
    "bag and window": Case(lambda: teacher_forcing.build(WORDS, WORDS, positions=9, hidden_size=10)),
    **{f"context, {cell}": Case(partial(context, layers=2, dropout=0.1, cell=cell)) for cell in ("rnn", "gru")},
    # The lengths of packed sequences have to be known on the CPU.
    "context, lstm": Case(partial(context, layers=2, dropout=0.1, cell="lstm"), waits=24, meta=False),
    **{f"context, {how}": Case(partial(context, summary=how)) for how in ("mean", "max")},
    **{f"attention, {score}": Case(partial(attention.attention_model, WORDS, WORDS, 6, 10, attention=make))
       for score, make in attention.SCORES.items()},
    "endless": Case(small, sampling.endless_loss),
    "given weights": Case(given),
    **{f"directed, {name}": Case(partial(directed, name), guided_attention.guided_loss)
       for name in guided_attention.ATTENTIONS},
    # Every 50 steps it looks at a batch: a number is read. (`device` is the CPU here: see `watched`.)
    "Watched": Case(partial(directed, "content"), watched, waits=1, meta=False),
    **{f"Transformer, {norm}": Case(partial(transformer, norm=norm, dropout=0.1)) for norm in ("pre", "post")},
    "Transformer, learned positions": Case(partial(transformer, learned=True, tied=False)),
    "Transformer, smoothed": Case(transformer, ablation.smoothed(0.1)),
    "Transformer, fused": Case(lambda: importlib.import_module("seq2seq.cached_decoding").fuse(transformer())),
    **{f"deep, {wiring}": Case(partial(deep, wiring=wiring)) for wiring in ablation.WIRINGS},
    **{f"deep without {part}": Case(partial(deep, part=part)) for part in ablation.EXCHANGES},
    "NAT": Case(nat, nonautoregressive.nat_loss),
    "NAT, masked": Case(nat, nonautoregressive.cmlm_loss),
    "NAT, glancing": Case(nat, nonautoregressive.glance_loss),
    # torch has no CTC without numbers.
    "CTC": Case(partial(nonautoregressive.ctc_model, WORDS, WORDS, **NAR), nonautoregressive.ctc_loss, meta=False),
    # The gate is remembered as a number.
    **{f"copies, {system}": Case(partial(copies, system), copying.CopyLoss(1.0), waits=2, meta=False)
       for system in copying.DECODERS},
    **{f"copies, {system}, the gate forgotten": Case(partial(copies, system)) for system in copying.DECODERS},
    "counting": Case(partial(exposure_bias.follower, WORDS, 5, 7)),
    **{f"scheduled, {passes} passes": Case(small, exposure_bias.ScheduledSampling(lambda step: 0.5, passes=passes))
       for passes in (0, 2)},
    **{f"family, {name}": Case(partial(family, name)) for name in families.FAMILIES},
    "family, renumbered": Case(renumbered),
    "letters hidden": Case(lambda: joining.Filler(transformer().encoder, V, 12), joining.filling_loss),
    "a decoder alone": Case(lambda: joining.Alone(transformer().decoder)),
    **{f"one stack, prefix={prefix}": Case(partial(joining.stack_model, WORDS, WORDS, 12, 3, 2, 0.1, prefix=prefix))
       for prefix in (False, True)},
    "one stack, the whole row": Case(partial(joining.stack_model, WORDS, WORDS, 12, 3, 2), joining.row_loss),
    # A source's states are looked up by its ids, which have to be known on the CPU.
    "states kept": Case(kept_states, waits=20, meta=False),
    # How long a recording is has to be known on the CPU.
    "speech, attention": Case(partial(keys, "attention"), waits=20, meta=False, batch=dialled),
    "speech, CTC": Case(partial(keys, "CTC"), nonautoregressive.ctc_loss, waits=20, meta=False, batch=dialled),
    "speech, Whisper": Case(whisper, waits=6, meta=False, batch=dialled),
    # What may follow is looked up in Python's tuples.
    "kept inside a grammar": Case(kept_inside, waits=100, meta=False),
    "sigmoids": Case(sigmoids, multilabel.sigmoid_nats, batch=sets),
    **{f"labels, {how}": Case(labeller, loss, batch=sets) for how, loss in multilabel.ORDERS.items()},
    "labels, nothing twice": Case(lambda: multilabel.once(labeller()), multilabel.sequence_nats, batch=sets),
    # Candidates are lists of Python's.
    "minimum risk": Case(small, exposure_bias.minimum_risk, waits=1000, meta=False, lot=True),
}


if "captioning" in LIBRARY:
    captioning = LIBRARY["captioning"]

    def hung() -> captioning.PictureBatch:
        """Two pictures of different sizes."""
        pixels = (torch.arange(3 * 13 * 11) % 97 / 97).view(3, 13, 11)
        src, padding = captioning.sheet([pixels, pixels[:, :6, :9]])
        return captioning.PictureBatch(src, torch.tensor([[1, 5, 7, 2], [1, 6, 2, 0]]), padding)

    CASES |= {f"captioning.{make.__name__}": Case(partial(make, WORDS, 12), batch=hung)
              for make in captioning.CAPTIONERS.values()}  # fmt: skip
    TONGUES = Vocab([*WORDS.ids, "<fr>"])
    CASES["captioning, spoken to"] = Case(
        lambda: captioning.speaking(captioning.conv_attention(TONGUES, 12), TONGUES, "fr"), batch=hung)  # fmt: skip

    def twins() -> captioning.PictureBatch:
        """One picture with two sets, so that no model is ever sure of it."""
        src, padding = captioning.sheet([(torch.arange(3 * 13 * 11) % 97 / 97).view(3, 13, 11)] * 2)
        return captioning.PictureBatch(src, torch.tensor([[1, 5, 7, 2], [1, 6, 2, 0]]), padding)

    CASES |= {f"pictures, {how}": Case(partial(multilabel.build_keyworder, how, WORDS, 0.0), loss, batch=twins)
              for how, loss in {"sigmoids": multilabel.sigmoid_nats, **multilabel.ORDERS}.items()}  # fmt: skip


def crowded() -> detection.SceneBatch:
    """Two scenes with different numbers of digits, as sets and as sequences."""
    scenes = detection.draw_scenes(corpora.digits().train[:20], 4)
    return detection.as_batch(scenes[:2], "reading")


# A matching is made by SciPy: the costs of each layer's answers, how many things there are, and the pairs back.
CASES |= {f"detection, {matching}": Case(partial(detection.set_detector, 12), detection.SetLoss(matching=matching),
                                         waits=8, meta=False, batch=crowded)
          for matching in detection.MATCHINGS}  # fmt: skip
CASES |= {f"detection, places{' alone' * alone}": Case(
              lambda alone=alone: detection.Detector(detection.GlobalEncoder(12, 3, 1, alone=alone),
                                                     detection.SetDecoder(10, 12, 3, 1)),
              detection.SetLoss(), waits=4, meta=False, batch=crowded) for alone in (False, True)}  # fmt: skip
CASES["detection, sequence"] = Case(partial(detection.sequence_detector, 12), detection.SequenceLoss(),
                                    batch=crowded)


def pairs_for(case: Case) -> list[tuple[list[int], list[int]]]:
    """Words and what is learned from them: their letters, turned round."""
    draw = random.Random(0)
    sources = [[draw.randrange(4, V) for _ in range(draw.randrange(1, 7))] for _ in range(47)]
    return [(source, source[::-1] if case.same_length else source[::-1][: draw.randrange(1, 7)]) for source in sources]


def batches_for(case: Case) -> Iterator[Batch]:
    return training_batches(pairs_for(case), 5) if case.batch is None else iter(case.batch, None)


def batch_for(case: Case) -> Batch:
    return next(batches_for(case))


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
        assert case.lot or value.item() == pytest.approx(expected.item(), rel=1e-5), "another loss than on the CPU"


def test_training_waits_for_a_device_once_in_twenty_steps(pretended):  # noqa: F811
    case = CASES["endless"]
    seed_everything(0)
    here = case.make()
    model, pairs = copy.deepcopy(here), pairs_for(case)
    expected = train(here, training_batches(pairs, 5), 40)
    with pretended() as device:
        model.to("meta")
        device.waits.clear()
        history = train(model, training_batches(pairs, 5), 40)
    assert device.waits == ["a tensor is copied back"] * 2
    assert history.losses == pytest.approx(expected.losses, rel=1e-3) and history.tokens == expected.tokens


# Nothing is forgotten


@cache
def trained_classes() -> set[type]:
    """The classes of all parts of all cases' models, and of what these inherit from."""
    models = [case.make() for case in CASES.values()]
    return {kind for model in models for part in model.modules() for kind in type(part).__mro__}


@pytest.mark.parametrize("name", defined(lambda value: inspect.isclass(value) and issubclass(value, nn.Module)))
def test_every_class_of_a_model_is_trained_above(name):
    module, _, class_name = name.partition(".")
    assert getattr(LIBRARY[module], class_name) in trained_classes(), f"give {name} a case in {__file__}"


@pytest.mark.parametrize("name", defined(is_loss))
def test_every_loss_is_learned_by_above(name):
    module, _, loss = name.partition(".")
    used = [case.loss for case in CASES.values()]
    value = getattr(LIBRARY[module], loss)
    if value is guided_attention.Watched:
        value = watched
    assert any(each is value or type(each) is value for each in used), f"give {name} a case in {__file__}"


# bfloat16


def in_bfloat16(loss: Loss) -> Loss:
    def value(model: nn.Module, batch: Batch) -> Tensor:
        with torch.autocast(batch.src.device.type, torch.bfloat16):
            return loss(model, batch)

    return value


@pytest.mark.parametrize("name", [name for name in CASES if name not in found()])
def test_in_bfloat16_a_model_learns_as_much(name):
    """The mean of the last losses, which is what most claims compare, within a few hundredths."""
    case, last = CASES[name], []
    for wrap in (lambda loss: loss, in_bfloat16):
        seed_everything(0)
        model = case.make()
        history = train(model, batches_for(case), 12, loss=wrap(copy.deepcopy(case.loss)), warmup=3)
        assert all(weights.grad is None or weights.grad.isfinite().all() for weights in model.parameters())
        assert all(weights.dtype == torch.float32 for weights in model.parameters())
        last.append(sum(history.losses[-4:]) / 4)
    assert last[1] == pytest.approx(last[0], rel=1.0 if case.lot else 0.03)


# Tensors that are made without saying where

MAKERS = {"arange", "as_tensor", "cartesian_prod", "empty", "eye", "from_numpy", "full", "linspace", "logspace",
          "normal", "ones", "rand", "randint", "randn", "randperm", "range", "scalar_tensor", "tensor", "tril_indices",
          "triu_indices", "zeros"}  # fmt: skip
# What is made on the CPU because it belongs there: data, tables that a model keeps, numbers that have been read. And
# what is called under `with device`.
ON_THE_CPU = {"sequences.pad", "transformer.sinusoids", "bottleneck.published_model", "copying.CopyVocab.table",
              "copying.generating", "copying.copy_study", "comparison.best_of_beam", "speech.mel_filters",
              "speech.clips_of", "speech.whisper_state", "families.position_rows",
              "captioning.ink", "captioning.sheet", "tagging.bio_moves", "tagging.word_moves", "detection.resized",
              "detection.by_components", "detection.as_batch", "detection.find_at_once",
              "joining.fill_bert"}  # fmt: skip


def made_without_a_device(tree: ast.AST, name: str) -> list[str]:
    """Calls of torch's makers without `device=` that no `.to(…)` follows, outside of constructors."""
    found, moved = [], set()

    def look(node: ast.AST, where: str) -> None:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            where = f"{where}.{node.name}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            of = node.func.value
            if node.func.attr in ("to", "type_as") and isinstance(of, ast.Call):
                moved.add(of)
            torchs = isinstance(of, ast.Name) and of.id == "torch" and node.func.attr in MAKERS
            if torchs and not any(each.arg == "device" for each in node.keywords) and node not in moved:
                found.append(f"{where}, line {node.lineno}: {ast.unparse(node)}")
        for child in ast.iter_child_nodes(node):
            look(child, where)

    look(tree, name)
    return [each for each in found if ".__init__," not in each]


@pytest.mark.parametrize("name", LIBRARY)
def test_tensors_are_made_where_they_are_needed(name):
    tree = ast.parse((ROOT / f"seq2seq/{name}.py").read_text("utf-8"))
    found = made_without_a_device(tree, name)
    assert [each for each in found if each.split(",")[0] not in ON_THE_CPU] == [], "say device=, or .to(…)"


def test_what_the_check_finds():
    code = """
class A:
    def __init__(self): self.w = torch.zeros(3)
    def f(self, x):
        torch.arange(3); torch.arange(3, device=x.device); torch.rand(3).to(x.device); x.new_zeros(3); np.zeros(3)
def g(): return 1 + torch.tensor([1])
"""
    assert made_without_a_device(ast.parse(code), "m") == [
        "m.A.f, line 5: torch.arange(3)", "m.g, line 6: torch.tensor([1])"]
