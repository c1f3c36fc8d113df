"""The book's public address is one setting. Files that cannot be made from it have to agree with it."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
REPOSITORY, SITE = CONFIG["repository"]["url"], CONFIG["html"]["baseurl"]
BY_HAND = ["CITATION.cff", "README.md", "pyproject.toml"]
OWNER, NAME = REPOSITORY.removeprefix("https://github.com/").split("/")


def mentions(path: str) -> list[tuple[int, str]]:
    """Lines of a file that name the repository or the site, with their numbers."""
    try:
        lines = (ROOT / path).read_text("utf-8").splitlines()
    except (UnicodeDecodeError, FileNotFoundError):
        return []
    return [(k, line) for k, line in enumerate(lines, 1) if f"{OWNER}/{NAME}" in line or f"{OWNER}.github.io" in line]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git repository")
def test_no_other_file_names_the_address() -> None:
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
                            capture_output=True, text=True)  # fmt: skip
    if listed.returncode:
        pytest.skip(listed.stderr)
    allowed = {*BY_HAND, "_config.yml"}
    paths = [path for path in listed.stdout.splitlines() if path not in allowed and not path.endswith(".ipynb")]
    found = [path for path in paths if mentions(path)]
    assert not found, f"write @repository@ on a page of book/, or read _config.yml, in {', '.join(found)}"


@pytest.mark.parametrize("path", BY_HAND)
def test_a_file_that_names_an_address_names_the_one_of_the_settings(path: str) -> None:
    text = (ROOT / path).read_text("utf-8")
    assert REPOSITORY in text, f"{path} does not name {REPOSITORY}, the repository of _config.yml"
    own = re.findall(r"https://(?:github\.com/[\w.-]+/seq2seq[\w.-]*|[\w-]+\.github\.io/[\w.-]+/?)", text)
    wrong = sorted({address for address in own if address.rstrip("/") not in (REPOSITORY, SITE.rstrip("/"))})
    assert not wrong, f"{path} names {', '.join(wrong)}; _config.yml has {REPOSITORY} and {SITE}"
