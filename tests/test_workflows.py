"""The GitHub workflows: every chapter is covered, every shell step is a target of the Makefile, failures are told."""

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import gpu_shards
import newest
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in ROOT.glob(".github/workflows/*.yml")}
JOBS = {f"{name}.{job}": (workflow, body) for name, workflow in sorted(WORKFLOWS.items())
        for job, body in workflow["jobs"].items()}  # fmt: skip
STEPS = {f"{job}, step {number}": (job, step) for job, (_, body) in JOBS.items()
         for number, step in enumerate(body["steps"], 1) if "run" in step}  # fmt: skip
# What a step may be: one target, its output copied or handed on, or the whole of CI.
VALUE = r'[A-Z_]+=(?:"[^"]*"|\$\{\{[^}]*\}\}|[^\s)"]+)'
STEP = re.compile(rf'(make|echo "shards=\$\(make)( --silent)?(?P<targets>( [a-z-]+)+)(?P<variables>( {VALUE})*)'
                  r'(\)")?( 2>&1)?( \| tee (-a )?\S+| >> \S+)?|bash \.ci/run|cat \S+ >> "\$GITHUB_STEP_SUMMARY"')
CHAPTERS = re.findall(r"file: chapters/(\w+)", (ROOT / "_toc.yml").read_text("utf-8"))


def job(name: str) -> dict:
    return JOBS[name][1]


def make(*arguments: str, path: Path | None = None, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "GITHUB"))}
    environment |= variables
    if path:
        environment["PATH"] = f"{path}{os.pathsep}{environment['PATH']}"
    return subprocess.run(["make", *arguments], cwd=cwd, capture_output=True, text=True, env=environment)


# Every chapter


def test_the_shards_of_the_matrix_hold_every_chapter_once_and_stay_below_an_hour():
    shards = json.loads(make("--silent", "gpu-plan").stdout)
    held = [gpu_shards.chosen(shard) for shard in shards]
    assert sorted(name for names in held for name in names) == sorted(CHAPTERS)
    seconds = gpu_shards.recorded()
    loads = [sum(seconds.get(name, gpu_shards.DEFAULT) for name in names) for names in held]
    assert max(loads) <= gpu_shards.LIMIT <= 60 * job("gpu.notebooks")["timeout-minutes"] - 10 * 60
    assert max(loads) - min(loads) <= max(map(lambda name: seconds.get(name, gpu_shards.DEFAULT), CHAPTERS))


def test_gpu_runs_the_plan_of_the_plan():
    notebooks, plan = job("gpu.notebooks"), job("gpu.plan")
    assert notebooks["strategy"]["matrix"] == {"shard": "${{ fromJSON(needs.plan.outputs.shards) }}"}
    assert notebooks["strategy"]["fail-fast"] is False
    assert notebooks["needs"] == "plan" and plan["outputs"] == {"shards": "${{ steps.plan.outputs.shards }}"}
    runs = [step.get("run") for step in notebooks["steps"]]
    asked = runs.index("make gpu-visible")
    assert asked < runs.index("make gpu-notebooks SHARD=${{ matrix.shard }}")
    assert notebooks["timeout-minutes"] == 60
    command = make("-n", "gpu-notebooks", "WITH=python3", "SHARD=2/3").stdout
    assert command == "SEQ2SEQ_BUDGET=full python3 tools/gpu_notebooks.py --device cuda --shard 2/3\n"
    visible = make("-n", "gpu-visible", "WITH=python3").stdout.splitlines()
    assert visible == ["nvidia-smi", "python3 tools/gpu_notebooks.py --visible"]
    cache = next(step for step in notebooks["steps"] if step.get("uses", "").startswith("actions/cache@"))
    assert cache["with"]["path"] == ".venv" and "requirements*.txt" in cache["with"]["key"]
    assert "steps.python.outputs.python-version" in cache["with"]["key"]     # whose python .venv links to


def test_when_gpu_runs():
    on = WORKFLOWS["gpu"][True]      # YAML's "on"
    assert {"chapters/**", "seq2seq/**"} <= set(on["pull_request"]["paths"])
    assert on["schedule"] == [{"cron": "17 3 * * *"}] and "workflow_dispatch" in on      # nightly
    for name in ("gpu.notebooks", "gpu.talks", "weekly.colab-gpu"):
        assert job(name)["runs-on"] == "${{ vars.GPU_RUNNER || 'gpu-t4-4-core' }}"
    assert "gpu-t4-4-core" in (ROOT / "CONTRIBUTING.md").read_text("utf-8")


def test_a_fork_is_told_and_nothing_of_it_runs_on_the_projects_machine():
    assert job("gpu.fork")["if"] == "github.event.pull_request.head.repo.fork == true"
    assert "github.event.pull_request.head.repo.fork != true" in job("gpu.plan")["if"]
    assert "inputs.talks == true" in job("gpu.talks")["if"]     # by hand alone
    told = make("--silent", "gpu-skip").stdout
    assert "fork" in told and "by hand" in told and told.count("\n") == 1


def test_results_are_kept_and_gathered_even_after_a_failure():
    upload = job("gpu.notebooks")["steps"][-1]
    assert upload["with"]["path"] == "_build/gpu" and upload["if"] == "always()"
    report = job("gpu.report")
    assert report["needs"] == ["plan", "notebooks"] and "!cancelled()" in report["if"]
    download = next(step for step in report["steps"] if step.get("uses", "").startswith("actions/download-artifact"))
    assert download["with"] == {"pattern": "gpu-notebooks-*", "path": "_build/gpu-shards"}
    assert upload["with"]["name"].startswith("gpu-notebooks-")


# The plan


def test_shards_are_balanced_longest_first():
    seconds = {"a": 9, "b": 7, "c": 6, "d": 5, "e": 4}
    assert gpu_shards.divided(list("abcde"), seconds, 2) == [["a", "d"], ["b", "c", "e"]]
    for limit in (9, 12, 16, 31):
        loads = [sum(map(seconds.get, shard)) for shard in gpu_shards.planned(list("abcde"), seconds, limit)]
        assert max(loads) <= limit and sum(loads) == 31
    assert len(gpu_shards.planned(list("abcde"), seconds, 31)) == 1


def test_a_notebook_without_seconds_gets_a_default_and_one_too_long_is_refused():
    shards = gpu_shards.divided(["a", "b", "new"], {"a": 10, "b": 20}, 2)
    assert shards == [["new"], ["b", "a"]]
    with pytest.raises(ValueError, match="longer than a shard may take, 45 minutes: a"):
        gpu_shards.planned(["a", "b"], {"a": 2701})


@pytest.mark.parametrize("shard", ["", "0/3", "4/3", "a/b", "1", "1/2/3", "-1/3", "2/0"])
def test_what_is_no_shard_is_refused(shard):
    with pytest.raises(ValueError, match="a shard is written 2/4"):
        gpu_shards.chosen(shard)


# The report


def left(folder: Path, *names: str, **changed: object) -> None:
    """What a shard leaves."""
    run = {"seconds": 60.4, "steps": {"cuda": 9}, "peak_bytes": 2**20, "claims": [{"verdict": "holds"}], "problems": []}
    about = {"device": "NVIDIA T4", "machine": "m", "torch": "2", "budget": "full", "date": "today", "commit": "abc"}
    notebooks = [run | {"name": name} | changed.get("runs", {}) for name in names]
    folder.mkdir(parents=True)
    (folder / "notebooks.json").write_text(json.dumps(about | changed.get("about", {}) | {"notebooks": notebooks}))


def test_a_report_of_all_notebooks_has_their_table_and_seconds(tmp_path):
    left(tmp_path / "in/1", "b")
    left(tmp_path / "in/2", "a", about={"device": "NVIDIA L4"})
    assert gpu_shards.report(tmp_path / "in", tmp_path / "out", ["a", "b"]) == []
    table = (tmp_path / "out/notebooks.md").read_text()
    assert "device: NVIDIA T4; NVIDIA L4" in table and "| a | 60 | 9 | 0 | 1 | 1 of 1 | 0 |\n| b |" in table
    assert json.loads((tmp_path / "out/gpu_seconds.json").read_text())["notebooks"] == {"a": 60.4, "b": 60.4}
    assert json.loads((tmp_path / "out/notebooks.json").read_text())["notebooks"][1]["claims"] == [{"verdict": "holds"}]


@pytest.mark.parametrize("names, changed, expected", [
    (["a"], {}, "no shard ran b"),
    (["a", "b", "b"], {}, "b ran 2 times"),
    (["a", "b", "c"], {}, "c ran, but is no chapter"),
    (["a", "b"], {"about": {"device": "CPU"}}, "a shard ran on the CPU: "),
    (["a", "b"], {"runs": {"problems": ["this run does not confirm: x"]}}, "a: this run does not confirm: x"),
])  # fmt: skip
def test_what_a_report_finds_wrong(tmp_path, names, changed, expected):
    left(tmp_path / "in/1", *names, **changed)
    assert gpu_shards.report(tmp_path / "in", tmp_path / "out", ["a", "b"])[0].startswith(expected)


def test_shards_of_two_commits_or_none_at_all_are_no_report(tmp_path):
    assert gpu_shards.report(tmp_path / "in", tmp_path / "out", ["a"])[0].startswith("no shard left")
    left(tmp_path / "in/1", "a")
    left(tmp_path / "in/2", "b", about={"commit": "def"})
    found = gpu_shards.report(tmp_path / "in", tmp_path / "out", ["a", "b"])
    assert found == ["shards differ in their commit: abc, def"]


def test_the_report_fails_with_what_is_wrong(tmp_path):
    command = [sys.executable, ROOT / "tools/gpu_shards.py", "--report", tmp_path / "in", "--out", tmp_path / "out"]
    left(tmp_path / "in/1", *CHAPTERS[1:])
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and f"no shard ran {CHAPTERS[0]}" in done.stdout
    left(tmp_path / "in/2", CHAPTERS[0])
    assert subprocess.run(command, capture_output=True).returncode == 0
    asked = make("-n", "gpu-report", "PYTHON=python3").stdout
    assert asked == "python3 tools/gpu_shards.py --report _build/gpu-shards\n"


# Every step


@pytest.mark.parametrize("name", STEPS)
def test_a_step_is_a_target_of_the_makefile(name):
    run = STEPS[name][1]["run"].strip()
    found = STEP.fullmatch(run)
    assert found, f"make it a target: {run}"
    if found["targets"]:
        targets = found["targets"].split()
        variables = [re.sub(r"\$\{\{.*?\}\}|\$\w+", "1/1", part).replace('"', "")
                     for part in re.findall(VALUE, found["variables"])]  # fmt: skip
        done = make("--dry-run", "READY=", *targets, *variables)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", JOBS)
def test_a_job_stops_asks_for_little_and_fails_with_its_pipes(name):
    workflow, body = JOBS[name]
    assert 0 < body["timeout-minutes"] <= 300
    assert workflow["permissions"] == {"contents": "read"}
    writes = {what for what, how in body.get("permissions", {}).items() if how == "write"}
    tells = any("make issue" in step.get("run", "") for step in body["steps"])
    assert ("issues" in writes) == tells
    if any("run" in step for step in body["steps"]):
        assert workflow["defaults"]["run"]["shell"] == "bash"      # GitHub then adds -eo pipefail
    for step in body["steps"]:
        if step.get("uses", "").startswith("actions/checkout"):
            assert step["with"]["persist-credentials"] is False


def test_every_make_target_is_phony_or_a_file():
    text = (ROOT / "Makefile").read_text("utf-8")
    phony = set(" ".join(re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)).split())
    assert set(re.findall(r"^([a-z-]+):", text, re.MULTILINE)) <= phony


# Failures are told


GH = """#!/bin/sh
echo "$@" | head -c 400 >> {folder}/asked
case "$2" in list) cat {folder}/open;; *) echo https://example.org/1;; esac
"""


@pytest.fixture
def gh(tmp_path: Path) -> Path:
    """A folder with a `gh` that writes down what it is asked, and knows of no open issue."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "open").write_text("[]")
    (tmp_path / "bin/gh").write_text(GH.format(folder=tmp_path))
    (tmp_path / "bin/gh").chmod(0o755)
    return tmp_path


def told(folder: Path, title: str = "It fails") -> str:
    (folder / "log.txt").write_text("first\n" + "line\n" * 200 + "```\nlast\n")
    done = make("issue", f"TITLE={title}", f"LOG={folder / 'log.txt'}", path=folder / "bin", GITHUB_RUN_ID="7",
                GITHUB_SERVER_URL="https://github.com", GITHUB_REPOSITORY="a/b", GITHUB_SHA="abc")  # fmt: skip
    assert done.returncode == 0, done.stderr
    return (folder / "asked").read_text()


def test_a_failure_opens_an_issue(gh):
    asked = told(gh)
    assert "issue list --state open" in asked and "issue create --title It fails --body" in asked
    assert "https://github.com/a/b/actions/runs/7" in asked and "Commit: abc" in asked


def test_a_second_failure_comments_on_the_open_issue_of_that_title(gh):
    issues = [{"number": 5, "title": "It fails elsewhere"}, {"number": 8, "title": "It fails"}]
    (gh / "open").write_text(json.dumps(issues))
    asked = told(gh)
    assert "issue comment 8 --body" in asked and "create" not in asked


def test_an_issue_of_another_title_does_not_count(gh):
    (gh / "open").write_text(json.dumps([{"number": 5, "title": "It fails elsewhere"}]))
    assert "issue create" in told(gh)


def test_the_text_of_an_issue_is_the_end_of_the_log(tmp_path):
    (tmp_path / "log.txt").write_text("first\n" + "line\n" * 200 + "```\nlast\n")
    body = make("--silent", "issue-body", "TITLE=It fails", f"LOG={tmp_path / 'log.txt'}").stdout
    assert body.startswith("It fails\n\nRun: by hand\n") and body.count("line\n") == 77 and body.endswith("last\n```\n")
    assert body.count("```") == 2
    assert "There is no log" in make("--silent", "issue-body", "TITLE=x", f"LOG={tmp_path / 'none'}").stdout


@pytest.mark.parametrize("name", [name for name in JOBS if name.startswith("weekly.")])
def test_each_weekly_job_tells_of_its_failure(name):
    *_, work, tell = job(name)["steps"]
    log = re.search(r"LOG=(\S+)", tell["run"])[1]
    assert work["run"].endswith(f"2>&1 | tee {log}")
    assert tell["if"] == "failure()" and tell["env"] == {"GH_TOKEN": "${{ github.token }}"}
    titles = re.findall(r'TITLE="(.*?)"', " ".join(step["run"] for _, step in STEPS.values()))
    assert len(titles) == len(set(titles))
    assert WORKFLOWS["weekly"][True]["schedule"] == [{"cron": "41 2 * * 0"}]


# What else only a runner has


def test_colabs_image_runs_the_check_of_colab(gh):
    (gh / "bin/docker").write_text(f"#!/bin/sh\necho \"$@\" > {gh}/docker\n")
    (gh / "bin/docker").chmod(0o755)
    assert make("colab-image", "GPUS=all", "JOBS=2", path=gh / "bin").returncode == 0
    asked = (gh / "docker").read_text()
    assert f"--gpus all --env SEQ2SEQ_DEVICE=cuda --env JOBS --volume {ROOT}:/book --workdir /book" in asked
    assert asked.endswith("us-docker.pkg.dev/colab-images/public/runtime:latest tools/colab_check.py --here\n")
    assert "gpu" not in make("-n", "colab-image").stdout


def test_a_release_has_its_site_as_a_file(gh, tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site/index.html").write_text("hello")
    subprocess.run(["tar", "--create", "--file", "site.tar", "--directory", "site", "."], cwd=tmp_path, check=True)
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text("utf-8"))
    (tmp_path / "bin/zip").write_text("#!/usr/bin/env python3\nimport shutil, sys\n"
                                      "shutil.make_archive(sys.argv[3].removesuffix('.zip'), 'zip', sys.argv[4])\n")
    (tmp_path / "bin/zip").chmod(0o755)
    done = make("release-files", "TAG=v1", "SITE_TAR=site.tar", path=gh / "bin", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert zipfile.ZipFile(tmp_path / "_build/site-v1.zip").read("index.html") == b"hello"
    assert (gh / "asked").read_text().startswith("release create v1 _build/site-v1.zip --verify-tag --generate-notes")


def test_the_newest_releases_are_those_of_everything_but_the_site_and_the_data():
    text = newest.newest("# Learning\ntorch==2.1  # why\nSphinx==7.4.7\ncmudict==1.1.3\nmyst-nb==1.4.0\nPyYAML==6.0.3")
    assert text == "# Learning\ntorch  # why\nSphinx==7.4.7\ncmudict==1.1.3\nmyst-nb==1.4.0\nPyYAML"
    commands = make("-n", "newest", "PYTHON=python3").stdout
    assert "git clone --quiet . _build/newest" in commands
    assert "setup unit notebooks REQUIREMENTS=newest.txt" in commands
