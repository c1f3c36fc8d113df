"""A small book with one of each component, made of the real book's settings, styles and pages, without any training.

The chapters are empty but for their titles, the page of components is the first of them, the landing page shows six of
them, and the records are those of `looks/records`: so a page looks the same until somebody changes how pages look.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
SOURCES = Path(__file__).with_name("looks")
CARD = re.compile(r":::\{grid-item-card\} \d.*?\n:::\n\n?", re.DOTALL)
PLAN = re.compile(r'<ol start="\d+">.*?</ol>', re.DOTALL)


def short_path(landing: str) -> str:
    """The landing page with six chapters and a plan of four, however many the book has."""
    for card in CARD.findall(landing)[6:]:
        landing = landing.replace(card, "")
    plan = "\n".join(f"<li>{topic}</li>" for topic in ("attention", "the Transformer", "copying", "and so on"))
    return PLAN.sub(f'<ol start="7">\n{plan}\n</ol>', landing)


def make(folder: Path) -> Path:
    """Build it in `folder`; returns the site's folder."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("chapters", "_build", "seq2seq"):
        (folder / name).mkdir(parents=True)
    for link in ("_config.yml", "tools", "_build/frontend", "requirements.txt", "CONTRIBUTING.md"):
        (folder / link).symlink_to(ROOT / link)
    shutil.copytree(ROOT / "book", folder / "book", ignore=shutil.ignore_patterns("node_modules"))
    (folder / "book/index.md").write_text(short_path((ROOT / "book/index.md").read_text("utf-8")), "utf-8")
    (folder / "seq2seq/records").symlink_to(SOURCES / "records")
    for page in (ROOT / "chapters").glob("*.md"):
        title = re.search(r"^# .*$", page.read_text("utf-8"), re.MULTILINE)[0]
        (folder / "chapters" / page.name).write_text(f"{title}\n\nNothing here.\n", "utf-8")
    shutil.copy(SOURCES / "components.md", folder / "chapters")
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    numbered = next(part for part in toc["parts"] if part.get("numbered"))
    numbered["chapters"].insert(0, {"file": "chapters/components"})
    (folder / "_toc.yml").write_text(yaml.safe_dump(toc), "utf-8")
    (folder / "chapters/static").symlink_to(ROOT / "book/static")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SEQ2SEQ_BUDGET": "cpu"}
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    site = folder / "_build/html"
    if done.returncode or not (site / "chapters/components.html").is_file():
        raise RuntimeError(f"the book of components cannot be built:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return site
