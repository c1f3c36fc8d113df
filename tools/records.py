"""Run the book's studies (`make records`), or replay their first steps (`--check`).

After a change of the code that changes no result, such as a new name, `--keep` keeps the rows on record whose first
losses are what they were, instead of running them again.

Studies are the `Study` objects of the chapters' modules. Without names, all of them.
"""

import argparse
import importlib
import os
import sys
from pathlib import Path

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


def keep(study: Study) -> None:
    """Keep the rows that other code made, if their first losses are what they were."""
    on_record = [row["settings"] for row in study.rows()]
    for settings in (settings for settings in study.missing() if plain(settings) in on_record):
        study.keep(settings)
        print(f"{study.name}: kept {settings}", flush=True)


def check(study: Study) -> list[str]:
    """Replay the first steps of each setting, and of each seed; return what is wrong."""
    problems = []
    on_record, plan = [row["settings"] for row in study.rows()], [plain(settings) for settings in study.plan()]
    if absent := [settings for settings in plan if settings not in on_record]:
        problems.append(f"{study.name}: not on record: {absent}; run: make records")
    if foreign := [settings for settings in on_record if settings not in plan]:
        problems.append(f"{study.name}: on record, but not in the study's plan: {foreign}; run: make records")
    if any(row["provenance"]["source"] != source_hash(study.run) for row in study.rows()):
        print(f"warning: {study.name}: the code has changed since the record was made; make records renews it")
    for settings in study.sample():
        if plain(settings) in on_record:
            try:
                study.replay(settings)
            except RecordError as error:
                problems.append(str(error))
            except MissingCorpus as missing:    # an optional extra
                print(f"warning: {study.name}: not replayed: {missing}")
                break
    return problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="studies; all of them if none is named")
    parser.add_argument("--check", action="store_true", help="replay the first steps instead of running")
    parser.add_argument("--keep", action="store_true", help="keep rows of older code whose first losses are the same")
    arguments = parser.parse_args()
    os.environ.setdefault("SEQ2SEQ_DEVICE", "cpu")    # where the records were made: a GPU rounds and draws otherwise
    chosen = studies(arguments.names)
    if not arguments.check:
        for study in chosen:
            (keep if arguments.keep else record)(study)
        return
    problems = []
    for study in chosen:
        print(f"replaying {study.name}", flush=True)     # half a minute where nothing else is heard
        problems += check(study)
    print("\n".join(problems) or f"{len(chosen)} records agree with their replay")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
