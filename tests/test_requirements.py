"""The install cell brings what notebooks and library import, and `make setup` installs versions that fit."""

import ast
import json
import re
import sys
import tomllib
from importlib.metadata import distribution, packages_distributions
from importlib.util import find_spec
from pathlib import Path

from IPython.core.inputtransformer2 import TransformerManager
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
DEPENDENCIES = [Requirement(text) for text in PROJECT["dependencies"]]


def pins(file: str) -> dict[str, str]:
    found = re.findall(r"^([\w.-]+)==(\S+)", (ROOT / file).read_text("utf-8"), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def imported(code: str) -> set[str]:
    """The packages that a file or a cell imports when it runs; what functions import is left to them."""
    tree = ast.parse(TransformerManager().transform_cell(code))
    found = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    found |= {node.module for node in tree.body if isinstance(node, ast.ImportFrom) and not node.level}
    return {name.split(".")[0] for name in found} - sys.stdlib_module_names - {"seq2seq"}


def closure(names: set[str]) -> set[str]:
    """Distributions and all that they require, as far as it is installed."""
    done: set[str] = set()
    waiting = set(names)
    while waiting:
        done.add(name := waiting.pop())
        wanted = [Requirement(text) for text in distribution(name).requires or []]
        needed = [one for one in wanted if not one.marker or one.marker.evaluate({"extra": ""})]
        waiting |= {canonicalize_name(one.name) for one in needed} - done
    return done


def test_the_install_cell_brings_what_notebooks_and_library_import() -> None:
    code = [path.read_text("utf-8") for path in (ROOT / "seq2seq").rglob("*.py")]
    for path in ROOT.glob("chapters/*.ipynb"):
        code += ["".join(cell["source"]) for cell in json.loads(path.read_text("utf-8"))["cells"]
                 if cell["cell_type"] == "code"]  # fmt: skip
    modules = set().union(*map(imported, code))
    if "d2l" in modules:   # installed without its own requirements
        modules |= imported(Path(find_spec("d2l").submodule_search_locations[0], "torch.py").read_text("utf-8"))
    brought = closure({canonicalize_name(one.name) for one in DEPENDENCIES} | {"ipykernel"})
    brought |= pins("requirements-nodeps.txt").keys()
    found = packages_distributions()
    missing = {name for name in modules if not brought & {*map(canonicalize_name, found.get(name, []))}}
    assert not missing, f"imported, but pyproject.toml does not bring them: {sorted(missing)}"


def test_setup_installs_versions_that_the_library_allows() -> None:
    fixed = pins("requirements.txt")
    for one in DEPENDENCIES:
        assert one.specifier.contains(fixed[canonicalize_name(one.name)]), one
