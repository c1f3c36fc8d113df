"""Tell of a failed run in an issue: `make issue TITLE="…" LOG=file`. `--print` shows the text and asks nobody.

An open issue of the same title gets a comment instead of a second issue. Needs GitHub's `gh`, with a token that may
write issues.
"""

import argparse
import json
import os
import subprocess
from pathlib import Path

LINES = 80   # of the log


def body(log: Path) -> str:
    """What failed, where to read of it, and the end of its log."""
    run = "{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_ID}"
    where = run.format_map(os.environ) if "GITHUB_RUN_ID" in os.environ else "by hand"
    text = log.read_text("utf-8", errors="replace") if log.exists() else "There is no log: it failed before."
    told = text if log.suffix == ".md" else f"```\n{text.strip().replace('```', '` ` `')}\n```"
    lines = told.splitlines()
    if len(lines) > LINES:
        lines = [*lines[:2], "…", *lines[-LINES:]]
    return "\n".join([f"Run: {where}", f"Commit: {os.environ.get('GITHUB_SHA', 'unknown')}", "", *lines])[:60_000]


def gh(*arguments: str) -> str:
    return subprocess.run(["gh", *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def tell(title: str, text: str) -> None:
    """Open an issue, or comment on the one that is open."""
    found = json.loads(gh("issue", "list", "--state", "open", "--search", f'in:title "{title}"',
                          "--json", "number,title", "--limit", "100"))  # fmt: skip
    numbers = [str(issue["number"]) for issue in found if issue["title"] == title]
    if numbers:
        print(gh("issue", "comment", numbers[0], "--body", text))
    else:
        print(gh("issue", "create", "--title", title, "--body", text))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("title")
    parser.add_argument("log", type=Path)
    parser.add_argument("--print", action="store_true")
    options = parser.parse_args()
    if options.print:
        print(options.title, body(options.log), sep="\n\n")
    else:
        tell(options.title, body(options.log))


if __name__ == "__main__":
    main()
