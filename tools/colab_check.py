"""Run the notebooks as on a fresh Colab runtime: `python tools/colab_check.py [NAME …] [--python python3.12]`.

A virtual environment under `_build/colab` holds what a Colab runtime holds (tools/colab.txt). One notebook runs there
in a real kernel started in an empty folder: its install cell, with git told to fetch this working tree wherever the
cell names the book's address on GitHub; nothing that Colab brought may change; the rest at the `smoke` budget; and in a
second kernel the install cell does nothing. The other notebooks, whose install cells must be the same, then run JOBS
at a time (2) with what it installed: with `--third` every third of them, others each day, and of all the imports. At
the end that is removed, which must leave the runtime as it was. With `--bare` the environment is one that holds only
ipykernel, as a reader's own may, and of the other notebooks only the imports are tried. With `--here` it is the Python
that runs this, in Colab's own image (`make colab-image`), and what was installed stays.
CONTRIBUTING.md says what this does not prove.
"""

import argparse
import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from datetime import date
from importlib.metadata import distributions
from multiprocessing.pool import ThreadPool
from pathlib import Path

import nbformat
import yaml
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "_build/colab"
PACKAGES = ROOT / "tools/colab.txt"
BARE = ROOT / "_build/bare"
ROOM = 10e9          # bytes: the packages, and as they are downloaded
INSTALL_LIMIT = 120  # seconds for Colab's install cell; without its downloads it takes 20
JOBS = int(os.environ.get("JOBS", "2"))
SHOWN = ("torch", "torchvision", "numpy", "pandas", "matplotlib", "ipython", "ipywidgets")
NOTEBOOK_ERRORS = (CellExecutionError, CellTimeoutError, DeadKernelError)
Snapshot = dict[str, int]  # NAME-VERSION.dist-info -> when pip wrote it (ns)


class CheckError(Exception):
    """A notebook does not work as it would have to on Colab."""


class NoRoom(CheckError):
    """There is no room on the disk for what a Colab runtime holds."""


def run(*command: str | Path, **options: object) -> str:
    """The standard output of a command that must succeed."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if done.returncode:
        raise CheckError(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def runtime(python: str) -> tuple[Path, Snapshot]:
    """An environment with Colab's packages: its Python and what is installed.

    It is made anew when the list of packages or the interpreter changes, and otherwise put back as it was.
    """
    try:
        version = run(python, "-c", "import platform; print(platform.python_version())")
    except (OSError, CheckError) as error:
        raise CheckError(f"{python} does not run; name a Python 3.12 with --python") from error
    if not version.startswith("3.12."):
        raise CheckError(f"{python} is Python {version}; Colab has 3.12, so name one with --python")
    stamp, wanted = WORK / "ready.json", hashlib.sha256(PACKAGES.read_bytes() + version.encode()).hexdigest()
    inside = WORK / "venv/bin/python"
    made = json.loads(stamp.read_text()) if stamp.exists() else {"made for": None}
    if made["made for"] != wanted:
        if (free := shutil.disk_usage(ROOT).free) < ROOM:
            raise NoRoom(f"what a Colab runtime holds needs {ROOM / 1e9:.0f} GB, and {free / 1e9:.0f} are free here")
        print(f"setting up a runtime with Python {version} and the packages of {PACKAGES.name}", flush=True)
        start = time.perf_counter()
        shutil.rmtree(WORK, ignore_errors=True)
        WORK.mkdir(parents=True)
        run(python, "-m", "venv", WORK / "venv")
        run(inside, "-m", "pip", "install", "--disable-pip-version-check", "-r", PACKAGES)
        made = {"made for": wanted, "base": snapshot(inside)}
        stamp.write_text(json.dumps(made))
        print(f"set up in {time.perf_counter() - start:.0f} s", flush=True)
    restore(inside, made["base"])
    return inside, made["base"]


def publish(folder: Path) -> dict[str, str]:
    """A git repository of the working tree as it stands; returns the environment that puts it in GitHub's place."""
    repository = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))["repository"]
    bare = folder / "repository.git"
    run("git", "init", "--quiet", "--bare", bare)
    author = ["-c", "user.name=check", "-c", "user.email=check@localhost"]
    git = ["git", f"--git-dir={bare}", f"--work-tree={ROOT}", *author]
    run(*git, "add", "--all", cwd=ROOT)
    run(*git, "commit", "--quiet", "--no-verify", "--message=the working tree", cwd=ROOT)
    run(*git, "branch", "--move", "--force", repository["branch"])
    run(*git, "config", "uploadpack.allowFilter", "true")
    return {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{bare.as_uri()}.insteadOf",
            "GIT_CONFIG_VALUE_0": repository["url"]}  # fmt: skip


def snapshot(python: Path) -> Snapshot:
    """What is installed, and when it was."""
    if python == Path(sys.executable):   # Colab's packages are not where a virtual environment's are
        site = Path(sysconfig.get_path("purelib"))
    else:
        site = next((python.parents[1] / "lib").glob("python3*/site-packages"))
    return {folder.name: folder.stat().st_mtime_ns for folder in site.glob("*.dist-info")}


def distribution(folder: str) -> str:
    """seq2seq_book-0.1.0.dist-info -> seq2seq_book"""
    return folder.split("-")[0]


def restore(python: Path, base: Snapshot) -> None:
    """Uninstall whatever is there beyond `base`."""
    if extra := sorted(distribution(folder) for folder in snapshot(python).keys() - base.keys()):
        run(python, "-m", "pip", "uninstall", "--quiet", "--yes", *extra)
    if snapshot(python) != base:
        shutil.rmtree(WORK)
        raise CheckError("the runtime was changed and cannot be put back, so it is deleted; run this again")


def where_from(python: Path, folder: Path) -> str:
    """The file that `import seq2seq` reads in `folder`, or "" where there is none."""
    code = "from importlib.util import find_spec as f; spec = f('seq2seq'); print(spec.origin if spec else '')"
    return run(python, "-c", code, cwd=folder)


def required() -> set[str]:
    """The distributions that the install cell has to bring, as NAME-VERSION.dist-info in pip's spelling."""
    lines = (ROOT / "requirements-nodeps.txt").read_text("utf-8").splitlines()
    pinned = [line.strip().lower().replace("-", "_").split("==") for line in lines if "==" in line]
    return {f"{name.replace('.', '_')}-{version}.dist-info" for name, version in pinned}


def client(notebook: nbformat.NotebookNode, folder: Path) -> NotebookClient:
    return NotebookClient(notebook, timeout=600, kernel_name="colab", resources={"metadata": {"path": str(folder)}})


def install_cell(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    return next(cell for cell in notebook.cells if cell.cell_type == "code")


def check_install_cells(notebooks: dict[Path, nbformat.NotebookNode]) -> None:
    """Every notebook begins with the same install cell."""
    sources = {path: install_cell(notebook).source for path, notebook in notebooks.items()}
    expected = next(iter(sources.values()))
    if odd := [path.name for path, source in sources.items() if "%pip install" not in source or source != expected]:
        raise CheckError(f"the first code cell is not the install cell that the others have: {', '.join(odd)}")


def check_first(path: Path, python: Path, base: Snapshot, folder: Path) -> float:
    """Run a notebook where its library is not installed; returns the seconds that its install cell took."""
    notebook = nbformat.read(path, as_version=4)
    install = install_cell(notebook)
    if found := where_from(python, folder):
        raise CheckError(f"seq2seq is there before the install cell ran: {found}")
    start = time.perf_counter()
    runner = client(notebook, folder)
    with runner.setup_kernel():
        for index, cell in enumerate(notebook.cells):
            if cell.cell_type != "code":
                continue
            runner.execute_cell(cell, index)
            if cell is install:
                seconds = time.perf_counter() - start
                print(f"  install cell: {seconds:.0f} s", flush=True)
                after = check_installation(python, base, folder, cell)
    print(f"  {path.name}: {time.perf_counter() - start:.0f} s", flush=True)
    again = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(install.source)])
    client(again, folder).execute()
    if again.cells[0].outputs or snapshot(python) != after:
        raise CheckError(f"the install cell does something the second time: {again.cells[0].outputs}")
    print("  a second time the install cell does nothing", flush=True)
    return seconds


def check_next(path: Path, folder: Path) -> str:
    """Run a notebook where another has installed the library; returns what is wrong, or nothing."""
    notebook = nbformat.read(path, as_version=4)
    start = time.perf_counter()
    try:
        client(notebook, folder).execute()
        if outputs := install_cell(notebook).outputs:
            raise CheckError(f"the install cell does something the second time: {outputs}")
    except (CheckError, *NOTEBOOK_ERRORS) as error:
        sys.stdout.write(f"  {path.name} FAILED: {plain(error)}\n")
        return path.name
    sys.stdout.write(f"  {path.name}: {time.perf_counter() - start:.0f} s\n")
    sys.stdout.flush()
    return ""


def check_imports(notebooks: dict[Path, nbformat.NotebookNode], python: Path, folder: Path) -> None:
    """Everything that the notebooks import is there."""
    cells = [cell.source for notebook in notebooks.values() for cell in notebook.cells if cell.cell_type == "code"]
    code = [node for source in cells if "%pip" not in source for node in ast.parse(source).body]
    lines = {ast.unparse(node) for node in code if isinstance(node, ast.Import | ast.ImportFrom)}
    run(python, "-c", "\n".join(sorted(lines)), cwd=folder)
    print(f"  {len(lines)} imports of {len(notebooks)} notebooks", flush=True)


def turn(paths: list[Path], day: date) -> list[Path]:
    """Every third notebook; three days have them all."""
    return paths[day.toordinal() % 3 :: 3]


def plain(error: Exception) -> str:
    return re.sub(r"\x1b\[[\d;]*m", "", str(error))   # without colours


def check_installation(python: Path, base: Snapshot, folder: Path, cell: nbformat.NotebookNode) -> Snapshot:
    """What is installed after the install cell, if it is as it must be."""
    said = "".join(output.get("text", "") for output in cell.outputs)
    after = snapshot(python)
    origin = where_from(python, folder)
    if "site-packages" not in origin and "dist-packages" not in origin:   # Colab's Python is Debian's
        raise CheckError(f"after the install cell seq2seq comes from {origin or 'nowhere'}; the cell said:\n{said}")
    if changed := sorted(name for name in base if after.get(name) != base[name]):
        raise CheckError(f"the install cell changed what Colab brings: {', '.join(changed)}; it said:\n{said}")
    have = {name.lower() for name in after}
    if missing := sorted(name for name in required() if name not in have):
        raise CheckError(f"the install cell did not bring {', '.join(missing)}; it said:\n{said}")
    added = sorted(distribution(name) for name in after.keys() - base.keys())
    kept = f"Colab's {len(base)} packages are as they were; " if base else ""
    print(f"  {kept}added: {', '.join(added)}", flush=True)
    return after


def bare(python: str) -> tuple[Path, Snapshot]:
    """A new environment that holds only ipykernel and this one's PyTorch: its Python and what is installed."""
    shutil.rmtree(BARE, ignore_errors=True)
    run(python, "-m", "venv", BARE)
    inside = BARE / "bin/python"
    run(inside, "-m", "pip", "install", "--disable-pip-version-check", "ipykernel")
    site, ours = next((BARE / "lib").glob("python3*/site-packages")), Path(sysconfig.get_path("purelib"))
    if site.parent.name != ours.parent.name:
        raise CheckError(f"{python} is {site.parent.name}, and .venv, whose PyTorch is linked, {ours.parent.name}")
    for name in large_parts():
        (site / name).symlink_to(ours / name)
    return inside, snapshot(inside)


def large_parts() -> set[str]:
    """What PyTorch, and what it brings for a GPU, have in this environment's site-packages."""
    names = {distribution: distribution.metadata["Name"].lower() for distribution in distributions()}
    chosen = [each for each, name in names.items() if re.match("torch|triton|nvidia-|cuda-", name)]
    return {file.parts[0] for each in chosen for file in each.files} - {".."}


def prepare(scratch: Path, python: Path, budget: str) -> None:
    """A kernel `colab` for `python`, the working tree in GitHub's place, and nothing of this environment's own."""
    spec = {"argv": [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=40"],
            "display_name": "Colab", "language": "python"}  # fmt: skip
    (scratch / "kernels/colab").mkdir(parents=True)
    (scratch / "kernels/colab/kernel.json").write_text(json.dumps(spec))
    os.environ |= publish(scratch) | {"JUPYTER_PATH": str(scratch), "SEQ2SEQ_BUDGET": budget}
    for variable in ("PYTHONPATH", "VIRTUAL_ENV"):
        os.environ.pop(variable, None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="chapters, by name (default: all)")
    parser.add_argument("--python", default="python3.12", help="a Python 3.12 (default: python3.12)")
    parser.add_argument("--bare", action="store_true", help="in an environment of ipykernel alone, of any Python")
    parser.add_argument("--if-room", action="store_true", help="do without where the disk has too little room")
    parser.add_argument("--third", action="store_true", help="every third notebook, others each day; all the imports")
    parser.add_argument("--here", action="store_true", help="in the environment that runs this: in Colab's image")
    parser.add_argument("--budget", default="smoke", choices=["smoke", "cpu", "full"])
    options = parser.parse_args()
    paths = [ROOT / f"chapters/{name}.ipynb" for name in options.names] or sorted(ROOT.glob("chapters/*.ipynb"))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    next_ones = turn(paths[1:], date.today()) if options.third else [] if options.bare else paths[1:]
    began, failures = time.perf_counter(), []
    with tempfile.TemporaryDirectory(prefix="colab-") as name:
        scratch = Path(name)
        folders = {path: Path(tempfile.mkdtemp(prefix=path.stem + "-", dir=scratch)) for path in paths}
        try:
            notebooks = {path: nbformat.read(path, as_version=4) for path in paths}
            check_install_cells(notebooks)
            if options.here:
                python, base = Path(sys.executable), snapshot(Path(sys.executable))
            else:
                python, base = bare(options.python) if options.bare else runtime(options.python)
            versions = [folder.removesuffix(".dist-info").replace("-", " ") for folder in sorted(base)
                        if distribution(folder) in SHOWN]  # fmt: skip
            print("runtime:", run(python, "--version"), *versions, sep="  ", flush=True)
            prepare(scratch, python, options.budget)
            # What a reader's own environment holds may change: torch wants a newer setuptools.
            seconds = check_first(paths[0], python, {} if options.bare else base, folders[paths[0]])
            if options.bare or options.third:
                check_imports(notebooks, python, folders[paths[0]])
            if options.bare:
                shutil.rmtree(BARE)
            with ThreadPool(JOBS) as pool:
                failures += filter(None, pool.imap(lambda path: check_next(path, folders[path]), next_ones))
            if not (options.bare or options.here):
                print("the controls of widgets.live with Colab's ipywidgets", flush=True)
                tests = [sys.executable, "-m", "pytest", ROOT / "tests/test_widgets.py"]
                run(*tests, env={**os.environ, "WIDGETS_PYTHON": str(python)})
                restore(python, base)
        except (CheckError, *NOTEBOOK_ERRORS) as error:
            if isinstance(error, NoRoom) and options.if_room:
                return print(f"{error}: the notebooks are not tried as on Colab")
            sys.exit(f"the check of the notebooks failed: {plain(error)}")
    if seconds > INSTALL_LIMIT and not options.bare:
        failures.append(f"the install cell took {seconds:.0f} s, over {INSTALL_LIMIT}")
    if failures:
        sys.exit(f"the check of the notebooks failed: {', '.join(failures)}")
    print(f"{1 + len(next_ones)} of {len(paths)} notebooks run; install cell {seconds:.0f} s, "
          f"together {time.perf_counter() - began:.0f} s")  # fmt: skip


if __name__ == "__main__":
    main()
