"""ROUGE against its library, extraction against brute force, the counts by loops, the corpus and its split."""

import random
from collections import Counter
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from rouge_score.rouge_scorer import RougeScorer

from seq2seq.kit import corpora, seed_everything
from seq2seq.kit.corpora import Example
from seq2seq.kit.corpora.installed import DOCUMENTED, RUN, marks
from seq2seq.sequences import Vocab
from seq2seq.summarization import (
    BASELINES,
    EXTRACTS,
    SUMMARIES,
    extract,
    first_line,
    novel,
    of_shared,
    oracle,
    real_words,
    rouge,
    rouge_l,
    rouge_n,
    spaced,
    split_sentences,
    sumbasic,
    summary_model,
    summary_vocab,
    told,
    train_summaries,
    unfounded,
    usual_words,
)

UNK = Vocab.special[Vocab.unk]
TEXT = "the cat sat . a dog and a dog ran after the dog ! it is over"
TEXT = (*TEXT.split(),)


def drawn(seed, longest=12):
    """Two texts of the same few words."""
    rng = random.Random(seed)
    return [[rng.choice("abcdefg") for _ in range(rng.randint(1, longest))] for _ in "12"]


@pytest.fixture(scope="module")
def small():
    return corpora.summaries(("numpy",))


# --- ROUGE ---


@pytest.mark.parametrize("seed", range(40))
def test_rouge_by_hand_is_the_librarys(seed):
    said, gold = drawn(seed)
    library = RougeScorer(["rouge1", "rouge2", "rouge3", "rougeL"]).score(" ".join(gold), " ".join(said))
    for n in (1, 2, 3):
        assert rouge_n(said, gold, n) == pytest.approx(tuple(library[f"rouge{n}"]))
    assert rouge_l(said, gold) == pytest.approx(tuple(library["rougeL"]))
    assert rouge(said, gold) == pytest.approx([rouge_n(said, gold, 1)[2], rouge_n(said, gold, 2)[2],
                                               rouge_l(said, gold)[2]])


@pytest.mark.parametrize("seed", range(20))
def test_the_longest_common_subsequence_is_that_of_all_subsequences(seed):
    said, gold = drawn(seed, 7)
    every = [{tuple(text[i] for i in chosen) for n in range(len(text) + 1)
              for chosen in combinations(range(len(text)), n)} for text in (said, gold)]
    assert rouge_l(said, gold)[1] * len(gold) == pytest.approx(max(map(len, every[0] & every[1])))


def test_recall_only_grows_with_length_and_f1_does_not():
    said, gold = drawn(3)
    longer = [rouge_n(said + gold * k, gold, 1) for k in range(4)]
    assert all(b[1] >= a[1] for a, b in pairwise(longer)) and longer[-1][2] < longer[1][2]


def test_rouge_of_nothing_and_of_the_same():
    assert rouge_n([], ["a"], 1) == rouge_l(["a"], []) == rouge_n(["a"], ["a"], 2) == (0, 0, 0)
    assert rouge([], ["a"]) == [0, 0, 0] and rouge(list("abc"), list("abc")) == [1, 1, 1]
    assert of_shared(1, 2, 4) == (0.5, 0.25, pytest.approx(2 * 0.5 * 0.25 / 0.75))


def test_no_stemmer_no_case_no_marks():
    assert rouge(["Arrays", "."], ["array"]) == [0, 0, 0] and rouge(["ARRAY", "."], ["array"])[0] == 1
    assert rouge(["np.sum"], ["np", "sum"]) == [1, 1, 1]


def test_rouges_doors():
    with pytest.raises(TypeError, match="lists of words"):
        rouge("a b", ["a"])
    with pytest.raises(TypeError, match="lists of words"):
        rouge(["a"], "a b")
    with pytest.raises(ValueError, match="n must be at least 1"):
        rouge_n(["a"], ["a"], 0)


# --- extraction ---


def test_sentences_are_the_text_cut_and_nothing_lost():
    cut = [" ".join(s) for s in split_sentences(TEXT)]
    assert cut == ["the cat sat .", "a dog and a dog ran after the dog !", "it is over"]
    for text in (TEXT, TEXT[:4], (), ("a",), (".",), (".", ".")):
        cut = split_sentences(text)
        assert sum(cut, ()) == tuple(text) and all(cut)
        assert all(s[-1] in ".!?" for s in cut[:-1]) and not any(w in ".!?" for s in cut for w in s[:-1])


def test_sumbasic_takes_the_sentence_of_frequent_words():
    assert sumbasic(TEXT, {"the", "a", "and", "it", "is"})[1] == "dog"
    assert sumbasic(TEXT, set()) in split_sentences(TEXT)
    assert sumbasic(("over", ".", "the", "."), {"the", "over"}) == ("over", ".")     # nothing counts: the first


@pytest.mark.parametrize("seed", range(10))
def test_sumbasic_by_loops(seed):
    rng = random.Random(seed)
    text = [rng.choice("aaabbcdefg.") for _ in range(30)]
    usual = {"c"}
    counts = Counter(w for w in text if w not in ".c")
    best = max(np.mean([counts[w] for w in s if w in counts] or [0]) for s in split_sentences(text))
    chosen = sumbasic(text, usual)
    assert np.mean([counts[w] for w in chosen if w in counts] or [0]) == pytest.approx(best)


def test_no_sentence_beats_the_best_one():
    gold = ["a", "dog", "after", "a", "cat"]
    assert oracle(TEXT, gold) in split_sentences(TEXT)
    assert rouge(oracle(TEXT, gold), gold)[0] == max(rouge(s, gold)[0] for s in split_sentences(TEXT)) > 0


def test_extracts_are_in_the_text_and_only_two_look_at_the_line(small):
    usual = usual_words(small.train)
    for e in small.test:
        other = Example(e.source, (("nothing", "of", "it"),))
        for how in BASELINES[:4]:
            said = extract(how, e, usual)
            assert " ".join(said) in " ".join(e.source)
            if how != "best sentence":
                assert extract(how, other, usual) == said
        scores = {how: rouge(extract(how, e, usual), e.target)[0] for how in BASELINES}
        assert max(scores["first sentence"], scores["SumBasic"]) <= scores["best sentence"] <= 1
        assert scores["the line itself"] == 1
        assert extract("first sentence", e, usual) == split_sentences(e.source)[0]
        assert len(extract("first 10 words", e, usual)) == 10
    with pytest.raises(ValueError, match="none of"):
        extract("lead-3", small.test[0], usual)


# --- counts ---


def test_words_that_are_no_marks():
    assert real_words(["a", ".", UNK, "np.sum", "2", "-"]) == ["a", "np.sum", "2"]
    assert usual_words([Example(("a", "a", "b", "."), (("b", "b", "."),))], 1) == {"b"}


def test_unfounded_words_are_neither_there_nor_usual():
    assert unfounded(["return", "the", "eggs", UNK, ".", "spam"], ["spam"], {"return", "the"}) == ["eggs"]
    assert unfounded(["eggs", "eggs"], [], set()) == ["eggs", "eggs"]


@pytest.mark.parametrize("seed", range(10))
def test_novel_groups_by_loops(seed):
    said, source = drawn(seed)
    for n in (1, 2, 3):
        new = total = 0
        for i in range(len(said) - n + 1):
            total += 1
            new += not any(said[i : i + n] == source[j : j + n] for j in range(len(source)))
        assert novel(said, source, n) == [new, total]
    assert novel(source, source, 2)[0] == 0


def test_groups_with_an_unknown_word_are_left_out():
    assert novel(["a", UNK, "b", "c"], ["b"], 1) == [2, 3] and novel(["a", UNK, "b", "c"], ["b"], 2) == [1, 1]
    assert novel([], ["a"], 1) == [0, 0]


def test_what_is_told_is_counted_text_by_text():
    examples = [Example(("spam", "and", "eggs", "."), (("eggs", "."),)), Example(("ham", "."), (("ham",),))]
    found = told([["eggs", "eggs", "eggs", UNK, "."], ["bacon", "."]], examples, {"and"})
    assert found["rouge 1"] == "400 0" and found["rouge"][0] == pytest.approx(0.2)
    assert found["repeated"] == "1 0" and found["pairs"] == "4 1"
    assert found["new"] == "0 1" and found["words"] == "3 1"
    assert found["unfounded"] == "0 1" and found["unknown"] == "1 0"
    assert found["novel"][0] == [1, 6] and len(found["novel"]) == 4
    assert spaced([0.6, 2]) == "1 2"
    with pytest.raises(ValueError):
        told([["a"]], examples, set())


# --- models ---


@pytest.fixture(scope="module")
def words(small):
    return summary_vocab(small.train)


def test_copying_and_coverage_are_switched_each_by_itself(words):
    sizes = {}
    for copies in (False, True):
        for coverage in (False, True):
            model = summary_model(words, copies, coverage, 3, 10)
            assert (model.decoder.copies, model.decoder.coverage) == (copies, coverage)
            sizes[copies, coverage] = sum(p.numel() for p in model.parameters())
    assert sizes[True, False] - sizes[False, False] == sizes[True, True] - sizes[False, True] == 2 * 10 + 3 + 1
    assert sizes[True, True] - sizes[True, False] == 10 // 2


@pytest.mark.parametrize("copies", [False, True])
def test_coverage_without_the_pointer_trains_too_and_is_charged_late(small, words, copies):
    losses = {}
    for coverage in (False, True):
        seed_everything(0)
        model = summary_model(words, copies, coverage, 3, 10)
        losses[coverage] = train_summaries(model, small.train, words, 5)
        assert all(p.isfinite().all() for p in model.parameters())
    assert np.isfinite(losses[True]).all() and losses[True][4] - losses[False][4] > 0.2   # from step 4 of 5 on
    assert abs(losses[True][1] - losses[False][1]) < 0.2


def test_training_stops_early_as_it_began(small, words):
    found = []
    for until in (None, 2):
        seed_everything(0)
        found.append(train_summaries(summary_model(words, True, False, 3, 10), small.train, words, 4, until=until))
    assert found[1] == pytest.approx(found[0][:2])


def test_a_docstring_from_elsewhere_gets_a_line(words):
    seed_everything(0)
    model = summary_model(words, True, True, 3, 10)
    docstring = """Count the eggs.

    This function counts the number of eggs in every zorana of the basket.

    Parameters
    ----------
    basket : list
    """
    said = first_line(model, words, docstring, 6)
    assert 0 < len(said) <= 6 and said == first_line(model, words, docstring.replace("Count the eggs", "Other"), 6)
    allowed = {*words.listed, "zorana"}
    assert set(said) <= allowed
    with pytest.raises(ValueError, match="nothing to summarise"):
        first_line(model, words, "Count the eggs.")


def test_a_rare_word_of_a_text_can_be_said(words):
    model = summary_model(words, True, False, 3, 10)
    with torch.no_grad():
        model.decoder.gate.bias.fill_(-50)                         # copies, and nothing else
    said = first_line(model, words, "x\n\nZorana zorana zorana zorana zorana zorana.", 3)
    assert set(said) <= {"zorana", "."}
    assert "zorana" not in words.src.ids and Vocab.special[Vocab.unk] not in said


# --- the data ---


def test_a_docstring_is_cut_before_its_sections():
    line, body = corpora.line_and_body("""Add :func:`~np.sum` of ``x``.

    It is *one* sentence, e.g. this [1]_. Another

    one ends a paragraph:

    Parameters
    ----------
    x : nothing that is read
    """)
    assert " ".join(line) == "add np.sum of x ."
    assert " ".join(body) == "it is * one * sentence , e.g this . another . one ends a paragraph ."
    for section in (">>> prompt()", ":param x: y", ".. note:: y", "Args:\n  x: y", "Returns:\n  y", "- a list",
                    "1. one", "Notes\n-----\nmore", "x | y | z | > | >"):
        assert corpora.line_and_body(f"A line.\n\nBefore it.\n\n{section}\n\nAfter it.")[1] == ("before", "it", ".")
    assert corpora.line_and_body("A line.") == (("a", "line", "."), ())
    assert corpora.line_and_body("A line.\n\nReturns the sum.")[1] == ("returns", "the", "sum", ".")


def test_whole_sentences_as_far_as_they_fit():
    text = "A line.\n\nOne two three. Four five six. Seven."
    assert " ".join(corpora.line_and_body(text, 8)[1]) == "one two three . four five six ."
    assert " ".join(corpora.line_and_body(text, 7)[1]) == "one two three ."
    assert corpora.line_and_body(text, 2)[1] == ("one", "two")
    with pytest.raises(ValueError, match="at most 0"):
        corpora.line_and_body(text, 0)


def test_no_file_and_no_near_duplicate_is_on_two_sides(small):
    assert min(map(len, small)) > 0
    for left, right in combinations(small, 2):
        shared = set().union(*map(marks, left)) & set().union(*map(marks, right))
        assert not shared
        assert not {e.source for e in left} & {e.source for e in right}
    for e in (e for part in small for e in part):
        assert 3 <= len(e.target) <= 16 and 12 <= len(e.source) <= 60


def test_near_duplicates_share_a_mark():
    text = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    one = Example(text, (("add", "2", "x", "."),))
    assert marks(one) & marks(Example(("other", *text[1:9]), (("y",),)))               # RUN words in a row
    assert not marks(one) & marks(Example(text[: RUN - 1], (("y",),)))
    assert marks(one) & marks(Example(("else",), (("Add", "3", "x"),)))                 # the line, but for marks
    assert not marks(one) & marks(Example(("else",), (("add", "y"),)))


def test_near_duplicates_leave_the_training_and_not_the_test(tmp_path, monkeypatch):
    body = "This text is one that several functions of several files have in common, word for word."
    for i in range(80):
        line = f"Give the {'abcdefghij'[i // 10]} {'klmnopqrst'[i % 10]} back."
        (tmp_path / f"f{i}.py").write_text(f'def f():\n    """{line}\n\n    {body} Number {i}.\n    """\n')
    monkeypatch.setattr("seq2seq.kit.corpora.installed.package_folder", lambda *_: tmp_path)
    found = corpora.summaries(("made_up",))
    files = [corpora.split_of(f"made_up/f{i}.py") for i in range(80)]
    assert len(found.test) == files.count("test") > 0 and not found.validation and not found.train


def test_the_split_is_that_of_the_file_and_pins_are_checked(small, monkeypatch):
    monkeypatch.setitem(DOCUMENTED, "numpy", "1.0")
    with pytest.raises(corpora.MissingCorpus, match=r"pip install numpy==1\.0"):
        corpora.summaries(("numpy",), pinned=True)
    again = corpora.summaries(("numpy",))
    assert again == small and again.test is not small.test
    again.test.clear()
    assert corpora.summaries(("numpy",)).test == small.test


# --- the record ---


def test_what_is_on_record_has_every_text_and_every_system():
    sizes = set()
    for study in (EXTRACTS, SUMMARIES):
        for setting in study.settings:
            for r in study.results(setting):
                sizes |= {len(r[key].split()) for key in ("rouge 1", "repeated", "new", "words", "unfounded")}
                assert np.mean([*map(int, r["rouge 1"].split())]) / 1000 == pytest.approx(r["rouge"][0], abs=1e-3)
    assert len(sizes) == 1
