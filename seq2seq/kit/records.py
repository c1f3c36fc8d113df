"""Studies on record: what runs too long for a page (several seeds, several settings) is run once and kept.

A chapter defines a function that trains and scores one setting and wraps it in a `Study`. `make records` runs what
is missing or out of date, one run at a time, and writes `seq2seq/records/NAME.json` after every run, so a kill loses
one run at most. Each row carries its settings, its seed, its first losses and where it was run. `make replay` replays
the first losses, or all of a run that has none; a source that has changed since the run only warns.

What a GPU draws, such as dropout, no other device can draw again. A row that was made on another device than the one at
hand is therefore compared loosely: its weights and batches were drawn on the CPU all the same.
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
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from seq2seq.kit.torch_setup import device

FOLDER = Path(__file__).parents[1] / "records"
FIRST = 5  # losses kept for the replay
TOLERANCE = 1e-4  # relative: a replay on another machine differs by rounding, a change of the code by more
LOOSE = 0.03      # the same where dropout has to be drawn on another kind of device
LOCK = nullcontext()   # held while a record is read, changed and written; processes side by side share a real one


# Modules whose code a study's numbers come from: the chapters', and of the kit what computes.
COUNTS = re.compile(r"seq2seq\.((?!kit)\w+|kit|kit\.(training|search))")


class RecordError(ValueError):
    """A record that is missing, damaged, or not what its study produces."""


@dataclass(frozen=True)
class Study:
    """A function and the settings it is run with.

    name: the record's file name, starting with the chapter's name. run(**setting, seed=…, until=None) -> a dictionary
    of numbers, texts, lists and dictionaries (see `plain`), with "losses" (one per training step; none where nothing is
    trained) and, optionally, "weights" (a model to keep, in half precision, as NAME.safetensors). until=k stops
    training after k steps. Every setting is run with every seed. Raises ValueError for a study without settings or
    seeds, or with settings that are listed twice or cannot be written.
    """

    name: str
    run: Callable[..., dict]
    settings: tuple[dict, ...]
    seeds: tuple[int, ...] = (0, 1, 2)

    @property
    def path(self) -> Path:
        return FOLDER / f"{self.name}.json"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w-]+", self.name):
            raise ValueError(f"{self.name!r} is no name for a study: use letters, digits and hyphens")
        plan = [plain(settings, f"the settings of {self.name}") for settings in self.plan()]
        if not plan or any(settings in plan[:i] for i, settings in enumerate(plan)):
            raise ValueError(f"a study has settings and seeds, each listed once; {self.name} has {plan}")
        if reserved := {"seed", "until"} & {key for setting in self.settings for key in setting}:
            raise ValueError(f"{self.name}: {', '.join(reserved)} cannot be settings; seeds are listed apart")

    def plan(self) -> list[dict]:
        """Every run of this study, as keyword arguments of `run`."""
        return [{**setting, "seed": seed} for seed in self.seeds for setting in self.settings]

    def sample(self) -> list[dict]:
        """As few runs of the plan as have every setting and every seed among them.

        Of settings that differ in a fraction only, such as a learning rate, one stands for all: it runs the same code.
        """
        first = {}
        for setting in self.settings:
            code = {key: value for key, value in setting.items() if not isinstance(value, float)}
            first.setdefault(repr(code), setting)
        chosen = list(first.values())
        return [chosen[i % len(chosen)] | {"seed": self.seeds[i % len(self.seeds)]}
                for i in range(max(len(chosen), len(self.seeds)))]

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
            if row["settings"] == plain(settings):
                return row
        raise RecordError(f"nothing on record for {self.name} {settings}; run: make records")

    def results(self, setting: dict) -> list[dict]:
        """What `run` returned for this setting, one dictionary per seed."""
        setting = plain(setting)
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
        return [settings for settings in self.plan() if plain(settings) not in fresh]

    def record(self, settings: dict) -> None:
        """Run one setting and keep the result. Raises RecordError, before it runs, if the plan does not have it."""
        plan, settings = [plain(each) for each in self.plan()], plain(settings)
        if settings not in plan:
            raise RecordError(f"{settings} is not in the plan of {self.name}; add it to the study's settings and seeds")
        source, start = source_hash(self.run), time.perf_counter()
        result = dict(self.run(**self.plan()[plan.index(settings)]))
        seconds = time.perf_counter() - start
        weights = result.pop("weights", None)
        result = plain(result, f"the result of {self.name}", strict=False)
        losses = result.pop("losses", [])
        if not isinstance(losses, list):
            warnings.warn(f"{self.name}: losses are a list, not {losses!r:.40}; none are kept", stacklevel=2)
            losses = []
        row = {
            "settings": settings,
            "first_losses": losses[:FIRST],
            "result": result,
            "provenance": provenance(source, seconds),
        }
        with LOCK:
            if weights is not None:
                save_weights(self.name, weights)
            rows = [r for r in self.rows() if r["settings"] != settings and r["settings"] in plan] + [row]
            rows.sort(key=lambda r: plan.index(r["settings"]))
            self.write(rows)

    def keep(self, settings: dict) -> str:
        """Accept a row made by other code as it stands: for a change of the code that changes no result.

        Returns what `replay` says of it. Raises RecordError if the first losses are not those on record.
        """
        told = self.replay(settings)
        rows = self.rows()
        for row in rows:
            if row["settings"] == plain(settings):
                row["provenance"]["source"] = source_hash(self.run)
        self.write(rows)
        return told

    def write(self, rows: list[dict]) -> None:
        """Replace the record's file, whole or not at all."""
        FOLDER.mkdir(exist_ok=True)
        scratch = self.path.with_suffix(".part")
        scratch.write_text(json.dumps({"study": self.name, "rows": rows}, indent=1) + "\n")
        os.replace(scratch, self.path)

    def replay(self, settings: dict) -> str:
        """Run the first steps of one run again, or all of it where nothing was trained.

        Where another kind of device made the row, its first losses are compared loosely and results not at all; that is
        what the text says that comes back, empty elsewhere. Raises RecordError if the losses, or without losses the
        results, are not those on record.
        """
        row = self.row(settings)
        there, here = row["provenance"].get("accelerator", ""), accelerator(device())
        tolerance, told = TOLERANCE, ""
        if there != here:
            made = f"made on {there or 'a CPU'}, replayed on {here or 'a CPU'}"
            if not row["first_losses"]:
                return f"{made}: its results are not compared"
            tolerance, told = LOOSE, f"{made}: its first losses are compared within {LOOSE:.0%}"
        what, kept = "first losses", row["first_losses"]
        result = dict(self.run(**settings, until=len(kept) or None))
        result.pop("weights", None)
        result = plain(result, strict=False)
        found = result.pop("losses", [])
        if not kept and not found:
            what, kept, found = "results", row["result"], result
        if not near(found, kept, tolerance):
            raise RecordError(f"{self.name} {settings}: the {what} are {found}, on record {kept}")
        return told


def digits(numbers: Sequence[int]) -> str:
    """Small numbers as a text, one character each (36 and more become 35), so that a record stays small."""
    return "".join(np.base_repr(min(n, 35), 36) for n in numbers)


def words_of(results: Sequence[dict]) -> np.ndarray:
    """Results with texts "edits" and "lengths" of `digits` -> (words, 2), summed over the results."""
    columns = [[[int(digit, 36) for digit in result[name]] for result in results] for name in ("edits", "lengths")]
    return np.array(columns).sum(axis=1).T


def plain(value: Any, what: str = "a setting", strict: bool = True) -> Any:
    """What a value is once it has been written and read again: numbers, texts, lists and dictionaries.

    Tuples become lists, keys texts, and NumPy's and torch's numbers Python's. If `strict`, anything else raises
    ValueError; otherwise it is kept as text, with a warning: a long run is not thrown away for a detail.
    """
    if isinstance(value, dict):
        return {str(key): plain(part, what, strict) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part, what, strict) for part in value]
    if isinstance(value, np.generic | np.ndarray | Tensor):
        return value.tolist()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if strict:
        raise ValueError(f"{what} cannot be written: {value!r} is no number, text, list or dictionary")
    warnings.warn(f"{what}: {value!r} is kept as text", stacklevel=2)
    return repr(value)


def near(found: Any, kept: Any, tolerance: float) -> bool:
    """Whether two plain values are the same but for rounding. What is no number (NaN) is near nothing."""
    if isinstance(kept, dict) and isinstance(found, dict):
        return found.keys() == kept.keys() and all(near(found[key], kept[key], tolerance) for key in kept)
    if isinstance(kept, list) and isinstance(found, list):
        return len(found) == len(kept) and all(map(near, found, kept, [tolerance] * len(kept)))
    if isinstance(kept, float | int) and isinstance(found, float | int):
        return abs(found - kept) <= tolerance * abs(kept)
    return found == kept


def damaged(path: Path, error: Exception) -> RecordError:
    """The error for a record that cannot be read."""
    return RecordError(f"{path.name} is missing or damaged; restore it from git or run: make records ({error})")


def save_weights(name: str, model: nn.Module) -> None:
    """Keep a model's weights as seq2seq/records/NAME.safetensors: in half precision, tensors beyond it as they are.

    Raises RecordError for weights that are infinite or no numbers.
    """
    FOLDER.mkdir(exist_ok=True)
    weights = {}
    for key, value in model.state_dict().items():
        value, half = value.cpu(), value.cpu().half()
        if not value.isfinite().all():
            raise RecordError(f"{name}: {key} has weights that are infinite or no numbers; the training diverged")
        fits = value.is_floating_point() and half.isfinite().all()
        weights[key] = (half if fits else value).clone(memory_format=torch.contiguous_format)
    scratch = FOLDER / f"{name}.part"
    save_file(weights, scratch)
    os.replace(scratch, FOLDER / f"{name}.safetensors")


def load_weights(name: str) -> dict[str, Tensor]:
    """The weights kept under `name`, those in half precision as single precision, for `model.load_state_dict`."""
    path = FOLDER / f"{name}.safetensors"
    try:
        return {key: value.float() if value.dtype == torch.half else value for key, value in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise damaged(path, error) from error


def source_hash(function: Callable) -> str:
    """A hash of a chapter's function and of all it uses, directly or not, of the chapters' code.

    Comments and docstrings do not count, nor does the kit, but for the arithmetic of training and search.
    """
    pending, code, names_of = [(function.__module__, function.__name__)], {}, {}
    while pending:
        module, name = pending.pop()
        if (module, name) in code:
            continue
        if module not in names_of:
            names_of[module] = top_level_names(parsed(inspect.getsource(importlib.import_module(module))))
        defined, imported = names_of[module]
        if name in imported:
            pending.append(imported[name])
        elif name in defined:
            code[module, name] = ast.dump(without_docstrings(defined[name]))
            used = {node.id for node in ast.walk(defined[name]) if isinstance(node, ast.Name)}
            body = defined[name] if isinstance(defined[name], ast.FunctionDef) else ast.Module([], [])
            inside = top_level_names(body)[1]      # what a function imports only when it is called
            pending += [inside.get(other, (module, other)) for other in used]
    text = "".join(f"{name} {code[name]}" for name in sorted(code))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@lru_cache
def parsed(source: str) -> ast.Module:
    """The syntax tree of a module, parsed once for all the studies that reach it."""
    return ast.parse(source)


def top_level_names(tree: ast.Module | ast.FunctionDef) -> tuple[dict[str, ast.stmt], dict[str, tuple[str, str]]]:
    """What a module defines, name -> statement; what it imports that counts for a study, name -> (module, its name)."""
    defined, imported = {}, {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [part for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)]
            defined |= {name.id: node for name in names}
        elif isinstance(node, ast.ImportFrom) and COUNTS.fullmatch(node.module or ""):
            imported |= {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}
    return defined, imported


def without_docstrings(tree: ast.AST) -> ast.AST:
    """The same syntax tree with every docstring taken out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return tree


def provenance(source: str, seconds: float) -> dict:
    """Where, when and with what a run was made; "accelerator" only where it was not the CPU."""
    gpu = accelerator(device())
    return {
        "command": f"SEQ2SEQ_DEVICE={device().type} make records" if gpu else "make records",
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit(),
        "source": source,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": f"{processor()}, {os.cpu_count()} cores",
        **({"accelerator": gpu} if gpu else {}),
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


def accelerator(device: torch.device) -> str:
    """The name of a device such as a GPU, or nothing for the CPU."""
    if device.type == "cpu":
        return ""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def processor() -> str:
    """The processor's name, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
