"""Run the notebooks on a GPU and tell what became of their claims: `make gpu-notebooks`.

Each notebook runs as a reader runs it, in a kernel and an empty folder of its own, JOBS at a time. One fails if a cell
does, if a claim does not hold, if its time is over, or if it took its training steps on the CPU. What was measured is
kept in notebooks.json and notebooks.md, the executed notebooks beside them. Without a GPU nothing runs, unless the CPU
is named. `--shard 2/4` takes the second of four parts (gpu_shards.py).
"""

import argparse
import html
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from multiprocessing.pool import ThreadPool
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat.v4 import new_code_cell

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))   # where the library of this folder is not installed

import torch  # noqa: E402
from gpu_shards import chosen, table  # noqa: E402

from seq2seq.kit import budget  # noqa: E402
from seq2seq.kit.records import accelerator, commit, processor  # noqa: E402
from seq2seq.kit.torch_setup import failure  # noqa: E402

# Run before a notebook, and after it: on which device its optimisers took their steps.
WATCH = """
from collections import Counter as _Counter
from torch.optim.optimizer import register_optimizer_step_post_hook as _after_each_step
_steps = _Counter()
_after_each_step(lambda optimizer, *_: _steps.update([optimizer.param_groups[0]["params"][0].device.type]))
"""
REPORT = """
import json, torch
_peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
print(json.dumps({"steps": _steps, "peak_bytes": _peak}))
"""


@dataclass
class Run:
    """What one notebook came to."""

    name: str
    seconds: float = 0.0
    steps: dict[str, int] = field(default_factory=dict)   # optimiser steps by kind of device
    peak_bytes: int = 0                                   # of the GPU's memory, all tensors together
    claims: list[dict[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def run(path: Path, device: str, minutes: float, out: Path | None = None) -> Run:
    """Run one notebook on a device; nothing it does wrong is raised, all of it is listed."""
    notebook, done, start = nbformat.read(path, as_version=4), Run(path.stem), time.perf_counter()
    notebook.cells = [new_code_cell(WATCH), *notebook.cells, new_code_cell(REPORT)]

    def left(cell: nbformat.NotebookNode) -> int:
        return max(1, round(60 * minutes - time.perf_counter() + start))

    with tempfile.TemporaryDirectory(prefix=f"{path.stem}-") as folder:
        there = {"metadata": {"path": folder}}
        client = NotebookClient(notebook, timeout_func=left, allow_errors=True, resources=there)
        try:
            client.execute()
        except (CellTimeoutError, DeadKernelError) as error:
            done.problems.append(plain(f"{type(error).__name__}: {error}"))
    done.seconds = round(time.perf_counter() - start, 1)
    read_outputs(notebook, done)
    if out is not None:
        notebook.cells = notebook.cells[1:-1]
        nbformat.write(notebook, out / path.name)
    if not done.problems:
        done.problems += misplaced(done.steps, device, notebook.metadata.get("accelerator") == "GPU")
    return done


def read_outputs(notebook: nbformat.NotebookNode, done: Run) -> None:
    """Collect the errors, the claims, and what REPORT said."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                lines = [line for line in cell.source.splitlines() if line.strip()]
                done.problems.append(plain(f"in the cell {lines[0]!r}:\n" + "\n".join(output.traceback)))
            page = output.get("data", {}).get("text/html", "")
            found = [json.loads(html.unescape(text)) for text in re.findall(r'data-claim="([^"]*)"', page)]
            done.claims += found
            done.problems += [f"this run does not confirm: {claim['text']} Measured: {claim['measured']}"
                              for claim in found if claim["verdict"] == "fails"]  # fmt: skip
    said = [output.text for output in notebook.cells[-1].get("outputs", []) if output.output_type == "stream"]
    if said:
        vars(done).update(json.loads(said[-1].splitlines()[-1]))


def misplaced(steps: dict[str, int], device: str, needed: bool) -> list[str]:
    """What is wrong with where the steps were taken. needed: whether the notebook asks for a GPU."""
    there, elsewhere = steps.get(device, 0), sum(steps.values()) - steps.get(device, 0)
    if there > elsewhere or not (elsewhere or needed):
        return []
    return [f"of its training steps {there} ran on {device}, {elsewhere} elsewhere"]


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[\d;]*m", "", text)   # without colours


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="chapters, by name (default: all)")
    parser.add_argument("--device", default="cuda", help="cuda (the default), mps, or cpu")
    parser.add_argument("--minutes", type=float, default=50, help="for each notebook (default: 50)")
    parser.add_argument("--shard", default="1/1", help="which part of the notebooks, such as 2/4")
    parser.add_argument("--visible", action="store_true", help="only look whether there is a GPU that computes")
    parser.add_argument("--out", type=Path, default=ROOT / "_build/gpu", help="a folder for what was measured")
    options = parser.parse_args()
    try:
        shard = chosen(options.shard)
    except ValueError as error:
        sys.exit(str(error))
    if error := failure(options.device):
        sys.exit(f"torch {torch.__version__} cannot compute on {options.device} here ({error}); run this on a machine "
                 "with a GPU, or on the CPU with: make gpu-notebooks DEVICE=cpu")
    if options.device == "cuda":
        subprocess.run(["nvidia-smi"], check=False)
    about = {"device": accelerator(torch.device(options.device)) or "CPU",
             "machine": f"{processor()}, {os.cpu_count()} cores", "torch": torch.__version__, "budget": budget.name(),
             "date": time.strftime("%Y-%m-%d"), "commit": commit()}  # fmt: skip
    print(*(f"{key}: {value}" for key, value in about.items()), sep="\n", flush=True)
    if options.visible:
        return
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    # Lenient: a claim that does not hold is listed, and those after it are tried too.
    os.environ |= {"SEQ2SEQ_DEVICE": options.device, "SEQ2SEQ_CLAIMS": "lenient", "PYTHONPATH": path}
    options.out.mkdir(parents=True, exist_ok=True)
    paths = [ROOT / f"chapters/{name}.ipynb" for name in options.names or shard]
    runs: list[Run] = []
    with ThreadPool(int(os.environ.get("JOBS", "2"))) as pool:
        for done in pool.imap_unordered(lambda path: run(path, options.device, options.minutes, options.out), paths):
            runs = sorted([*runs, done], key=lambda each: each.name)
            print(f"{done.name}: {done.seconds:.0f} s", *done.problems, sep="\n  ", flush=True)
            kept = [*map(asdict, runs)]
            (options.out / "notebooks.json").write_text(json.dumps(about | {"notebooks": kept}, indent=1))
            (options.out / "notebooks.md").write_text(table(about, kept, options.device))
    print((options.out / "notebooks.md").read_text())
    if failed := [done.name for done in runs if done.problems]:
        sys.exit(f"{len(failed)} of {len(runs)} notebooks failed: {', '.join(failed)}")
    print(f"{len(runs)} notebooks ran on {about['device']}")


if __name__ == "__main__":
    main()
