"""Studies on record: what runs too long for a page (several seeds, several settings) is run once and kept.

A chapter defines a function that trains and scores one setting and wraps it in a `Study`. `make records` runs what
is missing or out of date, one run at a time, and writes `seq2seq/records/NAME.json` after every run, so a kill loses
one run at most. Each row carries its settings, its seed, its first losses and where it was run. `make check` replays
the first losses; a source that has changed since the run only warns.
"""

import ast
import hashlib
import importlib
import inspect
import json
import os
import platform
import re
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
            raise damaged(self.path, error) from error

    def row(self, settings: dict) -> dict:
        """The row of one run. Raises RecordError if there is none."""
        for row in self.rows():
            if row["settings"] == settings:
                return row
        raise RecordError(f"nothing on record for {self.name} {settings}; run: make records")

    def results(self, setting: dict) -> list[dict]:
        """What `run` returned for this setting, one dictionary per seed."""
        found = [row["result"] for row in self.rows() if row["settings"] == setting | {"seed": row["settings"]["seed"]}]
        if not found:
            raise RecordError(f"nothing on record for {self.name} {setting}; run: make records")
        return found

    def mean(self, setting: dict, key: str) -> float:
        """One result of this setting, averaged over its seeds."""
        values = [result[key] for result in self.results(setting)]
        return sum(values) / len(values)

    def disagreement(self, key: str) -> float:
        """Run every setting again with the first seed: the largest difference of result `key` from the record."""
        first = [setting | {"seed": self.seeds[0]} for setting in self.settings]
        return max(abs(self.run(**each)[key] - self.row(each)["result"][key]) for each in first)

    def missing(self) -> list[dict]:
        """The runs of the plan that are not on record, or were made by other code."""
        source = source_hash(self.run)
        fresh = [row["settings"] for row in self.rows() if row["provenance"]["source"] == source]
        return [settings for settings in self.plan() if settings not in fresh]

    def record(self, settings: dict) -> None:
        """Run one setting and keep the result."""
        source, start = source_hash(self.run), time.perf_counter()
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
            "provenance": provenance(source, seconds),
        }
        plan = self.plan()
        rows = [r for r in self.rows() if r["settings"] != settings and r["settings"] in plan] + [row]
        rows.sort(key=lambda r: plan.index(r["settings"]))
        self.write(rows)

    def keep(self, settings: dict) -> None:
        """Accept a row made by other code as it stands: for a change of the code that changes no result.

        Raises RecordError if the first losses are not those on record.
        """
        self.replay(settings)
        rows = self.rows()
        for row in rows:
            if row["settings"] == settings:
                row["provenance"]["source"] = source_hash(self.run)
        self.write(rows)

    def write(self, rows: list[dict]) -> None:
        """Replace the record's file, whole or not at all."""
        FOLDER.mkdir(exist_ok=True)
        scratch = self.path.with_suffix(".part")
        scratch.write_text(json.dumps({"study": self.name, "rows": rows}, indent=1) + "\n")
        os.replace(scratch, self.path)

    def replay(self, settings: dict, tolerance: float = 1e-3) -> None:
        """Run the first steps of one run again. Raises RecordError if its losses are not those on record."""
        kept = self.row(settings)["first_losses"]
        losses = self.run(**settings, until=len(kept))["losses"]
        near = [abs(now - then) <= tolerance * abs(then) for now, then in zip(losses, kept, strict=False)]
        if len(losses) != len(kept) or not all(near):    # a loss that is no number is near nothing
            raise RecordError(f"{self.name} {settings}: the first losses are {losses}, on record {kept}")


def damaged(path: Path, error: Exception) -> RecordError:
    """The error for a record that cannot be read."""
    return RecordError(f"{path.name} is missing or damaged; restore it from git or run: make records ({error})")


def save_weights(name: str, model: nn.Module) -> None:
    """Keep a model's weights in half precision, as seq2seq/records/NAME.safetensors."""
    FOLDER.mkdir(exist_ok=True)
    weights = {key: value.detach().cpu().half().contiguous() for key, value in model.state_dict().items()}
    scratch = FOLDER / f"{name}.part"
    save_file(weights, scratch)
    os.replace(scratch, FOLDER / f"{name}.safetensors")


def load_weights(name: str) -> dict[str, Tensor]:
    """The weights kept under `name`, in single precision, for `model.load_state_dict`."""
    path = FOLDER / f"{name}.safetensors"
    try:
        return {key: value.float() for key, value in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise damaged(path, error) from error


def source_hash(function: Callable) -> str:
    """A hash of a chapter's function and of all it uses, directly or not, of the chapters' code.

    Comments, docstrings and the kit do not count.
    """
    pending, code, names_of = [(function.__module__, function.__name__)], {}, {}
    while pending:
        module, name = pending.pop()
        if (module, name) in code:
            continue
        if module not in names_of:
            names_of[module] = top_level_names(ast.parse(inspect.getsource(importlib.import_module(module))))
        defined, imported = names_of[module]
        if name in imported:
            pending.append((imported[name], name))
        elif name in defined:
            code[module, name] = ast.dump(without_docstrings(defined[name]))
            used = {node.id for node in ast.walk(defined[name]) if isinstance(node, ast.Name)}
            pending += [(module, other) for other in sorted(used) if other != name]
    text = "".join(f"{name} {code[name]}" for name in sorted(code))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def top_level_names(tree: ast.Module) -> tuple[dict[str, ast.stmt], dict[str, str]]:
    """What a module defines (name -> statement) and what it imports from other chapters (name -> module)."""
    defined, imported = {}, {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined[node.name] = node
        elif isinstance(node, ast.Assign):
            defined |= {target.id: node for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.ImportFrom) and re.fullmatch(r"seq2seq\.(?!kit)\w+", node.module or ""):
            imported |= {alias.name: node.module for alias in node.names}
    return defined, imported


def without_docstrings(tree: ast.AST) -> ast.AST:
    """The same syntax tree with every docstring taken out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return tree


def provenance(source: str, seconds: float) -> dict:
    """Where, when and with what a run was made."""
    return {
        "command": "make records",
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit(),
        "source": source,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": f"{processor()}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "seconds": round(seconds, 1),
    }


def commit() -> str:
    """The commit that is checked out, or "unknown" where there is no git."""
    command = ["git", "-C", str(FOLDER), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip() or "unknown"
    except OSError:
        return "unknown"


def processor() -> str:
    """The processor's name, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
