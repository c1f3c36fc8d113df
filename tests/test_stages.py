"""Every stage of a test run is timed, up to the one that fails."""

import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def stages(tmp_path: Path, *names: str) -> subprocess.CompletedProcess[str]:
    make = tmp_path / "make"
    make.write_text('#!/bin/sh\necho "made $2 $3"\n[ "$2" != broken ]\n')
    make.chmod(0o755)
    return subprocess.run(["bash", ROOT / "tools/stages.sh", *names], capture_output=True, text=True,
                          env={**os.environ, "MAKE": str(make)})  # fmt: skip


def test_every_stage_is_timed(tmp_path: Path) -> None:
    done = stages(tmp_path, "lint", "book BUDGET=smoke")
    assert done.returncode == 0 and "made book BUDGET=smoke" in done.stdout
    summary = done.stdout.split("== seconds of each stage\n")[1]
    assert re.fullmatch(r" +\d+ s  lint\n +\d+ s  book BUDGET=smoke\n +\d+ s  together\n", summary)


def test_a_stage_that_fails_ends_the_run_and_is_named(tmp_path: Path) -> None:
    done = stages(tmp_path, "broken", "unit")
    assert done.returncode == 1 and "made unit" not in done.stdout
    assert re.search(r"\d+ s  broken FAILED\n +\d+ s  together\n$", done.stdout)
