"""What a page says of itself to the world outside, and what becomes of addresses that are no more.

* Cards for social networks and mail: a page's title and description, and the book's picture (`book/static/card.png`).
* `book/moved.yml` lists sections that moved, `old/page.html#old: new/page.html#new`: the old page forwards them.
* Every cell of a wide table carries its column's name, which a phone shows beside it.
* `404.html`, for addresses that lead nowhere.
"""

from __future__ import annotations

import html
import json
import posixpath
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from docutils import nodes
from sphinx.application import Sphinx

FORWARD = ("<script>{{ const moved = {moved}; const go = () => {{ "
           "const to = moved[decodeURIComponent(location.hash.slice(1))]; if (to) location.replace(to); }}; "
           'go(); addEventListener("hashchange", go); }}</script>')
# The host's own path to the site, or the root of a server that shows the site alone.
BASE = ('<base href="{path}"><script>if (!location.pathname.startsWith("{path}")) '
        'document.querySelector("base").href = location.protocol === "file:" ? "./" : "/";</script>')
TABLE = re.compile(r"<table\b.*?</table>", re.DOTALL)
SENTENCE = re.compile(r"(?<=[.?!…])\s+(?=[A-Z“])")


def moved(root: Path) -> dict[str, dict[str, str]]:
    """`book/moved.yml` by old page: for each anchor there, where it is now."""
    made: dict[str, dict[str, str]] = {}
    for old, new in (yaml.safe_load((root / "book/moved.yml").read_text("utf-8")) or {}).items():
        page, _, anchor = old.partition("#")
        made.setdefault(page, {})[anchor] = posixpath.relpath(new, posixpath.dirname(page))
    return made


def description_of(doctree: nodes.document) -> str:
    """The whole sentences with which a page's prose begins, up to 200 characters."""
    for paragraph in doctree.findall(nodes.paragraph):
        said = ""
        if isinstance(paragraph.parent, nodes.section):
            for sentence in SENTENCE.split(" ".join(paragraph.astext().split())):
                if sentence.endswith((".", "?", "!")) and len(said) + len(sentence) < 200:
                    said = f"{said} {sentence}".strip()
        if len(said) > 40:
            return said
    return ""


def label_cells(body: str) -> str:
    """Give every cell of a table with three columns or more its column's name, which a phone shows beside it."""
    def one(match: re.Match[str]) -> str:
        text = match[0]
        heads = [re.sub(r"<[^>]*>", "", head).strip() for head in re.findall(r"<th\b[^>]*>(.*?)</th>", text, re.DOTALL)]
        rows = re.findall(r"<tr\b.*?</tr>", text, re.DOTALL)
        if len(heads) < 3 or "dataframe" in text[:200] or any(row.count("<td") != len(heads) for row in rows[1:]):
            return text
        names = iter(heads * (len(rows) - 1))
        labelled = re.sub(r"<td\b", lambda _: f'<td data-label="{html.escape(html.unescape(next(names)))}"', text)
        return labelled.replace("<table", '<table data-cards=""', 1)
    return TABLE.sub(one, body)


def page_context(app: Sphinx, page: str, template: str, context: dict, doctree: nodes.document | None) -> None:
    site, title = app.config.html_baseurl, re.sub(r"<[^>]*>", "", context.get("title", ""))
    tags = context.get("metatags", "")
    if doctree:
        if 'name="description"' not in tags:
            said = html.escape(description_of(doctree) or app.config.html_title)
            tags += f'<meta content="{said}" name="description" />'
        description = html.unescape(re.search(r'content="([^"]*)" name="description"', tags)[1])
        said = {"og:type": "article", "og:site_name": app.config.html_title, "og:title": html.unescape(title),
                "og:description": description, "og:url": f"{site}{page}.html",
                "og:image": f"{site}_static/card.png", "og:image:width": "1200", "og:image:height": "630",
                "og:image:alt": "Sequence to Sequence: an executable book"}
        tags += "".join(f'<meta property="{name}" content="{html.escape(text)}" />' for name, text in said.items())
        tags += '<meta name="twitter:card" content="summary_large_image" />'
    if page == "404":
        tags = BASE.format(path=urlsplit(site).path) + '<meta name="robots" content="noindex" />' + tags
    if forwards := moved(Path(app.srcdir)).get(f"{page}.html"):
        tags += FORWARD.format(moved=json.dumps(forwards))
    context["metatags"] = tags
    if "body" in context:
        context["body"] = label_cells(context["body"])


def titles_in_sentences(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """A page's title in the middle of a sentence: *the {doc}`encoder_decoder`* is not "the The encoder–decoder"."""
    for link in doctree.findall(nodes.reference):
        title, before = next(iter(link.findall(nodes.Text)), None), link.parent.children[: link.parent.index(link)]
        article = re.match(r"(?:The|An?) ", title or "")
        if article and before and re.search(r"\b(?:[Tt]he|[Aa]n?)\s+$", before[-1].astext()):
            title.parent.replace(title, nodes.Text(title[article.end():]))


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("doctree-resolved", titles_in_sentences)
    app.connect("html-page-context", page_context, priority=950)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
