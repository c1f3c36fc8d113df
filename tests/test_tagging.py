"""The tagger against torch, spans and Viterbi against slow references, roles of names, the studies on a toy Brown."""

import itertools
import keyword
import math
import random
from collections import Counter

import pytest
import torch
from torch import nn

from seq2seq import tagging
from seq2seq.kit import corpora, seed_everything
from seq2seq.kit.corpora import NO_NAME, Example, Splits
from seq2seq.kit.corpora.roles import lines_of
from seq2seq.kit.training import History
from seq2seq.sequence_labelling import tag_accuracy, tag_loss
from seq2seq.sequences import Vocab, batches, collate, fit, numericalise
from seq2seq.tagging import (
    PROPER,
    TAGGERS,
    Gazetteer,
    Lexicon,
    SpelledWords,
    UsualTags,
    WordList,
    WordTagger,
    best_labels,
    bio,
    bio_moves,
    capitals,
    chinese_names,
    english_tags,
    impossible,
    in_words,
    label_log_probs,
    lexicon_and_tags,
    name_spans,
    precision_recall_f1,
    scored_groups,
    scored_names,
    scored_words,
    shown_in,
    span_counts,
    viterbi,
    watched_word,
    word_moves,
    word_spans,
    wrong_in_each,
)

WORDS = ["she", "purled", "he", "sleeps-in-the-sun", "é", "x" * 30]


def example(words, tags):
    return Example(tuple(words.split()), (tuple(tags.split()),))


# --- The table ---


def test_a_word_has_its_most_frequent_tag_and_a_new_one_that_of_its_longest_ending():
    rng = random.Random(0)
    words = ["".join(rng.choices("abA", k=rng.randint(1, 5))) for _ in range(60)]
    examples = []
    for _ in range(200):
        row = rng.choices(words, k=rng.randint(1, 6))
        examples.append(Example(tuple(row), (tuple(rng.choice("XYZ"[: 1 + len(w) % 3]) for w in row),)))
    for longest in (0, 2, 4):
        table, tags = UsualTags(examples, longest), {}
        for e in examples:
            for word, tag in zip(e.source, e.target, strict=True):
                tags.setdefault(word, Counter())[tag] += 1
        best = {word: max(found, key=found.__getitem__) for word, found in tags.items()}
        assert table(words) == [best[w] for w in words if w in best] or set(words) - set(best)
        for _ in range(100):
            new = "".join(rng.choices("abA", k=rng.randint(6, 8)))
            for n in range(longest, -1, -1):       # by hand: the longest ending met, with the same case
                like = [t for w, t in best.items()
                        if w[:1].isupper() == new[:1].isupper() and (w[-n:] if n else "") == (new[-n:] if n else "")
                        and len(w) >= n]
                if like:
                    break
            else:
                like = list(best.values())
            assert Counter(like)[table([new])[0]] == max(Counter(like).values())


def test_endings_count_words_and_not_how_often_they_come():
    table = UsualTags([example("walked walked walked talked balked", "N N N V V")])
    assert table(["walked", "stalked"]) == ["N", "V"]


def test_a_capital_never_met_falls_back_to_all_words():
    assert UsualTags([example("ab cb", "N N")])(["Xy"]) == ["N"]
    with pytest.raises(ValueError, match="tagged words"):
        UsualTags([])
    with pytest.raises(ValueError):
        UsualTags([Example(("a", "b"), (("N",),))])


# --- The lexicon and the letters ---


def test_a_lexicon_knows_some_words_and_spells_all():
    words = Lexicon(WORDS[:2], WORDS)
    assert words.known == 6 and len(words) == 4 + len(WORDS)
    assert words.encode(WORDS[:2]) == [4, 5] and min(words.encode(WORDS[2:])) == 6
    assert words.encode(["never"]) == [Vocab.unk]
    assert words.letters.shape == (10, 18) and not words.letters[:4].any()
    [she] = words.encode(["she"])
    assert words.letters[she].tolist() == [2, *map(ord, "she"), 3] + [0] * 13
    assert words.letters[words.encode(["é"])[0]].tolist()[:3] == [2, 127, 3]
    assert words.letters[words.encode(["x" * 30])[0]].tolist() == [2] + [ord("x")] * 16 + [3]
    last = Lexicon(["abcdef"], longest=3)
    assert bytes(last.letters[4].tolist()) == b"\x02def\x03"
    with pytest.raises(ValueError, match="longest"):
        Lexicon(["a"], longest=0)
    with pytest.raises(ValueError, match="once"):
        Lexicon(["a", "a"])


def test_a_words_vector_is_its_own_and_the_maximum_over_its_windows():
    seed_everything(0)
    words = Lexicon(WORDS[:2], WORDS)
    layer = SpelledWords(words, 3, 5, 7)
    ids = torch.tensor([words.encode(WORDS)])
    found = layer(ids)[0]
    assert found.shape == (6, 8)
    assert torch.equal(found[:2, :3], layer.words.weight[4:6])
    assert torch.equal(found[2:, :3], layer.words.weight[3].expand(4, 3))     # UNK's
    for word, row in zip(WORDS, found[:, 3:], strict=True):
        codes = [0, 2, *(min(ord(c), 127) for c in word[-16:]), 3, 0]
        x = layer.letter(torch.tensor(codes))
        windows = [torch.einsum("oik,ki->o", layer.window.weight, x[i:i + 3]) + layer.window.bias
                   for i in range(len(codes) - 2)]
        assert torch.allclose(torch.stack(windows).relu().amax(dim=0), row, atol=1e-6)
    assert not layer(torch.tensor([[Vocab.pad, Vocab.eos]]))[..., 3:].any()
    assert SpelledWords(words, 3, 0)(ids).shape == (1, 6, 3)


def test_what_else_is_in_the_lexicon_changes_nothing():
    seed_everything(0)
    small, large = Lexicon(WORDS[:2], WORDS[2:4]), Lexicon(WORDS[:2], [*WORDS, "another", "zzz"])
    model = WordTagger(small, 5, 3, 14, letters=7)
    other = WordTagger(large, 5, 3, 14, letters=7)
    other.load_state_dict(model.state_dict())
    rows = [WORDS[:4], ["he"]]
    for a, b in zip(label_log_probs(model, small, rows), label_log_probs(other, large, rows), strict=True):
        assert torch.allclose(a, b, atol=1e-6) and a.shape == (len(a), 1)


# --- The tagger ---


def made(directions=2, letters=7):
    seed_everything(1)
    words = Lexicon(WORDS[:2], WORDS)
    return words, WordTagger(words, 11, 3, 14, letters=letters, directions=directions)


@pytest.mark.parametrize("letters", [0, 7])
@pytest.mark.parametrize("directions", [1, 2])
def test_padding_changes_nothing(directions, letters):
    words, model = made(directions, letters)
    rows = [words.encode(WORDS[:n]) for n in (1, 5, 3, 0)]
    batch = collate([(row, []) for row in rows])
    logits = model(batch.src, batch.src_padding)
    assert logits.shape == (4, 6, 11)
    for row, found in zip(rows, logits, strict=True):
        alone = collate([(row, [])])
        assert torch.allclose(model(alone.src, alone.src_padding)[0], found[: len(row) + 1], atol=1e-6)


def test_two_directions_are_torchs_over_packed_rows():
    words, model = made()
    batch = collate([(words.encode(WORDS[:n]), []) for n in (2, 6, 1)])
    both = nn.GRU(10, 7, batch_first=True, bidirectional=True)
    both.load_state_dict(dict(model.forwards.named_parameters())
                         | {f"{n}_reverse": p for n, p in model.backwards.named_parameters()})
    lengths = (~batch.src_padding).sum(dim=1)
    packed = nn.utils.rnn.pack_padded_sequence(model.embedding(batch.src), lengths, True, enforce_sorted=False)
    states, _ = nn.utils.rnn.pad_packed_sequence(both(packed)[0], True)
    there = ~batch.src_padding
    assert torch.allclose(model.score(states)[there], model(batch.src, batch.src_padding)[there], atol=1e-6)


@pytest.mark.parametrize("directions", [1, 2])
def test_one_direction_sees_nothing_of_what_comes(directions):
    words, model = made(directions)
    one, other = words.encode(["she", "he", "purled"]), words.encode(["she", "he", "é"])
    a, b = (model(batch.src, batch.src_padding)[0] for batch in (collate([(row, [])]) for row in (one, other)))
    assert torch.equal(a[:2], b[:2]) == (directions == 1)
    assert not torch.allclose(a[2], b[2])


def test_bad_input_says_what_to_do():
    words, model = made()
    for wrong in ({"directions": 3}, {"hidden_size": 7}):
        with pytest.raises(ValueError, match="directions must be 1 or 2 and divide"):
            WordTagger(words, 5, **wrong)
    with pytest.raises(ValueError, match="labels"):
        WordTagger(words, 0)
    with pytest.raises(ValueError, match="encode with the vocabulary"):
        model(torch.tensor([[99, 2]]), torch.zeros(1, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="Mask turned around"):
        model(torch.tensor([[4, 2]]), torch.ones(1, 2, dtype=torch.bool))


def test_letters_tell_new_words_apart():
    """Labels that hang on the ending alone are learned, and said of words never seen."""
    rng = random.Random(0)
    def word(n):
        return "".join(rng.choices("abcdefgh", k=n)) + rng.choice(["ed", "ly"])
    examples = [[word(3) for _ in range(4)] for _ in range(300)]
    examples = [Example(tuple(row), (tuple(w[-2:] for w in row),)) for row in examples]
    train, test = examples[:250], examples[250:]
    words, tags = Lexicon(["a"], {w for e in examples for w in e.source}), Vocab(["ed", "ly"])
    scores = {}
    for letters in (0, 8):
        seed_everything(0)
        model = WordTagger(words, len(tags), 4, 8, letters=letters)
        fit(model, tag_loss, numericalise(train, words, tags), 60)
        scores[letters] = tag_accuracy(model, numericalise(test, words, tags))
    assert scores[0] < 0.7 and scores[8] > 0.95


def test_labels_are_read_off_without_the_special_symbols():
    words, model = made()
    sentences, tags = [["she", "he"], ["he"], WORDS], Vocab("abcdefg")
    model.train()
    scores = label_log_probs(model, words, sentences)
    assert model.training and [row.shape for row in scores] == [(2, 7), (1, 7), (6, 7)]
    [batch] = batches([(words.encode(row), []) for row in sentences], 3)
    logits = model(batch.src, batch.src_padding)[..., 4:].log_softmax(dim=-1)
    for row, found in zip(logits, scores, strict=True):
        assert torch.allclose(row[: len(found)], found, atol=1e-6)
    said = best_labels(scores, tags)
    assert said[1] == ["abcdefg"[int(logits[1, 0].argmax())]] and list(map(len, said)) == [2, 1, 6]


def test_a_lexicon_of_splits_knows_what_training_has_most_often():
    train = [example("a a b b b c", "X X Y Y Y X")]
    splits = Splits(train, [example("d", "X")], [example("e a", "X Z")])
    words, tags = lexicon_and_tags(splits, 2)
    assert words.symbols[4:] == ["b", "a", "c", "d", "e"] and words.known == 6 and tags.symbols[4:] == ["X", "Y"]


# --- Spans ---


def spans_by_hand(labels):
    """After conlleval: a name begins at B, and at an I that follows O or nothing; it goes on at I."""
    found, begin = set(), None
    for i, label in enumerate([*labels, "O"]):
        if begin is not None and label != "I":
            found.add((begin, i))
            begin = None
        if label == "B" or (label == "I" and begin is None):
            begin = i
    return found


def test_spans_and_f1_against_a_slow_reference():
    rng = random.Random(0)
    for row in itertools.product("BIO", repeat=5):
        assert name_spans(row) == spans_by_hand(row)
        assert impossible(row) == sum(label == "I" and (i == 0 or row[i - 1] == "O") for i, label in enumerate(row))
    for _ in range(200):
        n = rng.randint(1, 9)
        said, gold = (rng.choices("BIO", k=n) for _ in "12")
        a, b = spans_by_hand(said), spans_by_hand(gold)
        shared = sum(name in b for name in a)
        assert span_counts(said, gold) == (shared, len(a), len(b))
        p, r, f = precision_recall_f1(shared, len(a), len(b))
        assert p == (shared / len(a) if a else 0) and r == (shared / len(b) if b else 0)
        assert math.isclose(f, 2 * p * r / (p + r) if p + r else 0)
    assert name_spans([]) == set()


def test_bad_labels_are_named():
    with pytest.raises(ValueError, match="not B-PER"):
        name_spans(["B-PER", "O"])
    with pytest.raises(ValueError, match="2 labels cannot be scored against 1"):
        span_counts("BI", "B")


def test_names_are_runs_of_proper_nouns_that_a_possessive_ends():
    assert bio(["NP", "NP", "VB", "NP$", "NP", "NPS", "NN"]) == list("BIOBBIO")
    assert bio(["NPS$", "NPS$", "NP"]) == list("BBB") and bio([]) == []
    rng = random.Random(0)
    for _ in range(100):
        tags = rng.choices([*PROPER, "NN", "VB"], k=8)
        labels = bio(tags)
        assert [label != "O" for label in labels] == [tag in PROPER for tag in tags] and not impossible(labels)


# --- Viterbi ---


@pytest.mark.parametrize("seed", range(30))
def test_viterbi_is_brute_force(seed):
    torch.manual_seed(seed)
    length, labels = 1 + seed % 5, 3
    scores, moves, first = torch.randn(length, labels), torch.randn(labels, labels), torch.randn(labels)
    moves[torch.rand(labels, labels) < 0.3] = -torch.inf
    first[seed % 3] = -torch.inf

    def worth(row):
        return (first[row[0]] + sum(scores[t, i] for t, i in enumerate(row))
                + sum(moves[i, j] for i, j in itertools.pairwise(row)))

    rows = [row for row in itertools.product(range(labels), repeat=length) if worth(row) > -torch.inf]
    if rows:
        assert viterbi(scores, moves, first) == list(max(rows, key=worth))
    else:
        with pytest.raises(ValueError, match="forbidden"):
            viterbi(scores, moves, first)


def test_only_an_inside_without_a_beginning_is_forbidden():
    for order in itertools.permutations("BIO"):
        moves, first = bio_moves(Vocab(order))
        for i, j in itertools.product(range(3), repeat=2):
            assert (moves[i, j] == 0) == (order[i] + order[j] != "OI") and moves[i, j] in (0, -torch.inf)
        assert [bool(x == 0) for x in first] == [label != "I" for label in order]
        torch.manual_seed(0)
        for scores in torch.randn(20, 6, 3):
            labels = [order[i] for i in viterbi(scores, moves, first)]
            free = [order[i] for i in scores.argmax(dim=1)]
            assert not impossible(labels) and (labels == free or impossible(free))


# --- The rules for names ---


def test_capitals_are_names_but_for_the_first_word():
    assert capitals(["The", "Fulton", "County", "jury", "met", "Atlanta's", "Smith", "."]) == list("OBIOOBBO")
    assert capitals(["Smith"]) == ["O"]


def test_the_longest_name_that_was_met_is_taken():
    met = Gazetteer([Example(tuple(["A", "B", "c", "A"]), (tuple("BIOB"),)), Example(("x", "D"), (("O", "B"),))])
    assert met.names == {("A", "B"), ("A",), ("D",)}
    assert met(["A", "B", "A", "c", "B", "D"]) == list("BIBOOB") and met([]) == []
    assert Gazetteer([example("a", "O")])(["a"]) == ["O"]


# --- Counting ---


def test_groups_are_counted():
    gold = [example("that said walked x", "CS VBD VBD NN"), example("z to", "NN TO")]
    said = [["CS", "NN", "VBD", "VB"], ["NN", "IN"]]
    found = scored_groups(said, gold, {"that", "to"}, {"that", "to", "said", "walked"})
    assert found == {"all": [3, 6], "known": [1, 2], "rare": [1, 2], "new": [1, 2], "that": [1, 1], "to": [0, 1],
                     "-ed": [1, 1]}
    assert wrong_in_each(said, gold) == [2, 1]
    assert watched_word("red", "JJ") is None and watched_word("her", "PPO") == "her"
    with pytest.raises(ValueError):
        scored_groups([["CS"]], gold[:1], (), ())


def test_names_are_counted_by_sentence():
    gold = [example("A B c", "B I O"), example("c D", "O B"), example("E c", "B O")]
    scores = scored_names([list("BIO"), list("OI"), list("OO")], gold)
    assert scores == {"shared": "110", "said": "110", "gold": "111", "token accuracy": 1 - 2 / 7, "impossible": 1,
                      "first word": [1, 1, 2]}


# --- The studies, on a Brown of two kinds of words ---


def brown(n, seed=0):
    rng, found = random.Random(seed), {}
    while len(found) < n:
        words, tags = [], []
        for i in range(rng.randrange(2, 9)):
            name = rng.random() < 0.3
            words.append(rng.choice("ABCDE") + "x" if name else f"{'nv'[i % 2]}{rng.randrange(9)}")
            tags.append("NP" if name else "NV"[i % 2])
        found[tuple(words)] = tuple(tags)
    return [Example(words, (tags,)) for words, tags in sorted(found.items())]


@pytest.fixture
def toy(monkeypatch):
    asked, kit_train = [], tagging.train
    examples = brown(330)

    def few(model, stream, steps, **options):
        asked.append((steps, options["until"]))
        return kit_train(model, stream, 40, **options)

    monkeypatch.setattr(tagging, "train", few)
    monkeypatch.setattr(tagging.corpora, "brown", lambda: Splits(examples[:250], examples[250:280], examples[280:]))
    return asked, examples[280:]


def test_the_study_of_tags_trains_on_train_and_scores_on_test(toy):
    asked, test = toy
    kept = tagging.tag_brown("both ways, spelled", 0)
    assert asked == [(800, None)] and len(kept["losses"]) == 40
    assert kept["groups"]["all"][1] == sum(len(e.source) for e in test)
    assert kept["groups"]["all"][0] > 0.9 * kept["groups"]["all"][1]
    assert sum(int(c, 36) for c in kept["wrong"]) == kept["groups"]["all"][1] - kept["groups"]["all"][0]
    assert isinstance(kept["weights"], WordTagger) and set(kept["tags"].split()) == {"N", "V", "NP"}
    assert len(kept["known"].split()) == kept["weights"].embedding.known - 4
    early = tagging.tag_brown("both ways, spelled", 1, until=3)
    assert len(early["losses"]) == 3 and "weights" not in early and "known" not in early
    again = tagging.tag_brown("both ways, spelled", 0, until=3)
    assert again["losses"] == kept["losses"][:3] != early["losses"]
    sizes = {system: tagging.tag_brown(system, 0, until=1)["parameters"] for system in TAGGERS}
    assert sizes["both ways"] < sizes["left to right"] < sizes["left to right, spelled"]


def test_the_study_of_names(toy):
    asked, test = toy
    found = tagging.tag_names(False, 0)
    assert asked == [(400, None)]
    gold = [len(spans_by_hand(bio(e.target))) for e in test]
    for how in ("free", "constrained", "small letters"):
        assert [int(c, 36) for c in found[how]["gold"]] == gold
    assert found["free"]["token accuracy"] > 0.9 and found["constrained"]["impossible"] == 0
    lower = tagging.tag_names(True, 0, until=2)
    assert lower["free"] == lower["small letters"] and len(lower["losses"]) == 2


def test_the_study_of_tables(toy):
    _, test = toy
    found = tagging.tag_by_table()
    assert found["names"]["always O"]["said"] == "0" * len(test)
    assert found["groups"]["usual tag"]["all"] == found["groups"]["usual tag, 8,000 words"]["all"]
    assert found["tags"] == 3 and found == tagging.tag_by_table()


def test_long_sentences_are_not_learned_from_but_scored(monkeypatch):
    long = [Example(("a",) * n, (("N",) * n,)) for n in (40, 41)]
    monkeypatch.setattr(tagging.corpora, "brown", lambda: Splits(long, [], long))
    assert [len(part) for part in tagging.brown_sentences()] == [1, 0, 2]


def test_shown_sentences_come_in_their_order():
    rows = [example(text, text) for text in reversed(tagging.SHOWN[:3])]
    assert [" ".join(e.source) for e in shown_in([*rows, example("a", "b")])] == list(tagging.SHOWN[:3])


def test_a_seed_decides_the_model_and_the_order(monkeypatch):
    runs, examples = [], brown(200)

    def looked_at(model, stream, steps, **options):
        runs.append((torch.cat([p.flatten() for p in model.parameters()]), next(stream).src.tolist()))
        return History([1.0])

    monkeypatch.setattr(tagging.corpora, "brown", lambda: Splits(examples, [], examples[:9]))
    monkeypatch.setattr(tagging, "train", looked_at)
    for number in (0, 0, 1):
        tagging.tag_brown("both ways", number)
    (first, order), (same, again), (other, another) = runs
    assert torch.equal(first, same) and not torch.equal(first, other) and order == again != another


def test_the_record_and_its_tagger_need_no_corpus(monkeypatch):
    def missing():
        raise corpora.MissingCorpus("not here")

    monkeypatch.setattr(tagging.corpora, "brown", missing)
    [best, short], scores, tags = english_tags([["He", "thanked", "her", "."], ["wug"]])
    assert best == ["PPS", "VBD", "PPO", "."] and len(short) == 1 and len(tags) == scores[0].shape[1] + 4
    assert torch.allclose(scores[0].exp().sum(dim=1), torch.ones(4), atol=1e-4)
    rows = tagging.TABLES.results({})[0]["shown"]
    told = next(r for r in tagging.TAGGED.results({"system": "both ways, spelled"}) if "known" in r)["shown"]
    said, _, _ = english_tags([text.split() for text, _ in rows])
    assert sum(a == b for a, b in zip(map(" ".join, said), told, strict=True)) >= len(told) - 1   # half precision


# --- The roles of names in code ---

CODE = '''\
import os.path as p
class Box(Base):
    def open(self, name=None, *rest):  # a remark
        self.lid = name.strip("a", key=1)
        for x in rest: del x
        text = f"{name}"
        return Box(self).lid(x)[0]
'''


def test_each_name_has_the_role_that_the_parser_gives_it():
    lines = [list(zip(*line, strict=False)) for line in lines_of(CODE)]
    named = [{pair for pair in line if pair[1] != NO_NAME} for line in lines]
    assert named[1] == {("Box", "defined"), ("Base", "read")}
    assert named[2] == {("open", "defined"), ("self", "parameter"), ("name", "parameter"), ("rest", "parameter")}
    assert named[3] == {("self", "read"), ("lid", "set"), ("name", "read"), ("strip", "call"), ("key", "keyword")}
    assert named[4] == {("x", "set"), ("rest", "read"), ("x", "read")}
    assert named[5] == {("Box", "call"), ("self", "read"), ("lid", "call"), ("x", "read")}    # no line with f""
    assert len(lines) == 6 and ("''", NO_NAME) in lines[3] and ("0", NO_NAME) in lines[5]
    assert list(lines_of("é = f(x)\n")) == []


def test_lines_of_code_are_in_one_split():
    found = corpora.roles(("json",))
    words = [e.source for part in found for e in part]
    assert len(words) == len(set(words)) > 200
    for e in itertools.chain(*found):
        assert len(e.source) == len(e.target) <= 30 and sum(tag != NO_NAME for tag in e.target) >= 2
        for word, tag in zip(e.source, e.target, strict=True):
            assert tag == NO_NAME or (word.isidentifier() and not keyword.iskeyword(word))
    with pytest.raises(ValueError, match="no package nothing; it has asyncio"):
        corpora.roles(("nothing",))


def test_no_line_of_the_test_was_trained_on():
    found = corpora.roles()
    assert not {e.source for e in found.train} & {e.source for e in found.test}
    assert len(found.test) > 500 and len(found.train) > 5000


# --- Chinese: characters, words and names ---

SENTENCE = Example(tuple("王小明京田在北京新华社说"), (("B-nr", "B-nr", "I-nr", "B-ns", "B-nr", "B-p", "B-ns", "I-ns",
                                               "B-nt", "I-nt", "I-nt", "B-v"),))  # fmt: skip


def in_labels(words, tags):
    return [f"{'I' if i else 'B'}-{tag}" for word, tag in zip(words, tags, strict=True) for i in range(len(word))]


def test_labels_of_characters_are_words_again():
    rng = random.Random(0)
    for _ in range(100):
        words = ["".join(rng.choices("天地人", k=rng.randint(1, 4))) for _ in range(rng.randint(0, 6))]
        tags = rng.choices(["n", "nr", "v"], k=len(words))
        e = Example(tuple("".join(words)), (tuple(in_labels(words, tags)),))
        found = in_words(e)
        assert found == Example(tuple(words), (tuple(tags),))
        spans = word_spans(e.target)
        assert ["".join(e.source[i:j]) for i, j, _ in spans] == words
        assert [i for i, *_ in spans] == [j for _, j, _ in [(0, 0, 0), *spans][:-1]]     # no gap, no overlap
    assert word_spans(["I-n", "I-v", "B-v", "I-n"]) == [(0, 2, "n"), (2, 4, "v")]


def test_persons_side_by_side_are_one_name_and_places_are_not():
    assert chinese_names(word_spans(SENTENCE.target)) == {(0, 3, "nr"), (3, 4, "ns"), (4, 5, "nr"), (6, 8, "ns"),
                                                         (8, 11, "nt")}
    assert chinese_names([(0, 1, "nr"), (1, 3, "nr"), (3, 4, "nr"), (5, 6, "nr")]) == {(0, 4, "nr"), (5, 6, "nr")}
    assert chinese_names([(0, 1, "ns"), (1, 2, "ns"), (2, 3, "nt"), (3, 4, "nt"), (4, 5, "n")]) == {
        (0, 1, "ns"), (1, 2, "ns"), (2, 3, "nt"), (3, 4, "nt")}
    assert chinese_names([]) == set()


def test_the_list_of_words_takes_the_longest_and_tags_it_as_usual():
    rows = ("天地 人", "n v"), ("天 地人 天", "n a n"), ("天 天", "d d"), ("地人", "a"), ("人地天", "n")
    rows = [(words.split(), tags.split()) for words, tags in rows]
    listed = WordList([Example(tuple("".join(words)), (tuple(in_labels(words, tags)),)) for words, tags in rows])
    assert listed("天地人天") == in_labels(["天地", "人", "天"], "nvn")      # not 天 + 地人; 天 is n and d, n first
    assert listed("人地天地人") == in_labels(["人地天", "地人"], "na")
    assert [label[0] for label in listed("人地黑黑天")] == ["B"] * 5 and listed("") == []
    assert listed("黑地") == in_labels(["黑", "地"], [tag[2:] for tag in listed("黑地")])


def test_only_an_inside_of_the_same_word_may_follow():
    tags = Vocab(["B-n", "B-v", "I-n", "I-v"])
    moves, first = word_moves(tags)
    labels = tags.symbols[4:]
    for i, j in itertools.product(range(4), repeat=2):
        allowed = labels[j][0] == "B" or labels[i][2:] == labels[j][2:]
        assert (moves[i, j] == 0) == allowed and moves[i, j] in (0, -torch.inf)
    assert first.tolist() == [0, 0, -math.inf, -math.inf]
    torch.manual_seed(0)
    for scores in torch.randn(20, 6, 4):
        row = [labels[i] for i in viterbi(scores, moves, first)]
        assert row == in_labels([" " * (j - i) for i, j, _ in word_spans(row)], [tag for *_, tag in word_spans(row)])


def test_words_and_names_are_counted():
    said = list(SENTENCE.target)
    said[1:3] = ["B-nr", "B-nr"]      # 小 明: the person is whole, two words are not there
    said[6:8] = ["B-n", "I-v"]        # a word with another tag, and an I that cannot follow
    said[8:11] = ["B-nt", "B-n", "I-n"]
    found = scored_words([said], [SENTENCE], {"王", "北京", "京", "田"})
    assert found == {"labels": [7, 12, 12], "words": [6, 10, 8], "tagged words": [5, 10, 8], "names": [3, 4, 5],
                     "new words": [2, 2, 4], "nr": [2, 2, 2], "ns": [1, 1, 2], "nt": [0, 1, 1], "impossible": 1}
    assert scored_words([["I-n"]], [Example(("天",), (("B-n",),))], ())["impossible"] == 1
    with pytest.raises(ValueError, match="2 labels cannot be scored against 12"):
        scored_words([said[:2]], [SENTENCE], ())
    with pytest.raises(ValueError):
        scored_words([], [SENTENCE], ())


def chinese(n, seed=0):
    """Words of one and two characters; whether 上 is a word or begins one is told by what follows it."""
    rng, found = random.Random(seed), {}
    while len(found) < n:
        words = rng.choices(["上", "上下", "天", "地方", "人"], k=rng.randrange(2, 9))
        tags = [{"上": "f", "上下": "n", "天": "n", "地方": "n", "人": "nr"}[word] for word in words]
        found["".join(words)] = in_labels(words, tags)
    return [Example(tuple(text), (tuple(labels),)) for text, labels in sorted(found.items())]


@pytest.fixture
def newspaper(monkeypatch):
    asked, kit_train, examples = [], tagging.train, chinese(330)

    def few(model, stream, steps, **options):
        asked.append((steps, options["until"]))
        return kit_train(model, stream, 60, **options)

    long = Example(("长",) * 61, (("B-n",) * 61,))
    monkeypatch.setattr(tagging, "train", few)
    monkeypatch.setattr(tagging.corpora, "peoples_daily",
                        lambda: Splits([*examples[:250], long], examples[250:280], examples[280:]))
    return asked, examples[280:]


def test_the_study_of_chinese_trains_on_train_and_scores_on_test(newspaper):
    asked, test = newspaper
    both, left = tagging.tag_chinese(2, 0), tagging.tag_chinese(1, 0)
    assert asked == [(3000, None)] * 2 and len(both["losses"]) == 60
    count = sum(len(e.source) for e in test)
    assert both["free"]["labels"][1:] == [count, count] and both["free"]["labels"][0] > 0.95 * count
    assert left["free"]["labels"][0] < both["free"]["labels"][0] and left["parameters"] > both["parameters"]
    assert both["constrained"]["impossible"] == 0 and left["free"]["words"][2] == both["constrained"]["words"][2]
    early = tagging.tag_chinese(2, 1, until=3)
    assert len(early["losses"]) == 3 and early["losses"] != both["losses"][:3]
    assert tagging.tag_chinese(2, 0, until=3)["losses"] == both["losses"][:3]


def test_the_study_of_chinese_tables(newspaper):
    _, test = newspaper
    found = tagging.tag_chinese_by_table()
    assert found == tagging.tag_chinese_by_table() and set(found) == {"usual label", "word list"}
    assert found["word list"]["impossible"] == 0
    splits, seen = tagging.chinese_sentences()
    assert len(splits.train) == 250 and splits.test == test and "长" not in seen and "上下" in seen
    assert found["word list"]["new words"][2] == 0
