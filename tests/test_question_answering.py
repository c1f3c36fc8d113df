"""Stories against a program that tells them anew, rules by hand, the questions to docstrings and their splits, the
tasks and their shares of the steps, the record."""

from itertools import combinations, islice, pairwise
from random import Random

import numpy as np
import pytest
import torch

from seq2seq import question_answering as page
from seq2seq.kit import corpora, seed_everything
from seq2seq.kit.corpora import Example, base, grammar, installed, split_of
from seq2seq.kit.corpora import asked as reader
from seq2seq.question_answering import (
    DECATHLON,
    KEPT,
    KIND_OF,
    PEOPLE,
    REPLAY,
    ROOMS,
    STORIES,
    THINGS,
    TOGETHER,
    answer_model,
    answer_scores,
    answer_vocab,
    asking,
    decathlon,
    held_out,
    imagined,
    kinds_of,
    last_mention,
    most_frequent,
    mute,
    replay_study,
    sound,
    stories,
    summarised,
    task_study,
    task_vocab,
    tell,
    to_write,
    told_right,
    train_answers,
    type_after,
)
from seq2seq.sequences import Vocab, batches

DOC = """Add two arrays.

Parameters
----------
x1, x2 : array_like
    The arrays to be added. They are never changed.
out : {None, `ndarray`}, optional
    A location into which the result is stored,
    if there is one.
**kwargs
    For other keyword-only arguments, see the docs.
where : bool

Returns
-------
y : ndarray
    The sum.
"""


def lived(source):
    """Where everybody is after a story, who has what, and in which sentence a room was entered last."""
    text = " ".join(source[source.index("?") + 1 :])
    at, holder, when = {}, {}, {}
    lines = [line.split() for line in text.split(" .") if line]
    for i, words in enumerate(lines):
        if words[-1] in ROOMS:
            at[words[0]], when[words[0]] = words[-1], i
        else:
            holder[words[-1]] = words[0]
    return at, holder, when, len(lines)


# --- stories ---


@pytest.mark.parametrize("unseen", [False, True])
def test_a_story_answers_its_question(unseen):
    for a in stories(300, 5, "test", unseen=unseen):
        at, holder, when, n = lived(a.example.source)
        asked = a.example.source[a.example.source.index("?") - 1]
        assert a.facts == 1 + (asked in THINGS) and 2 <= n <= 6
        who = holder.get(asked, asked)
        assert a.example.target == (at[who],) and a.back == n - when[who]
        assert a.held_out == held_out(who, at[who]) and (a.held_out or not unseen)


def test_training_has_no_held_out_pair_but_each_of_its_halves():
    told = [" ".join(a.example.source) for a in stories(2000, 1)]
    lines = {tuple(line.split()) for t in told for line in t.split("?")[1].split(" .")}
    pairs = {(line[0], line[-1]) for line in lines if line and line[-1] in ROOMS}
    assert not any(held_out(*pair) for pair in pairs)
    assert len(pairs) == len(PEOPLE) * (len(ROOMS) - 1)
    assert {who for who, _ in pairs} == set(PEOPLE) and {room for _, room in pairs} == set(ROOMS)
    assert sum(held_out(who, room) for who in PEOPLE for room in ROOMS) == len(PEOPLE)


def test_no_story_is_on_two_sides():
    parts = {name: stories(400, 7, name) for name in ("train", "validation", "test")}
    for name, part in parts.items():
        assert {split_of(" ".join(a.example.source)) for a in part} == {name}
    for left, right in combinations(parts.values(), 2):
        assert not {a.example.source for a in left} & {a.example.source for a in right}
    assert stories(20, 7) == stories(20, 7) != stories(20, 8)


def test_the_length_of_stories():
    assert {lived(tell(Random(i), 3).example.source)[3] for i in range(50)} == {2, 3}
    with pytest.raises(ValueError, match="at least 1"):
        tell(Random(0), 1)


# --- rules ---


def test_the_last_mention():
    story = "mary went to the garden . john moved to the office . mary took the milk . daniel moved to the bedroom ."
    story = story.split()
    for asked, answer in {"john": "office", "mary": "office", "milk": "office", "sandra": "bedroom"}.items():
        assert last_mention(["where", "is", asked, "?", *story]) == (answer,)
    assert last_mention(["where", "is", "mary", "?", *story[:12]]) == ("garden",)      # hers, not the last one


def test_the_most_frequent_answer_and_the_type_after_a_name():
    train = [Example(("a",), ((x,),)) for x in "abb"]
    assert most_frequent(train) == ("b",)
    source = [*"what type is b ?".split(), *"a , b : int , optional the number . c : float .".split()]  # noqa: SIM905
    known = {("int",), ("int", ",", "optional"), ("float",)}
    assert type_after(source, known) == ("int", ",", "optional")
    assert type_after(source, {("float",)}) == ("int",)                                 # nothing known: the next word
    source[3] = "c"
    assert type_after(source, known) == ("float",)


def test_kinds_and_questions():
    assert kinds_of(["the", "small", "cat", "looks", "at", "Bakobo"]) == (
        "determiner", "adjective", "noun", "verb", "particle", "name")
    e = asking("kinds", ("a", "cat"), ("determiner", "noun"))
    assert e.source[-3:] == ("?", "a", "cat") and mute(e).source == ("a", "cat") and mute(e).target == e.target
    spoken = corpora.phrase_grammar(500, 3)
    nouns = {w for e in spoken for w, kind in zip(e.source, kinds_of(e.source), strict=True) if kind == "noun"}
    known = {w for noun in (*grammar.ANIMALS, *grammar.PERSONS, *grammar.THINGS)
             for w in noun.en}
    assert nouns <= known and not known & KIND_OF.keys()


# --- docstrings ---


def test_a_section_of_parameters():
    found = reader.parameters_of(DOC)
    assert [p.names for p in found] == [("x1", ",", "x2"), ("out",), ("where",)]
    assert [" ".join(p.type) for p in found] == ["array_like", "{ none , ndarray } , optional", "bool"]
    assert [" ".join(p.about) for p in found] == [
        "the arrays to be added .", "a location into which the result is stored , if there is .", "."]
    assert reader.parameters_of("Parameters are not a section.") == []
    assert [len(p.about) for p in reader.parameters_of(DOC, 3)] == [4, 4, 1]
    assert " ".join(reader.spelled_out(found[2])) == "where : bool ."


def test_contexts_hold_what_fits():
    entries = reader.parameters_of(DOC)
    for longest in (1, 10, 12, 25, 50):
        groups = reader._groups(entries, longest)
        fitting = [e for e in entries if len(reader.spelled_out(e)) <= longest]
        assert [e for group in groups for e in group] == fitting
        assert all(sum(len(reader.spelled_out(e)) for e in group) <= longest for group in groups)
        for left, right in pairwise(groups):
            assert sum(len(reader.spelled_out(e)) for e in (*left, right[0])) > longest


@pytest.fixture(scope="module")
def types():
    return corpora.parameters(("numpy",))


def test_the_answer_stands_after_its_name(types):
    assert len(types.train) > 1000 and min(map(len, types)) > 20
    for part in types:
        for e in part:
            assert e.source[:3] == ("what", "type", "is") and e.source[4] == "?" and len(e.source) <= 5 + 56
            text, answer = " ".join(e.source[5:]), " ".join(e.target)
            assert f" : {answer} " in text and e.source[3] in e.source[5:] and 1 <= len(e.target) <= 8


def test_no_entry_of_the_test_is_in_training(types):
    for left, right in combinations(types, 2):
        assert not {e.source for e in left} & {e.source for e in right}
    assert reader._runs(tuple("abc")) == {tuple("abc")} and len(reader._runs(tuple("abcdefghij"))) == 3
    again = corpora.parameters(("numpy",))
    again.test.clear()
    assert corpora.parameters(("numpy",)) == types and types.test


def test_near_duplicates_and_files(tmp_path, monkeypatch):
    for i in range(80):
        (tmp_path / f"f{i}.py").write_text(
            f'def f():\n    """Do.\n\n    Parameters\n    ----------\n    x : int\n        Of which there is one in '
            f'all files, word for word.\n    x{i} : float\n'
            f'        {" ".join(f"word{i}_{k}" for k in range(9))}\n    """\n')
    monkeypatch.setattr(reader, "package_folder", lambda *_: tmp_path)
    reader._parameters.cache_clear()
    found = corpora.parameters(("made_up",))
    reader._parameters.cache_clear()
    for name, part in found._asdict().items():
        files = [i for i in range(80) if split_of(f"made_up/f{i}.py") == name]
        assert sorted(int(e.source[3][1:]) for e in part if e.source[3] != "x") == files
        assert any(e.source[3] == "x" for e in part) == (name == "test")


def test_the_corpus_doors(monkeypatch):
    with pytest.raises(ValueError, match="take 20 or more"):
        corpora.parameters(longest=19)
    monkeypatch.setitem(corpora.installed.DOCUMENTED, "numpy", "1.0")
    with pytest.raises(corpora.MissingCorpus, match=r"pip install numpy==1\.0"):
        corpora.parameters(("numpy",), pinned=True)


# --- models ---


@pytest.fixture(scope="module")
def words():
    return answer_vocab([a.example for a in stories(200, 1)])


def test_padding_changes_no_answer(words):
    seed_everything(0)
    model = answer_model(words, 3, 10)
    told = sorted((a.example.source for a in stories(5, 2)), key=len)
    [batch] = batches([(words.encode(s), [7]) for s in told], 5)
    with torch.no_grad():
        together = model(batch)
        for i, s in enumerate(told):
            [one] = batches([(words.encode(s), [7])], 1)
            assert torch.allclose(model(one)[0], together[i], atol=1e-5)


def test_a_word_without_a_number_is_answered_by_copying(words):
    seed_everything(0)
    model = answer_model(words, 3, 10)
    with torch.no_grad():
        model.decoder.gate.bias.fill_(-50)
    e = Example(("attic",) * 3, (("attic",) * 20,))
    with torch.no_grad():
        assert told_right(model, [e, Example(("attic",), (("garden",),))], words) in ([0, 0], [1, 0])


@pytest.fixture
def seen(monkeypatch) -> list[int]:
    """The first word of each batch that would be trained on; nothing is trained."""
    first = []

    def watched(model, stream, steps, **_):
        first.extend(islice((batch.src[0, 0].item() for batch in stream), steps))
        return type("Done", (), {"losses": [0.0] * steps})

    monkeypatch.setattr(page, "train", watched)
    return first


THREE = [[Example((w,), (("garden",),))] for w in ("mary", "john", "milk")]


def test_each_task_gets_its_steps(words, seen):
    losses = train_answers(answer_model(words, 3, 10), THREE, words, 4)
    assert seen == [words.src.ids[w] for w in ("mary", "john", "milk")] * 4 and len(losses) == 12


def test_a_task_may_come_less_often(words, seen):
    model = answer_model(words, 3, 10)
    losses = train_answers(model, THREE, words, 7, every=[1, 2, 5])
    mary, john, milk = (words.src.ids[w] for w in ("mary", "john", "milk"))
    assert seen == [mary, mary, john, mary, mary, john, mary, milk, mary, john, mary] and len(losses) == 11
    with pytest.raises(ValueError, match="every"):
        train_answers(model, THREE, words, 7, every=[1, 1, 0])
    with pytest.raises(ValueError, match=r"shorter|longer"):
        train_answers(model, THREE, words, 7, every=[1, 1])


def test_training_stops_early_as_it_began(words):
    told, found = [a.example for a in stories(100, 1)], []
    for until in (None, 2):
        seed_everything(0)
        found.append(train_answers(answer_model(words, 3, 10), [told, told], words, 2, until=until))
    assert len(found[0]) == 4 and found[1] == pytest.approx(found[0][:2])


def test_two_tasks_have_the_same_sentences_and_no_test_is_trained_on(monkeypatch):
    for name in ("parameters", "summaries"):
        monkeypatch.setattr(corpora, name, lambda **_: base.Splits([], [], []))
    decathlon.cache_clear()
    train, test = decathlon("train", 400), decathlon("test", 100)
    decathlon.cache_clear()
    for task in ("where", "french", "kinds"):
        assert not {e.source for e in train[task]} & {e.source for e in test[task]} and len(test[task]) == 100
    assert [mute(e).source for e in test["french"]] == [mute(e).source for e in test["kinds"]]
    assert not {mute(e).source for e in train["french"]} & {mute(e).source for e in test["kinds"]}
    with pytest.raises(ValueError, match="none of"):
        task_study(how="at once")


def test_no_text_to_summarise_has_its_file_line_or_eight_words_in_training(tmp_path, monkeypatch):
    shared = "It is said in every file in just these words."
    for i in range(80):
        name = "abcdefghij"[i // 10] + "klmnopqrst"[i % 10]
        text = " ".join(f"{name}{letter}" for letter in "abcdefghijklm")
        doc = f'"""Make {name} for us.\n\n    {text}. {shared if i % 4 else ""}\n    """'
        (tmp_path / f"f{i}.py").write_text(f"def f():\n    {doc}\n")
    monkeypatch.setattr(installed, "package_folder", lambda *_: tmp_path)
    monkeypatch.setattr(corpora, "parameters", lambda **_: base.Splits([], [], []))
    for cache in (decathlon, installed._summaries):
        cache.cache_clear()
    found = {name: decathlon(name, 99)["summary"] for name in ("train", "validation", "test")}
    for cache in (decathlon, installed._summaries):
        cache.cache_clear()
    for name, part in found.items():
        for e in part:
            assert " ".join(e.source).startswith("what does it do ? ") and len(mute(e).source) <= 30
            tens, ones = e.target[1]
            assert split_of(f"numpy/f{10 * 'abcdefghij'.index(tens) + 'klmnopqrst'.index(ones)}.py") == name
    marks = [{mark for e in part for mark in installed.marks(mute(e))} for part in found.values()]
    for left, right in combinations(marks, 2):
        assert left and right and not left & right


def test_a_summary_is_scored_by_its_words_and_all_else_as_a_whole(words, monkeypatch):
    seed_everything(0)
    model = answer_model(words, 3, 10)
    said = ["return", "the", "garden"]
    monkeypatch.setattr(page, "copy_transduce", lambda model, sources, words, longest: [said for _ in sources])
    lines = (*said,), ("the", "garden", "of", "things"), ("x",)
    told = [Example((w,), (line,)) for w, line in zip("abc", lines, strict=True)]
    assert answer_scores(model, "where", told, words) == [1, 0, 0]
    assert answer_scores(model, "summary", told, words) == pytest.approx([1, 4 / 7, 0])
    found = summarised(model, told, words)
    assert found == {"own": "1000 571 0", "others": "571 0 1000", "some": ["return the garden"] * 3}


def test_the_words_of_the_tasks_are_those_of_the_first_four():
    tasks = {t: [Example((t,), ((t,),))] * 13 for t in DECATHLON}
    assert {*task_vocab(tasks).src.ids} - {*Vocab.special} == {*DECATHLON[:4]}
    assert {*task_vocab(tasks, 5).src.ids} - {*Vocab.special} == {*DECATHLON}


# --- old examples ---


def test_an_example_turned_round_asks_for_its_source():
    e = asking("french", ("a", "cat"), ("un", "chat"))
    [turned] = to_write("french", [e])
    assert turned.source == ("?", "french") and turned.target == e.source


def test_what_looks_like_an_example_of_its_task():
    story = stories(1, 1)[0].example
    assert sound("where", story) and not sound("type", story) and not sound("french", story)
    assert not sound("where", Example(story.source, (("nowhere",),)))
    typed = Example(("what", "type", "is", "x", "?", "x", ":", "int", "."), (("int",),))
    assert sound("type", typed) and not sound("type", Example((*typed.source[:5], "y", ":", "int"), (("int",),)))
    e = asking("kinds", ("a", "cat"), ("determiner", "noun"))
    assert sound("kinds", e) and not sound("french", e) and not sound("kinds", Example(e.source[:6], e.targets))


def test_imagined_examples_are_what_the_model_draws_and_answers(words):
    went = {"mary": "garden", "john": "office"}
    told = [Example(tuple(f"where is {who} ? {who} went .".split()), ((room,),)) for who, room in went.items()]
    seed_everything(0)
    model = answer_model(words, 16, 32)
    train_answers(model, [told, to_write("where", told)], words, 150)
    found = imagined(model, "where", words, 20)
    known = {e.source: e.target for e in told}
    assert sum(known.get(e.source) == e.target for e in found) >= 12 and len({e.source for e in found}) > 1
    with torch.no_grad():
        model.decoder.output.bias[words.tgt.ids["?"]] = -1e9                            # never a question
        model.decoder.gate.bias.fill_(-50)                                              # and nothing copied
    assert imagined(model, "where", words, 5) == []


@pytest.mark.parametrize("how", ["kept", "imagined"])
def test_old_examples_come_from_the_old_task_only(how, monkeypatch):
    few = {t: [asking("french", (t, "a"), (t,))] * (KEPT + 7) for t in DECATHLON}
    monkeypatch.setattr(page, "decathlon", lambda *_, **__: few)
    monkeypatch.setattr(page, "imagined", lambda model, task, words: few[task][:3])
    calls = []

    def watched(model, tasks, words, steps, seed, until, every):
        calls.append((tasks, every))
        return [0.0]

    monkeypatch.setattr(page, "train_answers", watched)
    monkeypatch.setattr(page, "told_right", lambda *_: [0, 1])
    found = replay_study(how=how, every=5, steps=1)
    assert found["losses"] == [0.0] * 2 and found["after"] == [[0.5, 0.5]]
    assert [[*stage] for stage in found["replayed"]] == [[], ["where"], ["where", "type"]][: 2 + (how == "imagined")]
    where, kind = few["where"], few["type"]
    old = where[: KEPT if how == "kept" else 3]
    writing = how == "imagined"
    assert [*map(list, calls[0])] == [[where] + [to_write("where", where)] * writing, [1] + [2] * writing]
    assert [*calls[1][0]] == [kind, old] + [to_write("type", kind), to_write("where", old)] * writing
    assert [*calls[1][1]] == [1, 5] + [2, 10] * writing
    with pytest.raises(ValueError, match="none of"):
        replay_study(how="dreamt")


# --- the record ---


def test_what_is_on_record_has_every_answer():
    for row in STORIES.results({"steps": 900}):
        for name in ("seen", "unseen"):
            assert {len(row[name][key]) for key in ("right", "facts", "back")} == {800}
    for setting in TOGETHER.settings:
        for row in TOGETHER.results(setting):
            asked = [setting["task"]] if "task" in setting else DECATHLON
            assert len(row["after"]) == (len(DECATHLON) if setting["how"] == "in turn" else 1)
            last = {t: np.mean([*map(int, row["right"][t])]) for t in asked if t != "summary"}
            if "summary" in asked:
                own, others = (np.mean([*map(int, row["summaries"][k].split())]) / 1000 for k in ("own", "others"))
                last["summary"] = own
                assert 0 <= others < 1 and len(row["summaries"]["own"].split()) == 192
            assert row["after"][-1] == pytest.approx([last[t] for t in asked], abs=1e-3)


def test_what_is_on_record_of_old_examples():
    for setting in REPLAY.settings:
        for row in REPLAY.results(setting):
            assert np.shape(row["after"]) == (1, 2)
            for stage in row["replayed"]:
                for kept in stage.values():
                    assert kept["sound"] <= kept["all"] <= KEPT
                    assert setting["how"] == "imagined" or kept["all"] == KEPT
