"""The phrase grammar: sentences that agree in three languages, and alignments that link translations."""

import math
import re
import zlib
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from seq2seq.kit import corpora
from seq2seq.kit.corpora import grammar


def lexicon():
    return [*grammar.ANIMALS, *grammar.PERSONS, *grammar.THINGS]


def french_faults(tokens):
    """What a reader of French would strike out. Written from the rules of French, not from the generator."""
    nouns = {form: (noun.feminine, number) for noun in lexicon() for number, form in enumerate(noun.fr)}
    invariable = {noun.fr[0] for noun in lexicon() if noun.fr[0] == noun.fr[1]}
    adjectives = {}                                                             # form -> {(feminine, number)}
    for stem in ["petit", "grand", "blanc", "noir", "vert", "bleu", "gris", "beau", "bel"]:
        her = {"blanc": "blanche", "beau": "belle", "bel": "belle"}.get(stem, stem + "e")
        them = {"gris": "gris", "beau": "beaux", "bel": "beaux"}.get(stem, stem + "s")
        for form, agreement in ((stem, (False, 0)), (them, (False, 1)), (her, (True, 0)), (her + "s", (True, 1))):
            adjectives.setdefault(form, set()).add(agreement)
    masculine, feminine, either = (False,), (True,), (False, True)
    determiners = {"le": (masculine, 0), "la": (feminine, 0), "l'": (either, 0), "les": (either, 1),
                   "ce": (masculine, 0), "cet": (masculine, 0), "cette": (feminine, 0), "ces": (either, 1),
                   "un": (masculine, 0), "une": (feminine, 0), "deux": (either, 1), "trois": (either, 1)}
    vowel = re.compile("[aeiouéèêîœ]")
    faults = []
    for here, token in enumerate(tokens):
        after = tokens[here + 1] if here + 1 < len(tokens) else ""
        if token in ("le", "la", "ce", "ne") and vowel.match(after):
            faults.append(f"{token} {after}")
        if token in ("l'", "n'", "cet", "bel") and not vowel.match(after):
            faults.append(f"{token} {after}")
        if token == "beau" and after in nouns and vowel.match(after):
            faults.append(f"{token} {after}")
        if token in determiners:
            at = next(k for k in range(here + 1, len(tokens)) if tokens[k] in nouns)
            genders, number = determiners[token]
            gender, form_number = nouns[tokens[at]]
            if gender not in genders or (number != form_number and tokens[at] not in invariable):
                faults.append(f"{token} … {tokens[at]}")
            end = next((k for k in range(at + 1, len(tokens)) if tokens[k] not in adjectives), len(tokens))
            for k in [*range(here + 1, at), *range(at + 1, end)]:
                if (gender, number) not in adjectives.get(tokens[k], ()):
                    faults.append(f"{tokens[k]} with {tokens[at]}")
                if (k < at) != tokens[k].startswith(("petit", "grand", "be")):
                    faults.append(f"{tokens[k]} on the wrong side of {tokens[at]}")
        if token in ("ne", "n'") and tokens[here + 2] != "pas":
            faults.append(f"{token} {after} without pas")
        if token == "pas" and tokens[here - 2] not in ("ne", "n'"):
            faults.append("pas without ne")
        if token in ("est", "sont"):
            predicate = tokens[here + 2] if after == "pas" else after
            if subject_of(tokens, here) not in adjectives.get(predicate, ()):
                faults.append(f"{predicate} does not agree")
        for singular, plural in [("est", "sont"), *(verb[3:5] for verb in grammar.VERBS)]:
            if token in (singular, plural) and token != (singular, plural)[subject_of(tokens, here)[1]]:
                faults.append(f"{token} does not agree")
    return faults


def subject_of(tokens, verb_at):
    """(feminine, number) of a verb's subject: the noun phrase before the nearest "qui" that has no verb yet, or
    else the first one of the clause."""
    determiners = ["le", "la", "l'", "ce", "cet", "cette", "un", "une", "les", "ces", "deux", "trois"]
    feminine_of = {form: noun.feminine for noun in lexicon() for form in noun.fr}
    verbs = {form for verb in grammar.VERBS for form in verb[3:5]} | {"est", "sont"}
    before = tokens[:verb_at]
    start = max((k for k, token in enumerate(before) if token == "et"), default=-1) + 1
    qui = max((k for k, token in enumerate(before) if token == "qui"), default=-1)
    if qui >= start and verbs.isdisjoint(before[qui:]):
        start = max(k for k in range(qui) if tokens[k] in determiners)
    if tokens[start][0].isupper():
        return tokens[start].endswith("a"), 0
    noun = next(token for token in tokens[start:] if token in feminine_of)
    return feminine_of[noun], int(determiners.index(tokens[start]) >= 8)


def test_every_french_sentence_agrees():
    for example in corpora.phrase_grammar(3000, seed=11, clauses=(1, 4)):
        assert not french_faults(example.target), (french_faults(example.target), " ".join(example.target))


@pytest.mark.parametrize("sentence", [
    "le oiseau est petit", "l' chat est petit", "la chat est petit", "le chat est petite", "le chat sont petit",
    "les chat sont petits", "les chats blanc sont petits", "le blanc chat est petit", "le chat petit est blanc",
    "ce arbre est beau", "un beau oiseau est petit", "le chat ne aime pas la fille", "le chat n' aime la fille",
    "les chats aime la fille", "la fille qui aiment les chats est petite", "la fille qui aime les chats sont petites",
    "les chats aiment la fille et Rovama dessinent la fille", "Rovama est petit",
])
def test_the_judge_of_french_strikes_out_what_is_wrong(sentence):
    assert french_faults(sentence.split())


def test_english_agrees():
    for example in corpora.phrase_grammar(3000, seed=13, clauses=1):
        text = " ".join(example.source)
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]|\b(these|two|three) \w+( \w+)? (is|does)\b", text), text
        assert not re.search(r"\b(this|an?) [a-z]+ (are|do)\b|\bdo(es)? not \w+s\b", text), text


def test_chinese_has_the_right_measure_words():
    measure = {noun.zh: noun.measure for noun in lexicon()}
    seen = Counter()
    for example in corpora.phrase_grammar(3000, seed=17, target="zh", clauses=1):
        target = example.target
        for here, token in enumerate(target):
            if token in ("那", "这", "两", "三", "一"):
                noun = next(word for word in target[here:] if word in measure)
                assert target[here + 1] == measure[noun], " ".join(target)
                seen[noun] += 1
            if token in ("那些", "这些"):
                assert target[here + 1] not in set(measure.values()) - {"头"}, " ".join(target)
            if token == "的":
                assert target[here - 1] != "的"
    assert len(seen) == len(lexicon())


@pytest.mark.parametrize("source, target", [("en", "fr"), ("fr", "en"), ("en", "zh"), ("zh", "fr")])
def test_alignments_cover_both_sides(source, target):
    aside = {"qui", "that", "的", "很", "是", "is", "are", "est", "sont"}       # where a language has no word for it
    for example in corpora.phrase_grammar(500, seed=5, source=source, target=target, clauses=(1, 4)):
        left, right = ({pair[side] for pair in example.alignment} for side in (0, 1))
        assert left <= set(range(len(example.source))) and right <= set(range(len(example.target)))
        assert len(set(example.alignment)) == len(example.alignment)
        for tokens, covered in ((example.source, left), (example.target, right)):
            assert all(token in aside for at, token in enumerate(tokens) if at not in covered)


def test_alignments_link_translations():
    pairs = {noun.en[number]: noun.fr[number] for noun in lexicon() for number in (0, 1)}
    for example in corpora.phrase_grammar(500, seed=3):
        for i, j in example.alignment:
            if example.source[i] in pairs:
                assert example.target[j] == pairs[example.source[i]]
            if example.source[i][0].isupper():
                assert example.target[j] == example.source[i]


def test_an_adjective_after_its_noun_crosses_the_alignment():
    example = next(example for example in corpora.phrase_grammar(500, seed=3) if "white" in example.source[:-1]
                   and example.source[example.source.index("white") - 1] not in ("is", "are", "not"))
    at = example.source.index("white")
    (adjective,), (noun,) = ([j for i, j in example.alignment if i == k] for k in (at, at + 1))
    assert adjective == noun + 1


def test_one_sentence_has_one_translation():
    for source, target in (("en", "fr"), ("fr", "en"), ("zh", "en"), ("en", "zh")):
        known = {}
        for example in corpora.phrase_grammar(8000, seed=23, source=source, target=target, clauses=1):
            assert known.setdefault(example.source, example.targets) == example.targets


def test_the_same_seed_says_the_same():
    assert corpora.phrase_grammar(50, seed=7) == corpora.phrase_grammar(50, seed=7)
    assert corpora.phrase_grammar(50, seed=7) != corpora.phrase_grammar(50, seed=8)
    assert corpora.phrase_grammar(9, seed=7) == corpora.phrase_grammar(50, seed=7)[:9]
    both = [corpora.phrase_grammar(50, seed=7, target=target) for target in ("fr", "zh")]
    assert [example.source for example in both[0]] == [example.source for example in both[1]]


@pytest.mark.parametrize("settings, expected", [
    ({}, 1383859082), ({"source": "fr", "target": "zh", "clauses": (1, 6)}, 3061547409),
    ({"target": "fr", "codings": 2, "unseen_names": True, "split": "test"}, 2177429869),
])
def test_every_reader_trains_on_the_same_sentences(settings, expected):
    sentences = [tuple(sentence) for sentence in corpora.phrase_grammar(400, seed=0, **settings)]
    assert zlib.crc32(repr(sentences).encode()) == expected


def test_no_sentences_can_be_asked_for():
    assert corpora.phrase_grammar(0, seed=0) == []


def test_length_grows_with_the_clauses():
    means = [np.mean([len(example.source) for example in corpora.phrase_grammar(100, seed=1, clauses=clauses)])
             for clauses in (1, 3, 9, 27)]
    assert all(2 * short < long for short, long in pairwise(means))
    verbs = {form for verb in grammar.VERBS for form in verb[3:5]} | {"est", "sont"}
    for example in corpora.phrase_grammar(100, seed=1, clauses=5):
        assert sum(token in verbs for token in example.target) == 5


def test_two_codings_are_equal_but_for_their_case():
    for example in corpora.phrase_grammar(100, seed=1, codings=2):
        small, capital = example.targets
        assert [token.lower() for token in capital] == list(small) and all(map(str.isupper, capital))
        assert set(small).isdisjoint(capital)


def test_unseen_names_are_never_seen():
    def names(examples):
        return [{token for token in example.source if token[0].isupper()} for example in examples]

    seen = set().union(*names(corpora.phrase_grammar(5000, seed=2, clauses=2)))
    unseen = names(corpora.phrase_grammar(500, seed=2, unseen_names=True))
    assert len(seen) == 40 and all(unseen) and not seen & set().union(*unseen)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_grammar_in_one_split(split):
    examples = corpora.phrase_grammar(50, seed=4, split=split)
    assert len(examples) == 50 and {corpora.split_of(" ".join(example.source)) for example in examples} == {split}


@pytest.mark.parametrize("wrong", [
    {"target": "en"}, {"target": "it"}, {"clauses": 0}, {"clauses": (3, 2)}, {"codings": 3}, {"clauses": 301},
    {"clauses": (1, 900)}, {"n": -1},
    {"codings": 2, "target": "zh"}, {"split": "dev"},
])
def test_grammar_refuses_what_it_cannot_say(wrong):
    with pytest.raises(ValueError, match="must be"):
        corpora.phrase_grammar(**{"n": 1, "seed": 0} | wrong)


def test_the_longest_sentences_can_be_said():
    for example in corpora.phrase_grammar(3, seed=1, clauses=300):
        assert len(example.source) > 1000


def test_numbers_may_be_numpys_but_not_fractions():
    assert corpora.phrase_grammar(np.int64(3), 0, clauses=np.int64(2)) == corpora.phrase_grammar(3, 0, clauses=2)
    for n in (2.5, math.nan, None):
        with pytest.raises(TypeError):
            corpora.phrase_grammar(n, 0)
