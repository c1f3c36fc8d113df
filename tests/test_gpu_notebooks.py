"""What `make gpu-notebooks` lists as wrong, and that nothing runs on the CPU unless it is named."""

import json
import subprocess
import sys
from pathlib import Path

import gpu_notebooks as tool
import nbformat
import pytest
import torch
from gpu_shards import chosen
from nbformat.v4 import new_code_cell, new_notebook, new_output

ROOT = Path(__file__).resolve().parents[1]

TRAINING = """
import torch
weights = torch.nn.Parameter(torch.ones(3))
optimizer = torch.optim.Adam([weights])
for step in range(2):
    weights.sum().backward()
    optimizer.step()
"""
CLAIM = """
from seq2seq.kit import claim
claim("Seven is {} than five.", {}, "7 and 5")
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a notebook of these cells on the CPU."""
    monkeypatch.setenv("SEQ2SEQ_BUDGET", "cpu")
    monkeypatch.setenv("SEQ2SEQ_CLAIMS", "lenient")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def call(*cells: str, device: str = "cpu", minutes: float = 1, **metadata: str) -> tool.Run:
        notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells], metadata=metadata)
        nbformat.write(notebook, tmp_path / "toy.ipynb")
        return tool.run(tmp_path / "toy.ipynb", device, minutes)

    return call


def test_a_run_tells_its_steps_and_claims_and_what_is_wrong(run):
    done = run(TRAINING, CLAIM.format("more", True), CLAIM.format("less", False), "seen = 1\nseen / 0", TRAINING)
    assert done.name == "toy" and done.steps == {"cpu": 4} and done.seconds > 0
    assert [(each["verdict"], each["measured"]) for each in done.claims] == [("holds", "7 and 5"), ("fails", "7 and 5")]
    claim, error = done.problems
    assert claim == "this run does not confirm: Seven is less than five. Measured: 7 and 5"
    assert error.startswith("in the cell 'seen = 1':") and "ZeroDivisionError" in error and "\x1b" not in error


def test_a_notebook_in_order_has_no_problems_and_one_that_asks_for_a_gpu_must_train_there(run):
    assert run(TRAINING, accelerator="GPU").problems == []
    assert run("print('no training')").problems == []
    assert run(TRAINING, device="cuda").problems == ["of its training steps 0 ran on cuda, 2 elsewhere"]


def test_time_and_a_kernel_that_dies_end_a_notebook(run):
    problem, *_ = run("import time", "time.sleep(60)", minutes=0.2).problems   # the kernel may tell of its end as well
    assert problem.startswith("CellTimeoutError") and "time.sleep(60)" in problem
    problem, *_ = run("import os", "os._exit(1)").problems
    assert problem.startswith("DeadKernelError")


@pytest.mark.parametrize("steps, needed, fine", [
    ({"cuda": 30}, True, True), ({"cuda": 30, "cpu": 29}, True, True), ({"cuda": 30, "cpu": 30}, False, False),
    ({"cpu": 1}, False, False), ({"cpu": 1}, True, False), ({}, True, False), ({}, False, True),
])  # fmt: skip
def test_most_steps_are_taken_on_the_device(steps, needed, fine):
    assert (tool.misplaced(steps, "cuda", needed) == []) is fine


def test_an_output_without_a_report_is_read_too():
    cell = new_code_cell("1 / 0", outputs=[new_output("error", ename="E", evalue="e", traceback=["boom"])])
    done = tool.Run("toy")
    tool.read_outputs(new_notebook(cells=[cell]), done)
    assert done.steps == {} and done.problems == ["in the cell '1 / 0':\nboom"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_stops_with_a_sentence():
    done = subprocess.run([sys.executable, ROOT / "tools/gpu_notebooks.py"], capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1
    assert "cannot compute on cuda here" in done.stderr and "make gpu-notebooks DEVICE=cpu" in done.stderr


def test_on_the_cpu_when_told_to_by_name(tmp_path):
    command = [sys.executable, ROOT / "tools/gpu_notebooks.py", "encoder_decoder", "--device", "cpu", "--out", tmp_path]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "SEQ2SEQ_BUDGET": "smoke", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 notebooks ran on CPU" in done.stdout
    kept = json.loads((tmp_path / "notebooks.json").read_text())
    assert kept["budget"] == "smoke" and [each["name"] for each in kept["notebooks"]] == ["encoder_decoder"]
    executed = nbformat.read(tmp_path / "encoder_decoder.ipynb", as_version=4)
    source = nbformat.read(ROOT / "chapters/encoder_decoder.ipynb", as_version=4)
    assert [cell.source for cell in executed.cells] == [cell.source for cell in source.cells]
    assert any(cell.get("outputs") for cell in executed.cells)


def test_a_shard_is_a_part_of_the_notebooks(tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "run", lambda path, device, minutes, out: tool.Run(path.stem))
    monkeypatch.setattr(sys, "argv", ["tool", "--device", "cpu", "--shard", "2/3", "--out", str(tmp_path)])
    for name in ("SEQ2SEQ_DEVICE", "SEQ2SEQ_CLAIMS", "PYTHONPATH"):
        monkeypatch.setenv(name, "")    # main sets them
    tool.main()
    kept = json.loads((tmp_path / "notebooks.json").read_text())
    assert [each["name"] for each in kept["notebooks"]] == sorted(chosen("2/3"))


def test_what_is_no_shard_is_refused_with_a_sentence(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tool", "--device", "cpu", "--shard", "4/3"])
    with pytest.raises(SystemExit, match="a shard is written 2/4"):
        tool.main()
