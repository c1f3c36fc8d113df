"""Properties of what the chapter builds. Sizes are coprime, so that a transposed axis cannot pass."""

import itertools
import math
import random
from collections import Counter

import numpy as np
import pytest
import torch
from rapidfuzz.distance import Levenshtein
from test_sequences import HIDDEN, LABELS, WIDTH, V, padding_of, rows, seed  # noqa: F401  seed is a fixture
from torch import nn
from torch.nn import functional as F

from seq2seq.kit.corpora import Example
from seq2seq.sequence_labelling import (
    NEVER,
    SILENT,
    Tagger,
    align,
    costs,
    edit_distance,
    error_rates,
    fits,
    learn_costs,
    nearest,
    tag_accuracy,
    tag_loss,
    token_accuracy,
    turned,
)
from seq2seq.sequences import collate

KINDS = [("elman", 1), ("elman", 2), ("gru", 1), ("gru", 2)]


# The aligner

def price(spelling, labels, cost):
    return sum(cost[letter].get(label, NEVER) for letter, label in zip(spelling, labels, strict=True))


def readings(spelling, said):
    """Every way for the letters to say these phones, one each or none."""
    for speakers in itertools.combinations(range(len(spelling)), len(said)):
        phones = iter(said)
        yield [next(phones) if i in speakers else SILENT for i in range(len(spelling))]


def test_the_alignment_is_the_cheapest_of_all():
    rng = random.Random(0)
    for _ in range(200):
        cost = {letter: {label: rng.uniform(0, 5) for label in "XYZ" + SILENT if rng.random() < 0.8}
                for letter in "abc"}
        spelling = rng.choices("abc", k=rng.randrange(1, 7))
        said = rng.choices("XYZ", k=rng.randrange(len(spelling) + 1))
        labels = align(spelling, said, cost)
        assert [label for label in labels if label != SILENT] == said and len(labels) == len(spelling)
        assert price(spelling, labels, cost) == pytest.approx(
            min(price(spelling, other, cost) for other in readings(spelling, said)))


def test_a_draw_leaves_the_last_letter_silent_and_too_many_phones_are_refused():
    assert align("ee", ["IY"], {"e": {"IY": 1.0, SILENT: 2.0}}) == ["IY", SILENT]
    assert align("", [], {}) == []
    with pytest.raises(ValueError, match="1 letters cannot say 2 phones"):
        align("x", ["K", "S"], {"x": {}})


def test_costs_are_minus_the_logarithm_of_shares():
    shares = costs({"a": Counter(X=1, Y=3)})["a"]
    assert shares == {"X": pytest.approx(math.log(4)), "Y": pytest.approx(-math.log(0.75))}


def test_fits():
    assert fits(Example(("a", "b"), (("X", "Y"),))) and fits(Example(("a", "b"), (("X",), ("X", "Y", "Z"))))
    assert not fits(Example(("x",), (("K", "S"),)))


def language(n=300):
    """Words of a, b and a mute c; x says two phones and so never fits alone."""
    rng = random.Random(0)
    spellings = ["".join(rng.choices("abc", k=rng.randrange(1, 6))) for _ in range(n)]
    return [Example(tuple(s), (tuple({"a": "AA", "b": "B"}[x] for x in s if x != "c"),)) for s in spellings]


def test_costs_learned_from_words_alone_find_the_mute_letter():
    words = [*language(), Example(("x",), (("K", "S"),))]
    cost = learn_costs(iter(words))
    assert align("cabc", ["AA", "B"], cost) == [SILENT, "AA", "B", SILENT]
    assert "x" not in cost and set(cost) == set("abc")
    for letter, label in (("a", "AA"), ("b", "B"), ("c", SILENT)):
        assert min(cost[letter], key=cost[letter].get) == label and cost[letter][label] < 0.05
    assert all(sum(math.exp(-c) for c in row.values()) == pytest.approx(1) for row in cost.values())
    assert learn_costs(words, rounds=0) != learn_costs(words, rounds=1)
    assert learn_costs(words, rounds=4) == cost


def test_the_first_counts_are_every_phone_within_reach():
    cost = learn_costs([Example(tuple("abc"), (("X", "Y"),))], rounds=0)
    shares = {letter: {label: round(math.exp(-c), 3) for label, c in row.items()} for letter, row in cost.items()}
    assert shares == {"a": {SILENT: 0.5, "X": 0.5}, "b": {SILENT: 0.333, "X": 0.333, "Y": 0.333},
                      "c": {SILENT: 0.5, "Y": 0.5}}
    once = learn_costs([Example(("a",), (("X",),))], rounds=1)
    assert once == {"a": {SILENT: pytest.approx(math.log(2)), "X": pytest.approx(math.log(2))}}


# Reading both ways

def test_turned_is_its_own_inverse_and_leaves_padding_alone():
    x, padding = torch.randn(3, 5, 7), padding_of(5, 3, 0, width=5)
    back = turned(x, padding)
    assert torch.equal(back[0], x[0].flip(0)) and torch.equal(back[2], x[2])
    assert torch.equal(back[1, :3], x[1, :3].flip(0)) and torch.equal(back[1, 3:], x[1, 3:])
    assert torch.equal(turned(back, padding), x)
    assert torch.equal(turned(x[..., 0], padding), back[..., 0])             # ids have no third axis


def test_both_ways_equals_torch_bidirectional_gru_on_packed_rows():
    tagger = Tagger(V, LABELS, WIDTH, HIDDEN, cell="gru", directions=2)
    tagger.backwards.embedding.load_state_dict(tagger.forwards.embedding.state_dict())
    theirs = nn.GRU(WIDTH, HIDDEN // 2, batch_first=True, bidirectional=True)
    theirs.load_state_dict(dict(tagger.forwards.cell.named_parameters()) | {
        f"{name}_reverse": value for name, value in tagger.backwards.cell.named_parameters()})
    src, padding = rows(2, 6, 0)
    packed = nn.utils.rnn.pack_padded_sequence(
        tagger.forwards.embedding(src), (~padding).sum(dim=1), batch_first=True, enforce_sorted=False)
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
    for reader in filter(None, (model.forwards, model.backwards)):
        gradient = reader.embedding.weight.grad
        assert gradient.isfinite().all() and (gradient[16] == 0).all() and gradient.any()


@pytest.mark.parametrize("index", range(4))
def test_runs_on_the_meta_device(index):
    model = next(itertools.islice(models(), index, None)).to("meta")
    batch = collate([([4, 5, 6], [4, 5, 6]), ([7], [8])]).to("meta")
    loss = tag_loss(model, batch)
    optimizer = torch.optim.Adam(model.parameters())
    loss.backward()
    optimizer.step()
    assert model(batch.src, batch.src_padding).shape == (*batch.tgt[:, 1:].shape, LABELS)


@pytest.mark.parametrize(("directions", "blind"), [(1, True), (2, False)])
def test_which_letters_a_label_depends_on(directions, blind):
    model = Tagger(V, LABELS, WIDTH, HIDDEN, directions=directions)
    src, padding = rows(6, 5)
    changed = src.clone()
    changed[:, 4] = 4 + (src[:, 4] - 3) % (V - 4)
    same = torch.isclose(model(src, padding), model(changed, padding), atol=1e-7).all(dim=-1)
    assert not same[:, 4:].any(dim=0)[0] and bool(same[:, :4].all()) == blind
    assert bool(same[:, :4].any()) == blind


def test_sizes():
    def size(model):
        return sum(p.numel() for p in model.parameters())

    gru = 3 * (3 * 5 + 5 * 5 + 2 * 5)
    assert size(Tagger(V, LABELS, 3, 5, directions=1)) == V * 3 + gru + (5 + 1) * LABELS
    assert size(Tagger(V, LABELS, 3, 10)) == 2 * (V * 3 + gru) + (10 + 1) * LABELS
    assert size(Tagger(V, LABELS)) == size(Tagger(V, LABELS, 32, 128, cell="gru", directions=2))
    elman = 3 * 5 + 5 * 5 + 5
    assert size(Tagger(V, LABELS, 3, 10, cell="elman")) == 2 * (V * 3 + elman) + (10 + 1) * LABELS
    for arguments in ({"directions": 3}, {"directions": 0}, {"hidden_size": 7, "directions": 2}):
        with pytest.raises(ValueError, match="directions must be"):
            Tagger(V, LABELS, **arguments)
    with pytest.raises(ValueError, match="'elman' or 'gru'"):
        Tagger(V, LABELS, cell="lstm")


def test_the_loss_counts_every_symbol_but_padding():
    model = Tagger(V, LABELS, WIDTH, HIDDEN)
    batch = collate([([4, 5, 6], [7, 8, 9]), ([4], [5])])
    logs = model(batch.src, batch.src_padding).log_softmax(dim=-1)
    right = [-logs[row, t, batch.tgt[row, t + 1]] for row, t in [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1)]]
    assert tag_loss(model, batch).item() == pytest.approx(torch.stack(right).mean().item(), rel=1e-5)


# Measures

class Says(nn.Module):
    """Labels each symbol with its own id, or with EOS if it is odd."""

    def __init__(self):
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(1))

    def forward(self, src, src_padding):
        assert not self.training and not torch.is_grad_enabled()
        return F.one_hot(src.where(src % 2 == 0, 2), V).float()


def test_tag_accuracy():
    pairs = [([4, 6, 5], [4, 6, 5]), ([8], [10])]
    assert tag_accuracy(Says(), pairs) == 0.5


def test_edit_distance_equals_rapidfuzz():
    rng = random.Random(0)
    for _ in range(300):
        a, b = (rng.choices("abc", k=rng.randrange(9)) for _ in range(2))
        assert edit_distance(a, b) == Levenshtein.distance(a, b)


def test_nearest():
    assert nearest("abc", ["xyz", "abx", "ab"]) == (1, 2)     # of two equally near, the shorter


def test_error_rates_take_the_nearest_reference():
    references = [[("R", "IY", "D"), ("R", "EH", "D")], [("K", "AE", "T")]]
    assert error_rates([("R", "EH", "D"), ("K", "T")], references) == (1 / 6, 1 / 2)
    assert error_rates([(), ()], references) == (1.0, 1.0)
    assert error_rates([("K",) * 4], [[("T",)]]) == (4.0, 1.0)
    uneven = [[("R",), ("R", "IY", "D", "Z")], references[1]]       # PER divides by the length of the nearest
    assert error_rates([("R", "IY"), ("K", "AE", "T")], uneven) == (1 / 4, 1 / 2)
    assert error_rates(["cat", "dog"], [["cat"], ["dig", "dogs"]]) == (1 / 6, 1 / 2)       # strings of letters


@pytest.mark.parametrize(("hypotheses", "references"), [
    ([], []),
    ([("K",)], []),
    ([("K",)], [[("K",)], [("K",)]]),
    ([("K",)], [[]]),
    ([("K",)], [[()]]),
    ([("K", "AE", "T")], [("K", "AE", "T")]),               # references one bracket short
    (["cat"], ["cat"]),
    (("K", "AE"), [[("K", "AE")], [("T",)]]),               # hypotheses one bracket short
    ([("K",), ("K",)], [[("K",)], ["K"]]),
])  # fmt: skip
def test_error_rates_refuse_what_cannot_be_scored(hypotheses, references):
    with pytest.raises(ValueError, match="scored"):
        error_rates(hypotheses, references)


TENSOR, ARRAY = torch.tensor([4, 5]), np.array([4, 5])


@pytest.mark.parametrize(("said", "listed"), [
    (TENSOR, [TENSOR]), (TENSOR, [[4, 5]]), ([4, 5], [TENSOR]), (TENSOR, torch.stack([TENSOR, TENSOR])),
    (ARRAY, [ARRAY]), ([4, 5], [["A"]]), ([["A"]], [["A"]]), (["A"], [[["A"]]]), (["A"], ["A"]), ("A", [["A"]]),
    (["A"], Example(("a",), (("A",),))), (["A"], []), (["A"], [()]), ([None], [[None]]),
])  # fmt: skip
def test_what_is_no_list_of_references_is_refused_at_every_door(said, listed):
    for door in (nearest, lambda one, some: error_rates([one], [some])):
        with pytest.raises(ValueError, match=r"to be scored|cannot be scored"):
            door(said, listed)


def test_ids_and_strings_are_symbols():
    assert error_rates([[4, 5]], [[[4, 6], (4, 5)]]) == (0, 0)
    assert error_rates(np.array([["K", "AE"]]), [[("K", "AE")]]) == (0, 0)
    assert error_rates(["cat", ""], [["cut", "bat"], ["a"]]) == (2 / 4, 1)


def test_accuracy_is_over_ids():
    ids = torch.tensor([[4, 5, 2]])
    for wrong in ((ids.float(), ids), (ids, ids.float()), (ids > 0, ids), (torch.randn(1, 3), ids)):
        with pytest.raises(ValueError, match="whole numbers"):
            token_accuracy(*wrong)


@pytest.mark.parametrize("pairs", [
    [([4, 5], [4, 5]), ([4, 5], [4])], [([4], [4, 5]), ([4, 5], [4, 5])], [([4, 5], [4])], [([4], [4, 5])], [([4], [])],
    [([4, 5], [4]), ([4], [4, 5])],
])  # fmt: skip
def test_a_label_for_each_symbol(pairs):
    model = Tagger(V, LABELS)
    for door in (lambda: tag_loss(model, collate(pairs)), lambda: tag_accuracy(model, pairs)):
        with pytest.raises(ValueError, match="more or fewer labels"):
            door()


def test_scoring_leaves_every_part_in_its_mode():
    model = Tagger(V, LABELS).train()
    model.forwards.eval()
    modes = [part.training for part in model.modules()]
    tag_accuracy(model, [([4, 5], [4, 5])])
    with pytest.raises(ValueError, match="vocabulary has"):
        tag_accuracy(model, [([4, V], [4, 5])])
    assert [part.training for part in model.modules()] == modes


def test_a_tagger_needs_labels():
    with pytest.raises(ValueError, match="labels must be at least 1, not 0"):
        Tagger(V, 0)


def test_token_accuracy_leaves_out_padding_and_eos():
    gold = torch.tensor([[4, 5, 6, 2], [7, 2, 0, 0]])
    assert token_accuracy(torch.tensor([[4, 9, 6, 9], [7, 9, 9, 9]]), gold) == 0.75
    with pytest.raises(ValueError, match="shape"):
        token_accuracy(gold[:, 1:], gold)
    for nothing in (0, 2):
        with pytest.raises(ValueError, match="scored"):
            token_accuracy(torch.zeros_like(gold), torch.full_like(gold, nothing))
