"""Measures of repetition against their definitions, and what the text model learns from."""

import math

import numpy as np
import pytest
import torch

from seq2seq import sampling
from seq2seq.decoding import beam_search, rescore, sample
from seq2seq.encoder_decoder import EncoderDecoder
from seq2seq.kit import corpora, device
from seq2seq.kit.corpora import Example, Splits
from seq2seq.kit.records import load_weights
from seq2seq.rnn import context_model
from seq2seq.sampling import (
    PROMPT,
    TEXT,
    WAYS,
    distinct,
    endless_loss,
    excerpts,
    go_on,
    grams,
    loops,
    measures,
    prompted,
    repetition,
    reread,
    sentences_of,
    text_model,
    text_study,
    text_vocab,
    train_writer,
    validation_loss,
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
    with pytest.raises(TypeError, match="'the cat' is a text; split it"):
        repetition("the cat", 2)
    with pytest.raises(ValueError, match="no texts"):
        distinct([], 2)


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
        return [document(" ".join(rng.choice(list("abcdefg."), size=70))) for _ in range(count)]

    found = Splits(texts(9), texts(3), texts(3))
    monkeypatch.setattr(corpora, "prose", lambda: found)
    return found


def endless(vocab: Vocab) -> EncoderDecoder:
    """A text model that never ends, even untrained."""
    model = text_model(vocab)
    with torch.no_grad():
        model.decoder.output.bias[Vocab.eos] = -1e4
    return model


def test_the_study_trains_on_training_texts_and_measures_on_others(monkeypatch):
    texts = small_corpus(monkeypatch)
    monkeypatch.setattr(sampling, "text_model", endless)
    monkeypatch.setattr(sampling, "LENGTH", 30)
    seen, real = [], sampling.excerpts
    monkeypatch.setattr(sampling, "excerpts", lambda *given, **sizes: seen.append((given[0], sizes)) or
                        real(*given, **sizes))
    result = text_study(steps=2)
    assert seen == [(texts.train, {"length": 48, "stride": 24}), ([*texts.validation, *texts.test],
                    {"length": 30, "stride": 30}), (texts.validation, {"length": 48, "stride": 48})]
    assert len(result["losses"]) == 2 and result["validation"] == pytest.approx(math.log(12), abs=0.5)
    assert isinstance(result["weights"], EncoderDecoder) and result["weights"].training
    assert list(result["measures"]) == ["human", *WAYS]
    for name in ("the same sentence", "different sentences"):
        assert result["reread"][name] == pytest.approx([12] * 8, rel=0.5)
    model, vocab = result["weights"], text_vocab(texts.train)
    pairs = prompted(vocab)
    for name, options in (("greedy", {"width": 1}), ("beam 8", {"width": 8})):
        assert result["measures"][name] == measures(model, pairs, go_on(model, pairs, beam_search, **options))
    sentences = sentences_of([y for _, y in pairs], vocab.ids["."])
    assert result["reread"] == reread(model, pairs[0][0], sentences)
    short = text_study(steps=2, until=1)
    assert set(short) == {"losses"} and short["losses"] == result["losses"][:1]
    assert text_study(steps=2, seed=1, until=1) != short
    other = text_study(steps=1, seed=1)
    assert "weights" not in other and other["measures"]["human"] != result["measures"]["human"]


def writer(length: int = 9):
    """A small random model, and pairs of a prompt and `length` ids."""
    torch.manual_seed(0)
    vocab = Vocab("abcdefg")
    pairs = [(torch.randint(4, 11, (n,)).tolist(), torch.randint(4, 11, (length,)).tolist()) for n in (5, 3, 7)]
    model = context_model(vocab, vocab, width=3, hidden_size=6)
    with torch.no_grad():
        model.decoder.output.bias[Vocab.eos] = -torch.inf
    return model, pairs


def test_what_goes_on_follows_its_own_prompt(monkeypatch):
    model, pairs = writer()
    monkeypatch.setattr(sampling, "LENGTH", 9)
    for search, options in ((beam_search, {"width": 2}), (sample, {"top_k": 1})):
        found = go_on(model, pairs, search, **options)
        assert [len(ids) for ids in found] == [9, 9, 9]
        assert found == [go_on(model, [pair], search, **options)[0] for pair in pairs]


def test_ways_are_what_their_names_say():
    expected = {
        "greedy": (beam_search, {"width": 1}), "beam 8": (beam_search, {"width": 8}), "drawn": (sample, {}),
        "temperature 0.7": (sample, {"temperature": 0.7}), "top 40": (sample, {"top_k": 40}),
        "top p = 0.9": (sample, {"top_p": 0.9}),
    }
    assert expected == WAYS


def test_measures_are_those_of_their_texts():
    model, pairs = writer()
    texts = [[4, 5, 4, 5, 4, 5], [4, 4, 6, 7, 8, 9], [7, 8, 9, 7, 8, 10]]
    found = measures(model, pairs, texts)
    apart = [p for (x, _), y in zip(pairs, texts, strict=True) for p in rescore(model, [(x, y)])[0]]
    assert found["perplexity"] == pytest.approx(math.exp(-sum(apart) / 18), rel=1e-5)
    assert found["rep-2"] == pytest.approx((3 / 5 + 0 + 1 / 5) / 3) and found["rep-4"] == pytest.approx(1 / 3 / 3)
    assert found["distinct-2"] == distinct(texts, 2) and found["loops"] == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="zip"):
        measures(model, pairs, texts[:2])


@pytest.mark.parametrize("wrong", [{"length": 0}, {"length": -2}, {"stride": 0}, {"stride": -1}], ids=str)
def test_excerpts_have_a_length_and_go_forwards(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        excerpts([document("a b " * 20)], Vocab("ab"), **{"length": 3, "stride": 3} | wrong)


def test_there_is_no_loss_where_nothing_but_the_end_follows():
    model, _ = writer()
    with pytest.raises(ValueError, match="nothing to learn from"):
        endless_loss(model, collate([([4], []), ([5], [])]))


def test_sentences_end_with_their_stop():
    assert sentences_of([[5, 6, 4, 7], [8, 9, 4, 4, 5, 6, 7, 8, 4, 9, 9]], stop=4, shortest=2, longest=4) == [
        [5, 6, 4], [7, 8, 9, 4]]
    assert sentences_of([[5, 4]], 4, 3) == [] and sentences_of([[5] * 16 + [4], [5] * 15 + [4], [5] * 7 + [4],
                                                              [5] * 6 + [4]], 4) == [[5] * 15 + [4], [5] * 7 + [4]]


def test_a_sentence_read_again_follows_itself():
    model, pairs = writer()
    sentences = [[5, 4], [6, 7, 4], [8, 4], [9, 10, 5, 4], [4]]
    found = reread(model, pairs[0][0], sentences, times=3)
    for name, stride in (("the same sentence", 0), ("different sentences", 7)):
        surprise = [[], [], []]
        for i in range(5):
            row = [sentences[(i + stride * k) % 5] for k in range(3)]
            steps = iter(rescore(model, [(pairs[0][0], [token for ids in row for token in ids])])[0])
            for k, sentence in enumerate(row):
                surprise[k] += [next(steps) for _ in sentence]
        assert found[name] == pytest.approx([math.exp(-sum(part) / len(part)) for part in surprise], rel=1e-5)
    assert len(reread(model, pairs[0][0], sentences)["the same sentence"]) == 8


def test_texts_held_out_are_in_no_training(monkeypatch):
    texts = small_corpus(monkeypatch)
    monkeypatch.setattr(sampling, "LENGTH", 40)
    vocab = text_vocab(texts.train)
    pairs = prompted(vocab)
    stream = vocab.encode(token for e in [*texts.validation, *texts.test] for token in e.target)
    assert len(pairs) == (6 * 70 - PROMPT) // 40
    assert [token for _, y in pairs for token in y] == stream[PROMPT : PROMPT + 40 * len(pairs)]


def test_validation_is_read_as_it_is_at_test_time():
    texts = corpora.prose()
    vocab = text_vocab(texts.train)
    torch.manual_seed(0)
    model = text_model(vocab).to(device())
    seen = []
    model.decoder.register_forward_hook(lambda part, *_: seen.append((torch.is_grad_enabled(), part.training)))
    before = validation_loss(model, vocab)
    assert seen == [(False, False)]
    assert before == validation_loss(model, vocab) == pytest.approx(math.log(len(vocab)), abs=0.1)    # no dropout
    assert model.training


def test_weights_on_record_fit_and_know_their_text():
    texts = corpora.prose()
    vocab = text_vocab(texts.train)
    model = text_model(vocab).to(device())
    before = endless_loss(model.eval(), batch := collate(excerpts(texts.validation, vocab, 48, 480)))
    model.load_state_dict(load_weights("sampling-text"))
    after = endless_loss(model, batch).item()
    assert after < before.item() - 2 and TEXT.results({})[0]["validation"] == pytest.approx(after, abs=0.4)


def test_the_record_begins_as_the_training_does():
    _, losses = train_writer(until=3)
    assert losses == pytest.approx(TEXT.rows()[0]["first_losses"][:3], abs=1e-3)


def test_three_trainings_are_on_record():
    assert [row["settings"] for row in TEXT.rows()] == [{"seed": 0}, {"seed": 1}, {"seed": 2}]
    assert all(list(found["measures"]) == ["human", *WAYS] for found in TEXT.results({}))
