"""Studies on record: run once, kept whole, replayed closely; and `tools/records.py`."""

import importlib
import re
import subprocess
import sys
import threading
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import records as tool  # tools/records.py
import torch
from torch import nn

from seq2seq.kit import records
from seq2seq.kit.corpora import MissingCorpus
from seq2seq.kit.records import RecordError, Study, load_weights, save_weights, source_hash


class Killed(Exception):
    """Somebody pulls the plug."""


LOSSES = {"scale": 1.0, "calls": []}    # what the toy study is told


def toy_run(*, rate: float = 1.0, seed: int = 0, until: int | None = None) -> dict:
    """A training that is over at once."""
    LOSSES["calls"].append((rate, seed, until))
    losses = [LOSSES["scale"] * (seed + 1) * rate / step for step in range(1, 12)]
    return {"losses": losses[:until], "score": rate + 10 * seed}


TOY = Study("toy", toy_run, settings=({}, {"rate": 3}), seeds=(0, 1))


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty place for records, and a toy study not run yet."""
    monkeypatch.setattr(records, "FOLDER", tmp_path / "records")
    monkeypatch.setitem(LOSSES, "scale", 1.0)
    monkeypatch.setitem(LOSSES, "calls", [])
    return tmp_path / "records"


def changed_code(monkeypatch) -> None:
    monkeypatch.setattr(records, "source_hash", lambda run: "other")
    monkeypatch.setattr(tool, "source_hash", lambda run: "other")


def test_a_study_is_run_once_and_its_rows_say_where_they_come_from(folder, capsys):
    tool.record(TOY)
    assert LOSSES["calls"] == [(1.0, 0, None), (3.0, 0, None), (1.0, 1, None), (3.0, 1, None)]
    assert TOY.missing() == [] and [row["settings"] for row in TOY.rows()] == TOY.plan()
    row = TOY.row({"rate": 3.0, "seed": 1})
    assert row["result"] == {"score": 13.0} and row["first_losses"] == [6.0 / step for step in range(1, 6)]
    assert set(row["provenance"]) == {
        "command", "date", "commit", "source", "python", "torch", "machine", "threads", "seconds"
    }
    assert 0 <= row["provenance"]["seconds"] < 10
    assert TOY.results({"rate": 3.0}) == [{"score": 3.0}, {"score": 13.0}] and TOY.mean({}, "score") == 6.0
    tool.record(TOY)
    assert len(LOSSES["calls"]) == 4 and "4 of 4 runs are up to date" in capsys.readouterr().out


def test_a_killed_study_goes_on_with_what_is_missing(folder, monkeypatch):
    for settings in islice(TOY.plan(), 3):
        TOY.record(settings)
    written = TOY.path.read_text()

    def killed(path, target):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(records.os, "replace", killed)    # while the fourth row is written
        TOY.record(TOY.plan()[3])
    assert TOY.path.read_text() == written and TOY.missing() == [{"rate": 3.0, "seed": 1}]
    LOSSES["calls"].clear()
    tool.record(TOY)
    assert LOSSES["calls"] == [(3.0, 1, None)] and TOY.missing() == []


def test_rows_of_no_plan_leave_and_renewed_ones_keep_their_place(folder):
    wider = Study("toy", toy_run, settings=({}, {"rate": 3.0}, {"rate": 5.0}), seeds=(0, 1))
    tool.record(wider)
    TOY.record({"seed": 0})
    assert [row["settings"] for row in TOY.rows()] == TOY.plan()


def test_a_study_whose_corpus_is_an_optional_extra_is_not_replayed_without_it(folder, capsys):
    def run(seed=0, until=None):
        raise MissingCorpus("run: npm install")

    tool.record(TOY)
    assert tool.replay(Study("toy", run, TOY.settings, TOY.seeds)) == []
    assert "not replayed: run: npm install" in capsys.readouterr().out


def test_other_code_makes_rows_stale_and_keep_accepts_them_if_nothing_moved(folder, monkeypatch, capsys):
    tool.record(TOY)
    assert tool.replay(TOY) == [] and "warning" not in capsys.readouterr().out
    changed_code(monkeypatch)
    assert TOY.missing() == TOY.plan()
    assert tool.replay(TOY) == [] and "the code has changed" in capsys.readouterr().out    # a warning, no more
    TOY.keep({"rate": 3.0, "seed": 0})
    assert TOY.missing() == [settings for settings in TOY.plan() if settings != {"rate": 3.0, "seed": 0}]
    LOSSES["calls"].clear()
    tool.keep(TOY)
    assert TOY.missing() == [] and {until for *_, until in LOSSES["calls"]} == {5}
    assert {row["provenance"]["source"] for row in TOY.rows()} == {"other"}


def test_keep_leaves_a_row_whose_losses_moved_and_makes_no_row(folder, monkeypatch):
    TOY.record({"seed": 0})
    before = TOY.path.read_text()
    changed_code(monkeypatch)
    monkeypatch.setitem(LOSSES, "scale", 1.01)
    with pytest.raises(RecordError, match="the first losses are"):
        tool.keep(TOY)
    assert TOY.path.read_text() == before
    monkeypatch.setitem(LOSSES, "scale", 1.0)
    tool.keep(TOY)
    assert len(TOY.rows()) == 1


def test_check_replays_a_few_steps_of_every_setting_and_seed_and_allows_rounding(folder, monkeypatch):
    tool.record(TOY)
    LOSSES["calls"].clear()
    monkeypatch.setitem(LOSSES, "scale", 1.00005)
    assert tool.replay(TOY) == [] and LOSSES["calls"] == [(1.0, 0, 5), (3.0, 1, 5)]


def test_a_brief_replay_takes_one_run_of_what_todays_code_made_and_the_sample_of_the_rest(folder, monkeypatch):
    tool.record(TOY)
    LOSSES["calls"].clear()
    assert tool.replay(TOY, brief=True) == [] and LOSSES["calls"] == [(1.0, 0, 5)]
    monkeypatch.setitem(LOSSES, "scale", 1.01)
    assert len(tool.replay(TOY, brief=True)) == 1
    changed_code(monkeypatch)
    assert len(tool.replay(TOY, brief=True)) == 2


def test_check_runs_nothing_and_says_what_is_missing_foreign_or_of_other_code(folder, monkeypatch, capsys):
    TOY.record({"seed": 0})
    LOSSES["calls"].clear()
    assert len(tool.check(TOY)) == 1 and "not on record" in tool.check(TOY)[0]
    tool.record(TOY)
    LOSSES["calls"].clear()
    monkeypatch.setitem(LOSSES, "scale", 2.0)
    capsys.readouterr()
    assert tool.check(TOY) == [] and not LOSSES["calls"] and "warning" not in capsys.readouterr().out
    assert "not in the study's plan" in tool.check(Study("toy", toy_run, ({},), (0, 1)))[0]
    changed_code(monkeypatch)
    assert tool.check(TOY) == [] and "the code has changed" in capsys.readouterr().out


@pytest.mark.parametrize("settings, seeds", [(1, 3), (2, 3), (3, 2), (7, 3), (1, 1)])
def test_a_sample_has_every_setting_and_every_seed(settings, seeds):
    study = Study("toy", toy_run, tuple({"size": size} for size in range(settings)), tuple(range(seeds)))
    sample = study.sample()
    assert len(sample) == max(settings, seeds) and all(run in study.plan() for run in sample)
    assert {run["size"] for run in sample} == set(range(settings))
    assert {run["seed"] for run in sample} == set(range(seeds))


def test_of_settings_that_differ_in_a_fraction_one_is_replayed():
    settings = tuple({"cell": cell, "lr": lr} for cell in ("RNN", "GRU") for lr in (0.1, 0.2, 0.4))
    study = Study("x-rates", run=lambda **how: {}, settings=settings, seeds=(0,))
    assert study.sample() == [{"cell": "RNN", "lr": 0.1, "seed": 0}, {"cell": "GRU", "lr": 0.1, "seed": 0}]


def test_check_finds_a_study_that_ignores_its_seed(folder):
    tool.record(TOY)
    deaf = Study("toy", lambda *, seed, **rest: toy_run(seed=0, **rest), TOY.settings, TOY.seeds)
    with pytest.MonkeyPatch.context() as patch:
        changed_code(patch)
        assert len(tool.replay(deaf)) == 1


@pytest.mark.parametrize("scale", [1.01, 0.99, 1.0002, float("nan"), float("inf"), -1.0])
def test_check_finds_losses_that_moved(folder, monkeypatch, scale):
    tool.record(TOY)
    monkeypatch.setitem(LOSSES, "scale", scale)
    problems = tool.replay(TOY)
    assert len(problems) == 2 and all("the first losses are" in problem for problem in problems)


def test_check_finds_a_run_that_stops_too_early_and_one_that_is_not_there(folder, monkeypatch):
    TOY.record({"seed": 0})
    assert "not on record" in tool.replay(TOY)[0] and len(tool.replay(TOY)) == 1
    short = Study("toy", lambda *, seed, until: {"losses": [1.0]}, settings=({},), seeds=(0,))
    monkeypatch.setattr(tool, "source_hash", lambda run: "other")
    assert len(tool.replay(short)) == 1 and "the first losses are" in tool.replay(short)[0]


def test_check_finds_rows_of_no_plan(folder):
    tool.record(TOY)
    fewer = Study("toy", toy_run, settings=({},), seeds=(0, 1))
    assert len(tool.replay(fewer)) == 1 and "not in the study's plan: [{'rate': 3" in tool.replay(fewer)[0]


def scored(*, seed: int = 0, until: int | None = None) -> dict:
    """A study that trains nothing."""
    return {"losses": [], "score": np.float32(LOSSES["scale"]), "by_length": {5: [1.0, "a", None, True]}}


@pytest.mark.parametrize("scale, problems", [(1.00005, 0), (1.0002, 1), (float("nan"), 1)])
def test_a_study_without_losses_is_scored_again(folder, monkeypatch, scale, problems):
    study = Study("toy", scored, settings=({},), seeds=(0,))
    tool.record(study)
    assert study.rows()[0]["first_losses"] == [] and tool.replay(study) == []
    monkeypatch.setitem(LOSSES, "scale", scale)
    assert len(tool.replay(study)) == problems and all("the results are" in text for text in tool.replay(study))


@pytest.mark.parametrize("changed", [
    {"by_length": {"5": [1.0, "a", None]}}, {"by_length": {"6": [1.0, "a", None, True]}}, {"score": [1.0]},
    {"by_length": {"5": [1.0, "b", None, True]}}, {"by_length": {"5": [1.0, "a", 0, True]}}, {"losses": [1.0]},
    {"more": 1},
])
def test_any_other_result_is_noticed(folder, changed):
    study = Study("toy", scored, settings=({},), seeds=(0,))
    tool.record(study)
    other = Study("toy", lambda *, seed, until: scored() | changed, settings=({},), seeds=(0,))
    with pytest.raises(RecordError, match=r"are .*, on record"):
        other.replay({"seed": 0})


def test_settings_may_be_tuples_and_results_numpys(folder):
    def run(*, sizes, seed, until=None):
        assert sizes == (3, 5), "the run gets what the study lists"
        return {"losses": np.array([2.0, 1.0]), "score": np.float64(0.5), "counts": (np.int64(3), torch.tensor([4])),
                "right": np.bool_(True)}

    study = Study("toy", run, settings=({"sizes": (3, 5)},), seeds=(np.int64(7),))
    with pytest.MonkeyPatch.context() as patch:
        changed_code(patch)
        tool.record(study)
        assert study.missing() == [] and tool.replay(study) == []
        study.keep({"sizes": (3, 5), "seed": 7})
    assert study.rows()[0]["first_losses"] == [2.0, 1.0]
    assert study.results({"sizes": (3, 5)}) == [{"score": 0.5, "counts": [3, [4]], "right": True}]


def test_what_cannot_be_written_is_kept_as_text(folder):
    study = Study("toy", lambda *, seed: {"score": 1.5, "unit": 1 + 2j}, settings=({},), seeds=(0,))
    with pytest.MonkeyPatch.context() as patch, pytest.warns(UserWarning, match=r"\(1\+2j\) is kept as text"):
        changed_code(patch)
        study.record({"seed": 0})
    assert study.results({}) == [{"score": 1.5, "unit": "(1+2j)"}]


@pytest.mark.parametrize("losses", [None, 1.5, "many", {"a": 1.0}, (loss for loss in [1.0])])
def test_losses_that_are_no_list_do_not_lose_the_run(folder, losses):
    study = Study("tiny", lambda **settings: {"losses": losses, "score": 3}, ({},), (0,))
    with pytest.warns(UserWarning):
        study.record({"seed": 0})
    assert study.row({"seed": 0})["first_losses"] == [] and study.results({}) == [{"score": 3}]


def test_a_run_outside_the_plan_is_refused_before_it_runs(folder):
    for settings in ({"rate": 7.0, "seed": 0}, {"seed": 5}, {}):
        with pytest.raises(RecordError, match="is not in the plan of toy"):
            TOY.record(settings)
    assert LOSSES["calls"] == [] and TOY.rows() == []


@pytest.mark.parametrize("settings, seeds", [
    ((), (0,)), (({},), ()), (({}, {}), (0,)), (({},), (0, 0)), (({"rate": (1, 2)}, {"rate": [1, 2]}), (0,)),
    (({"rate": object()},), (0,)), (({"seed": 3},), (0,)), (({"until": 3},), (0,)),
])
def test_a_study_that_could_not_be_kept_is_refused_at_once(settings, seeds):
    with pytest.raises(ValueError, match="toy"):
        Study("toy", toy_run, settings, seeds)


@pytest.mark.parametrize("name", ["", "../toy", "toy/2", "toy.json"])
def test_a_study_has_a_name_that_a_file_can_have(name):
    with pytest.raises(ValueError, match="is no name for a study"):
        Study(name, toy_run, ({},))


def test_what_is_not_on_record_is_asked_for(folder):
    for ask in (lambda: TOY.results({}), lambda: TOY.mean({}, "score"), lambda: TOY.replay({"seed": 0}),
                lambda: TOY.disagreement("score")):
        with pytest.raises(RecordError, match=r"nothing on record for toy .*; run: make records"):
            ask()


def test_disagreement_is_the_largest_difference_of_the_first_seed(folder):
    tool.record(TOY)
    assert TOY.disagreement("score") == 0.0
    rows = TOY.rows()
    rows[1]["result"]["score"] += 0.25
    rows[2]["result"]["score"] += 5.0    # another seed
    TOY.write(rows[::-1])
    assert TOY.disagreement("score") == 0.25


@pytest.mark.parametrize("content", [
    "", "{", "[]", "\x00", '{"rows": 3}', '{"rows": ["a"]}', '{"rows": [{"settings": {}}]}',
])
def test_a_damaged_record_is_named(folder, content):
    folder.mkdir()
    TOY.path.write_text(content)
    for ask in (TOY.rows, TOY.missing, lambda: TOY.results({})):
        with pytest.raises(RecordError, match=r"toy\.json is missing or damaged; restore it from git or run: make rec"):
            ask()


def test_weights_are_kept_in_half_precision_beside_their_row(folder):
    layer = nn.Linear(3, 5)
    study = Study("toy-weights", lambda *, seed: {"losses": [1.0], "weights": layer}, settings=({},), seeds=(0,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "source_hash", lambda run: "any")
        study.record({"seed": 0})
    weights = load_weights("toy-weights")
    assert study.rows()[0]["result"] == {} and weights["weight"].dtype == torch.float32
    torch.testing.assert_close(weights["weight"], layer.weight.detach().half().float(), rtol=0, atol=0)
    assert sorted(path.name for path in folder.iterdir()) == ["toy-weights.json", "toy-weights.safetensors"]


def test_weights_beyond_half_precision_and_whole_numbers_come_back_as_they_were(folder):
    layer = nn.BatchNorm1d(3)
    layer.weight.data[1], layer.num_batches_tracked[...] = 1e6, 2049
    save_weights("toy", layer)
    weights = load_weights("toy")
    assert weights["weight"].tolist() == [1.0, 1e6, 1.0] and weights["num_batches_tracked"] == 2049
    nn.BatchNorm1d(3).load_state_dict(weights)


@pytest.mark.parametrize("largest", [1.0, 1e6])
def test_weights_that_lie_across_memory_can_be_kept(folder, largest):
    layer = nn.Linear(3, 5)
    layer.weight = nn.Parameter(torch.tensor([[0.5, largest, 2.0], [3.0, 4.0, 5.0]]).t())
    save_weights("toy", layer)
    assert torch.equal(load_weights("toy")["weight"], layer.weight.detach())


def test_weights_are_kept_anew(folder):
    save_weights("toy", nn.Linear(3, 5))
    save_weights("toy", layer := nn.Linear(3, 5))
    assert torch.equal(load_weights("toy")["bias"], layer.bias.detach().half().float())


def test_tied_weights_can_be_kept(folder):
    tied = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
    tied[0].weight.data[0, 0] = 1e6
    tied[1].weight = tied[0].weight
    save_weights("toy", tied)
    assert torch.equal(load_weights("toy")["1.weight"], tied[0].weight.detach())


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_weights_that_are_no_numbers_are_refused(folder, value):
    layer = nn.Linear(3, 5)
    layer.weight.data[2, 1] = value
    with pytest.raises(RecordError, match="weight has weights that are infinite or no numbers"):
        save_weights("toy", layer)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("damage", ["missing", "empty", "half"])
def test_damaged_weights_are_named(folder, damage):
    save_weights("toy", nn.Linear(3, 5))
    path = folder / "toy.safetensors"
    whole = path.read_bytes()
    path.write_bytes(b"" if damage == "empty" else whole[: len(whole) // 2])
    if damage == "missing":
        path.unlink()
    with pytest.raises(RecordError, match=r"toy\.safetensors is missing or damaged"):
        load_weights("toy")


def test_no_git_costs_no_result(folder, monkeypatch):
    def no_git(*args, **options):
        raise FileNotFoundError("git")

    monkeypatch.setattr(records.subprocess, "run", no_git)
    TOY.record({"seed": 0})
    assert TOY.rows()[0]["provenance"]["commit"] == "unknown"


@pytest.mark.parametrize("found, kept, same", [
    (0.0, 0.0, True), (0, 0, True), (1e-9, 0.0, False), (-1.0, -1.0, True), (-1.00009, -1.0, True),
    (-1.0002, -1.0, False), (100.009, 100.0, True), (99.98, 100.0, False), (0.0100009, 0.01, True),
    (0.01001, 0.01, False), (1, 1.0, True),
    (True, True, True), (None, None, True), ("a", "b", False), ([], [], True), ([1.0], [], False), ([], [1.0], False),
    ({}, {}, True), ({"a": 1}, {}, False), ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 2}]}, True), (3, {"a": 1}, False),
    ({"a": 1}, 3, False), (3, [3], False), ([3], 3, False), ("3", 3, False), (3, "3", False),
    (float("nan"), float("nan"), False),
])
def test_near_is_the_same_but_for_rounding(found, kept, same):
    assert records.near(found, kept, 1e-4) is same


def test_three_seeds_unless_told():
    assert len(set(Study("toy", toy_run, ({},)).seeds)) == 3


def test_a_row_knows_its_commit_and_its_processor(tmp_path, folder):
    folder.mkdir()
    git = ["git", "-C", str(tmp_path), "-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "First"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
    made = records.provenance("source", 1.25)
    assert len(made["commit"]) >= 7 and head.startswith(made["commit"])
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*: (.*\S)", cpuinfo.read_text(), re.M) if cpuinfo.exists() else []
    assert made["machine"].startswith(names[0] + ", " if names else "")


MODULE = '''
"""A chapter."""
from seq2seq.sequences import Vocab as Symbols

RATE, OTHER = 3, 7
SCALE: float = 5.0

def helper(x):
    """Documented."""
    return x * RATE * SCALE

def unused(x):
    return x

def study(*, seed, until=None):  # a comment
    return {"losses": [helper(seed), len(Symbols("ab"))]}
'''


@pytest.mark.parametrize("old, new, same", [
    ("Documented", "Documented better", True),
    ("# a comment", "", True),
    ("return x\n", "return x + 1\n", True),        # not used by the study
    ("RATE, OTHER = 3", "RATE, OTHER = 5", False),
    ("SCALE: float = 5.0", "SCALE: float = 6.0", False),
    ("x * RATE", "x + RATE", False),
    ('"ab"', '"abc"', False),
])
def test_a_source_hash_sees_what_a_study_uses_and_nothing_else(tmp_path, monkeypatch, old, new, same):
    def hash_of(text: str, place: Path) -> str:
        place.mkdir()
        (place / "a_chapter_of_toys.py").write_text(text)
        monkeypatch.syspath_prepend(place)
        try:
            return source_hash(importlib.import_module("a_chapter_of_toys").study)
        finally:
            del sys.modules["a_chapter_of_toys"]

    assert old in MODULE
    assert (hash_of(MODULE, tmp_path / "1") == hash_of(MODULE.replace(old, new), tmp_path / "2")) is same


def test_a_source_hash_follows_a_name_that_was_imported_under_another(tmp_path, monkeypatch):
    from seq2seq import sequences

    (tmp_path / "a_chapter_of_toys.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    study = importlib.import_module("a_chapter_of_toys").study
    before, real = source_hash(study), records.inspect.getsource
    edited = Path(sequences.__file__).read_text("utf-8").replace("range(4)", "range(5)")
    monkeypatch.setattr(records.inspect, "getsource", lambda module: edited if module is sequences else real(module))
    del sys.modules["a_chapter_of_toys"]
    assert source_hash(study) != before


def test_a_source_hash_follows_imports_between_chapters(monkeypatch):
    from seq2seq import bottleneck, encoder_decoder

    before = source_hash(bottleneck.pronunciation_study)
    edited_source = Path(encoder_decoder.__file__).read_text("utf-8").replace("max_len: int = 50", "max_len: int = 51")
    real = records.inspect.getsource

    def edited(module):
        return edited_source if module is encoder_decoder else real(module)

    monkeypatch.setattr(records.inspect, "getsource", edited)
    assert source_hash(bottleneck.pronunciation_study) != before


def test_a_source_hash_sees_the_arithmetic_of_training(monkeypatch):
    from seq2seq import bottleneck
    from seq2seq.kit import training

    before, real = source_hash(bottleneck.pronunciation_study), records.inspect.getsource
    text = Path(training.__file__).read_text("utf-8")
    assert "clip: float = 1.0" in text
    edited = text.replace("clip: float = 1.0", "clip: float = 2.0")
    monkeypatch.setattr(records.inspect, "getsource", lambda module: edited if module is training else real(module))
    assert source_hash(bottleneck.pronunciation_study) != before


def test_a_source_hash_sees_the_loss_that_training_imports_late(monkeypatch):
    from seq2seq import bottleneck, teacher_forcing

    before, real = source_hash(bottleneck.pronunciation_study), records.inspect.getsource
    text = Path(teacher_forcing.__file__).read_text("utf-8")
    edited = text.replace("ignore_index=Vocab.pad", "ignore_index=Vocab.eos")
    assert edited != text
    monkeypatch.setattr(
        records.inspect, "getsource", lambda module: edited if module is teacher_forcing else real(module))
    assert source_hash(bottleneck.pronunciation_study) != before


@pytest.fixture
def command(folder, monkeypatch):
    """tools/records.py as a command, on the toy study alone."""
    monkeypatch.setenv("SEQ2SEQ_DEVICE", "cpu")
    monkeypatch.setattr(tool, "studies", lambda names: [TOY])

    def call(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["records.py", *arguments])
        try:
            tool.main()
        except SystemExit as stop:
            return stop.code
        return 0

    return call


def on_a_gpu(monkeypatch, name: str = "NVIDIA T4") -> None:
    """From here on studies run on an accelerator of this name, as far as records can tell."""
    monkeypatch.setattr(records, "device", lambda: torch.device("meta"))
    monkeypatch.setattr(records, "accelerator", lambda device: name if device.type == "meta" else "")


def test_a_row_made_on_a_gpu_says_so(folder, monkeypatch):
    TOY.record({"seed": 0})
    with monkeypatch.context() as patch:
        on_a_gpu(patch)
        TOY.record({"seed": 1})
    cpu, gpu = (TOY.row({"seed": seed})["provenance"] for seed in (0, 1))
    assert gpu["accelerator"] == "NVIDIA T4" and gpu["command"] == "SEQ2SEQ_DEVICE=meta make records"
    assert "accelerator" not in cpu and cpu["command"] == "make records" and cpu["machine"] == gpu["machine"]


@pytest.mark.parametrize("made, replayed", [("NVIDIA T4", ""), ("", "NVIDIA T4"), ("NVIDIA T4", "NVIDIA H100")])
def test_losses_of_another_kind_of_device_are_compared_loosely_and_check_says_so(
        made, replayed, folder, monkeypatch, capsys):  # fmt: skip
    with monkeypatch.context() as patch:
        on_a_gpu(patch, made)
        tool.record(TOY)
    on_a_gpu(monkeypatch, made)
    monkeypatch.setitem(LOSSES, "scale", 1.001)
    assert len(tool.replay(TOY)) == 2              # on the same kind only rounding is forgiven
    on_a_gpu(monkeypatch, replayed)
    capsys.readouterr()
    assert tool.replay(TOY) == []
    told = f"made on {made or 'a CPU'}, replayed on {replayed or 'a CPU'}: its first losses are compared within 3%"
    assert capsys.readouterr().out.count(told) == 2
    monkeypatch.setitem(LOSSES, "scale", 1.04)
    assert len(tool.replay(TOY)) == 2


def test_scores_without_losses_are_not_compared_with_those_of_another_kind_of_device(folder, monkeypatch, capsys):
    study = Study("scored", lambda *, seed, until=None: {"score": LOSSES["scale"]}, ({},), (0,))
    monkeypatch.setattr(records, "source_hash", lambda run: "this")
    monkeypatch.setattr(tool, "source_hash", lambda run: "this")
    with monkeypatch.context() as patch:
        on_a_gpu(patch)
        study.record({"seed": 0})
        monkeypatch.setitem(LOSSES, "scale", 1.01)
        assert len(tool.replay(study)) == 1
    capsys.readouterr()
    assert tool.replay(study) == [] and "its results are not compared" in capsys.readouterr().out


def test_keep_says_what_it_compared_loosely(folder, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        on_a_gpu(patch)
        tool.record(TOY)
    changed_code(monkeypatch)
    tool.keep(TOY)
    assert capsys.readouterr().out.count("made on NVIDIA T4, replayed on a CPU") == 4 and TOY.missing() == []


def test_an_accelerator_has_a_name_and_the_cpu_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device}")
    assert records.accelerator(torch.device("cuda")) == "GPU cuda"
    assert records.accelerator(torch.device("mps")) == "mps" and records.accelerator(torch.device("cpu")) == ""


def test_runs_side_by_side_lose_no_row_and_name_what_failed(folder, command, capsys):
    """A study of the test module itself, which the other processes import."""
    side = Study("side", side_run, tuple({"rate": rate} for rate in (1, 2, 3)), (0, 1))
    [problem] = tool.record_side_by_side([side], 3)
    assert problem.startswith("side {'rate': 3, 'seed': 1}") and "ValueError" in problem
    assert [row["settings"] for row in side.rows()] == side.plan()[:-1]
    assert all(row["result"] == {"score": 10 * row["settings"]["rate"]} for row in side.rows())
    out = capsys.readouterr().out
    assert "run 6 of 6" in out and "side {'rate': 3, 'seed': 1} FAILED" in out
    assert len(tool.record_side_by_side([side], 2)) == 1 and "run 1 of 1" in capsys.readouterr().out
    assert command("--jobs", "2") == 0 and len(TOY.rows()) == 4


def test_a_process_beside_others_reads_and_writes_under_their_lock(folder, monkeypatch):
    lock, held, read = threading.Lock(), [], Study.rows
    monkeypatch.setattr(records, "LOCK", None)    # restored after the test
    tool.share(lock, folder)
    monkeypatch.setattr(Study, "rows", lambda study: [held.append(lock.locked()), read(study)][1])
    monkeypatch.setattr(Study, "write", lambda study, rows: held.append(lock.locked()))
    TOY.record({"seed": 0})
    assert held == [True, True] and not lock.locked()


def side_run(*, rate: int, seed: int, until: int | None = None) -> dict:
    if (rate, seed) == (3, 1):
        raise ValueError("diverged")
    return {"losses": [rate], "score": 10 * rate}


def test_the_command_records_checks_and_keeps(command, monkeypatch, capsys):
    assert command("--replay") == 1 and "not on record" in capsys.readouterr().out
    assert command() == 0 and len(TOY.rows()) == 4
    assert command("--replay", "--brief") == 0 and "1 records agree" in capsys.readouterr().out
    assert command("--check") == 0 and "1 records are whole" in capsys.readouterr().out
    changed_code(monkeypatch)
    assert command("--keep") == 0 and "kept {'seed': 0}" in capsys.readouterr().out
    monkeypatch.setitem(LOSSES, "scale", 2.0)
    assert command("--replay") == 1


def test_studies_are_found_by_name_in_the_chapters():
    names = [study.name for study in tool.studies([])]
    assert names == sorted(names) and {"bottleneck-variants", "bottleneck-translation"} <= set(names)
    assert [study.name for study in tool.studies(["bottleneck-variants"])] == ["bottleneck-variants"]
    with pytest.raises(SystemExit, match=r"no study is called nothing; there are .*bottleneck-variants"):
        tool.studies(["bottleneck-variants", "nothing"])


def test_records_lie_in_the_package():
    [study] = tool.studies(["bottleneck-g2p-en"])
    assert (Path(records.__file__).parents[1] / "records" / "bottleneck-g2p-en.json").samefile(study.path)


def test_edits_are_written_in_one_character_each_and_read_again():
    edits, lengths = [0, 9, 35, 36, 1000], [1, 2, 3, 4, 5]
    written = {"edits": records.digits(edits), "lengths": records.digits(lengths)}
    assert all(len(text) == 5 for text in written.values())
    assert records.words_of([written, written]).tolist() == [[0, 2], [18, 4], [70, 6], [70, 8], [70, 10]]
