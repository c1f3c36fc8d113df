"""Studies on record: what runs too long for a page (several seeds, several settings) is run once and kept.

A chapter defines a function that trains and scores one setting and wraps it in a `Study`. `make records` runs what
is missing or out of date, one run at a time, and writes `seq2seq/records/NAME.json` after every run, so a kill loses
one run at most. Each row carries its settings, its seed, its first losses and where it was run. `make check` replays
the first losses; a source that has changed since the run only warns.
"""

import ast
import hashlib
import importlib.util
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

FOLDER = Path(__file__).parents[1] / "records"
FIRST = 5  # losses kept for the replay


class RecordError(ValueError):
    """A record that is missing, damaged, or not what its study produces."""


@dataclass(frozen=True)
class Study:
    """A function and the settings it is run with.

    name: the record's file name, starting with the chapter's name. run(**setting, seed=…, until=None) -> a dictionary
    of plain numbers and lists, with "losses" (one per training step) and, optionally, "weights" (a model to keep,
    in half precision, as NAME.safetensors). until=k stops training after k steps. Every setting is run with every seed.
    """

    name: str
    run: Callable[..., dict]
    settings: tuple[dict, ...]
    seeds: tuple[int, ...] = (0, 1, 2)

    @property
    def path(self) -> Path:
        return FOLDER / f"{self.name}.json"

    def plan(self) -> list[dict]:
        """Every run of this study, as keyword arguments of `run`."""
        return [{**setting, "seed": seed} for seed in self.seeds for setting in self.settings]

    def rows(self) -> list[dict]:
        """What is on record: a list of {"settings", "result", "first_losses", "provenance"}."""
        if not self.path.exists():
            return []
        try:
            rows = json.loads(self.path.read_text())["rows"]
            return [{key: row[key] for key in ("settings", "result", "first_losses", "provenance")} for row in rows]
        except (KeyError, TypeError, ValueError) as error:
            raise RecordError(f"{self.path.name} is damaged; restore it from git or run: make records ({error})") from error

    def results(self, **chosen) -> list[dict]:
        """The results on record, settings included, of the runs whose settings agree with `chosen`."""
        found = [row["settings"] | row["result"] for row in self.rows()]
        found = [row for row in found if all(row.get(key) == value for key, value in chosen.items())]
        if not found:
            raise RecordError(f"nothing on record for {self.name} with {chosen or 'any setting'}; run: make records")
        return found

    def missing(self) -> list[dict]:
        """The runs of the plan that are not on record, or were made by other code."""
        source = source_hash(self.run.__module__)
        fresh = [row["settings"] for row in self.rows() if row["provenance"]["source"] == source]
        return [settings for settings in self.plan() if settings not in fresh]

    def record(self, settings: dict) -> None:
        """Run one setting and keep the result."""
        start = time.perf_counter()
        result = self.run(**settings)
        seconds = time.perf_counter() - start
        losses = result.pop("losses")
        weights = result.pop("weights", None)
        if weights is not None:
            save_weights(self.name, weights)
        row = {
            "settings": settings,
            "result": result,
            "first_losses": losses[:FIRST],
            "provenance": provenance(source_hash(self.run.__module__), seconds),
        }
        plan = self.plan()
        rows = [r for r in self.rows() if r["settings"] != settings and r["settings"] in plan] + [row]
        rows.sort(key=lambda r: plan.index(r["settings"]))
        FOLDER.mkdir(exist_ok=True)
        scratch = self.path.with_suffix(".part")
        scratch.write_text(json.dumps({"study": self.name, "rows": rows}, indent=1) + "\n")
        os.replace(scratch, self.path)

    def replay(self, settings: dict, tolerance: float = 1e-3) -> None:
        """Run the first steps of one run again. Raises RecordError if its losses are not those on record."""
        [row] = [row for row in self.rows() if row["settings"] == settings]
        losses = self.run(**settings, until=len(row["first_losses"]))["losses"]
        pairs = list(zip(losses, row["first_losses"], strict=True))
        if any(abs(now - then) > tolerance * abs(then) for now, then in pairs):
            raise RecordError(f"{self.name} {settings}: the first losses are {losses}, on record {row['first_losses']}")


def save_weights(name: str, model: nn.Module) -> None:
    """Keep a model's weights in half precision, as seq2seq/records/NAME.safetensors."""
    FOLDER.mkdir(exist_ok=True)
    save_file({key: value.half().contiguous() for key, value in model.state_dict().items()}, FOLDER / f"{name}.safetensors")


def load_weights(name: str) -> dict[str, Tensor]:
    """The weights kept under `name`, in single precision, for `model.load_state_dict`."""
    path = FOLDER / f"{name}.safetensors"
    try:
        return {key: value.float() for key, value in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise RecordError(f"{path.name} is missing or damaged; restore it from git or run: make records ({error})") from error


def source_hash(module: str) -> str:
    """A hash of the code of a chapter's module and of the chapters it imports; comments and docstrings do not count."""
    pending, trees = [module], {}
    while pending:
        name = pending.pop()
        spec = importlib.util.find_spec(name)
        if name in trees or spec is None or spec.origin is None:
            continue
        tree = ast.parse(Path(spec.origin).read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("seq2seq."):
                pending.append(node.module)
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module) and ast.get_docstring(node) is not None:
                node.body = node.body[1:]
        trees[name] = ast.dump(tree)
    code = "".join(trees[name] for name in sorted(trees) if not name.startswith("seq2seq.kit"))
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def provenance(source: str, seconds: float) -> dict:
    """Where, when and with what a run was made."""
    git = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=FOLDER, capture_output=True, text=True)
    return {
        "command": "make records",
        "date": time.strftime("%Y-%m-%d"),
        "commit": git.stdout.strip() or "unknown",
        "source": source,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": f"{processor()}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "seconds": round(seconds, 1),
    }


def processor() -> str:
    """The processor's name, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
