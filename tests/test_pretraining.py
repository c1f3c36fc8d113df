"""Span corruption against a slow reference, and who is trained on what."""

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
from seq2seq.objectives import restore
from seq2seq.pretraining import (
    FEW_LABELS,
    LABEL_COUNTS,
    LETTERS,
    PAIR_COUNTS,
    SENTINELS,
    corrupt,
    count_pairs,
    fine_tune,
    is_sentinel,
    judged,
    labelled_words,
    read_spellings,
    reading_tasks,
    reading_vocab,
    said_for,
    span_mask,
)
from seq2seq.sequence_labelling import error_rates

TEXT = ["the", "moon", "has", "no", "air", "and", "so", "no", "wind"]
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
def test_corruption_equals_the_slow_one_for_every_mask(length):
    text = TEXT[:length]
    for mask in product((False, True), repeat=length):
        source, target = corrupt(text, mask)
        assert (source, target) == slow_corrupt(text, mask)
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
    assert is_sentinel("<12>") and not any(map(is_sentinel, ("<a>", "12", "<0x41>", "<mask>")))


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
    said = said_for(model, (vocab, vocab), WORDS)
    assert error_rates(said, [e.targets for e in WORDS])[0] == pytest.approx(tuned.per)
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


def test_the_studies_compare_one_thing_at_a_time():
    assert {s["text"] for s in FEW_LABELS.settings} == {"nothing", "spellings", "shuffled"}
    assert tuple(sorted(LABEL_COUNTS)) == LABEL_COUNTS
    assert [s["labels"] for s in PAIR_COUNTS.settings] == [*LABEL_COUNTS]


def test_the_vocabulary_has_room_for_every_words_sentinels():
    longest = max(len(e.source) for e in corpora.pronunciations().train)
    most = max(len(spans_of(span_mask(n, 0.3, 2, random.Random(0)))) for n in range(longest + 1))
    assert most < 10


def test_what_is_said_is_no_longer_than_its_limit(vocab):
    seed_everything(0)
    model = attention_model(vocab, vocab, 8, 10)
    short = said_for(model, (vocab, vocab), WORDS, 3)
    assert len(short) == len(WORDS) and max(map(len, short)) <= 3
    long = said_for(model, (vocab, vocab), WORDS)
    assert all(a == b[:3] for a, b in zip(short, long, strict=True))


def test_what_is_on_record_has_the_rates_that_its_edits_give():
    rows = [r[str(n)] for setting in FEW_LABELS.settings for r in FEW_LABELS.results(setting) for n in LABEL_COUNTS]
    rows += [r for setting in PAIR_COUNTS.settings for r in PAIR_COUNTS.results(setting)]
    for row in rows:
        edits, lengths = ([int(digit, 36) for digit in row[name]] for name in ("edits", "lengths"))
        assert sum(edits) / sum(lengths) == pytest.approx(row["per"])
        assert sum(edit > 0 for edit in edits) / len(edits) == row["wer"]
