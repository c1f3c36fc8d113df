"""A release, on a book of one chapter in a repository of its own."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CHAPTER = """---
jupytext: {text_representation: {extension: .md, format_name: myst}}
kernelspec: {display_name: Python 3, language: python, name: python3}
---

# One

```{code-cell} ipython3
#| export
SIZE = 3
```
"""
FILES = {
    "_config.yml": "title: A book\nrepository:\n  url: https://github.com/me/book\n  branch: main\n"
                   "html: {baseurl: https://press.example/book/}\n",
    "_toc.yml": "format: jb-book\nroot: book/index\nparts:\n- chapters:\n  - file: chapters/one\n",
    "book/index.md": "# Home\n",
    "chapters/one.md": CHAPTER,
    "seq2seq/__init__.py": "",
    "requirements-nodeps.txt": "d2l==1.0.3\n",
    "pyproject.toml": '[project]\nname = "book"\nversion = "0.1.0"\n',
    "CITATION.cff": "cff-version: 1.2.0\nversion: 0.1.0\n",
    "CHANGELOG.md": "# Changelog\n\n## 0.1.0 - 2030-01-31\n",
    ".gitignore": "__pycache__/\n",
}  # fmt: skip


class Repository:
    def __init__(self, root: Path):
        self.root = root

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=self.root, capture_output=True, text=True)

    def git(self, *arguments: str) -> str:
        done = self.run("git", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def release(self, tag: str) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "tools/release.py", tag)

    def install_cell(self, revision: str) -> str:
        return json.loads(self.git("show", f"{revision}:chapters/one.ipynb"))["cells"][1]["source"]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    (tmp_path / "tools").mkdir()
    for name in ("export.py", "myst_pages.py", "release.py"):
        shutil.copy2(ROOT / "tools" / name, tmp_path / "tools")
    repository = Repository(tmp_path)
    repository.git("init", "--quiet", "--initial-branch=main")
    repository.git("config", "user.name", "test")
    repository.git("config", "user.email", "test@localhost")
    repository.git("add", "--all")
    assert repository.run(sys.executable, "tools/export.py").returncode == 0
    repository.git("add", "--all")
    repository.git("commit", "--quiet", "--message=a book")
    return repository


def test_a_release_points_at_its_tag_and_the_branch_goes_on_at_itself(repository: Repository) -> None:
    done = repository.release("v0.1.0")
    assert done.returncode == 0, done.stderr
    assert "book@v0.1.0" in repository.install_cell("v0.1.0")
    assert "book@main" in repository.install_cell("main")
    assert repository.git("diff", "HEAD~2", "HEAD") == repository.git("status", "--porcelain") == ""
    assert repository.git("log", "--format=%s", "-2").splitlines()[1] == "Release v0.1.0"
    assert "v0.1.0 exists already" in repository.release("v0.1.0").stderr


@pytest.mark.parametrize(("tag", "file", "text", "message"), [
    ("0.1.0", None, "", "the tag is vX.Y.Z"),
    ("v0.2.0", None, "", "pyproject.toml has version 0.1.0"),
    ("v0.1.0", "CITATION.cff", "version: 0.0.9\n", "CITATION.cff has version 0.0.9"),
    ("v0.1.0", "CHANGELOG.md", "## 0.1.0 - unreleased\n", "CHANGELOG.md has no line"),
    ("v0.1.0", "new.txt", "", "uncommitted changes or untracked files"),
])  # fmt: skip
def test_what_stands_in_the_way(repository: Repository, tag: str, file: str | None, text: str, message: str) -> None:
    if file:
        (repository.root / file).write_text(text)
    done = repository.release(tag)
    assert done.returncode == 1 and message in done.stderr
    assert repository.git("tag") == "" and repository.git("log", "--format=%s") == "a book\n"


def test_another_branch_is_refused(repository: Repository) -> None:
    repository.git("switch", "--quiet", "--create", "other")
    assert "the branch is not main" in repository.release("v0.1.0").stderr
