"""What colab-check refuses. That it passes, `make colab-check` itself shows."""

import os
import sys
import sysconfig
from argparse import Namespace
from datetime import date, timedelta
from itertools import chain
from pathlib import Path

import colab_check
import nbformat
import pytest

CELL = nbformat.v4.new_code_cell(outputs=[nbformat.v4.new_output("stream", text="Installing torch 1.0\n")])


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The Python of an environment that looks as it should after an install cell."""
    monkeypatch.setattr(colab_check, "where_from", lambda python, folder: "/usr/lib/site-packages/seq2seq/__init__.py")
    for folder in ("torch-2.11.0.dist-info", "seq2seq_book-0.1.0.dist-info", *colab_check.required()):
        (tmp_path / "lib/python3.12/site-packages" / folder).mkdir(parents=True)
    return tmp_path / "bin/python"


def torch(python: Path) -> Path:
    return python.parents[1] / "lib/python3.12/site-packages/torch-2.11.0.dist-info"


def checked(python: Path, base: colab_check.Snapshot) -> colab_check.Snapshot:
    return colab_check.check_installation(python, base, python.parent, CELL)


def test_an_install_cell_that_only_adds_is_accepted(python: Path) -> None:
    base = {torch(python).name: torch(python).stat().st_mtime_ns}
    assert checked(python, base) == colab_check.snapshot(python)


@pytest.mark.parametrize("how", ["another version", "reinstalled", "removed"])
def test_an_install_cell_that_changes_torch_is_refused(python: Path, how: str) -> None:
    base = {torch(python).name: torch(python).stat().st_mtime_ns}
    if how == "another version":
        torch(python).rename(torch(python).with_name("torch-2.14.1.dist-info"))
    elif how == "reinstalled":
        os.utime(torch(python), (0, 0))
    else:
        torch(python).rmdir()
    with pytest.raises(colab_check.CheckError, match=r"changed what Colab brings: torch-2\.11(.|\n)*Installing"):
        checked(python, base)


def test_a_package_that_did_not_arrive_is_named(python: Path) -> None:
    (torch(python).parent / "d2l-1.0.3.dist-info").rmdir()
    with pytest.raises(colab_check.CheckError, match=r"did not bring d2l-1\.0\.3"):
        checked(python, {})


def test_a_library_from_elsewhere_is_refused(python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colab_check, "where_from", lambda python, folder: "/home/me/book/seq2seq/__init__.py")
    with pytest.raises(colab_check.CheckError, match="comes from /home/me/book"):
        checked(python, {})


def test_only_python_312_stands_for_colab(tmp_path: Path) -> None:
    other = tmp_path / "python"
    other.write_text("#!/bin/sh\necho 3.11.4\n")
    other.chmod(0o755)
    with pytest.raises(colab_check.CheckError, match=r"Colab has 3\.12"):
        colab_check.runtime(str(other))
    with pytest.raises(colab_check.CheckError, match="does not run"):
        colab_check.runtime(str(tmp_path / "missing"))


def test_without_room_on_the_disk_nothing_begins_and_that_is_an_error_unless_told(tmp_path, monkeypatch, capsys):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 3.12.1\n")
    python.chmod(0o755)
    monkeypatch.setattr(colab_check, "WORK", tmp_path / "work")
    monkeypatch.setattr(colab_check.shutil, "disk_usage", lambda path: Namespace(free=2e9))
    monkeypatch.setattr(sys, "argv", ["colab_check.py", "sequences", "--python", str(python)])
    with pytest.raises(SystemExit, match="needs 10 GB, and 2 are free here"):
        colab_check.main()
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--if-room"])
    colab_check.main()
    assert "are not tried as on Colab" in capsys.readouterr().out and not (tmp_path / "work").exists()


def test_the_large_parts_of_pytorch_are_those_that_it_is_imported_from():
    parts = colab_check.large_parts()
    assert {"torch", "torchvision"} <= parts and not {"numpy", "pip", ".."} & parts
    assert all(Path(sysconfig.get_path("purelib"), part).exists() for part in parts)


def test_three_days_run_every_notebook_once() -> None:
    paths = sorted((colab_check.ROOT / "chapters").glob("*.ipynb"))
    days = [colab_check.turn(paths, date(2027, 2, 27) + timedelta(days=n)) for n in range(3)]
    assert sorted(chain(*days)) == paths and max(map(len, days)) <= len(paths) / 3 + 1
