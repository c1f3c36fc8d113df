"""Measure the built site with Lighthouse: `python tools/lighthouse.py [PAGE …]`.

Without arguments the landing page and every chapter are measured.

Runs Lighthouse's own mobile settings (a slow phone on a slow network, simulated) in the machine's Chromium, against
`tools/site_server.py`, which compresses as a real host does. Prints the four scores of each page and leaves the
reports in `_build/lighthouse/`. Scores of the performance category vary by a few points with the machine's load.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from frontend import ROOT, install, tool
from site_server import SITE, serving

PAGES = ["book/index.html", *sorted(f"chapters/{path.stem}.html" for path in (ROOT / "chapters").glob("*.md"))]
CATEGORIES = ["performance", "accessibility", "best-practices", "seo"]
CHROMIUM_FLAGS = ("--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
                  "--disable-background-networking --disable-component-update --disable-sync")


def chromium() -> str:
    """The machine's Chromium or Chrome."""
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if found := shutil.which(name):
            return found
    for place in ("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
                  "/Applications/Chromium.app/Contents/MacOS/Chromium"):
        if Path(place).exists():
            return place
    sys.exit("No Chromium found: install it with your system's packages (Debian: apt-get install chromium).")


def measure(address: str, report: Path, modules: Path) -> dict[str, int]:
    """One Lighthouse run; scores from 0 to 100 by category."""
    command = [tool("node"), str(modules / "lighthouse/cli/index.js"), address, "--quiet",
               "--output=json", "--output=html", f"--output-path={report}", f"--only-categories={','.join(CATEGORIES)}",
               f"--chrome-flags={CHROMIUM_FLAGS}"]
    subprocess.run(command, check=True, env={**os.environ, "CHROME_PATH": chromium()})
    result = json.loads(report.with_name(report.name + ".report.json").read_text("utf-8"))
    return {name: round(100 * (result["categories"][name]["score"] or 0)) for name in CATEGORIES}


def main() -> None:
    if not (SITE / "index.html").is_file():
        sys.exit("There is no built site yet: run `make book` first.")
    out = ROOT / "_build/lighthouse"
    locked = [ROOT / "tests/site/package.json", ROOT / "tests/site/package-lock.json"]
    modules = install(out / "npm", locked)
    scores: dict[str, dict[str, int]] = {}
    with serving() as base:
        for page in sys.argv[1:] or PAGES:
            report = out / page.removesuffix(".html").replace("/", "-")
            scores[page] = measure(f"{base}/{page}", report, modules)
            print(page, *(f"{name} {score}" for name, score in scores[page].items()), sep="   ", flush=True)
    (out / "scores.json").write_text(json.dumps(scores, indent=2) + "\n")


if __name__ == "__main__":
    main()
