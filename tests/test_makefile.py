"""The virtual environment belongs to its folder: in a copied or moved clone it is made anew."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(["make", *arguments], cwd=folder, capture_output=True, text=True, env=environment)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    folder = tmp_path / "clone"
    folder.mkdir()
    for name in ("Makefile", "requirements.txt", "requirements-nodeps.txt", "pyproject.toml"):
        shutil.copy2(ROOT / name, folder)
    (folder / ".venv").mkdir()
    (folder / ".venv/old").touch()
    (folder / ".venv/ready").write_text(f"{folder}\n")
    return folder


def test_the_environment_of_another_folder_is_made_anew(clone: Path, tmp_path: Path) -> None:
    assert make(clone, "-q", "setup").returncode == 0
    moved = tmp_path / "moved"
    clone.rename(moved)
    assert make(moved, "-q", "setup").returncode == 1
    done = make(moved, "setup", f"PYTHON={sys.executable}", "PIP=true")
    assert done.returncode == 0, done.stderr
    assert f"made in another folder ({clone})" in done.stdout
    assert not (moved / ".venv/old").exists() and (moved / ".venv/bin/python").exists()
    assert make(moved, "-q", "setup").returncode == 0


def test_new_requirements_are_installed_into_it(clone: Path) -> None:
    os.utime(clone / ".venv/ready", (0, 0))
    assert make(clone, "-q", "setup").returncode == 1
    assert make(clone, "setup", f"PYTHON={sys.executable}", "PIP=true").returncode == 0
    assert (clone / ".venv/old").exists() and make(clone, "-q", "setup").returncode == 0
