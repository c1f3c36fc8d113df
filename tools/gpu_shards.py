"""Which notebooks a GPU runner takes, and whether all of them together ran every one.

`python tools/gpu_shards.py` prints the shards as JSON, "1/3" and so on, for the matrix of gpu.yml: as few as keep each
below LIMIT seconds, balanced by the seconds in gpu_seconds.json. `--report FOLDER` reads what the shards left, fails if
a notebook is missing or something is wrong with one, and writes the seconds anew for the next time.

Needs nothing but Python, since it also runs where nothing is set up.
"""

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SECONDS = Path(__file__).with_name("gpu_seconds.json")
LIMIT = 45 * 60      # seconds of notebooks, one after another; a runner has an hour, with what is set up
DEFAULT = 15 * 60    # for a notebook that nobody has timed
ABOUT = ("device", "torch", "budget", "commit")


def names() -> list[str]:
    """All chapters."""
    return sorted(path.stem for path in ROOT.glob("chapters/*.ipynb"))


def recorded() -> dict[str, float]:
    return json.loads(SECONDS.read_text())["notebooks"]


def divided(notebooks: list[str], seconds: dict[str, float], count: int) -> list[list[str]]:
    """The longest first, each to the shard that has least to do so far."""
    shards: list[list[str]] = [[] for _ in range(count)]
    loads = [0.0] * count
    for name in sorted(notebooks, key=lambda name: (-seconds.get(name, DEFAULT), name)):
        lightest = loads.index(min(loads))
        shards[lightest].append(name)
        loads[lightest] += seconds.get(name, DEFAULT)
    return shards


def planned(notebooks: list[str], seconds: dict[str, float], limit: float = LIMIT) -> list[list[str]]:
    """As few shards as stay below the limit. Raises ValueError for a notebook that does not alone."""
    if long := [name for name in notebooks if seconds.get(name, DEFAULT) > limit]:
        raise ValueError(f"longer than a shard may take, {limit / 60:.0f} minutes: {', '.join(long)}")
    for count in range(1, len(notebooks) + 1):
        shards = divided(notebooks, seconds, count)
        if max(sum(seconds.get(name, DEFAULT) for name in shard) for shard in shards) <= limit:
            break
    return shards


def chosen(shard: str) -> list[str]:
    """The notebooks of a shard such as "2/4". Raises ValueError for another text."""
    try:
        number, count = map(int, shard.split("/"))
        if not 1 <= number <= count:
            raise ValueError
    except ValueError:
        raise ValueError(f"a shard is written 2/4, the second of four; {shard!r} is none") from None
    return divided(names(), recorded(), count)[number - 1]


def table(about: dict[str, str], runs: list[dict], device: str) -> str:
    """All runs, as Markdown."""
    lines = [f"{key}: {value}  " for key, value in about.items()]
    lines += ["", f"| notebook | seconds | steps on {device} | elsewhere | peak MiB | claims that hold | problems |",
              "| --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for run in runs:
        there = run["steps"].get(device, 0)
        hold = sum(claim["verdict"] == "holds" for claim in run["claims"])
        lines.append(f"| {run['name']} | {run['seconds']:.0f} | {there} | {sum(run['steps'].values()) - there} | "
                     f"{run['peak_bytes'] / 2**20:.0f} | {hold} of {len(run['claims'])} | {len(run['problems'])} |")
    return "\n".join(lines) + "\n"


def report(folder: Path, out: Path, expected: list[str]) -> list[str]:
    """Put together what the shards left under `folder`; -> what is wrong, all of it."""
    files = sorted(folder.rglob("notebooks.json"))
    if not files:
        return [f"no shard left a notebooks.json under {folder}"]
    shards = [json.loads(file.read_text()) for file in files]
    runs = sorted((run for shard in shards for run in shard["notebooks"]), key=lambda run: run["name"])
    found = [run["name"] for run in runs]
    wrong = [f"no shard ran {name}" for name in expected if name not in found]
    wrong += [f"{name} ran {found.count(name)} times" for name in dict.fromkeys(found) if found.count(name) > 1]
    wrong += [f"{name} ran, but is no chapter" for name in dict.fromkeys(found) if name not in expected]
    wrong += [f"a shard ran on the CPU: {file}" for file, shard in zip(files, shards, strict=True)
              if shard["device"] == "CPU"]  # fmt: skip
    wrong += [f"shards differ in their {key}: {', '.join(sorted({shard[key] for shard in shards}))}"
              for key in ("budget", "commit") if len({shard[key] for shard in shards}) > 1]  # fmt: skip
    wrong += [f"{run['name']}: {problem}" for run in runs for problem in run["problems"]]
    about = {key: "; ".join(dict.fromkeys(shard[key] for shard in shards)) for key in (*ABOUT, "machine", "date")}
    out.mkdir(parents=True, exist_ok=True)
    (out / "notebooks.json").write_text(json.dumps(about | {"notebooks": runs}, indent=1))
    (out / "notebooks.md").write_text(table(about, runs, "cuda"))
    measured = {"about": f"Measured at the {about['budget']} budget on {about['device']}, {about['date']}.",
                "notebooks": {run["name"]: run["seconds"] for run in runs}}  # fmt: skip
    (out / SECONDS.name).write_text(json.dumps(measured, indent=1) + "\n")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", type=Path, metavar="FOLDER", help="a folder with what the shards left")
    parser.add_argument("--out", type=Path, default=ROOT / "_build/gpu-report")
    options = parser.parse_args()
    if options.report is None:
        count = len(planned(names(), recorded()))
        print(json.dumps([f"{number}/{count}" for number in range(1, count + 1)]))
        return
    wrong = report(options.report, options.out, names())
    if (options.out / "notebooks.md").exists():
        print((options.out / "notebooks.md").read_text())
    print(*wrong, sep="\n")
    sys.exit(f"{len(wrong)} problems" if wrong else None)


if __name__ == "__main__":
    main()
