"""The lab's tools: alignments and their error, interventions, and the model of pairs that is no network."""

import inspect
import itertools
import math
import random

import pytest
import torch

from seq2seq import alignment as chapter
from seq2seq.alignment import (
    GRAMMAR,
    JOINT,
    MESSAGES,
    MOVES,
    PAIRS,
    Given,
    PairModel,
    alignment_error,
    best_cut,
    cuts,
    erasing,
    grammar_model,
    grammar_study,
    learn_chances,
    links,
    message_model,
    message_study,
    pair_study,
    without,
)
from seq2seq.attention import AttentionDecoder, attention_model
from seq2seq.kit import corpora
from seq2seq.kit.corpora import Example, Splits
from seq2seq.kit.training import History
from seq2seq.rnn import RNNDecoder, context_model
from seq2seq.sequences import Vocab, batches


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def test_a_link_for_each_token_but_where_the_end_is_looked_at():
    weights = torch.tensor([[0.1, 0.8, 0.1], [0.2, 0.1, 0.7], [0.9, 0.1, 0.0], [0.0, 0.0, 1.0]])    # 3 + EOS, 2 + EOS
    assert links(weights) == {(1, 0), (0, 2)}
    assert links(weights, shift=1) == {(0, 1)}                  # token 0 from the row of token 1, and so on
    assert links(weights, shift=-1) == {(1, 1)}                 # the first token has no row before it
    assert links(torch.tensor([[0.0, 1.0]])) == set()           # an empty target


def test_the_alignment_error_rate_is_one_minus_f():
    gold = [{(0, 0), (1, 1)}, {(2, 2)}]
    assert alignment_error(gold, gold) == 0 and alignment_error([set(), set()], gold) == 1
    found = [{(0, 0), (5, 5)}, {(2, 2), (3, 3)}]
    precision, recall = 2 / 4, 2 / 3
    assert alignment_error(found, gold) == pytest.approx(1 - 2 * precision * recall / (precision + recall))
    assert alignment_error(found, gold) != pytest.approx(                  # links are added up before any share
        (alignment_error(found[:1], gold[:1]) + alignment_error(found[1:], gold[1:])) / 2)
    with pytest.raises(ValueError, match="zip"):
        alignment_error(found, gold[:1])


def test_bad_input_is_told_what_is_wrong():
    for weights in (torch.eye(3)[0], torch.rand(2, 3, 3), torch.full((2, 3), math.nan)):
        with pytest.raises(ValueError, match="weights of one sentence"):
            links(weights)
    for nothing in ([], [set()]):
        with pytest.raises(ValueError, match="no link"):
            alignment_error(nothing, nothing)
    with pytest.raises(ValueError, match="one position for each row"):
        without(torch.rand(2, 3), torch.tensor([0]))
    with pytest.raises(ValueError, match="do not go with states"):
        Given(torch.rand(1, 3))(None, torch.rand(2, 3, 4), None)
    model = attention_model(Vocab("ab"), Vocab("xy"), 6, 6)
    for pairs in ([], [([4], [4]), ([], [4])]):
        with pytest.raises(ValueError, match="a symbol beside its EOS"):
            erasing(model, model, pairs)
    with pytest.raises(TypeError, match="an attention that can be set"):
        erasing(model, context_model(Vocab("ab"), Vocab("xy"), width=6, hidden_size=6), [([4], [4])])


def test_bad_pairs_are_told_what_is_wrong():
    with pytest.raises(TypeError, match="'AE B' is a text"):
        best_cut("ab", "AE B", {})
    for examples in ([], [Example(("a",), (("X", "Y", "Z"),))]):
        with pytest.raises(ValueError, match="no word can be cut"):
            learn_chances(examples)
    sequences = [[(("a",), ("X",))]]
    for order, discount, name in ((0, 0.5, "order"), (2, 0.0, "discount"), (2, 1.5, "discount"), (2, math.nan, "disc")):
        with pytest.raises(ValueError, match=name):
            PairModel(sequences, order, discount)
    with pytest.raises(ValueError, match="width"):
        PairModel(sequences, 2, 0.5).pronounce("a", 0)


def test_a_word_may_be_a_text_and_its_sounds_a_list():
    chance = {(("a",), ("X",)): 0.5, (("b",), ("Y",)): 0.5}
    assert best_cut("ab", ["X", "Y"], chance) == [(("a",), ("X",)), (("b",), ("Y",))]


def test_erased_weights_are_what_is_left():
    weights = torch.tensor([[0.5, 0.3, 0.2], [0.0, 1.0, 0.0], [0.25, 0.25, 0.5]])
    left = without(weights, torch.tensor([0, 1, 0]))
    torch.testing.assert_close(left, torch.tensor([[0.0, 0.6, 0.4], [0.0, 0.0, 0.0], [0.0, 1 / 3, 2 / 3]]))
    states = torch.randn(3, 3, 5)
    context, given = Given(left)(torch.randn(3, 7), states, torch.zeros(3, 3, dtype=torch.bool))
    torch.testing.assert_close(context, torch.einsum("bs,bsd->bd", left, states))
    assert given is left


def pointing_model(offset: int):
    """A model that looks at position t + offset at step t."""
    vocab = Vocab("abc")
    model = attention_model(vocab, vocab, 3, 8)

    class Pointer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.t = 0

        def keys(self, states):
            self.t = 0
            return states

        def forward(self, query, states, padding, keys=None):
            at = torch.full((len(query),), min(self.t + offset, states.shape[1] - 1))
            self.t += 1
            weights = torch.full(padding.shape, 0.1 / (states.shape[1] - 1)).scatter(1, at[:, None], 0.9)
            return torch.einsum("bs,bsd->bd", weights, states), weights

    model.decoder.attention = Pointer()
    return model, vocab


def test_erasing_counts_changed_tokens_and_leaves_the_models_as_they_were():
    (model, vocab), (other, _) = pointing_model(0), pointing_model(1)
    pairs = [(vocab.encode(s), vocab.encode(s)) for s in ("abcab", "cabba", "bbaca")]
    attention, modes = model.decoder.attention, model.training
    found = erasing(model, other, pairs)
    assert model.decoder.attention is attention and model.training == modes
    assert set(found) == {"most", "random", "other", "same", "most, apart", "random, apart", "other, apart"}
    assert all(0 <= share <= 1 for share in found.values())
    assert found["same"] == pytest.approx(1 / 6)         # they look at one place at the end alone
    twin = erasing(model, pointing_model(0)[0], pairs)
    assert twin["other"] == twin["most"] and twin["same"] == 1 and twin["most, apart"] == 0


def test_erasing_is_done_at_one_step_and_against_what_the_model_would_have_said():
    """Recomputed step by step, one pair a batch, with the state that has not been touched."""
    vocab = Vocab("abcdef")
    model, other = (attention_model(vocab, vocab, 6, 10).eval() for _ in range(2))
    for half in (model, other):                         # weights that differ, so that something changes
        for p in half.parameters():
            p.data.mul_(4.0)
    pairs = [(vocab.encode(s), vocab.encode(t)) for s, t in [("abcab", "fade"), ("fed", "bcbcbc"), ("e", "a")]]
    counts = dict.fromkeys(("steps", "apart", "most", "other", "most, apart", "other, apart"), 0)
    with torch.no_grad():
        for pair in pairs:
            [batch] = batches([pair], 1)
            state, theirs = (m.decoder.init_state(m.encoder(batch.src, batch.src_padding)) for m in (model, other))
            for token in batch.tgt[0, :-1]:
                step, their = (m.decoder.step(token[None], s) for m, s in ((model, state), (other, theirs)))
                at = {"most": step.weights.argmax(), "other": their.weights.argmax()}
                apart = at["most"] != at["other"]
                counts["steps"] += 1
                counts["apart"] += int(apart)
                kept = model.decoder.attention
                for name, position in at.items():
                    left = step.weights.clone()
                    left[0, position] = 0
                    model.decoder.attention = Given(left / left.sum().clamp(min=1e-12))
                    changed = model.decoder.step(token[None], state).logits.argmax() != step.logits.argmax()
                    model.decoder.attention = kept
                    counts[name] += int(changed)
                    counts[f"{name}, apart"] += int(changed & apart)
                state, theirs = step.state, their.state
    found = erasing(model, other, pairs)
    assert counts["most"] > 0 and 0 < counts["apart"] < counts["steps"]
    assert found["most"] == counts["most"] / counts["steps"] and found["other"] == counts["other"] / counts["steps"]
    assert found["same"] == pytest.approx(1 - counts["apart"] / counts["steps"])
    assert found["most, apart"] == counts["most, apart"] / counts["apart"]
    assert found["other, apart"] == counts["other, apart"] / counts["apart"]


def test_a_random_position_is_a_symbol_other_than_the_most_attended():
    """With two symbols a source, EOS included, the random one is the other: erasing it leaves all to the most."""
    vocab = Vocab("ab")
    model = attention_model(vocab, vocab, 6, 10).eval()
    for p in model.parameters():
        p.data.mul_(4.0)
    seen = []
    original = chapter.without
    pairs = [(vocab.encode("a"), vocab.encode("bab")), (vocab.encode("ab"), vocab.encode("b"))]
    try:
        chapter.without = lambda weights, at: seen.append((weights, at)) or original(weights, at)
        erasing(model, model, pairs)
    finally:
        chapter.without = original
    for most, drawn, _ in zip(seen[::3], seen[1::3], seen[2::3], strict=True):
        assert torch.equal(most[1], most[0].argmax(dim=1)) and (drawn[1] != most[1]).all()
        assert (drawn[1][0] <= 1).all()                                          # never padding
    assert {int(drawn[1][1]) for drawn in seen[1::3]} <= {0, 1, 2}


def test_the_random_position_follows_its_own_seed():
    vocab = Vocab("abcdef")
    model, other = (attention_model(vocab, vocab, 6, 10).eval() for _ in range(2))
    pairs = [(vocab.encode("abcdef"), vocab.encode("fadebc"))] * 3
    drawn, original = [], chapter.without
    try:
        chapter.without = lambda weights, at: drawn.append(at.tolist()) or original(weights, at)
        for seed in ({}, {"seed": 0}, {"seed": 1}):
            torch.rand(1)                                               # whatever was drawn before
            erasing(model, other, pairs, **seed)
    finally:
        chapter.without = original
    third = len(drawn) // 3
    assert drawn[:third] == drawn[third : 2 * third] != drawn[2 * third :]


def test_one_step_where_two_models_look_apart_is_a_share_of_one():
    (model, vocab), (other, _) = pointing_model(0), pointing_model(1)
    for p in model.parameters():
        p.data.mul_(6.0)
    model.decoder.output.bias.data.zero_()
    found = [erasing(model, other, [(vocab.encode(s), [])]) for s in "abc"]       # a step each: EOS
    assert all(f["same"] == 0 and f["most, apart"] == f["most"] for f in found)
    assert any(f["most"] == 1 for f in found)


# --- pairs of letters and sounds -------------------------------------------------------------------------------------

def all_cuts(letters, sounds):
    """Every cut, by brute force."""
    if not letters:
        return [[]] if not sounds else []
    return [[(letters[:a], sounds[:b]), *rest] for a, b in MOVES if a <= len(letters) and b <= len(sounds)
            for rest in all_cuts(letters[a:], sounds[b:])]


def test_cuts_are_the_edges_of_all_cuts_in_an_order_to_add_up_in():
    letters, sounds = tuple("abcd"), tuple("XYZ")
    found = list(cuts(letters, sounds))
    for start, stop, (a, b) in found:
        assert letters[start[0] : stop[0]] == a and sounds[start[1] : stop[1]] == b and (len(a), len(b)) in MOVES
    assert len(set(found)) == len(found) == sum((4 - a + 1) * (3 - b + 1) for a, b in MOVES)
    stops = [stop for _, stop, _ in found]
    assert stops == sorted(stops)                               # all edges into a node before any out of it
    paths = {(0, 0): 1}
    for start, stop, _ in found:
        paths[stop] = paths.get(stop, 0) + paths.get(start, 0)
    assert paths[4, 3] == len(all_cuts(letters, sounds))


def test_a_pair_is_one_letter_with_up_to_two_sounds_or_two_letters_with_one():
    kinds = {(len(a), len(b)) for *_, (a, b) in cuts("abcd", "VWXYZ")}
    assert kinds == {(1, 0), (1, 1), (1, 2), (2, 1)} and len(MOVES) == len(kinds)


WORDS = [("ab", "X"), ("abc", "XY"), ("c", "Y"), ("cab", "YX"), ("b", "XY")]
EXAMPLES = [Example(tuple(letters), (tuple(sounds),)) for letters, sounds in WORDS]


def test_a_round_counts_what_is_expected_over_all_cuts():
    chance, losses = learn_chances(EXAMPLES, rounds=2)
    lattice = [all_cuts(e.source, e.target) for e in EXAMPLES]
    counted = {}
    for e in EXAMPLES:
        for *_, pair in cuts(e.source, e.target):
            counted[pair] = counted.get(pair, 0) + 1
    for loss in losses:
        p = {pair: n / sum(counted.values()) for pair, n in counted.items()}
        counted, nats = {}, 0.0
        for every in lattice:
            weights = [math.prod(p.get(pair, 0.0) for pair in cut) for cut in every]
            nats -= math.log(sum(weights))
            for cut, weight in zip(every, weights, strict=True):
                for pair in cut:
                    counted[pair] = counted.get(pair, 0) + weight / sum(weights)
        assert loss == pytest.approx(nats / len(EXAMPLES))
    expected = {pair: n / sum(counted.values()) for pair, n in counted.items() if n}
    assert chance == pytest.approx(expected) and sum(chance.values()) == pytest.approx(1)


def test_rounds_never_make_the_words_less_probable_and_a_word_without_a_cut_counts_for_nothing():
    losses = learn_chances(EXAMPLES, rounds=9)[1]
    assert len(losses) == 9 and all(a >= b - 1e-12 for a, b in itertools.pairwise(losses)) and losses[-1] < losses[0]
    impossible = Example(("a",), (("X", "Y", "Z"),))
    assert all_cuts(*impossible[:1], impossible.target) == []
    with_it = learn_chances([*EXAMPLES, impossible], rounds=3)[1]
    assert len(with_it) == 3 and all(math.isfinite(loss) for loss in with_it)
    assert len(learn_chances(EXAMPLES)[1]) == 6


def test_the_best_cut_is_the_most_probable_of_all():
    generator = random.Random(1)
    letters, sounds = tuple("abcab"), tuple("XYX")
    for _ in range(5):
        chance = {pair: generator.random() for *_, pair in cuts(letters, sounds)}
        expected = max(all_cuts(letters, sounds), key=lambda cut: math.prod(chance[pair] for pair in cut))
        assert best_cut(letters, sounds, chance) == expected
    del chance[(("b",), ("X",))]
    assert (("b",), ("X",)) not in best_cut(letters, sounds, chance)
    assert best_cut(("a",), tuple("XYZ"), chance) is None and best_cut(letters, sounds, {}) is None
    assert best_cut((), (), {}) == []


SEQUENCES = [[(("a",), ("X",)), (("b",), ("Y",))], [(("a",), ("X",)), (("b",), ("Z",))], [(("b",), ("Y",))],
             [(("a", "b"), ("Q",))], [(("a",), ("X",)), (("a",), ("X",)), (("b",), ("Y",))]]


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_after_every_history_the_chances_sum_to_one(order):
    model = PairModel(SEQUENCES, order, 0.75)
    pairs = [*{pair for s in SEQUENCES for pair in s}, ">"]
    histories = itertools.product(["<", *pairs[:-1]], repeat=order - 1)
    for history in histories:
        assert sum(model.chance(history, pair) for pair in pairs) == pytest.approx(1)
        assert all(model.chance(history, pair) > 0 for pair in pairs)


def test_smoothing_is_kneser_neys():
    """By hand, for pairs in place of letters: order 2, the lower order counts contexts and not occurrences."""
    a, y, z, q = (("a",), ("X",)), (("b",), ("Y",)), (("b",), ("Z",)), (("a", "b"), ("Q",))
    model, d = PairModel(SEQUENCES, 2, 0.5), 0.5
    after = {("<",): {a: 3, y: 1, q: 1}, (a,): {y: 2, z: 1, a: 1}, (y,): {">": 3}, (z,): {">": 1}, (q,): {">": 1}}
    contexts = {pair: sum(pair in seen for seen in after.values()) for pair in (a, y, z, q, ">")}
    total = sum(contexts.values())
    for history, seen in after.items():
        for pair in contexts:
            lower = (contexts[pair] - d) / total + d * len(contexts) / total / len(contexts)
            n = sum(seen.values())
            expected = max(seen.get(pair, 0) - d, 0) / n + d * len(seen) / n * lower
            assert model.chance(history, pair) == pytest.approx(expected), (history, pair)
    assert model.chance((), ">") == pytest.approx((contexts[">"] - d) / total + d / total)


def test_to_pronounce_is_to_find_the_most_probable_sequence():
    model = PairModel(SEQUENCES, 3, 0.6)
    pairs = {pair for s in SEQUENCES for pair in s}

    def probability(sequence):
        row, p = ["<", "<", *sequence, ">"], 1.0
        for t in range(2, len(row)):
            p *= model.chance(tuple(row[t - 2 : t]), row[t])
        return p

    for word in ("ab", "b", "aab", "abab", "bba"):
        every = [s for n in range(1, len(word) + 1) for s in itertools.product(pairs, repeat=n)
                 if "".join(x for pair in s for x in pair[0]) == word]
        said = tuple(model.pronounce(word, width=99))
        best = {tuple(x for pair in s for x in pair[1]): probability(s) for s in sorted(every, key=probability)}
        assert best[said] == pytest.approx(max(best.values()))
        assert model.pronounce(tuple(word), width=99) == model.pronounce(word, width=99)
    assert model.pronounce("x") == [] and model.pronounce("") == []
    assert PairModel(SEQUENCES, 1, 0.6).pronounce("ab") in (["X", "Y"], ["Q"])


def test_a_width_of_one_is_greedy_and_never_better():
    model = PairModel(SEQUENCES, 2, 0.6)
    assert model.pronounce("aab", width=1) and model.pronounce("aab")
    often, seldom = [[(("a",), (sound,)), (("b",), ("Y",))] for sound in "XZ"]
    for more, less in ((often, seldom), (seldom, often)):                 # the more probable history is kept
        assert PairModel([more] * 3 + [less], 2, 0.6).pronounce("ab", width=1) == [*more[0][1], "Y"]


@pytest.fixture
def few_words(monkeypatch):
    every = corpora.pronunciations()
    splits = Splits(every.train[:6000], every.validation[:40], every.test[:12])
    monkeypatch.setattr(chapter.corpora, "pronunciations", lambda: splits)
    for kept in (chapter.cut_words, chapter.learned):
        kept.cache_clear()
    yield splits
    for kept in (chapter.cut_words, chapter.learned):
        kept.cache_clear()


def test_the_study_of_pairs_scores_what_it_is_asked_and_stops_where_it_is_told(few_words, monkeypatch):
    seen = []
    original = chapter.learn_chances
    monkeypatch.setattr(
        chapter, "learn_chances", lambda e, rounds: seen.append((len(e), rounds)) or original(e, rounds))
    chosen = pair_study(order=2, split="validation")
    assert "per" not in chosen and chosen["validation"] > 0 and len(chosen["losses"]) == 6 and seen == [(5000, 6)]
    found = pair_study(order=2)
    assert len(found["edits"]) == 12 and found["validation"] == chosen["validation"]
    assert pair_study(order=2, until=2)["losses"] == pytest.approx(found["losses"][:2])
    with pytest.raises(ValueError, match="'validation'"):
        pair_study(split="train")
    tests = [s for s in JOINT.settings if "split" not in s]
    assert len(tests) == 1 and {**tests[0], "split": "validation"} in JOINT.settings and len(JOINT.settings) == 7


# --- the studies that train ------------------------------------------------------------------------------------------

def test_the_grammar_study_measures_what_its_name_says(monkeypatch):
    original = corpora.phrase_grammar
    asked, lengths = [], []
    monkeypatch.setattr(chapter.corpora, "phrase_grammar", lambda n, *args, **how: (
        asked.append((n, args[0], how)) or original(min(n, 60), *args, **how)))
    written = chapter.transduce
    monkeypatch.setattr(
        chapter, "transduce", lambda *args, **how: lengths.append(how) or written(*args, **how))
    built = []
    model_of = grammar_model
    monkeypatch.setattr(
        chapter, "grammar_model", lambda *pair, **how: built.append((pair, how)) or model_of(*pair, steps=2, **how))
    found = grammar_study(source="en", target="zh", seed=1)
    assert [(pair, how["seed"]) for pair, how in built] == [(("en", "zh"), 1), (("en", "zh"), 101)]
    assert {"exact", "aer -1", "aer 0", "aer 1", "most", "same", "losses"} <= set(found) and len(found["losses"]) == 2
    assert 0 <= found["exact"] <= 1 and 0 < found["aer 0"] <= 1
    assert (500, 0, {"split": "test"}) in asked and lengths == [{"max_len": 60}]
    dot = grammar_study(source="en", target="fr", score="dot")
    assert built[-1][1]["score"] == "dot" and "most" not in dot
    assert grammar_study(source="en", target="zh", seed=1, until=1)["losses"] == found["losses"][:1]
    pairs = [(s["source"], s["target"]) for s in GRAMMAR.settings if "score" not in s]
    assert tuple(pairs) == PAIRS and any("zh" in pair for pair in pairs)


def test_the_grammar_model_learns_from_training_sentences_alone(monkeypatch):
    asked = []
    original = corpora.phrase_grammar
    monkeypatch.setattr(chapter.corpora, "phrase_grammar",
                        lambda n, *args, **how: asked.append((n, args, how)) or original(128, *args, **how))
    model, ours, theirs, losses = grammar_model("fr", "zh", steps=3, seed=2, until=2)
    assert asked == [(20_000, (0, "fr", "zh"), {"split": "train"})] and len(losses) == 2
    trained = []
    monkeypatch.setattr(chapter, "train", lambda model, stream, steps, **how: trained.append(
        (steps, how["lr"], how["until"], len(next(iter(stream)).src), model.decoder.output.weight)) or History([1.0]))
    for seed in (1, 1, 2):
        torch.rand(1)
        grammar_model(seed=seed)
    monkeypatch.setattr(chapter, "device", lambda: torch.device("meta"))
    grammar_model()
    assert {each[:4] for each in trained} == {(400, 5e-3, None, 64)}
    first, again, other, moved = (each[4] for each in trained)
    assert torch.equal(first, again) and not torch.equal(first, other) and moved.is_meta
    assert inspect.signature(grammar_model).parameters["seed"].default == 0
    assert model.encoder.embedding.num_embeddings == len(ours) and model.decoder.output.out_features == len(theirs)
    assert model.encoder.embedding.embedding_dim == 64 and model.decoder.hidden_size == 128


def test_the_message_study_compares_two_models_and_nothing_else(monkeypatch):
    every = corpora.messages("zh_Hans", max_words=12)
    test = [e for e in every.test if len(e.source) > 7][:9] + [e for e in every.test if len(e.source) == 7][:3]
    splits = Splits(every.train[:200], [], test + every.test[:9])
    asked, lengths, counted, scored = [], [], [], []
    write, count = chapter.transduce, chapter.vocabularies
    monkeypatch.setattr(chapter, "transduce", lambda *args, **how: lengths.append(how) or write(*args, **how))
    monkeypatch.setattr(chapter, "vocabularies", lambda *args, **how: counted.append(how) or count(*args, **how))
    monkeypatch.setattr(chapter, "bleu", lambda written, examples: scored.append(list(examples)) or 1.0)
    monkeypatch.setattr(chapter.corpora, "messages", lambda *args, **how: asked.append((args, how)) or splits)
    found = [message_study(language="zh_Hans", model=model, steps=2) for model in ("attention", "one vector")]
    assert asked == [(("zh_Hans",), {"max_words": 12})] * 2 and lengths == [{"max_len": 40}] * 2
    assert counted == [{"min_count": 2}] * 2
    assert scored == [splits.test, [e for e in splits.test if len(e.source) > 7]] * 2
    assert all(set(f) == {"losses", "bleu", "longer"} and len(f["losses"]) == 2 for f in found)
    again = message_study(language="zh_Hans", model="attention", steps=2, until=1)["losses"]
    assert again == found[0]["losses"][:1]
    with pytest.raises(ValueError, match="'one vector'"):
        message_study(language="fr", model="none")
    trained = []
    monkeypatch.setattr(chapter, "train", lambda model, stream, steps, **how: trained.append(
        (steps, how, len(next(iter(stream)).src), model.decoder.output.weight)) or History([1.0]))
    for seed in (1, 1, 2):
        torch.rand(1)
        message_study(language="zh_Hans", seed=seed, until=1)
    monkeypatch.setattr(chapter, "device", lambda: torch.device("meta"))
    message_study(language="zh_Hans", until=1)
    assert all(each[:3] == (800, {"lr": 3e-3, "until": 1}, 64) for each in trained)
    first, again, other, moved = (each[3] for each in trained)
    assert torch.equal(first, again) and not torch.equal(first, other) and moved.is_meta
    assert {(s["language"], s.get("model", "attention")) for s in MESSAGES.settings} == {
        (language, model) for language in ("fr", "zh_Hans") for model in ("attention", "one vector")}


def test_the_message_models_differ_in_attention_alone():
    english, french = Vocab("abc"), Vocab("ABCDE")
    ours, theirs = (message_model(english, french, name) for name in ("attention", "one vector"))
    assert isinstance(ours.decoder, AttentionDecoder) and type(theirs.decoder) is RNNDecoder
    for half in ("encoder", "decoder"):
        a, b = getattr(ours, half), getattr(theirs, half)
        assert {k: v.shape for k, v in b.state_dict().items()} == {
            k: v.shape for k, v in a.state_dict().items() if not k.startswith("attention")}
        assert a.embedding.embedding_dim == 96 and a.dropout.p == b.dropout.p == 0.3


@pytest.mark.parametrize("study", [GRAMMAR, JOINT, MESSAGES])
def test_what_is_on_record_is_what_is_planned(study):
    assert [row["settings"] for row in study.rows()] == study.plan()
    assert inspect.signature(study.run).parameters["seed"].default == study.seeds[0] == 0
