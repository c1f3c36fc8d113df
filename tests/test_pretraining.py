"""Span corruption against a slow reference and its inverse, noises by what they keep, and who is trained on what."""

import copy
import math
import random
import re
from collections import Counter
from itertools import product

import pytest
import torch

from seq2seq.attention import attention_model
from seq2seq.kit import corpora, seed_everything
from seq2seq.kit.corpora import Example
from seq2seq.pretraining import (
    FEW_LABELS,
    LABEL_COUNTS,
    LETTERS,
    MASK,
    PAIR_COUNTS,
    SENTINELS,
    byte_pieces,
    corrupt,
    count_pairs,
    document_rotation,
    fine_tune,
    from_pieces,
    future_ngrams,
    gap_scores,
    is_sentinel,
    judged,
    labelled_words,
    language_shares,
    marked,
    mbart_pair,
    one_text,
    pegasus_pair,
    poisson,
    read_spellings,
    reading_tasks,
    reading_vocab,
    restore,
    said_for,
    sentence_permutation,
    span_mask,
    text_infilling,
    token_deletion,
    token_masking,
    translation_pair,
)

TEXT = ["the", "moon", "has", "no", "air", "and", "so", "no", "wind"]
SENTENCES = (("a", "b", "c"), ("a", "b", "d", "e"), ("f",))
WORDS = [Example(tuple(word), (tuple(word.upper()[:2]),)) for word in ("cat", "tide", "bread", "route", "ox")]


def spans_of(mask):
    """The first and last place of each run of hidden tokens."""
    return [m.span() for m in re.finditer("1+", "".join(str(int(m)) for m in mask))]


def slow_corrupt(text, mask):
    """Span corruption by cutting a text at its spans."""
    source, target, at = [], [], 0
    for i, (start, end) in enumerate(spans_of(mask)):
        source += [*text[at:start], f"<{i}>"]
        target += [f"<{i}>", *text[start:end]]
        at = end
    return [*source, *text[at:]], [*target, f"<{len(spans_of(mask))}>"]


# --- span corruption ---


@pytest.mark.parametrize("length", range(8))
def test_corruption_equals_the_slow_one_and_is_undone_for_every_mask(length):
    text = TEXT[:length]
    for mask in product((False, True), repeat=length):
        source, target = corrupt(text, mask)
        assert (source, target) == slow_corrupt(text, mask)
        assert restore(source, target) == text
        assert len(source) + len(target) == length + 2 * len(spans_of(mask)) + 1


@pytest.mark.parametrize(
    ("length", "rate", "mean"), [(7, 0.5, 2), (6, 0.5, 1), (5, 0.6, 1.5), (6, 0.3, 20), (8, 0.7, 1)]
)
def test_every_mask_of_these_numbers_is_as_likely(length, rate, mean):
    hidden = min(max(round(rate * length), 1), length - 1)
    spans = min(max(round(hidden / mean), 1), hidden, length - hidden + 1)
    masks = {m for m in product((False, True), repeat=length) if sum(m) == hidden and len(spans_of(m)) == spans}
    assert len(masks) == math.comb(hidden - 1, spans - 1) * math.comb(length - hidden + 1, spans)
    rng, draws = random.Random(0), 300 * len(masks)
    drawn = Counter(tuple(span_mask(length, rate, mean, rng)) for _ in range(draws))
    assert set(drawn) == masks
    assert all(abs(n - 300) < 5.5 * 300**0.5 for n in drawn.values())


@pytest.mark.parametrize("mean", [1, 2, 3.5, 20])
def test_rates_at_the_ends_and_short_texts(mean):
    rng = random.Random(0)
    for length in range(12):
        assert span_mask(length, 0.0, mean, rng) == [False] * length
        assert span_mask(length, 1.0, mean, rng) == [True] * length
        for rate in (0.01, 0.15, 0.5, 0.99):
            mask = span_mask(length, rate, mean, rng)
            assert len(mask) == length
            assert length < 2 or 0 < sum(mask) < length
    assert corrupt([], []) == ([], ["<0>"])
    assert corrupt(TEXT, [True] * len(TEXT)) == (["<0>"], ["<0>", *TEXT, "<1>"])
    assert corrupt(TEXT, [False] * len(TEXT)) == (TEXT, ["<0>"])


def test_spans_have_the_mean_length_and_touch_both_ends():
    rng = random.Random(0)
    masks = [span_mask(512, 0.15, 3, rng) for _ in range(200)]
    assert {sum(m) for m in masks} == {77} and {len(spans_of(m)) for m in masks} == {26}
    short = [span_mask(6, 0.5, 2, rng) for _ in range(200)]
    for end in (0, -1):
        assert 0 < sum(m[end] for m in short) < 200


def test_an_answer_goes_where_its_sentinel_is():
    assert restore(["a", "<0>", "b", "<1>"], ["<1>", "y", "<0>", "x", "z", "<2>"]) == ["a", "x", "z", "b", "y"]
    assert restore(["<0>"], ["<0>", "<1>"]) == []


@pytest.mark.parametrize(
    ("source", "target", "what"),
    [
        (["<0>"], ["a", "<0>"], "before the first"),
        (["<0>", "<1>"], ["<0>", "a"], "nothing of <1>"),
        (["<0>"], ["<0>", "<0>"], "twice"),
    ],
)
def test_an_answer_that_cannot_be_put_back(source, target, what):
    with pytest.raises(ValueError, match=what):
        restore(source, target)


def test_bad_corruption():
    with pytest.raises(ValueError, match="sentinels"):
        corrupt(["a", "<3>"], [True, False])
    with pytest.raises(ValueError, match="too many spans"):
        corrupt(["a"] * 400, [True, False] * 200)
    with pytest.raises(ValueError):
        corrupt(["a"], [True, False])
    with pytest.raises(TypeError, match="split it"):
        corrupt("a text", [False] * 6)
    for length, rate, mean in ((3, 1.5, 2), (3, -0.1, 2), (3, 0.5, 0), (-1, 0.5, 2), (3, math.nan, 2)):
        with pytest.raises(ValueError, match="need"):
            span_mask(length, rate, mean, random.Random(0))
    assert is_sentinel("<12>") and not any(map(is_sentinel, ("<a>", "12", "<0x41>", MASK)))


# --- the other objectives ---


@pytest.mark.parametrize("noise", [token_masking, token_deletion])
def test_noise_of_tokens(noise):
    assert noise(TEXT, 0.0, random.Random(0)) == TEXT
    assert set(noise(TEXT, 1.0, random.Random(0))) <= {MASK}
    found = noise(["a"] * 10_000, 0.15, random.Random(0))
    gone = found.count(MASK) if noise is token_masking else 10_000 - len(found)
    assert abs(gone / 10_000 - 0.15) < 0.015
    assert len(found) == 10_000 or noise is token_deletion


def test_poisson_has_its_mean_variance_and_zeros():
    rng = random.Random(0)
    drawn = torch.tensor([poisson(3.0, rng) for _ in range(20_000)], dtype=torch.float)
    assert abs(drawn.mean() - 3) < 0.06 and abs(drawn.var() - 3) < 0.15
    assert abs((drawn == 0).float().mean() - math.exp(-3)) < 0.006


def test_infilling_hides_its_share_in_the_order_of_the_text():
    lengths = Counter()
    for seed in range(300):
        text, rng = [str(i) for i in range(40)], random.Random(seed)
        source = text_infilling(text, 0.3, rng)
        kept = [int(t) for t in source if t != MASK]
        assert len(kept) == 28 and kept == sorted(kept)
        lengths[source.count(MASK)] += 1
        holes = [b - a - 1 for a, b in zip([-1, *kept], [*kept, 40], strict=True) if b - a > 1]
        assert len(holes) <= source.count(MASK)
    assert min(lengths) >= 1 and len(lengths) > 3
    assert text_infilling(TEXT, 0.0, random.Random(0)) == TEXT
    assert set(text_infilling(TEXT, 1.0, random.Random(0))) == {MASK}
    assert text_infilling([], 0.5, random.Random(0)) == []


def test_a_mask_stands_where_its_tokens_were():
    """With one span, what is left on both sides of the mask is the text's beginning and end."""
    for seed in range(200):
        source = text_infilling(TEXT, 0.2, random.Random(seed), mean=9.0)
        if source.count(MASK) == 1:
            at = source.index(MASK)
            assert source[:at] + TEXT[at : at + 2] + source[at + 1 :] == TEXT


def test_infilling_puts_in_masks_for_nothing():
    text = [str(i) for i in range(30)]
    empty = 0
    for seed in range(300):
        source = text_infilling(text, 0.3, random.Random(seed), mean=1.0)
        for before, token, after in zip(source, source[1:], source[2:], strict=False):
            empty += token == MASK and MASK not in (before, after) and int(after) == int(before) + 1
    assert empty > 50


def test_order_is_all_that_permutation_and_rotation_change():
    seen = set()
    for seed in range(60):
        found = sentence_permutation(SENTENCES, random.Random(seed))
        seen.add(tuple(found))
        assert sorted(found) == sorted(one_text(SENTENCES))
    assert len(seen) == 6
    turned = {tuple(document_rotation(TEXT, random.Random(seed))) for seed in range(200)}
    assert turned == {(*TEXT[i:], *TEXT[:i]) for i in range(len(TEXT))}
    assert document_rotation([], random.Random(0)) == []


def test_languages_are_named_where_the_paper_has_them():
    source, target = mbart_pair(SENTENCES, "zh_CN", random.Random(0))
    assert source[-1] == target[0] == "zh_CN" and target[1:] == one_text(SENTENCES) and MASK in source
    assert translation_pair("ab", "c") == (["a", "b"], ["c"])
    assert translation_pair("ab", "c", (">>fra<<",)) == ([">>fra<<", "a", "b"], ["c"])
    assert translation_pair("ab", "c", ("__en__", "__fr__")) == (["__en__", "a", "b"], ["__fr__", "c"])
    with pytest.raises(ValueError, match="no code, one or two"):
        translation_pair("ab", "c", ("x", "y", "z"))


def test_gap_sentences_are_those_most_like_the_rest():
    sentences = [("one", "two"), ("two", "three", "four"), ("three", "four"), ("nothing",)]
    by_hand = []
    for i, sentence in enumerate(sentences):
        rest = one_text(s for j, s in enumerate(sentences) if j != i)
        shared = (Counter(sentence) & Counter(rest)).total()
        by_hand.append(2 * shared / (len(sentence) + len(rest)))
    assert gap_scores(sentences) == pytest.approx(by_hand)
    source, target = pegasus_pair(sentences)
    assert source == ["one", "two", MASK, "three", "four", "nothing"] and target == ["two", "three", "four"]
    assert pegasus_pair(sentences, 2)[1] == one_text(sentences[1:3])
    with pytest.raises(ValueError, match="count"):
        pegasus_pair(sentences, 0)


def test_future_ngrams_are_shifts_of_the_target():
    found = future_ngrams("abcde", 3)
    assert [g[0] for g in found] == [*"abcde"] and [g[2] for g in found] == [*"cde", "<pad>", "<pad>"]
    assert future_ngrams("abc", 1) == [("a",), ("b",), ("c",)] and future_ngrams([], 2) == []


def test_shares_of_languages():
    counts = {"en": 1000, "zh": 10, "yo": 1}
    assert language_shares(counts, 1.0) == pytest.approx({k: n / 1011 for k, n in counts.items()})
    assert language_shares(counts, 0.0) == pytest.approx(dict.fromkeys(counts, 1 / 3))
    found = [language_shares(counts, a)["yo"] for a in (1.0, 0.7, 0.3, 0.0)]
    assert found == sorted(found)
    assert language_shares(counts, 0.5)["en"] / language_shares(counts, 0.5)["zh"] == pytest.approx(10)
    for wrong in ({}, {"en": 0}):
        with pytest.raises(ValueError, match="counts"):
            language_shares(wrong, 0.3)
    with pytest.raises(ValueError, match="alpha"):
        language_shares(counts, 1.5)


def test_bytes_come_back_as_characters():
    for text in ("猫 and cat", "", "naïve 😀", "<0x41>"):
        for known in (set(), set("abc 猫"), set(text)):
            pieces = byte_pieces(text, known)
            if "<" not in text or not known:
                assert from_pieces(pieces) == text
            assert all(p in known or re.fullmatch("<0x[0-9A-F]{2}>", p) for p in pieces)
    assert byte_pieces("猫", set()) == ["<0xE7>", "<0x8C>", "<0xAB>"]
    assert from_pieces(["<0xE7>", "<0x8C>", "a"]) == "\ufffda"


# --- reading and speaking ---


@pytest.fixture(scope="module")
def vocab():
    return reading_vocab(WORDS)


def test_the_vocabulary_keeps_letters_and_sounds_apart(vocab):
    assert len(vocab) == 4 + len(LETTERS) + 10 + len({s for e in WORDS for s in e.target})
    assert set(SENTINELS[:10]) <= set(vocab.symbols)


@pytest.mark.parametrize("shuffled", [False, True])
def test_reading_tasks_hold_the_words_and_no_sound(vocab, shuffled):
    spellings = {"".join(e.source) for e in WORDS}
    tasks = reading_tasks(WORDS, 200, vocab, 3, shuffled=shuffled)
    assert len(tasks) == 200 and tasks == reading_tasks(WORDS, 200, vocab, 3, shuffled=shuffled)
    words = ["".join(restore(vocab.decode(s), vocab.decode(t))) for s, t in tasks]
    key = sorted if shuffled else list
    assert {tuple(key(w)) for w in words} == {tuple(key(w)) for w in spellings}
    assert shuffled == any(w not in spellings for w in words)
    for source, word in reading_tasks(WORDS, 50, vocab, 3, shuffled=shuffled, whole=True):
        text = vocab.decode(source)
        assert any(map(is_sentinel, text)) and not any(map(is_sentinel, vocab.decode(word)))
        kept = [t for t in text if not is_sentinel(t)]
        assert not Counter(kept) - Counter(vocab.decode(word))


def test_fine_tuning_keeps_the_best_weights_that_validation_saw(vocab):
    seed_everything(0)
    model = attention_model(vocab, vocab, 8, 10)
    tuned = fine_tune(model, vocab, WORDS, WORDS, 30, lr=2e-2, every=10)
    assert len(tuned.losses) == 30 and tuned.step in (10, 20, 30)
    assert marked(said_for(model, vocab, WORDS), WORDS)["per"] == pytest.approx(tuned.per)
    assert tuned.losses[-1] < tuned.losses[0]


def test_the_middle_is_kept_if_it_is_best(vocab, monkeypatch):
    seen, rates = [], iter([0.5, 0.2, 0.9])

    def watch(model, *_):
        seen.append(copy.deepcopy(model.state_dict()))
        return []

    monkeypatch.setattr("seq2seq.pretraining.said_for", watch)
    monkeypatch.setattr("seq2seq.pretraining.error_rates", lambda *_: (next(rates), 0.0))
    model = attention_model(vocab, vocab, 8, 10)
    tuned = fine_tune(model, vocab, WORDS, WORDS, 6, every=2)
    assert (tuned.per, tuned.step) == (0.2, 4)
    assert all(torch.equal(v, seen[1][k]) for k, v in model.state_dict().items())
    assert any((v != seen[2][k]).any() for k, v in model.state_dict().items())


def test_a_stopped_run_is_the_beginning_of_a_whole_one(vocab):
    losses = []
    for until in (None, 3):
        seed_everything(0)
        model = attention_model(vocab, vocab, 8, 10)
        read = read_spellings(model, vocab, WORDS, 6, until=until, whole=True)
        start = copy.deepcopy(model.state_dict())
        tuned = fine_tune(model, vocab, WORDS, WORDS, 6, every=5, until=until)
        losses.append((read, tuned.losses))
        assert any((start[k] != v).any() for k, v in model.state_dict().items())
    assert losses[0][0][:3] == losses[1][0]
    assert len(losses[1][1]) == 3


def test_fewer_labels_are_among_more_and_nobody_is_tested_on_what_was_read():
    words = corpora.pronunciations()
    order = labelled_words(words.train, 300, 1)
    assert labelled_words(words.train, 100, 1) == order[:100] and order != labelled_words(words.train, 300, 2)
    validation, test = judged(words.validation, 300), judged(words.test, 1000)
    read, chosen_on, tested = ({e.source for e in part} for part in (words.train, validation, test))
    assert len(tested) == 1000 and not read & chosen_on | read & tested | chosen_on & tested
    assert test == judged(words.test, 1000)


def test_counts_say_what_they_have_seen():
    examples = [Example(tuple(w), (tuple(w.upper()),)) for w in ("cat", "tac", "act", "at", "ta", "cab", "bat", "tab")]
    model, losses = count_pairs(examples, examples)
    assert model.pronounce("bac") == ["B", "A", "C"] and losses[-1] < losses[0]


def test_marks_are_a_digit_a_word():
    words = [Example(("a",), (("K", "AE"),)), Example(("b",), (("B",), ("B", "IY")))]
    found = marked([["K"], ["B", "IY"]], words)
    assert found == {"per": 1 / 4, "edits": "10", "lengths": "22"}


def test_the_studies_compare_one_thing_at_a_time():
    assert {s["text"] for s in FEW_LABELS.settings} == {"nothing", "spellings", "shuffled"}
    assert tuple(sorted(LABEL_COUNTS)) == LABEL_COUNTS
    assert [s["labels"] for s in PAIR_COUNTS.settings] == [*LABEL_COUNTS]


def test_the_vocabulary_has_room_for_every_words_sentinels():
    longest = max(len(e.source) for e in corpora.pronunciations().train)
    most = max(len(spans_of(span_mask(n, 0.3, 2, random.Random(0)))) for n in range(longest + 1))
    assert most < 10
