"""Properties of what the chapter builds. Sizes are coprime, so that a transposed axis cannot pass."""

import itertools
import random

import pytest
import torch
from rapidfuzz.distance import Levenshtein
from torch import nn
from torch.nn import functional as F

from seq2seq.sequence_labelling import Tagger, edit_distance, error_rates, token_accuracy, turned
from seq2seq.sequences import Vocab, collate

V, LABELS, WIDTH, HIDDEN = 17, 11, 5, 14
KINDS = [("elman", 1), ("elman", 2), ("gru", 1), ("gru", 2)]


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


# Reading both ways

def test_turned_is_its_own_inverse_and_leaves_padding_alone():
    x, padding = torch.randn(3, 5, 7), padding_of(5, 3, 0, width=5)
    back = turned(x, padding)
    assert torch.equal(back[1, :3], x[1, :3].flip(0)) and torch.equal(back[1, 3:], x[1, 3:])
    assert torch.equal(turned(back, padding), x)


def test_both_ways_equals_torch_bidirectional_gru_on_packed_rows():
    tagger = Tagger(V, LABELS, WIDTH, HIDDEN, cell="gru", directions=2)
    forwards, backwards = tagger.readers
    backwards.embedding.load_state_dict(forwards.embedding.state_dict())
    theirs = nn.GRU(WIDTH, HIDDEN // 2, batch_first=True, bidirectional=True)
    weights = dict(forwards.cell.named_parameters()) | {
        f"{name}_reverse": value for name, value in backwards.cell.named_parameters()}
    theirs.load_state_dict(weights)
    src, padding = rows(2, 6, 0)
    packed = nn.utils.rnn.pack_padded_sequence(
        forwards.embedding(src), (~padding).sum(dim=1), batch_first=True, enforce_sorted=False)
    expected, _ = nn.utils.rnn.pad_packed_sequence(theirs(packed)[0], batch_first=True)
    assert torch.allclose(tagger(src, padding), tagger.score(expected), atol=1e-6)


# The tagger

def models():
    for cell, directions in KINDS:
        yield Tagger(V, LABELS, WIDTH, HIDDEN, cell=cell, directions=directions)


@pytest.mark.parametrize("index", range(4))
def test_padding_invariance(index):
    model = next(itertools.islice(models(), index, None))
    src, padding = rows(3, 7, 0, 1)
    together = model(src, padding)
    for row in range(4):
        n = int((~padding[row]).sum())
        alone = model(src[row : row + 1, :n], padding[row : row + 1, :n])[0]
        assert torch.allclose(alone, together[row, :n], atol=1e-6)


@pytest.mark.parametrize("index", range(4))
def test_no_gradient_reaches_padding_and_no_nan_a_row_of_nothing(index):
    model = next(itertools.islice(models(), index, None))
    src, padding = rows(3, 5)
    padding = torch.cat([padding, torch.ones(1, 6, dtype=torch.bool)])
    src = torch.cat([src.masked_fill(padding[:2], 16), torch.full((1, 6), 16)])       # 16 only as padding
    src = src.where((src != 16) | padding, torch.tensor(15))
    logits = model(src, padding)
    assert logits.isfinite().all()
    logits.sum().backward()
    for reader in model.readers:
        gradient = reader.embedding.weight.grad
        assert gradient.isfinite().all() and (gradient[16] == 0).all()


@pytest.mark.parametrize("index", range(4))
def test_runs_on_the_meta_device(index):
    model = next(itertools.islice(models(), index, None)).to("meta")
    batch = collate([([4, 5, 6], [4, 5, 6]), ([7], [8])]).to("meta")
    logits = model(batch.src, batch.src_padding)
    loss = F.cross_entropy(logits.flatten(0, 1), batch.tgt[:, 1:].flatten(), ignore_index=Vocab.pad)
    optimizer = torch.optim.Adam(model.parameters())
    loss.backward()
    optimizer.step()
    assert logits.shape[-1] == LABELS


def test_a_tagger_reads_the_target_under_the_source():
    batch = collate([([4, 5, 6], [7, 8, 9]), ([4], [5])])
    assert Tagger(V, LABELS)(batch.src, batch.src_padding).shape == (*batch.tgt[:, 1:].shape, LABELS)


def test_bad_models_are_refused():
    for arguments in ({"directions": 3}, {"hidden_size": 7, "directions": 2}):
        with pytest.raises(ValueError, match="directions must be"):
            Tagger(V, LABELS, **arguments)


# Measures

def test_edit_distance_equals_rapidfuzz():
    rng = random.Random(0)
    for _ in range(300):
        a, b = (rng.choices("abc", k=rng.randrange(9)) for _ in range(2))
        assert edit_distance(a, b) == Levenshtein.distance(a, b)


def test_error_rates_take_the_nearest_reference():
    references = [[("R", "IY", "D"), ("R", "EH", "D")], [("K", "AE", "T")]]
    assert error_rates([("R", "EH", "D"), ("K", "T")], references) == (1 / 6, 1 / 2)
    assert error_rates([(), ()], references) == (1.0, 1.0)
    uneven = [[("R",), ("R", "IY", "D", "Z")], references[1]]       # PER divides by the length of the nearest
    assert error_rates([("R", "IY"), ("K", "AE", "T")], uneven) == (1 / 4, 1 / 2)


def test_error_rates_refuse_lists_that_do_not_match():
    for hypotheses, references in ([], []), ([("K",)], []):
        with pytest.raises(ValueError, match="scored"):
            error_rates(hypotheses, references)


def test_token_accuracy_leaves_out_padding_and_eos():
    gold = torch.tensor([[4, 5, 6, 2], [7, 2, 0, 0]])
    assert token_accuracy(torch.tensor([[4, 9, 6, 9], [7, 9, 9, 9]]), gold) == 0.75
    with pytest.raises(ValueError, match="shape"):
        token_accuracy(gold[:, 1:], gold)
    with pytest.raises(ValueError, match="scored"):
        token_accuracy(torch.zeros_like(gold), torch.zeros_like(gold))
