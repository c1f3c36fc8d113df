"""Budgets, claims, progress, checkpoints, records, plots and seeds; corpora and widgets have files of their own."""

import html
import importlib
import io
import json
import random
import re
import sys
import warnings
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import IPython.display
import nbclient
import nbformat
import numpy as np
import pytest
import torch
from IPython.core.formatters import DisplayFormatter
from matplotlib import pyplot as plt
from torch import nn

from seq2seq.kit import ClaimError, budget, claim, device, plots, progress, records, seed_everything
from seq2seq.kit.progress import Progress
from seq2seq.kit.records import RecordError, Study, load_weights, save_weights, source_hash

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
import records as tool  # tools/records.py

# budget


def test_the_budget_is_cpu_unless_told(monkeypatch):
    monkeypatch.delenv("SEQ2SEQ_BUDGET", raising=False)
    assert budget.name() == "cpu"


@pytest.mark.parametrize("name, chosen, steps, without_full", [
    ("smoke", 3, 2, 3), ("cpu", 5, 11, 11), ("full", 7, 13, 11),
])
def test_each_budget_chooses_its_own(monkeypatch, name, chosen, steps, without_full):
    monkeypatch.setenv("SEQ2SEQ_BUDGET", name)
    assert budget.choose(full=7, smoke=3, cpu=5) == chosen
    assert budget.steps(11, 13, smoke=2) == steps and budget.steps(11) == without_full


@pytest.mark.parametrize("name", ["quick", "CPU", ""])
def test_a_budget_that_does_not_exist_is_named(monkeypatch, name):
    monkeypatch.setenv("SEQ2SEQ_BUDGET", name)
    with pytest.raises(ValueError, match=rf"SEQ2SEQ_BUDGET is '{name}'; set it to one of smoke, cpu, full"):
        budget.steps(5)


@pytest.mark.parametrize("wrong", [{"cpu": 0}, {"cpu": -5}, {"cpu": 2.5}, {"cpu": "100"}, {"cpu": True},
                                   {"cpu": 5, "full": 0}, {"cpu": 5, "smoke": 0}])
@pytest.mark.parametrize("name", budget.NAMES)
def test_steps_are_whole_numbers_under_every_budget(monkeypatch, name, wrong):
    monkeypatch.setenv("SEQ2SEQ_BUDGET", name)
    with pytest.raises(ValueError, match="a whole number of steps, at least 1"):
        budget.steps(**wrong)


# claims


@pytest.fixture
def at(monkeypatch):
    """Sets the budget and whether claims are strict."""

    def set_to(name: str, claims: str | None = None) -> None:
        monkeypatch.setenv("SEQ2SEQ_BUDGET", name)
        if claims is None:
            monkeypatch.delenv("SEQ2SEQ_CLAIMS", raising=False)
        else:
            monkeypatch.setenv("SEQ2SEQ_CLAIMS", claims)

    return set_to


@pytest.mark.parametrize("claims", [None, "strict"])
def test_a_claim_that_holds_is_silent_and_leaves_its_data(at, claims):
    at("cpu", claims)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = claim('A "<b>" beats B & C.', 3 > 2, measured="3 > 2")
    assert repr(result) == 'Claim holds: A "<b>" beats B & C. Measured: 3 > 2'
    box = result._repr_html_()
    assert 'class="claim claim-holds"' in box and "<b>" not in box
    data = json.loads(html.unescape(re.search(r'data-claim="([^"]*)"', box)[1]))
    assert data == {"text": 'A "<b>" beats B & C.', "verdict": "holds", "measured": "3 > 2"}


def test_a_claim_that_fails_warns_a_reader_at_the_readers_own_line(at):
    at("cpu")
    with pytest.warns(UserWarning, match=r"does not confirm: A beats B\. Measured: 1 and 2") as caught:
        result = claim("A beats B.", 1 > 2, measured="1 and 2")
    assert caught[0].filename == __file__
    assert "does not hold" in repr(result) and "claim-fails" in result._repr_html_()


@pytest.mark.parametrize("name", ["cpu", "full"])
def test_a_claim_that_fails_stops_a_strict_build(at, name):
    at(name, "strict")
    with pytest.raises(ClaimError, match=r"A beats B\. Measured: 1 and 2"):
        claim("A beats B.", np.bool_(False), measured="1 and 2")


@pytest.mark.parametrize("claims", ["strict", " STRICT", "1", "true", "Yes", "on"])
def test_strict_has_several_spellings(at, claims):
    at("cpu", claims)
    with pytest.raises(ClaimError):
        claim("A beats B.", False, measured="1 and 2")


@pytest.mark.parametrize("claims", ["lenient", "0", "False", "no", "off", ""])
def test_so_has_lenient(at, claims):
    at("cpu", claims)
    with pytest.warns(UserWarning, match="does not confirm"):
        claim("A beats B.", False, measured="1 and 2")


@pytest.mark.parametrize("budget_name", ["cpu", "smoke"])
def test_a_setting_that_means_neither_is_named(at, budget_name):
    at(budget_name, "stirct")
    with pytest.raises(ValueError, match="SEQ2SEQ_CLAIMS is 'stirct'; set it to strict or lenient"):
        claim("A beats B.", True, measured="2 and 1")


@pytest.mark.parametrize("holds", [float("nan"), [False], [], (x for x in "a"), None, 1, "yes", np.array([True]),
                                   torch.tensor(1.0)])
@pytest.mark.parametrize("budget_name", ["cpu", "smoke"])
def test_evidence_that_is_neither_true_nor_false_is_refused(at, budget_name, holds):
    at(budget_name)
    with pytest.raises(TypeError, match="a claim holds or not: give True or False"):
        claim("A beats B.", holds, measured="nothing")


@pytest.mark.parametrize("truth", [True, False])
def test_the_truth_of_numpy_and_of_torch_counts(at, truth):
    at("cpu", "lenient")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        verdicts = {repr(claim("A.", holds, measured="B.")) for holds in
                    (truth, np.bool_(truth), np.array(truth), torch.tensor(truth))}
    assert len(verdicts) == 1 and ("holds" in verdicts.pop()) is truth


@pytest.mark.parametrize("holds", [True, False])
def test_at_the_smoke_budget_no_claim_is_judged(at, holds):
    at("smoke", "strict")
    result = claim("A beats B.", holds, measured="nothing")
    assert "skipped" in repr(result) and "claim-skipped" in result._repr_html_()


# seeds and devices


def test_the_same_seed_draws_the_same():
    def draw() -> tuple:
        return random.random(), np.random.rand(), torch.rand(3).tolist()

    seed_everything(5)
    first, then = draw(), draw()
    seed_everything(5)
    assert draw() == first != then
    seed_everything(7)
    assert all(a != b for a, b in zip(draw(), first, strict=True))
    seed_everything(np.int64(5))
    assert draw() == first


@pytest.mark.parametrize("seed, error", [(-1, ValueError), (2**32, ValueError), (0.5, TypeError), ("1", TypeError)])
def test_a_seed_that_numpy_cannot_take_leaves_every_generator_alone(seed, error):
    seed_everything(2**32 - 1)
    state = random.getstate(), torch.get_rng_state().tolist()
    with pytest.raises(error):
        seed_everything(seed)
    assert (random.getstate(), torch.get_rng_state().tolist()) == state


@pytest.mark.parametrize("cuda, mps, kind", [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")])
def test_the_best_device_there_is(gpus, cuda, mps, kind):
    gpus(cuda=cuda, mps=mps, broken=())
    assert device() == torch.device(kind)


@pytest.fixture
def gpus(monkeypatch):
    """Pretends that there are GPUs, some of which this torch has no kernels for."""
    monkeypatch.delenv("SEQ2SEQ_DEVICE", raising=False)

    def pretend(*, cuda: bool, mps: bool, broken: tuple[str, ...]) -> None:
        def ones(*size, device):
            if device in broken:
                raise RuntimeError("CUDA error: no kernel image is available\nCompile with TORCH_USE_CUDA_DSA")
            return real(*size)

        real = torch.ones
        monkeypatch.setattr(torch, "ones", ones)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return pretend


def test_a_gpu_without_kernels_is_passed_over_with_a_sentence(gpus):
    gpus(cuda=True, mps=False, broken=("cuda",))
    with pytest.warns(UserWarning, match=r"the CPU is used; .* \(CUDA error: no kernel image is available\)") as caught:
        assert device() == torch.device("cpu")
    assert caught[0].filename == __file__


def test_one_variable_forces_a_device(gpus, monkeypatch):
    gpus(cuda=True, mps=True, broken=())
    monkeypatch.setenv("SEQ2SEQ_DEVICE", "cpu")
    assert device() == torch.device("cpu")
    monkeypatch.setenv("SEQ2SEQ_DEVICE", "cuda:1")
    assert device() == torch.device("cuda", 1)
    monkeypatch.setenv("SEQ2SEQ_DEVICE", "")
    assert device() == torch.device("cuda")


@pytest.mark.parametrize("name", ["cuda", "gpu", "cpu:x", "meta"])
def test_a_device_that_does_not_work_is_named(monkeypatch, name):
    if name == "cuda" and torch.cuda.is_available():
        pytest.skip("here it works")
    monkeypatch.setenv("SEQ2SEQ_DEVICE", name)
    with pytest.raises(ValueError, match=f"SEQ2SEQ_DEVICE is '{name}', which does not work here; set it to cpu"):
        device()


# progress


class Cell:
    """One output cell, as IPython's display sees it."""

    def __init__(self):
        self.shown = []

    def __call__(self, bundle, raw, display_id):
        assert display_id and not self.shown, "a bar is displayed once and then rewritten"
        self.update(bundle, raw)
        return self

    def update(self, bundle, raw):
        assert raw and set(bundle) == {"text/html", "text/plain"}
        self.shown.append(bundle["text/html"])
        self.plain = bundle["text/plain"]


@pytest.fixture
def cell(monkeypatch) -> Cell:
    """What a notebook shows."""
    cell = Cell()
    monkeypatch.setattr(progress, "in_notebook", lambda: True)
    monkeypatch.setattr(IPython.display, "display", cell)
    return cell


def test_plain_python_is_no_notebook_and_a_log_file_stays_empty(capfd):
    assert not progress.in_notebook()
    steps = Progress(iter("abc"), "reading", total=3)
    seen = []
    for step in steps:
        seen.append(step)
        steps.note("loss 1.00")
    assert seen == ["a", "b", "c"] and capfd.readouterr() == ("", "")


def test_a_kernel_is_what_makes_a_notebook(monkeypatch):
    for shell, expected in ((None, False), (SimpleNamespace(), False), (SimpleNamespace(kernel=1), True)):
        monkeypatch.setattr("IPython.get_ipython", lambda shell=shell: shell)
        assert progress.in_notebook() is expected


def test_a_notebooks_bar_is_one_output_that_is_empty_in_the_end(cell):
    steps = Progress(range(5), "a <b>", every=0.0)
    for step in steps:
        steps.note(f"loss {step} < 9")
        assert step == 0 or cell.plain.startswith(f"a <b>: {step} of 5 steps, 0 s")
    *bars, last = cell.shown
    assert last == "" and cell.plain == ""
    assert [int(re.search(r'value="(\d+)"', bar)[1]) for bar in bars] == [1, 2, 3, 4, 5]
    assert 'max="5"' in bars[-1] and "5 of 5 steps" in bars[-1] and "loss 4 &lt; 9" in bars[-1]
    assert 'aria-label="a &lt;b&gt;"' in bars[-1] and "<b>" not in bars[-1]


def test_an_interrupted_bar_stays_and_tells_how_far_it_came(cell):
    with pytest.raises(KeyboardInterrupt):
        for step in Progress(range(5), "training", every=0.0):
            if step == 3:
                raise KeyboardInterrupt
    assert "3 of 5 steps" in cell.shown[-1]


def test_a_bar_is_not_redrawn_at_every_step_and_what_is_quick_shows_none(cell, monkeypatch):
    assert sum(Progress(range(1000), "adding", every=60.0)) == sum(range(1000)) and cell.shown == []
    clock = iter(range(10_000))
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(clock))
    assert sum(Progress(range(1000), "adding", every=100.0)) == sum(range(1000))
    assert 10 <= len(cell.shown) <= 11


def test_no_steps_at_all(cell):
    assert list(Progress([], "nothing")) == [] and cell.shown == []


def test_a_finished_bar_leaves_nothing_in_a_notebook():
    source = "from seq2seq.kit.progress import Progress\nfor step in Progress(range(3), 'training', every=0.0): pass"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    nbclient.NotebookClient(notebook, timeout=120).execute()
    outputs = notebook.cells[0].outputs
    assert [output.data for output in outputs] == [{"text/html": "", "text/plain": ""}]


class Killed(Exception):
    """Somebody pulls the plug."""


# records

LOSSES = {"scale": 1.0, "calls": []}    # what the toy study is told


def toy_run(*, rate: float = 1.0, seed: int = 0, until: int | None = None) -> dict:
    """A training that is over at once."""
    LOSSES["calls"].append((rate, seed, until))
    losses = [LOSSES["scale"] * (seed + 1) * rate / step for step in range(1, 12)]
    return {"losses": losses[:until], "score": rate + 10 * seed}


TOY = Study("toy", toy_run, settings=({}, {"rate": 3.0}), seeds=(0, 1))


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


def test_other_code_makes_rows_stale_and_keep_accepts_them_if_nothing_moved(folder, monkeypatch, capsys):
    tool.record(TOY)
    assert tool.check(TOY) == [] and "warning" not in capsys.readouterr().out
    changed_code(monkeypatch)
    assert TOY.missing() == TOY.plan()
    assert tool.check(TOY) == [] and "the code has changed" in capsys.readouterr().out    # a warning, no more
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
    assert tool.check(TOY) == [] and LOSSES["calls"] == [(1.0, 0, 5), (3.0, 1, 5)]


@pytest.mark.parametrize("settings, seeds", [(1, 3), (2, 3), (3, 2), (7, 3), (1, 1)])
def test_a_sample_has_every_setting_and_every_seed(settings, seeds):
    study = Study("toy", toy_run, tuple({"rate": float(rate)} for rate in range(settings)), tuple(range(seeds)))
    sample = study.sample()
    assert len(sample) == max(settings, seeds) and all(run in study.plan() for run in sample)
    assert {run["rate"] for run in sample} == set(range(settings))
    assert {run["seed"] for run in sample} == set(range(seeds))


def test_check_finds_a_study_that_ignores_its_seed(folder):
    tool.record(TOY)
    deaf = Study("toy", lambda *, seed, **rest: toy_run(seed=0, **rest), TOY.settings, TOY.seeds)
    with pytest.MonkeyPatch.context() as patch:
        changed_code(patch)
        assert len(tool.check(deaf)) == 1


@pytest.mark.parametrize("scale", [1.01, 0.99, 1.0002, float("nan"), float("inf"), -1.0])
def test_check_finds_losses_that_moved(folder, monkeypatch, scale):
    tool.record(TOY)
    monkeypatch.setitem(LOSSES, "scale", scale)
    problems = tool.check(TOY)
    assert len(problems) == 2 and all("the first losses are" in problem for problem in problems)


def test_check_finds_a_run_that_stops_too_early_and_one_that_is_not_there(folder, monkeypatch):
    TOY.record({"seed": 0})
    assert "not on record" in tool.check(TOY)[0] and len(tool.check(TOY)) == 1
    short = Study("toy", lambda *, seed, until: {"losses": [1.0]}, settings=({},), seeds=(0,))
    monkeypatch.setattr(tool, "source_hash", lambda run: "other")
    assert len(tool.check(short)) == 1 and "the first losses are" in tool.check(short)[0]


def test_check_finds_rows_of_no_plan(folder):
    tool.record(TOY)
    fewer = Study("toy", toy_run, settings=({},), seeds=(0, 1))
    assert len(tool.check(fewer)) == 1 and "not in the study's plan: [{'rate': 3.0" in tool.check(fewer)[0]


def scored(*, seed: int = 0, until: int | None = None) -> dict:
    """A study that trains nothing."""
    return {"losses": [], "score": np.float32(LOSSES["scale"]), "by_length": {5: [1.0, "a", None, True]}}


@pytest.mark.parametrize("scale, problems", [(1.00005, 0), (1.0002, 1), (float("nan"), 1)])
def test_a_study_without_losses_is_scored_again(folder, monkeypatch, scale, problems):
    study = Study("toy", scored, settings=({},), seeds=(0,))
    tool.record(study)
    assert study.rows()[0]["first_losses"] == [] and tool.check(study) == []
    monkeypatch.setitem(LOSSES, "scale", scale)
    assert len(tool.check(study)) == problems and all("the results are" in text for text in tool.check(study))


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
        assert study.missing() == [] and tool.check(study) == []
        study.keep({"sizes": (3, 5), "seed": 7})
    assert study.rows()[0]["first_losses"] == [2.0, 1.0]
    assert study.results({"sizes": (3, 5)}) == [{"score": 0.5, "counts": [3, [4]], "right": True}]


def test_what_cannot_be_written_is_kept_as_text(folder):
    study = Study("toy", lambda *, seed: {"score": 1.5, "unit": 1 + 2j}, settings=({},), seeds=(0,))
    with pytest.MonkeyPatch.context() as patch, pytest.warns(UserWarning, match=r"\(1\+2j\) is kept as text"):
        changed_code(patch)
        study.record({"seed": 0})
    assert study.results({}) == [{"score": 1.5, "unit": "(1+2j)"}]


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
    layer.weight.data[1], layer.num_batches_tracked[...] = 1e6, 2**40 + 1
    save_weights("toy", layer)
    weights = load_weights("toy")
    assert weights["weight"].tolist() == [1.0, 1e6, 1.0] and weights["num_batches_tracked"] == 2**40 + 1
    nn.BatchNorm1d(3).load_state_dict(weights)


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


MODULE = '''
"""A chapter."""
from seq2seq.sequences import Vocab

RATE = 3

def helper(x):
    """Documented."""
    return x * RATE

def unused(x):
    return x

def study(*, seed, until=None):  # a comment
    return {"losses": [helper(seed), len(Vocab("ab"))]}
'''


@pytest.mark.parametrize("old, new, same", [
    ("Documented", "Documented better", True),
    ("# a comment", "", True),
    ("return x\n", "return x + 1\n", True),        # not used by the study
    ("RATE = 3", "RATE = 5", False),
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


def test_a_source_hash_follows_imports_between_chapters(monkeypatch):
    from seq2seq import encoder_decoder, rnn

    before = source_hash(rnn.pronunciation_study)
    edited_source = Path(encoder_decoder.__file__).read_text("utf-8").replace("max_len: int = 50", "max_len: int = 51")
    real = records.inspect.getsource

    def edited(module):
        return edited_source if module is encoder_decoder else real(module)

    monkeypatch.setattr(records.inspect, "getsource", edited)
    assert source_hash(rnn.pronunciation_study) != before


def test_a_source_hash_sees_the_arithmetic_of_training(monkeypatch):
    from seq2seq import rnn
    from seq2seq.kit import training

    before, real = source_hash(rnn.pronunciation_study), records.inspect.getsource
    text = Path(training.__file__).read_text("utf-8")
    assert "clip: float = 1.0" in text
    edited = text.replace("clip: float = 1.0", "clip: float = 2.0")
    monkeypatch.setattr(records.inspect, "getsource", lambda module: edited if module is training else real(module))
    assert source_hash(rnn.pronunciation_study) != before


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


def test_the_command_records_checks_and_keeps(command, monkeypatch, capsys):
    assert command("--check") == 1 and "not on record" in capsys.readouterr().out
    assert command() == 0 and len(TOY.rows()) == 4
    assert command("--check") == 0 and "1 records agree" in capsys.readouterr().out
    changed_code(monkeypatch)
    assert command("--keep") == 0 and "kept {'seed': 0}" in capsys.readouterr().out
    monkeypatch.setitem(LOSSES, "scale", 2.0)
    assert command("--check") == 1


def test_studies_are_found_by_name_in_the_chapters():
    names = [study.name for study in tool.studies([])]
    assert names == sorted(names) and {"rnn-variants", "rnn-translation"} <= set(names)
    assert [study.name for study in tool.studies(["rnn-variants"])] == ["rnn-variants"]
    with pytest.raises(SystemExit, match=r"no study is called nothing; there are .*rnn-variants"):
        tool.studies(["rnn-variants", "nothing"])


# plots


@pytest.fixture
def figures():
    """No figure is left open."""
    yield
    assert plt.get_fignums() == []


def test_a_picture_says_what_it_shows_and_takes_the_pages_ink(figures):
    with plt.rc_context():
        plots.use()
        figure, axes = plt.subplots()
        axes.plot([1, 2, 4], label="lengths")
        axes.set(xlabel="letters")
        picture = plots.show(figure, 'Lengths grow: 1 < 2 < "4".')
    assert repr(picture) == '[Figure: Lengths grow: 1 < 2 < "4".]'
    page = picture._repr_html_()
    assert 'role="img" aria-label="Lengths grow: 1 &lt; 2 &lt; &quot;4&quot;."' in page
    assert "currentColor" in page and plots.INK not in page and "<metadata>" not in page
    assert ">letters<" in page    # text stays text
    assert page.count("<svg") == 1 and "<?xml" not in page


def test_a_picture_is_an_image_where_no_html_can_go(figures):
    figure, axes = plt.subplots(figsize=(4, 2))
    axes.plot([1, 2, 4])
    bundle, _ = DisplayFormatter().format(plots.show(figure, "Lengths grow."))
    assert {"text/html", "image/png", "text/plain"} <= set(bundle)
    image = plt.imread(io.BytesIO(bundle["image/png"]))    # (height, width, channels)
    assert image.shape[:2] == (300, 600) and image.reshape(-1, image.shape[2])[0].tolist() == [1.0] * image.shape[2]


@pytest.mark.parametrize("alt", ["", "  \n"])
def test_a_picture_without_words_is_refused(figures, alt):
    figure, _ = plt.subplots()
    with pytest.raises(ValueError, match="a figure needs a text alternative"):
        plots.show(figure, alt)


def test_the_same_figure_is_the_same_file_and_two_figures_share_no_id(figures):
    def drawn(alt: str) -> str:
        figure, axes = plt.subplots()
        axes.plot([1, 2], marker="o")
        return plots.show(figure, alt).svg

    def ids(svg: str) -> set[str]:
        return {name for name in re.findall(r'<(?:path|clipPath) id="([^"]+)"', svg)}

    one, again, two = drawn("one"), drawn("one"), drawn("two")
    marks = {name for name in ids(one) if re.fullmatch(r"[mp]?[0-9a-f]{8,}", name)}
    assert one == again and marks and not marks & ids(two)


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours, as WCAG 2.2 defines it."""

    def luminance(color: str) -> float:
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("name", plots.colors)
@pytest.mark.parametrize("page", ["#ffffff", "#131517"])
def test_curves_are_seen_on_a_light_and_on_a_dark_page(name, page):
    assert contrast(plots.colors[name], page) >= 3


def test_a_loss_curve_tells_its_ends_and_its_floor(figures):
    falling = plots.loss_curve([4.0, 2.0, 1.0], floor=0.7, window=2)
    floor = "predicted floor"
    assert falling.alt == f"Training loss falls from 4.00 to 1.50 nats per token over 3 steps. The {floor} is 0.70."
    assert f"{floor} 0.70" in falling.svg
    rising = plots.loss_curve(np.array([1.0, 2.0]), window=1)
    assert rising.alt == "Training loss goes from 1.00 to 2.00 nats per token over 2 steps."


def test_no_losses_cannot_be_drawn(figures):
    with pytest.raises(ValueError, match="train for at least one step"):
        plots.loss_curve([])
