"""Run the book's studies (`make records`), see that all are on record (`--check`), or replay their first steps.

`--replay` takes one run of each setting and each seed; with `--brief` one of each study, where its rows were made by
today's code.

After a change of the code that changes no result, such as a new name, `--keep` keeps the rows on record whose first
losses are what they were, instead of running them again. On a machine with a GPU, or with many cores, `--jobs` runs
several at a time, and replays them so: SEQ2SEQ_DEVICE=cuda OMP_NUM_THREADS=1 python tools/records.py NAME --jobs 8.

Studies are the `Study` objects of the chapters' modules. Without names, all of them.
"""

import argparse
import importlib
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from seq2seq.kit import records
from seq2seq.kit.corpora import MissingCorpus
from seq2seq.kit.records import RecordError, Study, plain, source_hash

ROOT = Path(__file__).parents[1]


def studies(names: list[str]) -> list[Study]:
    """The studies of all chapters, or those named. Raises SystemExit for a name that no chapter has."""
    modules = [importlib.import_module(f"seq2seq.{path.stem}") for path in sorted((ROOT / "seq2seq").glob("[a-z]*.py"))]
    found = {value.name: value for module in modules for value in vars(module).values() if isinstance(value, Study)}
    unknown = set(names) - set(found)
    if unknown:
        sys.exit(f"no study is called {', '.join(sorted(unknown))}; there are {', '.join(sorted(found))}")
    return [found[name] for name in names or sorted(found)]


def record(study: Study) -> None:
    """Run what is missing or out of date, one run at a time."""
    missing = study.missing()
    print(f"{study.name}: {len(study.plan()) - len(missing)} of {len(study.plan())} runs are up to date", flush=True)
    for number, settings in enumerate(missing, 1):
        print(f"{study.name}: run {number} of {len(missing)}: {settings}", flush=True)
        study.record(settings)


def record_side_by_side(chosen: list[Study], jobs: int) -> list[str]:
    """The same for several studies, in `jobs` processes; return what went wrong. Each row is kept once it is there."""
    context, failures = multiprocessing.get_context("spawn"), []    # a forked process could not use CUDA
    with ProcessPoolExecutor(jobs, context, share, (context.Lock(), records.FOLDER)) as pool:
        futures = {pool.submit(study.record, settings): f"{study.name} {settings}"
                   for study in chosen for settings in study.missing()}    # fmt: skip
        for number, future in enumerate(as_completed(futures), 1):
            error = future.exception()
            failures += [f"{futures[future]}: {error!r}"] if error else []
            print(f"run {number} of {len(futures)}: {futures[future]}{' FAILED' if error else ''}", flush=True)
    return failures


def share(lock: AbstractContextManager, folder: Path) -> None:
    """Let this process write records of `folder` beside others."""
    records.LOCK, records.FOLDER = lock, folder


def keep(study: Study) -> None:
    """Keep the rows that other code made, if their first losses are what they were."""
    on_record = [row["settings"] for row in study.rows()]
    for settings in (settings for settings in study.missing() if plain(settings) in on_record):
        told = study.keep(settings)
        print(f"{study.name}: kept {settings}{told and f' ({told})'}", flush=True)


def check(study: Study) -> list[str]:
    """What is wrong with a record as it lies there; code that has changed since is a warning."""
    problems = []
    on_record, plan = [row["settings"] for row in study.rows()], [plain(settings) for settings in study.plan()]
    if absent := [settings for settings in plan if settings not in on_record]:
        problems.append(f"{study.name}: not on record: {absent}; run: make records")
    if foreign := [settings for settings in on_record if settings not in plan]:
        problems.append(f"{study.name}: on record, but not in the study's plan: {foreign}; run: make records")
    if stale(study):
        print(f"warning: {study.name}: the code has changed since the record was made; make records renews it")
    return problems


def stale(study: Study) -> bool:
    """Whether other code made some of the rows."""
    today = source_hash(study.run)
    return any(row["provenance"]["source"] != today for row in study.rows())


def replay(study: Study, brief: bool = False) -> list[str]:
    """Check, then replay the first steps of each setting, and of each seed; return what is wrong.

    If brief, and the code that made the rows is today's, replay one run only: for data and torch, which the code's hash
    does not cover.
    """
    print(f"replaying {study.name}", flush=True)     # half a minute where nothing else is heard
    problems, on_record = check(study), [row["settings"] for row in study.rows()]
    runs = [settings for settings in study.sample() if plain(settings) in on_record]
    for settings in runs[:1] if brief and not stale(study) else runs:
        try:
            if told := study.replay(settings):
                print(f"{study.name} {settings}: {told}")
        except RecordError as error:
            problems.append(str(error))
        except MissingCorpus as missing:    # an optional extra
            print(f"warning: {study.name}: not replayed: {missing}")
            break
    return problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="studies; all of them if none is named")
    parser.add_argument("--check", action="store_true", help="see that every run is on record, and run nothing")
    parser.add_argument("--replay", action="store_true", help="the same, and replay the first steps")
    parser.add_argument("--brief", action="store_true", help="with --replay: one run of what today's code made")
    parser.add_argument("--keep", action="store_true", help="keep rows of older code whose first losses are the same")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, each in a process of its own (default: 1)")
    arguments = parser.parse_args()
    os.environ.setdefault("SEQ2SEQ_DEVICE", "cpu")    # where most records were made: a GPU rounds and draws otherwise
    chosen = studies(arguments.names)
    if arguments.jobs > 1 and not (arguments.check or arguments.replay or arguments.keep):
        failures = record_side_by_side(chosen, arguments.jobs)
        sys.exit("\n".join(failures) or 0)
    if not (arguments.check or arguments.replay):
        for study in chosen:
            (keep if arguments.keep else record)(study)
        return
    if arguments.check:
        found = list(map(check, chosen))
    elif arguments.jobs > 1:
        with ProcessPoolExecutor(arguments.jobs, multiprocessing.get_context("spawn")) as pool:
            found = list(pool.map(partial(replay, brief=arguments.brief), chosen))
    else:
        found = [replay(study, arguments.brief) for study in chosen]
    problems = [problem for each in found for problem in each]
    fine = "are whole" if arguments.check else "agree with their replay"
    print("\n".join(problems) or f"{len(chosen)} records {fine}")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
