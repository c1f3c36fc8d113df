"""Cut a release: `make release TAG=v0.1.0`. Commits and tags here; pushing is left to you.

The tagged commit has the tag as `repository.branch` in `_config.yml`, so that its links, Colab buttons and install
cells point at the release. A second commit puts the branch back.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "_config.yml"


def run(*command: str) -> str:
    """The output of a command in the repository. Raises SystemExit where it fails."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def problems(tag: str, branch: str) -> list[str]:
    """What stands in the way of releasing `tag` from `branch`."""
    version = tag.removeprefix("v")
    package = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))["version"]
    dated = rf"^## {re.escape(version)} - \d{{4}}-\d\d-\d\d$"
    found = {
        "the tag is vX.Y.Z, as in: make release TAG=v0.1.0": not re.fullmatch(r"v\d+\.\d+\.\d+", tag),
        f"pyproject.toml has version {package}": package != version,
        f"CITATION.cff has version {citation}": str(citation) != version,
        f"CHANGELOG.md has no line '## {version} - YYYY-MM-DD'":
            not re.search(dated, (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE),
        f"the branch is not {branch}, which _config.yml names": run("git", "branch", "--show-current") != branch,
        "there are uncommitted changes or untracked files": bool(run("git", "status", "--porcelain")),
        f"{tag} exists already": bool(run("git", "tag", "--list", tag)),
    }  # fmt: skip
    return [problem for problem, is_there in found.items() if is_there]


def point_at(old: str, new: str, message: str) -> None:
    """Commit the settings and every generated file with `new` in the place of `old`."""
    text, count = re.subn(rf"^(  branch: ){re.escape(old)}$", rf"\g<1>{new}", CONFIG.read_text("utf-8"), flags=re.M)
    if count != 1:
        sys.exit(f"_config.yml has {count} lines '  branch: {old}', not one")
    CONFIG.write_text(text, "utf-8")
    run(sys.executable, "tools/export.py")
    run("git", "commit", "--quiet", "--no-verify", "--all", f"--message={message}")


def main() -> None:
    tag = sys.argv[1] if len(sys.argv) == 2 else ""
    branch = yaml.safe_load(CONFIG.read_text("utf-8"))["repository"]["branch"]
    if found := problems(tag, branch):
        sys.exit("No release: " + "; ".join(found) + ".")
    run(sys.executable, "tools/export.py", "--check")
    point_at(branch, tag, f"Release {tag}")
    run("git", "tag", "--annotate", tag, f"--message=Release {tag}")
    point_at(tag, branch, f"After {tag}: links and install cells point at {branch} again")
    print(f"{tag} is tagged. Look at it, then: git push origin {branch} {tag}")


if __name__ == "__main__":
    main()
