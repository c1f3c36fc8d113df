"""Span corruption undone, noises by what they keep, and the families' pairs by hand."""

import math
import random
import re
from collections import Counter
from itertools import product

import pytest
import torch

from seq2seq.objectives import (
    MASK,
    byte_pieces,
    document_rotation,
    from_pieces,
    future_ngrams,
    gap_scores,
    language_shares,
    mbart_pair,
    one_text,
    pegasus_pair,
    poisson,
    restore,
    sentence_permutation,
    text_infilling,
    token_deletion,
    token_masking,
    translation_pair,
)
from seq2seq.pretraining import FEW_LABELS, corrupt

TEXT = ["the", "moon", "has", "no", "air", "and", "so", "no", "wind"]
SENTENCES = (("a", "b", "c"), ("a", "b", "d", "e"), ("f",))


# --- an answer in its place ---


@pytest.mark.parametrize("length", range(8))
def test_corruption_is_undone_for_every_mask(length):
    text = TEXT[:length]
    for mask in product((False, True), repeat=length):
        assert restore(*corrupt(text, mask)) == text


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
    assert pegasus_pair(sentences[::-1], 2)[1] == one_text(sentences[::-1][1:3])
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


# --- the study that the page reads ---


def test_both_questions_and_no_reading_are_on_record():
    for setting in ({"text": "nothing"}, {"text": "spellings"}, {"text": "spellings", "asks": "spans"}):
        assert setting in FEW_LABELS.settings
