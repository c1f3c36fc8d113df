"""The chapter on multi-label classification: sets and their orders, losses against brute force, and the split."""

import importlib
import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn

from seq2seq import multilabel
from seq2seq.decoding import beam_search
from seq2seq.encoder_decoder import EncoderDecoder, greedy_search
from seq2seq.kit import corpora, seed_everything, train
from seq2seq.kit.corpora import Emoji, Example, Splits, installed
from seq2seq.kit.corpora.catalogues import template
from seq2seq.multilabel import (
    FIRST_LABEL,
    ORDERS,
    OnceDecoder,
    SigmoidLabels,
    SumEncoder,
    above,
    acquainted,
    best_threshold,
    build_labeller,
    chain_sets,
    held_out_nats,
    label_probabilities,
    mass_left,
    multi_hot,
    nearest_sources,
    once,
    own_order,
    reordered,
    sequence_nats,
    set_nats,
    set_scores,
    sigmoid_nats,
)
from seq2seq.rnn import RNNDecoder
from seq2seq.sequences import Vocab, collate, numericalise

WORDS, LABELS = Vocab(["read", "sum", "an", "array"]), Vocab(["a", "axis", "out", "x", "y"])
PAIRS = [([4, 5], [4, 6, 8]), ([6], []), ([7, 5, 4], [7]), ([5], [8, 5, 7, 4])]


def batch(pairs=PAIRS):
    return collate(pairs)


def chain(seed: int = 0) -> EncoderDecoder:
    """A chain that has opinions."""
    seed_everything(seed)
    model = build_labeller("as written", WORDS, LABELS, dropout=0.0).eval()
    nn.init.normal_(model.decoder.output.bias)
    nn.init.normal_(model.decoder.output.weight, std=0.2)
    return model


def probability_of_set(model: EncoderDecoder, source: list[int], labels: list[int]) -> float:
    """By listing all orders, step by step."""
    total = 0.0
    for order in itertools.permutations(labels):
        row, product = batch([(source, list(order))]), 1.0
        state = model.decoder.init_state(model.encoder(row.src, row.src_padding))
        for token, following in zip(row.tgt[0, :-1], row.tgt[0, 1:], strict=True):
            logits, state, _ = model.decoder.step(token[None], state)
            product *= float(logits.detach().softmax(dim=1)[0, following])
        total += product
    return total


# Sets as numbers


def test_multi_hot_has_a_one_for_each_label_and_for_nothing_else() -> None:
    found = multi_hot(batch().tgt, len(LABELS))
    assert found.shape == (4, 5)
    assert [[i + FIRST_LABEL for i, x in enumerate(row) if x == 1] for row in found.tolist()] == [
        sorted(labels) for _, labels in PAIRS]  # fmt: skip
    assert found.sum() == 8


def test_reordered_moves_labels_alone_and_keeps_ties() -> None:
    tgt = batch().tgt
    assert torch.equal(reordered(tgt, torch.zeros_like(tgt)), tgt)
    rising = reordered(tgt, tgt)
    for row, before in zip(rising.tolist(), tgt.tolist(), strict=True):
        n = sum(i >= FIRST_LABEL for i in row)
        assert row[0] == Vocab.bos and row[1 : n + 1] == sorted(before[1 : n + 1]) and row[n + 1 :] == before[n + 1 :]
    falling = reordered(tgt, -tgt)
    assert falling[3].tolist() == [Vocab.bos, 8, 7, 5, 4, Vocab.eos]


@pytest.mark.parametrize("drawn", [False, True])
def test_own_order_is_an_order_of_the_same_labels(drawn: bool) -> None:
    tgt = own_order(chain(), batch(), drawn)
    assert torch.equal(tgt.sort(dim=1).values, batch().tgt.sort(dim=1).values)
    assert torch.equal(tgt < FIRST_LABEL, batch().tgt < FIRST_LABEL)


def test_own_order_takes_the_most_probable_label_that_is_left() -> None:
    model, row = chain(3), batch([([5], [8, 5, 7, 4])])
    found, left, token = own_order(model, row)[0].tolist(), {8, 5, 7, 4}, torch.tensor([Vocab.bos])
    state = model.decoder.init_state(model.encoder(row.src, row.src_padding))
    for label in found[1:-1]:
        logits, state, _ = model.decoder.step(token, state)
        assert label == max(left, key=lambda i: logits[0, i].item())
        left.remove(label)
        token = torch.tensor([label])


def test_drawn_orders_come_as_often_as_their_probability_says() -> None:
    model = chain(1)
    rows = batch([([5], [8, 5, 7])] * 4000)
    found = Counter(map(tuple, own_order(model, rows, drawn=True)[:, 1:-1].tolist()))
    state = model.decoder.init_state(model.encoder(rows.src[:1], rows.src_padding[:1]))
    for order in itertools.permutations((8, 5, 7)):
        expected, left, token, now = 1.0, list(order), torch.tensor([Vocab.bos]), state
        for label in order:
            logits, now, _ = model.decoder.step(token, now)
            expected *= float(logits.detach()[0, left].softmax(dim=0)[left.index(label)])
            left.remove(label)
            token = torch.tensor([label])
        assert found[order] / 4000 == pytest.approx(expected, abs=0.03)


def test_own_order_leaves_the_models_modes_alone() -> None:
    model = build_labeller("own choice", WORDS, LABELS)
    own_order(model, batch())
    assert all(part.training for part in model.modules())


# Losses against what they are


def test_sigmoids_lose_what_the_product_over_labels_says() -> None:
    seed_everything(0)
    model = SigmoidLabels(SumEncoder(len(WORDS), 7), len(LABELS), 7, 11).eval()
    p = label_probabilities(model, [batch(PAIRS[:3]), batch(PAIRS[3:])])
    expected = 0.0
    for row, (_, labels) in zip(p.tolist(), PAIRS, strict=True):
        expected -= sum(math.log(x if i + FIRST_LABEL in labels else 1 - x) for i, x in enumerate(row))
    assert sigmoid_nats(model, batch()).item() == pytest.approx(expected / 4, rel=1e-5)


def test_a_chain_loses_the_log_probability_of_its_sequence() -> None:
    model = chain()
    expected = [math.log(probability_of_set(model, s, labels)) for s, labels in PAIRS if len(labels) < 2]
    some = batch([pair for pair in PAIRS if len(pair[1]) < 2])
    assert sequence_nats(model, some).item() == pytest.approx(-np.mean(expected), rel=1e-4)


def test_mass_left_is_the_probability_of_all_that_may_follow() -> None:
    model = chain()
    found = mass_left(model, batch()).tolist()
    for value, (source, labels) in zip(found, PAIRS, strict=True):
        row, left, expected = batch([(source, labels)]), set(labels), 0.0
        state = model.decoder.init_state(model.encoder(row.src, row.src_padding))
        for token in row.tgt[0, :-1]:
            left.discard(int(token))
            logits, state, _ = model.decoder.step(token[None], state)
            expected -= math.log(float(logits.detach().softmax(dim=1)[0, list(left) or [Vocab.eos]].sum()))
        assert value == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("wrapped", [False, True])
def test_drawn_products_have_the_probability_of_the_set_as_their_mean(wrapped: bool) -> None:
    model = once(chain(2)) if wrapped else chain(2)
    for source, labels in PAIRS:
        rows = batch([(source, labels)] * 3000)
        with torch.no_grad():
            logs = -mass_left(model, multilabel.replace(rows, tgt=own_order(model, rows, drawn=True)))
        listed = probability_of_set(model, source, labels)
        error = (logs.exp().std() / len(logs) ** 0.5).item()
        assert error < 0.1 * listed and logs.exp().mean().item() == pytest.approx(listed, rel=1e-4, abs=4 * error)
        assert logs.mean().item() <= math.log(listed) + 1e-4
        if len(labels) < 2:
            assert logs.std() < 1e-5 and logs[0].item() == pytest.approx(math.log(listed), rel=1e-4)


def test_nats_of_a_chain_and_of_sigmoids_are_those_of_sets() -> None:
    examples = [Example(("sum", "an"), (("x", "a"),)), Example(("read",), (("out",),))]
    model = chain(4)
    listed = [probability_of_set(once(model), WORDS.encode(e.source), LABELS.encode(e.target)) for e in examples]
    seed_everything(0)
    asked = [batch(numericalise([e], WORDS, LABELS)) for e in examples]
    assert held_out_nats(model, asked, 400) == pytest.approx(-np.mean(np.log(listed)), rel=0.05)
    model = build_labeller("sigmoids", WORDS, LABELS)
    p = label_probabilities(model, asked)
    hot = torch.tensor([[x in e.target for x in LABELS.symbols[FIRST_LABEL:]] for e in examples])
    expected = -torch.where(hot, p, 1 - p).log().sum(dim=1).mean().item()
    assert held_out_nats(model, asked) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("how", ORDERS)
def test_padding_and_company_change_no_loss(how: str) -> None:
    """The mean over a batch is the mean of the losses one by one, where no order is drawn."""
    if how == "at random":
        return
    model, pairs = chain(), [pair for pair in PAIRS if how != "any that is left" or len(pair[1]) < 2]
    alone = [ORDERS[how](model, batch([pair])).item() for pair in pairs]
    assert ORDERS[how](model, batch(pairs)).item() == pytest.approx(np.mean(alone), rel=1e-4)


def test_orders_are_what_they_are_called() -> None:
    model, row = chain(), batch([([5], [6, 8, 4])])
    for how, order in {"as written": [6, 8, 4], "by frequency": [4, 6, 8], "rare first": [8, 6, 4]}.items():
        told = sequence_nats(model, batch([([5], order)])).item()
        assert ORDERS[how](model, row).item() == pytest.approx(told, rel=1e-5)
    all_of_them = {round(sequence_nats(model, batch([([5], list(o))])).item(), 4)
                   for o in itertools.permutations((6, 8, 4))}  # fmt: skip
    drawn = {round(ORDERS["at random"](model, row).item(), 4) for _ in range(100)}
    assert len(drawn) == 6 and all(min(abs(d - a) for a in all_of_them) < 2e-4 for d in drawn)


@pytest.mark.parametrize("how", ORDERS)
def test_losses_have_finite_gradients_and_meta_works(how: str) -> None:
    model = build_labeller(how, WORDS, LABELS)
    ORDERS[how](model, batch()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert ORDERS[how](model.to("meta"), batch().to("meta")).is_meta


# Models


def test_the_sum_knows_no_order_and_no_padding() -> None:
    seed_everything(0)
    encoder = SumEncoder(9, 7).eval()
    together = batch([([4, 5, 6], []), ([7], [])])
    memory = encoder(together.src, together.src_padding)
    alone = batch([([7], [])])
    torch.testing.assert_close(memory.summary[1], encoder(alone.src, alone.src_padding).summary[0])
    turned = batch([([6, 4, 5], [])])
    torch.testing.assert_close(memory.summary[0], encoder(turned.src, turned.src_padding).summary[0])
    vectors = encoder.embedding(torch.tensor([7, Vocab.eos]))
    torch.testing.assert_close(memory.summary[1], vectors.sum(dim=0) / math.sqrt(2))
    assert (memory.states[1, 2:] == 0).all()


def test_a_decoder_that_says_nothing_twice_steps_as_it_goes_forward() -> None:
    model = once(chain())
    row = batch([([5, 4], [4, 7, 5]), ([6], [8])])
    memory = model.encoder(row.src, row.src_padding)
    forward, state = model.decoder(row.tgt, memory), model.decoder.init_state(memory)
    plain = model.decoder.decoder(row.tgt, memory)
    for t, token in enumerate(row.tgt.unbind(dim=1)):
        logits, state, _ = model.decoder.step(token, state)
        torch.testing.assert_close(logits, forward[:, t], atol=1e-5, rtol=1e-4)
        for b in range(2):
            said = set(row.tgt[b, : t + 1].tolist())
            assert {i for i, x in enumerate(forward[b, t].tolist()) if x == -math.inf} == said
            free = [i for i in range(len(LABELS)) if i not in said]
            torch.testing.assert_close(forward[b, t, free], plain[b, t, free])


def test_searches_write_no_label_twice_and_always_stop() -> None:
    model = chain(5)
    with torch.no_grad():
        model.decoder.output.bias[Vocab.eos] = -50.0       # it never wants to stop
    row = batch()
    found = greedy_search(once(model), row.src, row.src_padding, max_len=20)
    for ids in found.tokens.tolist():
        said = [i for i in ids if i >= FIRST_LABEL]
        assert len(said) == len(set(said)) == 5 and Vocab.eos in ids
    for hypotheses in beam_search(once(model), row.src, row.src_padding, 20, 3, n_best=3):
        for found in hypotheses:
            said = [i for i in found.ids if i >= FIRST_LABEL]
            assert len(said) == len(set(said))


@pytest.mark.parametrize("how", ORDERS)
def test_chains_learn_two_sets_that_exclude_each_other(how: str) -> None:
    seed_everything(0)
    encoder = SumEncoder(6, 16)
    model = EncoderDecoder(encoder, RNNDecoder(len(LABELS), 8, 16))
    pairs = [([4], [4, 5]), ([4], [6, 7, 8]), ([5], [])]
    history = train(model, itertools.repeat(batch(pairs)), 150, loss=ORDERS[how], lr=2e-2, warmup=5)
    floor = (2 * math.log(2) + (math.log(2) + math.log(6) if how == "at random" else 0)) / 3
    assert np.mean(history.losses[-30:]) == pytest.approx(floor, abs=0.25 if how == "at random" else 0.12)
    [first, second] = chain_sets(model.eval(), [batch([([4], []), ([5], [])])], LABELS)
    assert first in ({"a", "axis"}, {"out", "x", "y"}) and second == set()


def test_systems_have_as_many_parameters_as_each_other() -> None:
    words, labels = Vocab(map(str, range(2000))), Vocab(map(str, range(114)))
    sizes = {s: sum(p.numel() for p in build_labeller(s, words, labels).parameters()) for s in ("sigmoids", *ORDERS)}
    assert max(sizes.values()) / min(sizes.values()) < 1.02
    with pytest.raises(ValueError):
        build_labeller("magic", words, labels)


# Scores


def test_scores_by_hand() -> None:
    said = [frozenset("ab"), frozenset("c"), frozenset()]
    gold = [frozenset("a"), frozenset("c"), frozenset("ac")]
    found = set_scores(said, gold, "abcd", {frozenset("ac")})
    assert found == pytest.approx(
        {"micro": 4 / 7, "macro": (2 / 3 + 0 + 2 / 3 + 0) / 4, "exact": 1 / 3, "strangers": 1 / 3})
    perfect = set_scores(gold, gold, "ac", {frozenset("ac")})
    assert perfect == {"micro": 1.0, "macro": 1.0, "exact": 1.0, "strangers": 0.0}
    assert set_scores([frozenset()], [frozenset("a")], "a", set())["micro"] == 0
    for wrong in ((said[:2], gold), ([], [])):
        with pytest.raises(ValueError):
            set_scores(*wrong, "abcd", set())


def test_scores_equal_counting_in_arrays() -> None:
    generator = np.random.default_rng(0)
    hot = generator.random((2, 31, 7)) < 0.3
    sets = [[frozenset(np.flatnonzero(row).tolist()) for row in part] for part in hot]
    found = set_scores(*sets, range(7), set())
    both, one = (hot[0] & hot[1]).sum(axis=0), hot.sum(axis=(0, 1))
    assert found["micro"] == pytest.approx(2 * both.sum() / one.sum())
    assert found["macro"] == pytest.approx(np.mean(2 * both / one))
    assert found["exact"] == (hot[0] == hot[1]).all(axis=1).mean()
    assert found["strangers"] == (hot[0].sum(axis=1) > 1).mean()


def test_acquainted_pairs_are_those_of_some_example() -> None:
    assert acquainted(["abc", "cd", "e"]) == {frozenset(p) for p in ("ab", "ac", "bc", "cd")}


def test_a_threshold_separates_and_the_best_one_is_found() -> None:
    p = torch.tensor([[0.9, 0.31, 0.0, 0.2, 0.1], [0.05, 0.4, 0.29, 0.0, 0.0]])
    assert above(p, 0.3, LABELS) == [frozenset({"a", "axis"}), frozenset({"axis"})]
    assert best_threshold(p, [frozenset({"a", "axis"}), frozenset({"axis"})], LABELS) == pytest.approx(0.3)


def test_the_nearest_source_has_the_rare_word_in_common() -> None:
    known = [("sum", "of", "array"), ("mean", "of", "array"), ("read", "of", "file")]
    assert nearest_sources([("mean", "of", "array"), ("file", "mean", "read"), ("sum",)], known) == [1, 2, 0]
    assert nearest_sources(known, known) == [0, 1, 2]
    assert nearest_sources([("unknown",)], known) == [0]


# The data of the page


@pytest.fixture(scope="module")
def functions() -> Splits:
    return corpora.signatures(("numpy",))


def test_no_name_and_no_first_line_is_on_both_sides(functions: Splits) -> None:
    for key in (lambda e: "".join(c for c in "".join(e.source[: e.source.index(":")]) if c.isalpha()),
                lambda e: template(e.source[e.source.index(":") + 1 :])):  # fmt: skip
        train_, validation, test = ({key(e) for e in part} for part in functions)
        assert not train_ & validation and not train_ & test and not validation & test
    assert all(e.target and len(set(e.target)) == len(e.target) for part in functions for e in part)
    assert len({(e.source, e.target) for part in functions for e in part}) == sum(map(len, functions))


def test_signatures_are_those_that_python_sees(functions: Splits) -> None:
    import inspect

    every = [e for part in functions for e in part]
    for name in ("flatnonzero", "array_split", "rot90"):
        words = (*name.split("_"), ":")
        found = [e for e in every if e.source[: len(words)] == words]
        assert tuple(inspect.signature(getattr(np, name)).parameters) in [e.target for e in found]
    assert not any(name in ("self", "cls") for e in every for name in e.target)


def test_a_files_calls_are_read(tmp_path) -> None:
    path = tmp_path / "some.py"
    path.write_text('''
def seen(a, /, b, *args, c=1, **kwargs):
    """Does this.

    And that."""
    def inside(d):
        """Not seen."""
class Kind:
    def method(self, x):
        """Does `x` too."""
    @classmethod
    def made(cls): "Nothing to give."
    def _hidden(self, y): "Hidden."
def silent(z): pass
''')
    assert installed._called(path) == [
        ("seen", ("does", "this", "."), ("a", "b", "c")), ("method", ("does", "x", "too", "."), ("x",)),
        ("made", ("nothing", "to", "give", "."), ())]  # fmt: skip
    path.write_text("def broken(:")
    assert installed._called(path) == []


def test_a_study_is_the_same_twice_and_stops_where_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    def some(n):
        return [Example(tuple(draw.choice(WORDS.symbols[4:], 2)), (tuple(draw.permutation(LABELS.symbols[4:])[:2]),))
                for _ in range(n)]  # fmt: skip
    small = Splits(some(30), some(5), some(7))
    monkeypatch.setattr(multilabel, "signature_sets", lambda pinned: (small, WORDS, LABELS))
    for system in ("sigmoids", "own choice"):
        first = multilabel.label_study(system=system, steps=4, batch_size=8, seed=1)
        assert len(first["losses"]) == 4 and len(first["right"]) == len(first["said"]) == 7
        begun = multilabel.label_study(system=system, steps=4, batch_size=8, seed=1, until=2)
        assert begun["losses"] == pytest.approx(first["losses"][:2], rel=1e-4) and set(begun) == {"losses"}
    with pytest.raises(ValueError):
        multilabel.label_study(system="magic")


# Pictures


def hung(count: int, seed: int) -> list[Emoji]:
    """Emoji of a few pixels with two or three keywords."""
    draw = np.random.default_rng(seed)
    pixels = draw.integers(0, 256, (count, 9, 7, 3)).astype(np.uint8)
    return [Emoji(str(i), some, tuple(draw.permutation(list("abcde"))[: 2 + i % 2])) for i, some in enumerate(pixels)]


@pytest.fixture
def gallery(monkeypatch: pytest.MonkeyPatch) -> Splits:
    """Few pictures in place of the corpus; the first two of the test are those that are shown."""
    splits = Splits(hung(30, 0), hung(5, 1), hung(7, 2))
    monkeypatch.setattr(multilabel, "keyword_sets", lambda: (splits, Vocab(list("abcde"))))
    monkeypatch.setattr(multilabel, "HUNG", ("0", "1"))
    return splits


def test_keywords_are_labels_and_the_most_frequent_is_first() -> None:
    splits, labels = multilabel.keyword_sets()
    count = Counter(word for e in splits.train for word in e.keywords)
    assert set(labels.symbols[FIRST_LABEL:]) == set(count)
    assert [count[word] for word in labels.symbols[FIRST_LABEL:]] == sorted(count.values(), reverse=True)
    assert set(multilabel.HUNG) <= {e.symbol for e in splits.test}


def test_pictures_keep_their_order_and_are_not_moved(gallery: Splits) -> None:
    labels = Vocab(list("abcde"))
    rows = multilabel.picture_rows(multilabel.keyword_pairs(gallery.test, labels))
    for e, picture, ids in zip(gallery.test, rows.src, rows.tgt.tolist(), strict=True):
        assert tuple(labels.decode(ids)) == e.keywords and ids[0] == Vocab.bos and Vocab.eos in ids
        assert ((1 - picture.permute(1, 2, 0)) * 255 - torch.tensor(e.pixels)).abs().max() < 1e-3
    assert not rows.src_padding.any()


@pytest.mark.parametrize("system", ["sigmoids", "any that is left"])
def test_a_study_of_pictures_is_the_same_twice_and_stops_where_it_is_told(gallery: Splits, system: str) -> None:
    first = multilabel.keyword_study(system=system, steps=4, batch_size=8, seed=1)
    assert len(first["losses"]) == 4 and len(first["right"]) == len(first["said"]) == 7
    assert set(first["sets"]) == {"0", "1"} and all(len(set(said)) == len(said) for said in first["sets"].values())
    said = [int(n, 36) for n in first["said"]]
    assert [len(first["sets"][symbol]) for symbol in "01"] == said[:2]
    begun = multilabel.keyword_study(system=system, steps=4, batch_size=8, seed=1, until=2)
    assert begun["losses"] == pytest.approx(first["losses"][:2], rel=1e-4) and set(begun) == {"losses"}


def test_keywords_are_copied_from_the_nearest_or_the_most_frequent_are_said(gallery: Splits) -> None:
    gallery.train[11] = gallery.test[3]
    found = multilabel.copied_keywords()
    assert found["right"][3] == found["said"][3] == found["gold"][3] and found["exact"][3] == "1"
    assert found["gold"] == "2323232"
    often = multilabel.copied_keywords(which="frequent")
    assert len(set(often["said"])) == 1
    gold = [frozenset(e.keywords) for e in gallery.validation]
    scores = [set_scores([frozenset("abcde"[:k])] * 5, gold, "abcde", set())["micro"] for k in range(1, 6)]
    assert int(often["said"][0]) == 1 + int(np.argmax(scores))
    with pytest.raises(ValueError):
        multilabel.copied_keywords(which="magic")


def test_systems_for_pictures_have_as_many_parameters_as_each_other() -> None:
    labels = multilabel.keyword_sets()[1]
    models = [multilabel.build_keyworder(system, labels) for system in ("sigmoids", *ORDERS)]
    sizes = [sum(p.numel() for p in model.parameters()) for model in models]
    assert max(sizes) / min(sizes) < 1.002


def test_nats_are_a_mean_over_rows_and_not_over_batches(gallery: Splits) -> None:
    labels = Vocab(list("abcde"))
    pairs = multilabel.keyword_pairs(gallery.test, labels)
    seed_everything(0)
    model = multilabel.build_keyworder("sigmoids", labels).eval()
    cut = [multilabel.picture_rows(pairs[:2]), multilabel.picture_rows(pairs[2:])]
    whole = [multilabel.picture_rows(pairs)]
    assert held_out_nats(model, cut) == pytest.approx(held_out_nats(model, whole), rel=1e-4)
    torch.testing.assert_close(label_probabilities(model, cut), label_probabilities(model, whole))


def test_what_is_judged_is_what_is_said() -> None:
    """The threshold is validation's, the scores are the test's, and a chain's labels are counted again and once."""
    chosen = {"validation": (PAIRS[:2], PAIRS[2:]), "test": ([PAIRS[0], PAIRS[3]], [PAIRS[2]])}
    asked = {part: [batch(pairs) for pairs in lots] for part, lots in chosen.items()}
    gold = {part: [frozenset(LABELS.decode(ids)) for pairs in lots for _, ids in pairs]
            for part, lots in chosen.items()}  # fmt: skip
    names, known = LABELS.symbols[FIRST_LABEL:], acquainted(gold["validation"])
    seed_everything(2)
    model = build_labeller("sigmoids", WORDS, LABELS).eval()
    with torch.no_grad():
        model.output.bias.copy_(torch.tensor([0.9, -0.4, -1.0, 0.2, -0.1]))
    found = multilabel.judged_labels(model, asked, LABELS, known)
    p = {part: label_probabilities(model, asked[part]) for part in asked}
    assert found["threshold"] == best_threshold(p["validation"], gold["validation"], LABELS)
    for key, part, threshold in (("test", "test", found["threshold"]), ("test, at 0.5", "test", 0.5),
                                 ("validation", "validation", found["threshold"])):  # fmt: skip
        assert found[key] == set_scores(above(p[part], threshold, LABELS), gold[part], names, known)
    said = above(p["test"], found["threshold"], LABELS)
    assert found["said"] == "".join(str(len(s)) for s in said) and found["nats"] == held_out_nats(model, asked["test"])
    model = chain(5)
    found = multilabel.judged_labels(model, asked, LABELS, known)
    assert found["test"] == set_scores(chain_sets(model, asked["test"], LABELS), gold["test"], names, known)
    free = multilabel.written_labels(model, asked["test"], LABELS)
    once_each = multilabel.written_labels(once(model), asked["test"], LABELS)
    assert all(len(set(row)) == len(row) for row in once_each)
    sets = list(map(frozenset, once_each))
    assert chain_sets(model, asked["test"], LABELS) == sets != list(map(frozenset, free))
    distinct = sum(len(set(row)) for row in free)
    assert found["again"] == pytest.approx(1 - distinct / sum(map(len, free))) and 0 < found["again"] < 1
    assert "threshold" not in found and "test, at 0.5" not in found


def test_labels_are_frequent_first_and_every_function_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Splits([Example(("f", ":", "g"), (("b", "a", "rare"),))] * 3 + [Example(("h", ":", "i"), (("a",),))] * 2,
                   [Example(("f", ":"), (("rare",),))], [Example(("q", ":"), (("rare", "b"),))])  # fmt: skip
    monkeypatch.setattr(corpora, "signatures", lambda pinned: whole)
    splits, words, labels = multilabel.signature_sets.__wrapped__(3)
    assert labels.symbols[FIRST_LABEL:] == ["a", "b", "rare"] and len(splits.train) == 5
    splits, words, labels = multilabel.signature_sets.__wrapped__(4)
    assert labels.symbols[FIRST_LABEL:] == ["a"] and splits.validation == splits.test == []
    assert set(words.symbols[FIRST_LABEL:]) == {"f", ":", "g", "h", "i"}


def test_the_module_is_named_after_its_chapter() -> None:
    assert importlib.import_module("seq2seq.multilabel") is multilabel
    assert isinstance(once(chain()).decoder, OnceDecoder) and callable(set_nats)
