"""Properties of what the chapter builds. Sizes are coprime, so that a transposed axis cannot pass."""

import itertools
import math
import random

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from seq2seq.kit.corpora import Example
from seq2seq.sequences import (
    Batch,
    Classifier,
    ElmanRNN,
    Reader,
    Vocab,
    batches,
    collate,
    last_state,
    masked_mean,
    numericalise,
    pad,
    training_batches,
)

V, LABELS, WIDTH, HIDDEN = 17, 11, 5, 14


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def rows(*lengths):
    """Random source ids of these lengths, without special symbols -> src (B, S), src_padding (B, S)."""
    rng = random.Random(sum(lengths))
    batch = collate([([rng.randrange(4, V) for _ in range(n)], []) for n in lengths])
    return batch.src, batch.src_padding


def padding_of(*lengths, width):
    return torch.arange(width) >= torch.tensor(lengths)[:, None]


# Vocabulary

def test_special_symbols_come_first():
    vocab = Vocab("cat")
    assert (vocab.pad, vocab.bos, vocab.eos, vocab.unk) == (0, 1, 2, 3)
    assert vocab.encode("cat") == [4, 5, 6] and len(vocab) == 7


def test_decode_undoes_encode_and_stops_at_eos():
    vocab = Vocab("cat")
    assert vocab.decode([1, *vocab.encode("tact"), 2, 4, 0, 0]) == list("tact")
    assert vocab.decode(torch.tensor([1, 4, 2, 0])) == ["c"]
    assert vocab.decode([]) == []


def test_what_is_unknown():
    vocab = Vocab("cat")
    assert vocab.encode("cot") == [4, 3, 6]
    assert vocab.decode([3]) == ["<unk>"]
    with pytest.raises(KeyError, match="'o'"):
        vocab.encode("cot", strict=True)
    with pytest.raises(IndexError, match="7"):
        vocab.decode([7])
    with pytest.raises(IndexError):
        vocab.decode([-1])


@pytest.mark.parametrize("symbols", ["cac", ["a", "<eos>"]])
def test_a_symbol_given_twice_is_refused(symbols):
    with pytest.raises(ValueError, match="once"):
        Vocab(symbols)


# Batches

def test_collate():
    batch = collate([([4, 5, 6], [7]), ([], [8, 9, 4, 5])])
    assert batch.src.tolist() == [[4, 5, 6, 2], [2, 0, 0, 0]]
    assert batch.tgt.tolist() == [[1, 7, 2, 0, 0, 0], [1, 8, 9, 4, 5, 2]]
    assert batch.src_padding.tolist() == [[False] * 4, [False, True, True, True]]
    assert len(batch) == 2 and batch.to("meta").src.device.type == "meta"


@pytest.mark.parametrize("make", [
    lambda: collate([]),
    lambda: pad([]),
    lambda: next(training_batches([], 3)),
    lambda: Batch(torch.zeros(0, 3, dtype=torch.long), torch.zeros(0, 2, dtype=torch.long), torch.zeros(0, 3) > 0),
    lambda: Batch(torch.ones(3, 5, dtype=torch.long), torch.ones(2, 7, dtype=torch.long), torch.zeros(3, 5) > 0),
    lambda: Batch(torch.ones(3, 5, dtype=torch.long), torch.ones(3, 7, dtype=torch.long), torch.zeros(5, 3) > 0),
    lambda: Batch(torch.ones(3, 5, dtype=torch.long), torch.ones(3, 7, dtype=torch.long), torch.zeros(3, 5)),
])
def test_bad_batches_are_refused(make):
    with pytest.raises(ValueError, match=r"\w{3}"):
        make()


def test_numericalise_takes_the_first_target_and_knows_unknowns():
    examples = [Example(("c", "x"), (("K",), ("S",)))]
    assert numericalise(examples, Vocab("c"), Vocab(["S", "K"])) == [([4, 3], [5])]


def test_batches_are_one_pass_in_order():
    pairs = [([4 + i % 7], [4 + i % 5]) for i in range(11)]
    seen = [row for batch in batches(pairs, 3) for row in batch.src[:, 0].tolist()]
    assert seen == [source[0] for source, _ in pairs]


def test_training_batches_hold_every_pair_once_an_epoch_and_little_padding():
    rng = random.Random(0)
    pairs = [([4] * rng.randrange(1, 20), [4 + i]) for i in range(101)]
    stream = training_batches(pairs, 7, seed=3)
    epochs = [[next(stream) for _ in range(math.ceil(101 / 7))] for _ in range(2)]
    orders = [[i for batch in epoch for i in batch.tgt[:, 1].tolist()] for epoch in epochs]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(4, 105))
    assert orders[0] != orders[1]
    padding = [sum(b.src_padding.sum().item() for b in some) for some in (epochs[0], batches(pairs, 7))]
    assert padding[0] < padding[1] / 3
    again = training_batches(pairs, 7, seed=3)
    assert all(torch.equal(next(again).src, batch.src) for batch in epochs[0])


# Masks

def test_masked_mean_leaves_padding_out_and_survives_rows_of_nothing():
    x = torch.randn(3, 5, 7, requires_grad=True)
    mean = masked_mean(x, padding_of(5, 2, 0, width=5))
    assert torch.allclose(mean[0], x[0].mean(dim=0)) and torch.allclose(mean[1], x[1, :2].mean(dim=0))
    assert (mean[2] == 0).all()
    mean.sum().backward()
    assert (x.grad[1, 2:] == 0).all() and (x.grad[2] == 0).all() and x.grad.isfinite().all()


def test_padding_may_hold_anything():
    x, padding = torch.randn(2, 5, 3), padding_of(5, 2, width=5)
    spoiled = x.masked_fill(padding[..., None], torch.nan)
    assert torch.equal(masked_mean(x, padding), masked_mean(spoiled, padding))
    assert torch.equal(last_state(x, padding), last_state(spoiled, padding))


def test_last_state():
    x = torch.randn(4, 5, 3)
    last = last_state(x, padding_of(5, 2, 1, 0, width=5))
    assert torch.equal(last, torch.stack([x[0, 4], x[1, 1], x[2, 0], torch.zeros(3)]))


# The recurrent loop

def as_torch(cell):
    theirs = nn.RNN(cell.W.in_features, cell.W.out_features, batch_first=True)
    theirs.load_state_dict({"weight_ih_l0": cell.W.weight, "bias_ih_l0": cell.W.bias,
                            "weight_hh_l0": cell.U.weight, "bias_hh_l0": torch.zeros_like(cell.W.bias)})
    return theirs


def test_the_loop_equals_torch_on_packed_rows():
    cell, x, lengths = ElmanRNN(3, 5), torch.randn(4, 7, 3), [7, 5, 3, 1]
    packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor(lengths), batch_first=True)
    states, final = as_torch(cell)(packed)
    expected, _ = nn.utils.rnn.pad_packed_sequence(states, batch_first=True)
    ours = cell(x, padding_of(*lengths, width=7))
    for row, length in enumerate(lengths):
        assert torch.allclose(ours[row, :length], expected[row, :length], atol=1e-6)
    assert torch.allclose(ours[:, -1], final[0], atol=1e-6)


def test_a_state_depends_on_no_later_letter():
    for cell in ("elman", "gru"):
        reader = Reader(V, WIDTH, HIDDEN, cell=cell)
        src, padding = rows(6, 5)
        changed = torch.cat([src[:, :4], src[:, 4:].flip(1)], dim=1)
        now, then = reader(src, padding), reader(changed, padding)
        assert torch.allclose(now[:, :4], then[:, :4]) and not torch.allclose(now[:, 4:], then[:, 4:])


# Models

def models():
    for cell in ("elman", "gru"):
        yield Classifier(V, LABELS, WIDTH, HIDDEN, cell=cell)


@pytest.mark.parametrize("index", range(2))
def test_padding_invariance(index):
    model = next(itertools.islice(models(), index, None))
    src, padding = rows(3, 7, 0, 1)
    together = model(src, padding)
    for row in range(4):
        n = int((~padding[row]).sum())
        alone = model(src[row : row + 1, :n], padding[row : row + 1, :n])[0]
        assert torch.allclose(alone, together[row], atol=1e-6)


@pytest.mark.parametrize("index", range(2))
def test_no_gradient_reaches_padding_and_no_nan_a_row_of_nothing(index):
    model = next(itertools.islice(models(), index, None))
    src, padding = rows(3, 5)
    padding = torch.cat([padding, torch.ones(1, 6, dtype=torch.bool)])
    src = torch.cat([src.masked_fill(padding[:2], 16), torch.full((1, 6), 16)])       # 16 only as padding
    src = src.where((src != 16) | padding, torch.tensor(15))
    logits = model(src, padding)
    assert logits.isfinite().all()
    logits.sum().backward()
    gradient = model.reader.embedding.weight.grad
    assert gradient.isfinite().all() and (gradient[16] == 0).all()
    states = model.reader(src, padding)
    assert (states[2] == 0).all()


@pytest.mark.parametrize("index", range(2))
def test_runs_on_the_meta_device(index):
    model = next(itertools.islice(models(), index, None)).to("meta")
    batch = collate([([4, 5, 6], [4, 5, 6]), ([7], [8])]).to("meta")
    logits = model(batch.src, batch.src_padding)
    loss = F.cross_entropy(logits, batch.tgt[:, 1])
    optimizer = torch.optim.Adam(model.parameters())
    loss.backward()
    optimizer.step()
    assert logits.shape[-1] == LABELS


def test_bad_models_and_ids_are_refused():
    src, padding = rows(3, 5)
    for arguments in ({"cell": "lstm"},):
        with pytest.raises(ValueError, match="cell must be"):
            Reader(V, **arguments)
    with pytest.raises(ValueError, match="vocabulary has 17"):
        Classifier(V, LABELS)(src + 20, padding)
    with pytest.raises(ValueError, match="src_padding"):
        Classifier(V, LABELS)(src, padding[:, 1:])
