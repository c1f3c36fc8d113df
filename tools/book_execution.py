"""Execute the chapters side by side before Sphinx reads them, and say how long each took.

Jupyter Book executes one chapter after the other while it reads. Here every chapter that its cache does not hold is
executed first, JOBS at a time (2) with one thread each, the longest first, and goes into the cache as soon as it is
done; so an interrupted build goes on where it was. One that fails stops the build, once the others are done.
`{timings}` is a table of the seconds.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

from docutils import nodes
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from jupyter_cache.cache.main import JupyterCacheBase
from jupyter_cache.executors.utils import single_nb_execution
from myst_nb.core.read import create_nb_reader
from nbformat import NotebookNode
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import SphinxError
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode

JOBS = int(os.environ.get("JOBS", "2"))
BUDGET = os.environ.get("SEQ2SEQ_BUDGET", "cpu")


class ChapterError(SphinxError):
    category = "A chapter failed"


def say(text: str) -> None:
    sys.stdout.write(f"   {time.strftime('%H:%M:%S')}  {text}\n")
    sys.stdout.flush()


def period(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


# ---- execution ------------------------------------------------------------------------------------------------------

def notebook(app: Sphinx, env: BuildEnvironment, docname: str) -> NotebookNode | None:
    """The page as myst-nb is going to read it, or None for one without code."""
    path = env.doc2path(docname)
    content = [Path(path).read_text("utf-8")]
    app.emit("source-read", docname, content)
    reader = create_nb_reader(path, env.myst_config, env.mystnb_config, content[0])
    return reader and reader.read(content[0])


class Progress:
    """Says which chapter starts and ends, and how long the rest is going to take, going by the last build."""

    def __init__(self, docs: list[str], cache: JupyterCacheBase, paths: dict[str, str]):
        old = sorted(cache.list_cache_records(), key=lambda record: record.created)
        past = {record.uri: record.data["execution_seconds"] for record in old if record.data.get("budget") == BUDGET}
        self.known = {doc: past[paths[doc]] for doc in docs if paths[doc] in past}
        self.left, self.began, self.total = set(docs), {}, len(docs)

    def expected(self, doc: str) -> float:
        """Seconds that a chapter takes; of a new one, the mean of those known, and a minute where none is."""
        return self.known.get(doc, sum(self.known.values()) / len(self.known) if self.known else 60)

    def rest(self) -> str:
        now = time.monotonic()
        each = [max(0, self.expected(doc) - (now - self.began.get(doc, now))) for doc in self.left]
        return period(max(sum(each) / JOBS, max(each, default=0)))

    def start(self, doc: str) -> None:
        self.began[doc] = time.monotonic()
        say(f"{doc} starts")

    def end(self, doc: str, how: str) -> None:
        self.known[doc] = time.monotonic() - self.began[doc]
        self.left.remove(doc)
        rest = f", about {self.rest()} left" if self.left else ""
        say(f"{doc} {how} after {period(self.known[doc])}; {self.total - len(self.left)} of {self.total}{rest}")


def execute(app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
    """Put the notebooks of `docnames` into the cache. Raises ChapterError with the traceback of all that fail."""
    config = env.mystnb_config
    if config.execution_mode != "cache":
        return
    env.book_runs = {doc: run for doc, run in env.book_runs.items() if doc in env.found_docs and doc not in docnames}
    cache = get_cache(config.execution_cache_path or ".jupyter_cache")
    found = {doc: made for doc in docnames if (made := notebook(app, env, doc)) and any(
        cell.cell_type == "code" for cell in made.cells)}  # fmt: skip
    waiting = {}
    for doc, made in found.items():
        try:
            env.book_runs[doc] = cache.match_cache_notebook(made).data
        except KeyError:
            waiting[doc] = made
    if not waiting:
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    paths = {doc: str(env.doc2path(doc)) for doc in waiting}
    progress = Progress(list(waiting), cache, paths)
    failures = {}

    def run(doc: str) -> tuple[str, Any]:
        progress.start(doc)
        try:
            return doc, single_nb_execution(
                waiting[doc], cwd=str(Path(paths[doc]).parent), timeout=config.execution_timeout,
                allow_errors=config.execution_allow_errors)  # fmt: skip
        except RuntimeError as error:     # a dead kernel's is one
            return doc, error

    say(f"{len(waiting)} to execute, {JOBS} at a time: about {progress.rest()}" if progress.known else
        f"{len(waiting)} to execute, {JOBS} at a time")  # fmt: skip
    with ThreadPool(JOBS) as pool:   # its threads end with the process, so an interrupt stops the build at once
        for doc, result in pool.imap_unordered(run, sorted(waiting, key=progress.expected, reverse=True)):
            if error := getattr(result, "exc_string", None) or (isinstance(result, Exception) and repr(result)):
                failures[doc] = error
                progress.end(doc, "FAILED")
                continue
            env.book_runs[doc] = data = {
                "execution_seconds": result.time, "budget": BUDGET, "jobs": JOBS, "machine": machine(),
                "threads": os.environ["OMP_NUM_THREADS"], "date": time.strftime("%Y-%m-%d"),
            }
            cache.cache_notebook_bundle(CacheBundleIn(result.nb, paths[doc], data=data), False, overwrite=True)
            progress.end(doc, "ends")
    if failures:
        raise ChapterError("\n\n".join(f"{paths[doc]}:\n{error}" for doc, error in failures.items()))
    say("now the pages")


def machine() -> str:
    from seq2seq.kit.records import processor  # only here, since it brings torch

    return f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}"


# ---- timings --------------------------------------------------------------------------------------------------------

class TimingsNode(nodes.General, nodes.Element):
    """Where the table of seconds goes."""


class TimingsDirective(SphinxDirective):
    """`{timings}`: how long each page of this build took to execute, the longest first."""

    def run(self) -> list[nodes.Node]:
        return [TimingsNode()]


def timings(app: Sphinx, docname: str) -> list[nodes.Node]:
    runs = sorted(app.env.book_runs.items(), key=lambda item: -item[1]["execution_seconds"])
    if not runs:
        return [nodes.paragraph("", "This build executed nothing.")]
    seconds = [run["execution_seconds"] for _, run in runs]
    titles = app.env.titles
    links = [make_refnode(app.builder, docname, doc, "", nodes.Text(titles[doc].astext())) for doc, _ in runs]
    rows = [(nodes.Text("Page"), "Executed in"),
            *zip(links, (f"{took:.0f} s" for took in seconds), strict=True),
            (nodes.strong("", "Together"), f"{sum(seconds) / 60:.1f} min")]  # fmt: skip
    lines = [nodes.row("", *(nodes.entry("", nodes.paragraph("", "", cell)) for cell in (first, nodes.Text(second))))
             for first, second in rows]  # fmt: skip
    group = nodes.tgroup("", nodes.colspec(colwidth=80), nodes.colspec(colwidth=20), cols=2)
    group += [nodes.thead("", lines[0]), nodes.tbody("", *lines[1:])]
    how = sorted({f"{run['date']}, budget {run['budget']}, {run['jobs']} at a time, {run['threads']} thread each: "
                  f"{run['machine']}." for _, run in runs if "machine" in run})  # fmt: skip
    return [nodes.table("", group, classes=["timings"]), *(nodes.paragraph("", text) for text in how)]


def fill_timings(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    for node in list(doctree.findall(TimingsNode)):
        node.replace_self(timings(app, docname))


# ---- environment ----------------------------------------------------------------------------------------------------

def prepare(app: Sphinx) -> None:
    if not hasattr(app.env, "book_runs"):
        app.env.book_runs = {}


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_node(TimingsNode)
    app.add_directive("timings", TimingsDirective)
    app.connect("builder-inited", prepare)
    app.connect("env-before-read-docs", execute)
    app.connect("doctree-resolved", fill_timings)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}
