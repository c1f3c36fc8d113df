"""How long is each page? `python tools/words.py [PAGE …]` counts words on the built site, code and outputs included.

The core is what every reader meets: what is folded (hints, solutions, named folds) and all but the first frame of
a widget is left out of it. `train` says how far into the core the first model is trained. A chapter whose core has more
than LIMIT words fails.
"""

import argparse
import re
import sys
from pathlib import Path

from bs4 import BeautifulSoup, Tag

SITE = Path(__file__).resolve().parents[1] / "_build/html"
LIMIT = 6000
NOT_TEXT = "style, script, svg, mjx-container, .headerlink, .eqno"
BLOCKS = "p, div, li, td, th, dt, dd, pre, figcaption, h1, h2, h3, h4, summary"
FOLDED = "details, [hidden], .stepper-frames > li + li"
SHOWN = "details.predicted"  # a result that the reader opens after a guess is read by everybody


def article(page: Path) -> Tag:
    """The page's own text, each equation counting as one word."""
    body = BeautifulSoup(page.read_text("utf-8"), "lxml").select_one("article.bd-article")
    for equation in body.select("mjx-container"):
        equation.insert_before(" x ")
    for node in body.select(NOT_TEXT):
        node.decompose()
    for block in body.select(BLOCKS):
        block.append(" ")
    return body


def words(text: str) -> int:
    """What white space separates and has a letter or digit; `loss.backward()` is one."""
    return sum(any(char.isalnum() for char in word) for word in text.split())


def trains(code: str) -> bool:
    """Whether a cell runs a training rather than defining one."""
    runs = re.search(r"^(?!def |class |from |import ).*\b(?:train|fit|learn)\((?!\))", code, re.MULTILINE)
    return bool(runs) or ("backward()" in code and "def " not in code)


def count(page: Path) -> tuple[int, int, float | None]:
    """Words of the core and of the whole page; and after which share of the core a model is trained, if one is."""
    body = article(page)
    whole = words(body.get_text())
    shown = {id(node) for node in body.select(SHOWN)}
    for node in body.select(FOLDED):
        if id(node) not in shown:
            node.extract()
    core = words(body.get_text())
    first = next((cell for cell in body.select(".cell_input pre") if trains(cell.get_text())), None)
    if first is None:
        return core, whole, None
    first.insert_before("\0")
    return core, whole, words(body.get_text().split("\0")[0]) / core


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", type=Path, help="built pages (default: all of the site's)")
    pages = parser.parse_args().pages or sorted([*SITE.glob("chapters/*.html"), *SITE.glob("book/**/*.html")])
    if not pages:
        sys.exit("There is no built site to count: run `make book` first.")
    print(f"{'core':>7} {'whole':>7}  train  page")
    long = []
    for page in pages:
        core, whole, before = count(page)
        share = "" if before is None else f"{before:.0%}"
        print(f"{core:7,} {whole:7,}  {share:>5}  {page.relative_to(SITE) if page.is_relative_to(SITE) else page}")
        if page.parent.name == "chapters" and core > LIMIT:
            long.append(f"{page.stem} ({core:,})")
    if long:
        sys.exit(f"Cores of more than {LIMIT:,} words: {', '.join(long)}")


if __name__ == "__main__":
    main()
