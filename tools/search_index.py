"""The index that the site's search reads: one record for each section, glossary term and exercise of the built pages.

Pagefind writes it, without a network. Prose weighs more than code. Of code only the names are kept, and a name with
an underscore is one word that only itself finds: `bias_ih_l0` is no answer to *exposure bias*.
"""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
from pathlib import Path

from bs4 import BeautifulSoup, Tag
from frontend import ROOT, tool
from sphinx.errors import ExtensionError

# Stands for `_`, and before a name that has one: to Pagefind it is a letter. `book/static/book.js` writes it too.
JOINT = "\ua78f"
PLACES = "section[id], div.exercise[id], dl.glossary > dt[id]"
UNSPOKEN = ".headerlink, .section-number, script, style, svg, nav, progress, img, .cell_output pre, button"
NOT_INDEXED = {"404.html", "genindex.html", "search.html", "index.html"}


def marked(text: str) -> str:
    """The text with each name that holds an underscore turned into one word."""
    return re.sub(r"\b_*[A-Za-z]\w*_\w*\b", lambda name: JOINT + name[0].replace("_", JOINT), text)


def names(code: str) -> str:
    """The names in a piece of code, each once."""
    code = re.sub(r"#.*", "", code)
    return marked(" ".join(dict.fromkeys(re.findall(r"\b[A-Za-z]\w{2,}", code))))


def text_of(tag: Tag) -> str:
    return " ".join(tag.get_text().split())


def is_place(tag: Tag) -> bool:
    return tag.get("id") is not None and (tag.name == "section" or "exercise" in tag.get("class", []))


def record(place: Tag, page: str, page_title: str) -> dict[str, str]:
    """The HTML that Pagefind reads of one section, less the sections and exercises inside it."""
    term = place.name == "dt"
    heading = place if term else place.find(["h1", "h2", "h3", "h4", "h5", "p"])
    body = place.find_next_sibling("dd") if term else place
    prose, code = [], []
    for part in body.find_all(["p", "li", "td", "th", "figcaption", "pre"]):
        if part is heading or part.find_parent(is_place) is not (place.find_parent(is_place) if term else place):
            continue
        if part.name == "pre":
            code.append(part.get_text())
        elif not part.find(["p", "li", "pre"]):
            prose.append(marked(text_of(part)))
    parts = [("h1", 7, marked(text_of(heading))), ("p", 2, " ".join(prose)), ("p", 0.2, names("\n".join(code)))]
    body = "".join(f'<{tag} data-pagefind-weight="{weight}">{html.escape(text)}</{tag}>' for tag, weight, text in parts)
    meta = f'<span data-pagefind-ignore data-pagefind-meta="page">{html.escape(page_title)}</span>'
    return {"url": f"{page}#{place['id']}", "content": f'<html lang="en"><body>{body}{meta}</body></html>'}


def read(text: str, page: str) -> list[dict[str, str]]:
    """All records of one built page."""
    article = BeautifulSoup(text, "lxml").find("article")
    if article is None or article.h1 is None:
        return []
    for equation in article.select("mjx-container"):
        equation.replace_with("".join(equation.math.get_text().split()) if equation.math else "")
    for unspoken in article.select(UNSPOKEN):
        unspoken.decompose()
    return [record(place, page, text_of(article.h1)) for place in article.select(PLACES)]


def write_index(site: Path) -> None:
    pages = sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html"))
    records = [found for page in pages if page not in NOT_INDEXED
               for found in read((site / page).read_text("utf-8"), page)]
    done = subprocess.run(
        [tool("node"), str(Path(__file__).with_name("write_index.mjs")), str(site / "pagefind")], encoding="utf-8",
        input=json.dumps(records), capture_output=True,
        env={**os.environ, "PAGEFIND": str(ROOT / "_build/npm/node_modules/pagefind/lib/index.js")},
    )
    if done.returncode:
        raise ExtensionError(f"Pagefind cannot index the site: {done.stderr.strip()}")
