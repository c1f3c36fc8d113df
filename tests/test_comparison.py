"""The page that compares every architecture: what is equal is equal, and each system is asked as it should be."""

import json

import numpy as np
import pytest
import torch

from seq2seq import comparison
from seq2seq.ablation import word_scores
from seq2seq.bottleneck import bleu
from seq2seq.comparison import (
    COMPARED_LATENCY,
    LANGUAGES,
    MESSAGE_TRIALS,
    MODELS,
    OBJECTIVES,
    PARALLEL,
    SIDE_BY_SIDE,
    TRANSLATED,
    TRANSLATORS,
    TRIALS,
    TRIED,
    best_of_beam,
    best_rate,
    bleu_counts,
    bleu_interval,
    bleu_of,
    built,
    comparison_latency,
    comparison_study,
    count_parameters,
    prefix_scores,
    searches_of,
    share_right,
    training_milliseconds,
    translator,
    translator_study,
    watched,
)
from seq2seq.decoding import beam_search
from seq2seq.encoder_decoder import Hypotheses
from seq2seq.kit import corpora, records, seed_everything
from seq2seq.kit.corpora import Example
from seq2seq.kit.records import Study
from seq2seq.nonautoregressive import as_long_as_gold, task
from seq2seq.rnn import vocabularies
from seq2seq.sequences import Batch, Vocab, batches, numericalise
from seq2seq.teacher_forcing import cross_entropy

WORDS = corpora.pronunciations()
VOCABS = vocabularies(WORDS.train)


def some(count: int = 5) -> Batch:
    [batch] = batches(numericalise(WORDS.train[:count], *VOCABS), count)
    return batch


@pytest.fixture
def few(monkeypatch):
    """The task with some twenty words of each kind, and forty messages."""
    words, letters, phones, pairs = task()
    small = type(words)(words.train, words.validation[:20], words.test[:24])
    monkeypatch.setattr(comparison, "task", lambda: (small, letters, phones, pairs[:300]))
    messages, vocabs, translated = comparison.messages_of("fr")
    less = type(messages)(messages.train, messages.validation[:9], messages.test[:12])
    monkeypatch.setattr(comparison, "messages_of", lambda language: (less, vocabs, translated[:300]))
    return small


def test_the_systems_are_as_large_as_each_other():
    sizes = {name: count_parameters(built(name, *VOCABS)) for name in MODELS}
    assert max(sizes.values()) < 1.05 * min(sizes.values())
    assert all(1.37e6 < size < 1.47e6 for size in sizes.values())      # as the page says
    for language in LANGUAGES:
        vocabs = vocabularies(corpora.messages(language, max_words=12).train, min_count=2)
        sizes = [count_parameters(translator(name, *vocabs)) for name in TRANSLATORS]
        assert max(sizes) < 1.1 * min(sizes)


@pytest.mark.parametrize("system", MODELS)
def test_every_search_writes_a_row_for_every_source(system: str):
    seed_everything(0)
    model, batch = built(system, *VOCABS).eval(), some()
    searches = searches_of(system, model)
    assert next(iter(searches)) == "plain"
    assert ("beam" in searches) == (system not in ("NAT", "mask-predict"))
    for search in searches.values():
        found = search(batch.src, batch.src_padding)
        assert len(found.tokens) == len(batch.src) == len(found.scores)


def test_masks_are_predicted_in_four_rounds_and_nothing_else_is(monkeypatch):
    asked = []
    monkeypatch.setattr(comparison, "mask_predict", lambda model, *_, rounds: asked.append(rounds))
    for system in ("NAT", "mask-predict"):
        searches_of(system, None)["plain"](None, None)
    assert asked == [1, 4]


@pytest.mark.parametrize("system", ["one vector", "attention", "Transformer"])
def test_a_timed_search_writes_as_much_as_the_targets_have(system: str):
    seed_everything(0)
    batch = some()
    found = as_long_as_gold("AR", built(system, *VOCABS).eval())(batch).tokens
    assert found.shape[1] == batch.tgt.shape[1] - 1
    assert Vocab.eos not in found


@pytest.mark.parametrize("system", ["attention", "Transformer"])
def test_the_beam_s_best_is_the_first_hypothesis(system: str):
    seed_everything(1)
    model, batch = built(system, *VOCABS).eval(), some()
    found = best_of_beam(model, batch.src, batch.src_padding)
    ranked = beam_search(model, batch.src, batch.src_padding, 30, width=5, n_best=2)
    for row, score, [best, second] in zip(found.tokens.tolist(), found.scores.tolist(), ranked, strict=True):
        assert [i for i in row if i != Vocab.pad] == list(best.ids)
        assert score == pytest.approx(best.score) and best.score >= second.score


def test_a_share_counts_marks_and_not_rows():
    assert share_right([[True], [False, False, True]]) == 0.5


def test_prefixes_are_judged_after_gold_and_kept_where_aligned(monkeypatch):
    gold = [Example(("a",), (("AH", "B", "K"),)), Example(("b",), (("B",),))]
    monkeypatch.setattr(comparison, "after_gold", lambda *_: [["AH", "K", "K"], ["K"]])
    found = prefix_scores(None, [["B", "K"], ["B"]], gold)
    assert found == {"after gold": 2 / 4, "free": 3 / 4}      # a phoneme left out spoils itself alone


@pytest.mark.parametrize(("steps", "seen"), [(20, [*range(2, 21, 2)]), (10, [*range(1, 11)]), (4, [1, 2, 3, 4])])
def test_looks_come_between_the_steps(steps: int, seen: list[int]):
    taken, looked = [], []
    stream = watched(iter(range(1000)), steps, lambda step: looked.append((step, len(taken))))
    for _ in range(steps):
        taken.append(next(stream))
    next(stream)                                              # the last look
    assert taken == [*range(steps)]
    assert looked == [(step, step) for step in seen]          # as many batches were learned from


def test_the_best_rate_is_the_best_trial_s_of_that_system(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "FOLDER", tmp_path)
    settings = tuple({"system": s, "lr": lr} for s in "ab" for lr in TRIED)
    study = Study("comparison-any", comparison_study, settings, seeds=(0,))
    scores = [0.3, 0.2, 0.4, 0.1, 0.5, 0.6]
    rows = [{"settings": s | {"seed": 0}, "result": {"validation": score}, "first_losses": [], "provenance": {}}
            for s, score in zip(settings, scores, strict=True)]
    study.path.write_text(json.dumps({"rows": rows}))
    assert best_rate(study, system="a") == TRIED[1]
    assert best_rate(study, system="b") == TRIED[0]
    assert best_rate(study, max, system="a") == best_rate(study, max, system="b") == TRIED[2]
    with pytest.raises(ValueError, match=r"no trial of .*'c'"):
        best_rate(study, system="c")


def test_rates_are_tried_on_validation_words_and_the_test_is_taken_once():
    tried = {(s["system"], s["lr"]) for s in TRIALS.settings}
    assert tried == {(system, lr) for system in MODELS for lr in TRIED}
    tried = {(s["system"], s["language"], s["lr"]) for s in MESSAGE_TRIALS.settings}
    assert tried == {(s, language, lr) for s in TRANSLATORS for language in LANGUAGES for lr in TRIED}
    assert all(s["split"] == "validation" for s in (*TRIALS.settings, *MESSAGE_TRIALS.settings))
    assert [s["system"] for s in SIDE_BY_SIDE.settings] == list(MODELS)
    assert not any({"lr", "split", "steps"} & s.keys() for s in (*SIDE_BY_SIDE.settings, *TRANSLATED.settings))
    assert TRIALS.name < SIDE_BY_SIDE.name and MESSAGE_TRIALS.name < TRANSLATED.name  # the order of `make records`


@pytest.mark.parametrize("system", ["attention", "mask-predict", "CTC"])
def test_a_system_is_trained_at_its_rate_and_scored(system: str, few, monkeypatch):
    monkeypatch.setattr(comparison, "best_rate", lambda trials, **setting: {system: 2e-3}[setting["system"]])
    found = comparison_study(system=system, steps=10, batch_size=8)
    assert found["lr"] == 2e-3 and len(found["losses"]) == 10
    assert [look["step"] for look in found["looks"]] == [*range(1, 11)]
    assert len(found["edits"]) == len(few.test) and found["parameters"] > 1e6
    edits, lengths = ([int(d, 36) for d in found[name]] for name in ("edits", "lengths"))
    assert sum(edits) / sum(lengths) == pytest.approx(found["per"])
    assert ("after gold" in found) == ("free" in found) == (system == "attention")
    assert ("beam" in found) == (system != "mask-predict")
    assert found["looks"][-1]["per"] == pytest.approx(found["validation"])   # twenty words are all


def test_a_beam_is_scored_by_what_it_says(few, monkeypatch):
    def same(model, src, padding):
        return Hypotheses(torch.full((len(src), 1), 7), torch.zeros(len(src)))

    monkeypatch.setattr(comparison, "best_of_beam", same)
    found = comparison_study(system="one vector", lr=1e-3, steps=1, batch_size=4)
    phones = comparison.task()[2]
    assert found["beam"] == word_scores([[phones.symbols[7]]] * len(few.test), few.test)


def test_a_trial_leaves_the_test_words_alone(few):
    test = comparison.task()[0].test
    test.clear()
    found = comparison_study(system="NAT", lr=1e-3, steps=2, batch_size=8, split="validation")
    assert found.keys() == {"losses", "lr", "validation", "parameters"}


def test_looks_change_nothing_about_the_training(few):
    how = {"system": "Transformer", "lr": 1e-3, "steps": 4, "batch_size": 8}
    looked, plain = comparison_study(**how), comparison_study(**how, split="validation")
    assert looked["losses"] == plain["losses"] and looked["validation"] == plain["validation"]


def test_a_replay_stops_early_and_is_the_same_twice(few):
    once, again = (comparison_study(system="CTC", lr=1e-3, batch_size=8, until=2) for _ in range(2))
    assert once == again and len(once["losses"]) == 2


@pytest.mark.parametrize("system", ["NAT", "mask-predict", "CTC", "one vector"])
def test_each_system_learns_by_its_own_loss(system: str, few):
    found = comparison_study(system=system, lr=1e-3, batch_size=8, until=1)["losses"][0]
    seed_everything(0)
    model = built(system, *VOCABS)
    [batch] = [next(comparison.training_batches(comparison.task()[3], 8, 0))]
    torch.manual_seed(1)
    apart = OBJECTIVES.get(system, cross_entropy)(model, batch).item()
    assert found == pytest.approx(apart, rel=0.2)             # but for dropout and masks


@pytest.mark.parametrize("wrong", [lambda: built("transformers", *VOCABS), lambda: translator("transformers", *VOCABS)])
def test_an_unknown_system_is_named(wrong):
    with pytest.raises(ValueError, match="transformers"):
        wrong()


def test_an_unknown_split_is_named():
    for study in (comparison_study, translator_study):
        with pytest.raises(ValueError, match="tset"):
            study(**{"language": "fr"} if study is translator_study else {}, system="attention", lr=1.0, split="tset")


def test_parallel_systems_are_some_of_the_systems():
    assert set(PARALLEL) == set(OBJECTIVES) < set(MODELS)


# translation

MESSAGES = corpora.messages("fr", max_words=12)


def outputs(seed: int) -> list[list[str]]:
    """Some references, some of the wrong message, some cut and some empty."""
    rng = np.random.default_rng(seed)
    said = [list(e.targets[rng.integers(len(e.targets))]) for e in MESSAGES.test]
    other = rng.permutation(len(said))
    chance = rng.random(len(said))
    return [said[j] if r < 0.3 else text[: len(text) - int(3 * r)]
            for text, j, r in zip(said, other, chance, strict=True)]  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_counts_of_messages_add_up_to_bleu(seed: int):
    said = outputs(seed)
    counts = bleu_counts(said, MESSAGES.test)
    assert counts.shape == (len(said), 9)
    assert bleu_of(counts.sum(axis=0)) == pytest.approx(bleu(said, MESSAGES.test), abs=1e-6)
    assert bleu_of(np.stack([counts.sum(axis=0)] * 2)).shape == (2,)


def test_a_perfect_translation_scores_a_hundred_and_none_scores_nothing():
    gold = [list(e.target) for e in MESSAGES.test]
    assert bleu_of(bleu_counts(gold, MESSAGES.test).sum(axis=0)) == pytest.approx(100)
    nothing = bleu_counts([["?"]] * len(gold), MESSAGES.test)
    assert bleu_of(nothing.sum(axis=0)) == pytest.approx(0, abs=1e-3)


def test_an_interval_is_around_the_mean_of_the_seeds():
    counts = np.stack([bleu_counts(outputs(seed), MESSAGES.test) for seed in range(3)])
    score, low, high = bleu_interval(counts)
    assert score == pytest.approx(np.mean([bleu_of(each.sum(axis=0)) for each in counts]))
    assert low < score < high
    assert (score, low, high) == bleu_interval(counts)        # the same draws each time


def test_a_difference_is_of_the_same_messages():
    first, second = (np.stack([bleu_counts(outputs(seed), MESSAGES.test)]) for seed in (0, 1))
    assert bleu_interval(first, first) == (0, 0, 0)
    gap, low, high = bleu_interval(first, second)
    assert gap == pytest.approx(bleu_interval(first)[0] - bleu_interval(second)[0])
    worse = first.copy()
    worse[:, :, :4] = (0.9 * worse[:, :, :4]).astype(int)     # the same messages are hard
    gap, low, high = bleu_interval(first, worse)
    alone = bleu_interval(first)
    assert 0 < low < gap < high and high - low < alone[2] - alone[1]


def test_a_translator_is_trained_at_its_rate_and_scored(few, monkeypatch):
    asked = []

    def rate(trials, best, **setting):
        asked.append((trials.name, best, setting))
        return 1e-3

    monkeypatch.setattr(comparison, "best_rate", rate)
    found = translator_study(system="Transformer", language="fr", steps=2)
    assert asked == [("comparison-message-rates", max, {"system": "Transformer", "language": "fr"})]
    test = comparison.messages_of("fr")[0].test
    assert len(found["counts"]) == 9 * len(test) and len(found["said"]) == 10
    counts = np.array([int(d, 36) for d in found["counts"]]).reshape(-1, 9)
    assert bleu_of(counts.sum(axis=0)) == pytest.approx(found["bleu"], abs=0.1)
    trial = translator_study(system="Transformer", language="fr", lr=1e-3, steps=2, split="validation")
    assert trial.keys() == {"losses", "lr", "validation", "parameters"}
    assert trial["losses"] == found["losses"]


# times

def test_a_timed_training_step_moves_no_weight():
    seed_everything(0)
    model, asked = built("attention", *VOCABS).train(), []
    before = {name: weights.clone() for name, weights in model.state_dict().items()}

    def stream():
        while True:
            asked.append(1)
            yield some()

    assert training_milliseconds(model, cross_entropy, stream(), 2) > 0
    assert len(asked) == 4                                    # two of them to warm up
    assert all(weights.equal(before[name]) for name, weights in model.state_dict().items())


def test_times_are_of_every_system_on_the_same_words(few, monkeypatch):
    monkeypatch.setattr(comparison, "training_milliseconds", lambda model, loss, stream, steps: float(steps))
    found = comparison_latency(passes=1, steps=2)
    assert found["step"] == dict.fromkeys(MODELS, 2.0)
    assert found["word"].keys() == MODELS.keys()
    assert all(took.keys() == {"1", "64"} and min(took.values()) > 0 for took in found["word"].values())
    assert len(found["losses"]) == len(MODELS)
    assert comparison_latency(until=3) == {"losses": found["losses"][:3]}
    assert [s["where"] for s in COMPARED_LATENCY.settings] == ["cpu", "cuda"]
