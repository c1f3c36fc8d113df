"""What Sphinx needs to know about this book: when a chapter is out of date, what it claims, where its notebook is.

* Jupyter Book's cache keys a chapter by its own cells. `fingerprint` adds what those cells depend on: the `seq2seq`
  modules they import, however indirectly, the records they read, the pinned requirements, the budget, the Python
  version, and, for a chapter that uses optional extras, which of them are there. It goes into a last, hidden cell, so
  that a change of any of them executes the chapter again.
* Every claim that a chapter's output makes is collected, and `{claims}` lists them all.
* A chapter's download button gives `chapters/NAME.ipynb`, the notebook that Colab opens.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from docutils import nodes
from IPython.core.inputtransformer2 import TransformerManager
from myst_nb.core.read import read_myst_markdown_notebook
from myst_parser.config.main import MdParserConfig
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode

PACKAGE = "seq2seq"
EXPORT_MARK = re.compile(r"^(?:#\||# fmt: (?:off|on)$).*\n?", re.MULTILINE)   # and the formatter's
EXTRAS = Path(sys.prefix, "share", "extras.txt")   # what `make extras` could and could not have
CODE_CELL = re.compile(r"^(`{3,}|:{3,}|~{3,})\{code-cell\}", re.MULTILINE)


# ---- fingerprint ----------------------------------------------------------------------------------------------------

def imports(code: str, package: str = "") -> set[str]:
    """Dotted names of this book's package that `code` imports, `from a import b` giving `a` and `a.b`.

    `package` is the dotted name that relative imports start from. IPython's magics are read as IPython reads them.
    """
    try:
        tree = ast.parse(code)
    except SyntaxError:
        try:
            tree = ast.parse(TransformerManager().transform_cell(re.sub(r"\A\s*%%.*", "", code)))
        except SyntaxError:
            return set()
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            found.update([base, *(f"{base}.{alias.name}" for alias in node.names)])
    return {name for name in found if name.split(".")[0] == PACKAGE}


def module_files(name: str, root: Path) -> list[Path]:
    """The files that importing `name` runs: the `__init__` of every package on the way, and the module itself."""
    parts = name.split(".")
    places = [root.joinpath(*parts[:i], "__init__.py") for i in range(1, len(parts) + 1)]
    return [path for path in [*places, root.joinpath(*parts).with_suffix(".py")] if path.is_file()]


def sources(code: str, root: Path) -> set[Path]:
    """Every file of the package that `code` needs, followed through the files' own imports."""
    found: set[Path] = set()
    waiting = [path for name in imports(code) for path in module_files(name, root)]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        package = ".".join(path.parent.relative_to(root).parts)
        names = imports(path.read_text("utf-8"), package)
        waiting += [file for name in names for file in module_files(name, root)]
    return found


def records(name: str, text: str, root: Path) -> set[Path]:
    """Records whose file name starts with the chapter's name, or whose name the chapter mentions."""
    files = [path for path in (root / PACKAGE / "records").rglob("*") if path.is_file()]
    return {path for path in files if path.name.startswith(name) or path.stem in text}


def fingerprint(name: str, text: str, root: Path) -> str:
    """A hash of all that the outputs of chapter `name` depend on besides its own cells."""
    cells = read_myst_markdown_notebook(text, MdParserConfig(enable_extensions={"colon_fence"})).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    files = set().union(*(sources(cell, root) for cell in code), records(name, text, root))
    files.update(root.glob("requirements*.txt"), (root / PACKAGE / "kit" / "corpora").glob("messages-*"))
    digest = hashlib.sha256(f"{os.environ.get('SEQ2SEQ_BUDGET', 'cpu')} {sys.version_info[:2]}".encode())
    if "make extras" in text and EXTRAS.is_file():
        digest.update(EXTRAS.read_bytes())
    for path in sorted(files):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def chapter_fingerprint(env: BuildEnvironment, docname: str) -> str:
    text = Path(env.doc2path(docname)).read_text("utf-8")
    return fingerprint(docname.rpartition("/")[2], text, Path(env.srcdir))


def add_fingerprint(app: Sphinx, docname: str, content: list[str]) -> None:
    """Append the hidden cell, last so that no line number of the source changes."""
    app.env.book_fingerprints.pop(docname, None)
    if CODE_CELL.search(content[0]):
        mark = app.env.book_fingerprints[docname] = chapter_fingerprint(app.env, docname)
        content[0] += f"\n\n```{{code-cell}} ipython3\n:tags: [remove-cell]\n# depends on {mark}\n```\n"


def site_mark(root: Path) -> str:
    """A hash of what every page is made with besides its source: styles, tools, records, old addresses."""
    files = [*(root / "book/static").rglob("*"), *(root / "tools").glob("*.py"), *(root / "tools").glob("*js"),
             *(root / PACKAGE / "records").glob("*.json"), root / "book/moved.yml", root / "_build/frontend.stamp"]
    digest = hashlib.sha256()
    for path in sorted(path for path in files if path.is_file()):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def outdated(app: Sphinx, env: BuildEnvironment, added: set, changed: set, removed: set) -> list[str]:
    """Pages that something else than their own source has made out of date."""
    before, env.book_site = env.book_site, site_mark(Path(env.srcdir))
    if before != env.book_site:
        env.book_changed = True
        return sorted(env.found_docs)
    known = {doc: mark for doc, mark in env.book_fingerprints.items() if doc in env.found_docs}
    stale = [doc for doc, mark in known.items() if chapter_fingerprint(env, doc) != mark]
    env.book_changed = bool(added or changed or removed or stale)
    return stale


def forget(app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
    """Forget all pages that are read anew before the first is, so that a label that moved is not there twice."""
    for docname in docnames:
        app.emit("env-purge-doc", env, docname)
        env.clear_doc(docname)


# ---- claims ---------------------------------------------------------------------------------------------------------

class ClaimsNode(nodes.General, nodes.Element):
    """Where the table of all claims goes."""


class ClaimsDirective(SphinxDirective):
    """`{claims}`: a table of every claim of this build, with what was measured."""

    def run(self) -> list[nodes.Node]:
        return [ClaimsNode()]


class ClaimReader(HTMLParser):
    """Collects the `data-claim` attributes of a piece of HTML."""

    def __init__(self, text: str):
        super().__init__()
        self.claims: list[dict[str, Any]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if value := dict(attrs).get("data-claim"):
            self.claims.append(json.loads(value))


def read_page(app: Sphinx, doctree: nodes.document) -> None:
    """Collect the page's claims, give each an anchor, and hide the exporter's marks from its code."""
    found: list[dict[str, Any]] = []
    for raw in doctree.findall(nodes.raw):
        text = raw.astext()
        for claim in ClaimReader(text).claims if "data-claim" in text else []:
            anchor = f"claim-{len(found) + 1}"
            text = text.replace("<div class=\"claim", f"<div id=\"{anchor}\" class=\"claim", 1)
            raw.children = [nodes.Text(text)]
            found.append({**claim, "anchor": anchor})
    app.env.book_claims.pop(app.env.docname, None)
    if found:
        app.env.book_claims[app.env.docname] = found
    for block in doctree.findall(nodes.literal_block):
        code = EXPORT_MARK.sub("", block.astext())
        if code != block.astext():
            block.rawsource, block.children = code, [nodes.Text(code)]


def drop_empty_outputs(app: Sphinx, doctree: nodes.document) -> None:
    """Take out outputs whose HTML is empty, such as a finished progress bar's, and what held nothing else."""
    bundles = [node for node in doctree.findall(nodes.container) if node.get("nb_element") == "mime_bundle"]
    for bundle in bundles:
        if any(part.get("mime_type") == "text/html" and not part.astext().strip() for part in bundle):
            output = bundle.parent
            output.remove(bundle)
            if not output.children:
                output.parent.remove(output)


def claims_of(app: Sphinx, docname: str, doc: str) -> nodes.section:
    """The claims of one chapter, each linked to its box, under the chapter's title."""
    def row(*cells: nodes.Node | str) -> nodes.row:
        made = nodes.row()
        for cell in cells:
            made += nodes.entry("", nodes.paragraph("", "", nodes.Text(cell) if isinstance(cell, str) else cell))
        return made

    title = make_refnode(app.builder, docname, doc, None, nodes.Text(app.env.titles[doc].astext()))
    section = nodes.section("", nodes.title("", "", title), ids=[f"claims-{doc.rpartition('/')[2].replace('_', '-')}"])
    table = nodes.table(classes=["claims"])
    group = nodes.tgroup(cols=3)
    for width in (50, 35, 15):
        group += nodes.colspec(colwidth=width)
    group += nodes.thead("", row("Claim", "Measured", "Verdict"))
    group += nodes.tbody("", *(
        row(make_refnode(app.builder, docname, doc, claim["anchor"], nodes.Text(claim["text"])), claim["measured"],
            claim["verdict"]) for claim in app.env.book_claims[doc]))  # fmt: skip
    table += group
    section += table
    return section


def fill_claims(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    claims = app.env.book_claims
    order = [doc for doc in app.env.toctree_includes.get(app.config.root_doc, []) if doc in claims]
    order += sorted(set(claims) - set(order))
    empty = nodes.paragraph("", "No chapter of this build makes a claim.")
    for node in list(doctree.findall(ClaimsNode)):
        node.replace_self([claims_of(app, docname, doc) for doc in order] or empty)


def linked_pages(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """After any change all pages are written: they show each other's claims and link to each other's citations."""
    return sorted(env.found_docs) if env.book_changed else []


# ---- pages ----------------------------------------------------------------------------------------------------------

def page_context(app: Sphinx, page: str, template: str, context: dict, doctree: nodes.document | None) -> None:
    """Our notebook behind the download button, and what assistive software needs."""
    if "body" in context:   # docutils gives the items of a bibliography a role that a list may not hold
        context["body"] = context["body"].replace('role="doc-biblioentry"', 'role="listitem"')
    buttons = context.get("header_buttons", [])
    downloads = next((group for group in buttons if group.get("label") == "download-buttons"), None)
    if downloads and (Path(app.srcdir) / f"{page}.ipynb").is_file():
        link = {"type": "link", "url": context["pathto"](f"{page}.ipynb", 1), "text": ".ipynb",
                "icon": "fas fa-code", "tooltip": "Download the notebook", "label": "download-notebook-button"}
        prints = [button for button in downloads["buttons"] if button["label"] == "download-pdf-button"]
        downloads["buttons"] = [link, *prints]
    elif downloads:
        buttons.remove(downloads)


def ship_notebooks(app: Sphinx, exception: Exception | None) -> None:
    """Put each chapter's notebook beside its page, and remove the theme's copies, which lack the install cell."""
    if exception or app.builder.format != "html":
        return
    for docname in app.env.found_docs:
        notebook = Path(app.srcdir) / f"{docname}.ipynb"
        if notebook.is_file():
            shutil.copy2(notebook, Path(app.outdir) / f"{docname}.ipynb")
    shutil.rmtree(Path(app.outdir) / "_sources", ignore_errors=True)


# ---- environment ----------------------------------------------------------------------------------------------------

def prepare(app: Sphinx) -> None:
    for name, empty in {"book_fingerprints": {}, "book_claims": {}, "book_changed": True, "book_site": ""}.items():
        if not hasattr(app.env, name):
            setattr(app.env, name, empty)


def purge(app: Sphinx, env: BuildEnvironment, docname: str) -> None:
    env.book_fingerprints.pop(docname, None)
    env.book_claims.pop(docname, None)


def setup(app: Sphinx) -> dict[str, Any]:
    os.environ["SEQ2SEQ_WIDGETS"] = "static"   # for the kernels of this build: a page has no kernel to answer
    app.add_node(ClaimsNode)
    app.add_directive("claims", ClaimsDirective)
    app.connect("builder-inited", prepare)
    app.connect("env-get-outdated", outdated)
    app.connect("env-before-read-docs", forget)
    app.connect("env-purge-doc", purge)
    app.connect("source-read", add_fingerprint)
    app.connect("doctree-read", read_page)
    app.connect("doctree-read", drop_empty_outputs)
    app.connect("env-updated", linked_pages)
    app.connect("doctree-resolved", fill_claims)
    app.connect("html-page-context", page_context, priority=900)
    app.connect("build-finished", ship_notebooks)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}
