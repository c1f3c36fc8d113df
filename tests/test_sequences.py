"""Properties of what the chapter builds. Sizes are coprime, so that a transposed axis cannot pass."""

import itertools
import math
import random
from itertools import islice

import numpy as np
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
    check_ids,
    check_source,
    collate,
    fit,
    last_state,
    masked_mean,
    numericalise,
    pad,
    row_lengths,
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
    assert vocab.symbols[:4] == ["<pad>", "<bos>", "<eos>", "<unk>"]
    assert vocab.encode("cat") == [4, 5, 6] and len(vocab) == 7


def test_decode_undoes_encode_and_stops_at_eos():
    vocab = Vocab("cat")
    assert vocab.decode([1, *vocab.encode("tact"), 2, 4, 0, 0]) == list("tact")
    assert vocab.decode(torch.tensor([1, 4, 2, 0])) == ["c"]
    assert vocab.decode([4, 0, 1, 6]) == ["c", "t"] and vocab.decode([]) == []


def test_what_is_unknown():
    vocab = Vocab("cat")
    assert vocab.encode("cot") == [4, 3, 6]
    assert vocab.decode([3]) == ["<unk>"]
    with pytest.raises(KeyError, match="'o', 'x'") as error:
        vocab.encode("coxo", strict=True)
    assert "'c'" not in str(error.value) and str(error.value).count("'o'") == 1
    assert vocab.encode("cat", strict=True) == [4, 5, 6]
    for outside in (7, -1):
        with pytest.raises(IndexError, match=f"{outside}.*7 symbols"):
            vocab.decode([4, outside])


@pytest.mark.parametrize("symbol", Vocab.special)
def test_text_that_looks_like_a_special_symbol_is_unknown(symbol):
    vocab = Vocab("cat")
    assert vocab.encode(["c", symbol, "t"]) == [4, 3, 6]
    with pytest.raises(KeyError, match=symbol):
        vocab.encode([symbol], strict=True)


@pytest.mark.parametrize("symbols", ["cac", ["a", "<eos>"], ["<pad>"]])
def test_a_symbol_given_twice_is_refused(symbols):
    with pytest.raises(ValueError, match="once, not") as error:
        Vocab(symbols)
    assert "'a'" not in str(error.value)                     # which is there once


@pytest.mark.parametrize("symbols", [[1, 2], b"ab", [("a",)], [None], [math.nan], [["a"]], torch.tensor([4])])
def test_symbols_are_strings(symbols):
    with pytest.raises(TypeError, match="symbols are strings"):
        Vocab(symbols)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("tokens", [
    [4, 5], torch.tensor([4]), np.array([4]), Example(tuple("ca"), (("K",),)), b"ca", [None],
])  # fmt: skip
def test_tokens_are_strings(tokens, strict):
    with pytest.raises(TypeError, match="tokens are strings"):
        Vocab("cat").encode(tokens, strict)
    assert Vocab("cat").encode(np.array(["c", "t"]), strict) == [4, 6]


def test_a_text_is_read_letter_by_letter_only_where_every_symbol_is_one():
    assert Vocab("cat").encode("at") == [5, 6] and Vocab("").encode("at") == [3, 3]
    words = Vocab(["the", "a", "cat"])
    with pytest.raises(TypeError, match="'the cat' is a text"):
        words.encode("the cat")
    with pytest.raises(TypeError, match="split it into tokens"):
        numericalise([Example("a", (("K",),))], words, Vocab("K"))
    assert words.encode(["the", "cat"]) == [4, 6]


def test_ids_are_whole_numbers():
    vocab = Vocab("cat")
    for wrong in ([4.5], torch.tensor([4.0]), "4"):
        with pytest.raises(TypeError):
            vocab.decode(wrong)
    for pairs in ([([4.5], [])], [([4], ["K"])]):
        with pytest.raises(TypeError):
            collate(pairs)
    assert collate([(np.array([4, 5]), torch.tensor([6]))]).src.tolist() == [[4, 5, 2]]
    assert pad([[], []]).dtype == pad([[4]]).dtype == torch.int64


# Batches

@pytest.mark.parametrize("kind", [
    list, tuple, iter, np.array, torch.tensor,
    lambda rows: (iter(row) for row in rows), lambda rows: map(np.array, rows),
])  # fmt: skip
def test_rows_of_every_kind_are_padded(kind):
    assert pad(kind([[4, 5], [6, 7]])).tolist() == [[4, 5], [6, 7]]
    with pytest.raises(ValueError, match="at least one row"):
        pad(kind([]))


def test_pairs_may_come_from_a_generator():
    pairs = [([4, 5], [6]), ([7], [8, 9])]
    again = collate(pair for pair in pairs)
    assert torch.equal(again.src, collate(pairs).src) and torch.equal(again.tgt, collate(pairs).tgt)
    with pytest.raises(ValueError, match="at least one pair"):
        collate(iter([]))


def test_collate():
    batch = collate([([4, 5, 6], [7]), ([], [8, 9, 4, 5])])
    assert batch.src.tolist() == [[4, 5, 6, 2], [2, 0, 0, 0]]
    assert batch.tgt.tolist() == [[1, 7, 2, 0, 0, 0], [1, 8, 9, 4, 5, 2]]
    assert batch.src_padding.tolist() == [[False] * 4, [False, True, True, True]]
    assert len(batch) == 2 and batch.src.dtype == batch.tgt.dtype == torch.int64
    moved = batch.to("meta")
    assert {moved.src.device.type, moved.tgt.device.type, moved.src_padding.device.type} == {"meta"}


def ones(*shape):
    return torch.ones(shape, dtype=torch.long)


SRC, TGT, PADDING = ones(3, 5), ones(3, 7), torch.zeros(3, 5, dtype=torch.bool)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: collate([]), "at least one pair"),
    (lambda: pad([]), "at least one row"),
    (lambda: next(training_batches([], 3)), "training needs pairs"),
    (lambda: next(training_batches([([4], [5])], 0)), "batch_size"),
    (lambda: next(training_batches([([4], [5])], -1)), "batch_size"),
    (lambda: next(training_batches([([4], [5])], 3, pool=0)), "pool"),
    (lambda: list(batches([([4], [5])], -2)), "at least one pair, not -2"),
    (lambda: list(batches([], 0)), "at least one pair, not 0"),
    (lambda: Batch(ones(0, 3), ones(0, 2), torch.zeros(0, 3) > 0), "empty"),
    (lambda: Batch(ones(5), TGT, PADDING[0]), r"not \(B, S\)"),
    (lambda: Batch(SRC, ones(2, 7), PADDING), "3 sources cannot go with targets"),
    (lambda: Batch(SRC, ones(3), PADDING), "3 sources cannot go with targets"),
    (lambda: Batch(SRC, TGT, PADDING.T), "src_padding must be boolean"),
    (lambda: Batch(SRC, TGT, PADDING.float()), "src_padding must be boolean"),
    (lambda: Batch(SRC.float(), TGT, PADDING), "not torch.float32"),
    (lambda: Batch(SRC, TGT.double(), PADDING), "not torch.float64"),
    (lambda: Batch(SRC, TGT > 0, PADDING), "not torch.bool"),
    (lambda: Batch(SRC, TGT * torch.tensor([[1], [1], [0]]), PADDING), "only padding"),
    (lambda: Batch(SRC, TGT[:, :1], PADDING), "only padding"),
    (lambda: Batch(SRC, TGT + torch.tensor([[0], [1], [0]]), PADDING), "does not begin with BOS"),
    (lambda: Batch(SRC, torch.tensor([[0, 1, 4]] * 3), PADDING), "does not begin with BOS"),
    (lambda: Batch(SRC, torch.tensor([[1, 4, 2], [1, 0, 2], [1, 2, 0]]), PADDING), "in a target a symbol follows"),
    (lambda: collate([([4], [4, 0, 5])]), "in a target a symbol follows"),
    (lambda: Batch(SRC, torch.tensor([[1, 4], [1, 0], [1, 4]]), PADDING), "only padding"),
])  # fmt: skip
def test_bad_batches_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("mask", [
    [True, False, False], [False, True, False], [True, True, False], [True, False, True],
])  # fmt: skip
def test_padding_on_the_left_and_holes_are_refused(mask):
    src, padding = ones(2, 3), torch.tensor([[False, False, True], mask])
    for door in (check_source, Reader(V), Classifier(V, LABELS), lambda *ids: Batch(ids[0], ones(2, 3), ids[1])):
        with pytest.raises(ValueError, match="in row 1 a symbol follows padding"):
            door(src, padding)


def test_a_mask_turned_around_is_refused_whatever_the_lengths():
    for lengths in ([3, 3], [3, 2], [1, 3], [1, 1]):
        src, padding = rows(*lengths)
        for door in (check_source, Reader(V), lambda *ids: Batch(ids[0], ones(2, 3), ids[1])):
            door(src, padding)
            with pytest.raises(ValueError, match="Mask turned around"):
                door(src, ~padding)


def test_every_mask_that_ends_in_padding_is_accepted():
    check_source(ones(4, 3), padding_of(3, 2, 1, 0, width=3))
    check_source(ones(4, 3).to("meta"), padding_of(3, 2, 1, 0, width=3).to("meta"))
    check_source(ones(1, 1), padding_of(1, width=1))


def test_int32_is_accepted():
    batch = collate([([4, 5], [6]), ([7], [8, 9])])
    small = Batch(batch.src.int(), batch.tgt.int(), batch.src_padding)
    assert small.src.dtype == small.tgt.dtype == torch.int64
    assert torch.equal(small.src, batch.src) and torch.equal(small.tgt, batch.tgt)
    model = Classifier(V, LABELS)
    assert torch.equal(model(batch.src.int(), batch.src_padding), model(batch.src, batch.src_padding))


def test_check_ids_knows_both_ends_of_a_vocabulary():
    check_ids(torch.tensor([0, 16]), 17)
    check_ids(ones(3, 0), 17)
    check_ids(torch.tensor([17]).to("meta"), 17)
    for ids in ([-1, 4], [4, 17]):
        with pytest.raises(ValueError, match=f"from {ids[0]} to {ids[1]}, but this vocabulary has 17"):
            check_ids(torch.tensor(ids), 17)
    with pytest.raises(ValueError, match="int16"):
        check_ids(torch.tensor([4]).short(), 17)


def test_numericalise_takes_the_first_target_and_knows_unknowns():
    examples = [Example(("c", "x"), (("K",), ("S",)))]
    assert numericalise(examples, Vocab("c"), Vocab(["S", "K"])) == [([4, 3], [5])]


def test_batches_are_one_pass_in_order():
    pairs = [([4 + i % 7], [4 + i % 5]) for i in range(11)]
    made = list(batches(pairs, 3))
    assert [len(batch) for batch in made] == [3, 3, 3, 2]
    assert [row for batch in made for row in batch.src[:, 0].tolist()] == [source[0] for source, _ in pairs]
    assert len(list(batches(pairs, 1))) == 11


def epoch(stream, n):
    return [next(stream) for _ in range(n)]


def test_training_batches_hold_every_pair_once_an_epoch_and_little_padding():
    rng = random.Random(0)
    pairs = [([4] * rng.randrange(1, 20), [4 + i]) for i in range(101)]
    before = list(pairs)
    stream = training_batches(pairs, 7, seed=3)
    epochs = [epoch(stream, math.ceil(101 / 7)) for _ in range(2)]
    orders = [[i for batch in each for i in batch.tgt[:, 1].tolist()] for each in epochs]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(4, 105))
    assert orders[0] != orders[1]
    padding = [sum(b.src_padding.sum().item() for b in some) for some in (epochs[0], batches(pairs, 7))]
    assert padding[0] < padding[1] / 3
    lengths = [batch.src.shape[1] for batch in epochs[0]]
    assert lengths != sorted(lengths)                                    # batches are not in order of length
    assert pairs == before                                               # the reader's list is not shuffled


def test_training_batches_follow_their_seed():
    pairs = [([4] * (1 + i % 5), [4 + i]) for i in range(60)]

    def order(**options):
        return [batch.tgt[:, 1].tolist() for batch in islice(training_batches(pairs, 7, **options), 9)]

    assert order(seed=3) == order(seed=3) != order(seed=4)
    assert order() == order(seed=0, pool=50)
    assert len(next(training_batches(pairs, 1, pool=1))) == 1            # the smallest there is


def test_only_a_pool_is_sorted_by_length_and_targets_decide_between_equal_sources():
    pairs = [([4] * (1 + i % 20), [4]) for i in range(100)]
    first = next(training_batches(pairs, 10, pool=1))                    # a pool of one batch: any ten pairs
    assert len(row_lengths(first.src_padding).unique()) > 3
    pairs = [([4], [5] * (1 + i % 10)) for i in range(100)]
    for batch in islice(training_batches(pairs, 10), 10):
        assert len((batch.tgt != 0).sum(dim=1).unique()) == 1
    batches_of_one_length = islice(training_batches([([4] * (1 + i % 10), [4]) for i in range(100)], 10), 10)
    assert all(len(row_lengths(batch.src_padding).unique()) == 1 for batch in batches_of_one_length)


# Masks

def test_row_lengths():
    assert row_lengths(padding_of(5, 2, 0, width=5)).tolist() == [5, 2, 0]
    assert row_lengths(padding_of(5, 2, 0, width=5).int()).tolist() == [5, 2, 0]


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
    assert set(dict(cell.named_parameters())) == {"W.weight", "W.bias", "U.weight"}


@pytest.mark.parametrize("cell", ["elman", "gru"])
def test_a_state_depends_on_every_earlier_symbol_and_on_no_later_one(cell):
    reader = Reader(V, WIDTH, HIDDEN, cell=cell)
    src, padding = rows(6, 5)
    for t in range(5):
        changed = src.clone()
        changed[:, t] = 4 + (src[:, t] - 3) % (V - 4)
        now, then = reader(src, padding), reader(changed, padding)
        assert torch.equal(now[:, :t], then[:, :t])
        assert ((now - then)[:, t:5].abs() > 1e-9).any(dim=-1).all()


# Models

CELLS = ["elman", "gru"]


@pytest.mark.parametrize("cell", CELLS)
def test_padding_invariance(cell):
    model = Classifier(V, LABELS, WIDTH, HIDDEN, cell=cell)
    src, padding = rows(3, 7, 0, 1)
    together, states = model(src, padding), model.reader(src, padding)
    for row in range(4):
        n = int((~padding[row]).sum())
        alone = src[row : row + 1, :n], padding[row : row + 1, :n]
        assert torch.allclose(model(*alone)[0], together[row], atol=1e-6)
        assert torch.allclose(model.reader(*alone)[0], states[row, :n], atol=1e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_no_gradient_reaches_padding_and_no_nan_a_row_of_nothing(cell):
    model = Classifier(V, LABELS, WIDTH, HIDDEN, cell=cell)
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
    assert (states[padding] == 0).all()


@pytest.mark.parametrize("cell", CELLS)
def test_runs_on_the_meta_device(cell):
    model = Classifier(V, LABELS, WIDTH, HIDDEN, cell=cell).to("meta")
    batch = collate([([4, 5, 6], [4]), ([7], [8])]).to("meta")
    logits = model(batch.src, batch.src_padding)
    F.cross_entropy(logits, batch.tgt[:, 1]).backward()
    torch.optim.Adam(model.parameters()).step()
    assert logits.shape == (2, LABELS)


def test_sizes():
    def size(model):
        return sum(p.numel() for p in model.parameters())

    assert size(Reader(V, 3, 5, cell="elman")) == V * 3 + (3 * 5 + 5 * 5 + 5)
    assert size(Reader(V, 3, 5, cell="gru")) == V * 3 + 3 * (3 * 5 + 5 * 5 + 2 * 5)
    assert size(Reader(V)) == size(Reader(V, 32, 128, cell="gru"))
    assert size(Classifier(V, LABELS)) == size(Reader(V)) + (128 + 1) * LABELS
    assert Classifier(V, LABELS, 3, 5, cell="elman").reader.embedding.weight.shape == (V, 3)


def test_bad_models_and_ids_are_refused():
    src, padding = rows(3, 5)
    with pytest.raises(ValueError, match="'elman' or 'gru', not 'lstm'"):
        Reader(V, cell="lstm")
    for size in (0, -1):
        for name in ("vocab_size", "labels", "width", "hidden_size"):
            with pytest.raises(ValueError, match=f"{name} must be at least 1, not {size}"):
                Classifier(**{"vocab_size": V, "labels": LABELS} | {name: size})
    with pytest.raises(TypeError, match="'Vocab' object"):
        Reader(Vocab("cat"))
    with pytest.raises(ValueError, match="vocabulary has 17"):
        Classifier(V, LABELS)(src + 20, padding)
    with pytest.raises(ValueError, match="float32"):
        Classifier(V, LABELS)(src.float(), padding)
    with pytest.raises(ValueError, match="src_padding"):
        Classifier(V, LABELS)(src, padding[:, 1:])


# Training

def loss_of(model, batch):
    return F.cross_entropy(model(batch.src, batch.src_padding), batch.tgt[:, 1])


def length_pairs():
    """A word of 1 to 5 symbols, labelled with its length."""
    rng = random.Random(0)
    return [([rng.randrange(4, V) for _ in range(n)], [4 + n]) for n in rng.choices(range(1, 6), k=400)]


def test_fit_learns_and_follows_its_seed():
    pairs = length_pairs()

    def run(seed=0, steps=60):
        torch.manual_seed(1)
        model = Classifier(V, LABELS, WIDTH, 16)
        return model, fit(model.eval(), loss_of, pairs, steps, seed)

    model, losses = run()
    assert len(losses) == 60 and losses[-1] < losses[0] - 0.5 and model.training
    assert run()[1] == losses and run(seed=1)[1] != losses
    batch = next(training_batches(pairs, 128, 0))
    torch.manual_seed(1)
    assert losses[0] == pytest.approx(loss_of(Classifier(V, LABELS, WIDTH, 16), batch).item(), rel=1e-5)


@pytest.mark.parametrize("steps", [None, 2.5, "3"])
def test_steps_are_a_whole_number(steps):
    with pytest.raises(TypeError):
        fit(Classifier(V, LABELS), loss_of, length_pairs(), steps)


@pytest.mark.parametrize(("slope", "length"), [(100, 1.0), (0.25, 0.25)])
def test_fit_clips_the_gradient_and_lets_the_steps_shrink_to_nothing(monkeypatch, slope, length):
    model, norms, places = nn.Linear(1, 1, bias=False), [], []
    step = torch.optim.Adam.step

    def watched(optimizer, *arguments):
        norms.append(model.weight.grad.norm().item())
        places.append(model.weight.item())
        return step(optimizer, *arguments)

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    fit(model, lambda model, batch: slope * model.weight.sum(), [([4], [5])], 8)
    assert norms == pytest.approx([length] * 8, rel=1e-4)          # clipped, and not added up over steps
    walked = [a - b for a, b in itertools.pairwise([*places, model.weight.item()])]
    assert walked == pytest.approx([6e-3 * (1 - i / 8) for i in range(8)], rel=1e-2)
