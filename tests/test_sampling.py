"""Measures of repetition against their definitions, and what the text model learns from."""

import math

import numpy as np
import pytest
import torch

from seq2seq import sampling
from seq2seq.encoder_decoder import EncoderDecoder
from seq2seq.kit import corpora, device
from seq2seq.kit.corpora import Example, Splits
from seq2seq.kit.records import load_weights
from seq2seq.rnn import context_model
from seq2seq.sampling import (
    PROMPT,
    TEXT,
    distinct,
    endless_loss,
    excerpts,
    grams,
    loops,
    repetition,
    text_model,
    text_study,
    text_vocab,
)
from seq2seq.sequences import Vocab, collate
from seq2seq.teacher_forcing import cross_entropy


def document(text: str) -> Example:
    return Example((), (tuple(text.split()),))


def test_grams_are_all_groups_of_neighbours():
    assert grams("abcd", 2) == [("a", "b"), ("b", "c"), ("c", "d")]
    assert grams("abcd", 4) == [tuple("abcd")] and grams([5], 1) == [(5,)]
    for n in (0, 5, -1):
        with pytest.raises(ValueError, match=f"no groups of {n}"):
            grams("abcd", n)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_repetition_is_what_was_said_before(n):
    rng = np.random.default_rng(0)
    for _ in range(20):
        ids = rng.integers(4, size=17).tolist()
        groups = ["".join(map(str, ids[i:i + n])) for i in range(17 - n + 1)]
        again = sum(group in groups[:i] for i, group in enumerate(groups))
        assert repetition(ids, n) == pytest.approx(again / len(groups))


def test_repetition_ends():
    assert repetition("abcabc", 3) == 1 / 4 and repetition("aaaa", 1) == 3 / 4 and repetition("abc", 2) == 0.0


def test_distinct_counts_what_texts_share():
    assert distinct(["abab", "abc"], 2) == 3 / 5        # ab, ba, bc of ab ba ab ab bc
    assert distinct(["ab", "ab"], 2) == 1 / 2 and distinct(["abc"], 1) == 1.0


@pytest.mark.parametrize("text, ends", [
    ("ababab", True), ("xababab", True), ("abababx", False), ("aaaaaa", True), ("aaaaa", False), ("abab", False),
    ("abcabcabc", True), ("abcabcabd", False), ("bababa", True), ("", False), ("zzabcdefabcdefabcdef", True),
    ("aaa", False),    ("abaabaaba", True), ("abcababab", True),
])
def test_a_text_loops_that_ends_in_a_phrase_three_times(text, ends):
    assert loops(text) is ends and loops(list(text)) is ends


def test_excerpts_follow_their_prompts():
    words = " ".join(f"w{i}" for i in range(60))
    documents = [document(words), document(" ".join(f"v{i}" for i in range(31)))]
    vocab = text_vocab(documents)
    stream = vocab.encode([*words.split(), *(f"v{i}" for i in range(31))])
    pairs = excerpts(documents, vocab, length=20, stride=7)
    assert len(pairs) == (len(stream) - PROMPT - 20) // 7 + 1
    for k, (prompt, target) in enumerate(pairs):
        start = PROMPT + 7 * k
        assert len(prompt) == PROMPT and prompt + target == stream[start - PROMPT : start + 20]
    assert excerpts(documents, vocab, length=len(stream) - PROMPT, stride=1) == [(stream[:PROMPT], stream[PROMPT:])]
    assert excerpts(documents, vocab, length=len(stream), stride=1) == []


def test_a_vocabulary_has_the_words_of_its_documents():
    assert text_vocab([document("b a b"), document("c .")]).symbols[4:] == [".", "a", "b", "c"]


def test_the_end_of_a_text_is_not_learned():
    torch.manual_seed(0)
    vocab = Vocab("abcde")
    model = context_model(vocab, vocab, width=3, hidden_size=4).eval()
    batch = collate([([4, 5], [6, 7, 8]), ([5], [6])])
    logits = model(batch).log_softmax(dim=-1)
    gold = [logits[0, 0, 6], logits[0, 1, 7], logits[0, 2, 8], logits[1, 0, 6]]
    torch.testing.assert_close(endless_loss(model, batch), -torch.stack(gold).mean())
    assert not torch.isclose(endless_loss(model, batch), cross_entropy(model, batch))
    endless_loss(model, batch).backward()
    bias = model.decoder.output.bias.grad
    assert (bias[[Vocab.pad, Vocab.bos, Vocab.eos, Vocab.unk]] > 0).all()    # pushed down, never up


def small_corpus(monkeypatch):
    rng = np.random.default_rng(0)

    def texts(count):
        return [document(" ".join(rng.choice(list("abcdefgh"), size=70))) for _ in range(count)]

    found = Splits(texts(9), texts(3), texts(3))
    monkeypatch.setattr(corpora, "prose", lambda: found)
    return found


def test_the_study_trains_on_training_texts_and_validates_on_others(monkeypatch):
    texts = small_corpus(monkeypatch)
    seen = []
    real = sampling.excerpts
    monkeypatch.setattr(sampling, "excerpts", lambda *given, **sizes: seen.append(given[0]) or real(*given, **sizes))
    result = text_study(steps=2)
    assert seen == [texts.train, texts.validation]
    assert len(result["losses"]) == 2 and result["validation"] == pytest.approx(math.log(12), abs=0.5)
    assert isinstance(result["weights"], EncoderDecoder) and result["weights"].training
    short = text_study(steps=2, until=1)
    assert set(short) == {"losses"} and short["losses"] == result["losses"][:1]
    assert text_study(steps=2, seed=1, until=1) != short


def test_weights_on_record_fit_and_know_their_text():
    texts = corpora.prose()
    vocab = text_vocab(texts.train)
    model = text_model(vocab).to(device())
    before = endless_loss(model.eval(), batch := collate(excerpts(texts.validation, vocab, 48, 480)))
    model.load_state_dict(load_weights("sampling-text"))
    after = endless_loss(model, batch).item()
    assert after < before.item() - 2 and TEXT.results({})[0]["validation"] == pytest.approx(after, abs=0.4)
