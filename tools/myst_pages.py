"""The book as the exporter reads it: settings, pages, labels, and MyST turned into plain Markdown.

Colab and Jupyter show MyST's directives, roles, citations and cross-references raw. `Book.plain` writes what they mean
in Markdown that both render, with absolute links, and collects every mistake as `file:line: what is wrong`.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import Any, NamedTuple

import yaml
from docutils.nodes import make_id
from jupytext.myst import MystMetadataParsingError, myst_to_notebook
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.mdit import create_md_parser
from pybtex.database import BibliographyData, Entry, parse_string
from pybtex.plugin import find_plugin
from pybtex.richtext import Text
from sphinx.util.nodes import _make_id as make_term_id

MARK = "#| export"
ANSWER = "\ue000"  # where the empty cell for a reader's answer goes; stands in no chapter
NUMBERED = ("Figure", "Table", "Exercise")
ADMONITIONS = {"admonition", "attention", "caution", "danger", "error", "hint", "important", "note", "seealso",
               "sidebar", "tip", "topic", "warning"}  # fmt: skip
VERBATIM = {"code", "code-block", "code-cell", "math", "mermaid", "raw"}  # directives whose body is not Markdown
REPLACED = {"code_block", "colon_fence", "dl_open", "fence", "math_block", "math_block_label", "myst_block_break",
            "myst_line_comment", "myst_target"}  # fmt: skip
MARKDOWN = create_md_parser(
    MdParserConfig(enable_extensions={"colon_fence", "deflist", "dollarmath"}), RendererHTML
).disable("inline")
TWO_ARTICLES = re.compile(r"(\b(?:[Tt]he|[Aa]n?)\s+)\[(?:The|An?) ")   # "the [The encoder–decoder](…)"
INLINE = re.compile(
    r"""(?P<code>(?<!`)(?P<tick>`+)(?!`)  (?:(?!\n\s*\n).)+?  (?<!`)(?P=tick)(?!`))
      | (?P<math>(?<!\\)(?P<dollars>\${1,2})(?!\s)  (?:(?!\n\s*\n)[^$])+?  (?P=dollars)) (?P<label>\ \([\w:-]+\))?
      | \{(?P<role>[a-zA-Z][\w:.+-]*)\}(?P<quote>`+)(?!`)  (?P<body>(?:(?!\n\s*\n).)+?)  (?<!`)(?P=quote)(?!`)
      | (?P<image>!?)\[(?P<text>(?:[^\[\]]|\[[^\[\]]*\])*)\]\((?P<url>[^()\s]*)(?:\s+"[^"]*")?\)
      | \[\^(?P<note>[^\]\s]+)\](?P<define>:[ ]*)?""",
    re.DOTALL | re.VERBOSE,
)


class Cell(NamedTuple):
    kind: str  # "code" or "markdown"
    source: str
    line: int  # of the source's first line, in the chapter
    metadata: dict[str, Any]
    solution: bool = False  # whether it stands in a solution that an earlier cell opens

    @property
    def exported(self) -> bool:
        return self.kind == "code" and self.source.split("\n", 1)[0].strip() == MARK


class Directive(NamedTuple):
    name: str
    argument: str
    options: dict[str, Any]
    body: str
    line: int  # of the body's first line


class Target(NamedTuple):
    """What a label stands for. `number` is the website's: of the chapter, then of the figure, table, … in it."""

    page: "Page"
    anchor: str
    kind: str = ""  # "Section", "Figure", "Table", "Equation", "Exercise" or, for any other block, ""
    title: str = ""
    number: str = ""


@dataclass
class Page:
    """A page of the table of contents and what its first reading found."""

    path: str  # from the root, without its suffix
    cells: list[Cell]
    metadata: dict[str, Any]
    title: str = ""
    number: int = 0  # of the chapter, in a part that is numbered
    anchors: set[str] = field(default_factory=set)
    notes: dict[str, int] = field(default_factory=dict)
    captions: dict[str, int] = field(default_factory=dict)
    cited: list[str] = field(default_factory=list)

    @property
    def file(self) -> str:
        return f"{self.path}.md"

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name


def toc_files(entry: Any) -> Iterator[str]:
    """Every page that a part of `_toc.yml` names, in reading order."""
    if isinstance(entry, list):
        for item in entry:
            yield from toc_files(item)
    elif isinstance(entry, dict):
        yield from (entry[key] for key in ("root", "file") if key in entry)
        for key in ("parts", "chapters", "sections", "subtrees", "entries"):
            yield from toc_files(entry.get(key))


def toc_numbers(toc: dict[str, Any]) -> dict[str, int]:
    """The numbers of the chapters in the parts that `_toc.yml` numbers, each part from 1."""
    return {path: number for part in toc.get("parts", []) if part.get("numbered")
            for number, chapter in enumerate(part["chapters"], 1) for path in toc_files(chapter)}  # fmt: skip


def read_directive(token: Token, line: int) -> Directive | None:
    """The directive that a fence opens at `line`, or None for a plain fence."""
    head = re.match(r"\{([\w:.+-]+)\}\s*(.*)", token.info.strip(), re.DOTALL)
    if token.type not in ("fence", "colon_fence") or not head:
        return None
    lines, options, start = token.content.splitlines(), {}, 0
    if lines and lines[0].strip() == "---" and "---" in (rest := [text.strip() for text in lines[1:]]):
        start = rest.index("---") + 2
        options = yaml.safe_load("\n".join(lines[1 : start - 1])) or {}
    else:
        while start < len(lines) and (option := re.match(r"\s*:([\w-]+):(?:\s+(.*)|$)", lines[start])):
            options[option[1]] = re.sub(r"^(['\"])(.*)\1$", r"\2", (option[2] or "").strip())
            start += 1
    return Directive(head[1], head[2], options, "\n".join(lines[start:]), line + 1 + start)


def fenced(source: str, language: str) -> str:
    """A fenced block of code, in more backticks than the code has in a row."""
    fence = max(["```", *(f"{ticks}`" for ticks in re.findall(r"`{3,}", source))], key=len)
    return f"{fence}{language}\n{source}\n{fence}"


def blocks(cell: Cell) -> list[tuple[str, int]]:
    """What follows what in a cell: each block's directive, "" for any other block, and its line."""
    if cell.kind == "code":
        return [("", cell.line)]
    found = []
    for token in MARKDOWN.parse(cell.source):
        if token.level == 0 and token.nesting >= 0 and token.type != "myst_line_comment":
            directive = read_directive(token, 0)
            found.append((directive.name if directive else "", cell.line + token.map[0]))
    return found


class Book:
    """The book under `root`: settings, pages in reading order, labels, terms and references."""

    def __init__(self, root: Path):
        self.root, self.errors = root, []
        config = yaml.safe_load((root / "_config.yml").read_text("utf-8"))
        self.title = config["title"]
        self.site = config["html"]["baseurl"].rstrip("/")
        self.repository = config["repository"]["url"].rstrip("/")
        self.ref = config["repository"]["branch"]
        self.nodeps = [line.strip() for line in (root / "requirements-nodeps.txt").read_text("utf-8").splitlines()
                       if line.strip() and not line.startswith("#")]  # fmt: skip
        self.targets: dict[str, Target] = {}
        self.counts: dict[tuple[int, str], int] = {}  # chapter and kind -> how many so far
        self.terms: dict[str, str] = {}  # lower-case term -> address
        bibliography = root / "book/references.bib"
        self.references = (parse_string(bibliography.read_text("utf-8"), "bibtex") if bibliography.exists()
                           else BibliographyData())  # fmt: skip
        toc = yaml.safe_load((root / "_toc.yml").read_text("utf-8"))
        listed, numbers = list(toc_files(toc)), toc_numbers(toc)
        for path in sorted(root.glob("chapters/*.md")):
            if f"chapters/{path.stem}" not in listed:
                self.errors.append(f"chapters/{path.name}:1: not in _toc.yml")
        self.pages: dict[str, Page] = {}
        for path in listed:
            if (root / f"{path}.md").exists():
                self.pages[path] = self.read_page(path)
                self.pages[path].number = numbers.get(path, 0)
            else:
                self.errors.append(f"_toc.yml:1: there is no {path}.md")
        self.chapters = {page.name: page for path, page in self.pages.items() if path.startswith("chapters/")}
        for page in self.pages.values():
            for cell in page.cells:
                self.index(page, cell)
            if not page.title:
                self.error(page, 1, "the page has no title")

    def error(self, page: Page, line: int, message: str) -> str:
        self.errors.append(f"{page.file}:{line}: {message}")
        return ""

    def read_page(self, path: str) -> Page:
        text = (self.root / f"{path}.md").read_text("utf-8")
        lines, cells = text.splitlines(), []
        try:
            notebook = myst_to_notebook(text, add_source_map=True)
        except (MystMetadataParsingError, yaml.YAMLError) as error:
            self.errors.append(f"{path}.md:1: {' '.join(str(error).split())}")
            return Page(path, [], {}, title=path)
        for cell, start in zip(notebook.cells, notebook.metadata.pop("source_map"), strict=True):
            source = cell.source.split("\n")  # jupytext gives where the cell starts, not its first line of text
            while start < len(lines) - 1 and [line.rstrip() for line in lines[start : start + len(source)]] != [
                    line.rstrip() for line in source]:  # fmt: skip
                start += 1
            cells.append(Cell(cell.cell_type, cell.source, start + 1, cell.metadata))
        page = Page(path, cells, notebook.metadata)
        self.mark_solutions(page)
        return page

    def mark_solutions(self, page: Page) -> None:
        """Find the cells between `{solution-start}` and `{solution-end}`."""
        solving, opened = False, 1
        for place, cell in enumerate(page.cells):
            page.cells[place] = cell._replace(solution=solving)
            for name, line in blocks(cell):
                if name == "solution-start":
                    if solving:
                        self.error(page, line, f"the solution at line {opened} is still open")
                    solving, opened = True, line
                elif name == "solution-end":
                    if not solving:
                        self.error(page, line, "no solution is open")
                    solving = False
        if solving:
            self.error(page, opened, "the solution does not end; close it with {solution-end}")

    # First reading: titles, labels, numbers and terms.

    def index(self, page: Page, cell: Cell) -> None:
        if cell.kind == "markdown":
            self.index_markdown(page, cell.source, cell.line)
        elif figure := cell.metadata.get("mystnb", {}).get("figure"):
            if not figure.get("name") or not figure.get("caption"):
                self.error(page, cell.line, "a figure from a cell needs a name and a caption")
            self.add_target(page, [figure.get("name", "")], cell.line, "Figure", figure.get("caption", ""))

    def add_target(self, page: Page, labels: list[str], line: int, kind: str = "", title: str = "") -> None:
        number = self.counts[page.number, kind] = self.counts.get((page.number, kind), 0) + 1
        for label in filter(None, labels):
            anchor = f"equation-{make_id(label)}" if kind == "Equation" else make_id(label)
            full = f"{page.number}.{number}" if page.number else str(number)
            target = Target(page, anchor, kind, " ".join(title.split()), full)
            if self.targets.setdefault(label.lower(), target) is not target:
                self.error(page, line, f"label {label} is taken by {self.targets[label.lower()].page.file}")
            page.anchors.add(anchor)

    def index_markdown(self, page: Page, text: str, line: int) -> None:
        waiting: list[str] = []  # labels that stand before the block they name
        tokens = MARKDOWN.parse(text)
        for token, following in zip(tokens, tokens[1:] + tokens[-1:], strict=True):
            here = line + (token.map[0] if token.map else 0)
            if token.type == "myst_target":
                waiting.append(token.content)
            elif token.type == "footnote_reference_open":
                page.notes[token.meta["label"]] = len(page.notes) + 1
            elif token.type == "heading_open":
                page.title = page.title or (following.content if token.tag == "h1" else "")
                self.add_target(page, waiting, here, "Section", following.content)
                page.anchors.add(make_id(following.content))
                waiting = []
            elif token.type == "math_block_label":
                self.add_target(page, [token.info], here, "Equation")
            elif directive := read_directive(token, here):
                self.index_directive(page, directive, waiting, here)
                waiting = []
            elif token.nesting >= 0 and token.type not in ("inline", "myst_line_comment"):
                self.add_target(page, waiting, here)
                waiting = []
        self.add_target(page, waiting, line)

    def index_directive(self, page: Page, directive: Directive, waiting: list[str], line: int) -> None:
        name, options, body = directive.name, directive.options, directive.body
        labels = [*waiting, options.get("name", ""), options.get("label", "")]
        if name == "math" and any(labels):
            self.add_target(page, labels, line, "Equation")
        elif name == "figure" and "only-dark" not in options.get("class", "") and body.strip():
            self.add_target(page, labels, line, "Figure", body.strip().split("\n\n")[0])
        elif name == "exercise":
            self.add_target(page, labels, line, "Exercise", directive.argument)
        elif name == "solution-start":
            self.add_target(page, [*labels, f"{directive.argument}-solution"], line, "", "Solution")
        elif name in ("table", "list-table", "csv-table"):
            self.add_target(page, labels, line, "Table", directive.argument)
        else:
            self.add_target(page, labels, line, "", directive.argument)
        if name == "glossary":
            for term in re.findall(r"^(?!\s|:|\.\.)(.+)$", body, re.MULTILINE):
                address = f"{self.url(page)}#{make_term_id(f'term-{term.strip()}')}"
                self.terms[term.strip().lower()] = address
        elif name not in VERBATIM:
            self.index_markdown(page, body, directive.line)

    # Second reading: MyST to plain Markdown.

    def url(self, page: Page, anchor: str = "") -> str:
        return f"{self.site}/{page.path}.html" + (f"#{anchor}" if anchor else "")

    def plain(self, page: Page, text: str, line: int) -> str:
        """`text`, which starts at `line` of the page, as Markdown that Colab and Jupyter show as meant."""
        lines, out, done = text.splitlines(), [], 0
        for token in MARKDOWN.parse(text):
            if token.type not in REPLACED or token.map[0] < done:
                continue
            start, end = token.map
            if start > done:
                out += self.inline(page, "\n".join(lines[done:start]), line + done).split("\n")
            block = self.block(page, token, lines, line)
            marker = "" if token.type in ("dl_open", "code_block") else lines[start].partition(token.markup or "\0")[0]
            prefix = marker if len(marker) < len(lines[start]) else ""  # a list's or a quotation's
            rest = re.sub(r"[^>\s]", " ", prefix)
            if block:
                if out and out[-1].strip("> ") and not prefix.strip("> "):
                    out.append(rest.rstrip())
                rows = block.split("\n")
                out += [prefix + rows[0], *((rest + row) if row else rest.rstrip() for row in rows[1:])]
                if end < len(lines) and lines[end].strip("> "):
                    out.append(rest.rstrip())
            else:  # leave no gap where a label or a comment stood
                while end < len(lines) and not lines[end].strip():
                    end += 1
            done = end
        if done < len(lines):
            out += self.inline(page, "\n".join(lines[done:]), line + done).split("\n")
        return "\n".join(out).strip("\n")

    def block(self, page: Page, token: Token, lines: list[str], line: int) -> str:
        """What stands in the notebook for a block of one of the kinds in `REPLACED`."""
        start, end = token.map
        if token.type in ("myst_target", "myst_line_comment", "myst_block_break"):
            return ""
        if token.type == "code_block":
            return "\n".join(lines[start:end])
        if token.type in ("math_block", "math_block_label"):
            return self.equation(token.content, token.info)
        if token.type == "dl_open":
            text = re.sub(r"^(\S.*)\n+:\s+", r"**\1**: ", "\n".join(lines[start:end]), flags=re.MULTILINE)
            return self.inline(page, text, line + start)
        last = lines[end - 1].strip("> \t")
        if end - start < 2 or last.strip(token.markup[0]) or len(last) < len(token.markup):
            return self.error(page, line + start, f"{token.markup}{token.info} is not closed before the cell ends; "
                              "a code cell cannot stand inside a directive")  # fmt: skip
        if directive := read_directive(token, line + start):
            return self.render(page, directive, line + start)
        if token.type == "colon_fence":
            return self.error(page, line + start, "a fence of colons without the name of a directive")
        return "\n".join([token.markup + token.info, *token.content.splitlines(), token.markup])

    def equation(self, content: str, label: str = "") -> str:
        content = re.sub(r"\n\s*\n", "\n", content.strip())
        if "\\\\" in content and "\\begin{" not in content:
            content = f"\\begin{{aligned}}\n{content}\n\\end{{aligned}}"
        tag = f" \\tag{{{self.targets[label.lower()].number}}}" if label.lower() in self.targets else ""
        return f"$$\n{content}{tag}\n$$"

    def render(self, page: Page, directive: Directive, line: int) -> str:
        name, argument, options, source, body_line = directive

        def body() -> str:
            return self.plain(page, source, body_line)

        if name in ADMONITIONS:
            title = self.inline(page, argument, line) if name in ("admonition", "sidebar", "topic") else ""
            content = body() if title or not argument else f"{self.inline(page, argument, line)}\n{body()}".strip()
            content = re.sub(r"\$\$\n(.+?)\n\$\$", lambda math: "$$ " + " ".join(math[1].split("\n")) + " $$",
                             content, flags=re.DOTALL)  # fmt: skip
            text = f"**{title or {'seealso': 'See also'}.get(name, name.capitalize())}**\n\n{content}"
            return "\n".join(f"> {row}".rstrip() for row in text.split("\n"))
        if name == "dropdown":
            summary = self.inline(page, argument, line) or "Details"
            return f"<details><summary>{summary}</summary>\n\n{body()}\n\n</details>"
        if name in ("tab-set", "div", "container"):
            return body()
        if name == "tab-item":
            return f"**{self.inline(page, argument, line)}**\n\n{body()}"
        if name == "math":
            return self.equation(f"{argument}\n{source}", options.get("label") or options.get("name", ""))
        if name in ("code", "code-block"):
            return fenced(source.rstrip(), argument)
        if name in ("figure", "image"):
            if "only-dark" in options.get("class", ""):
                return ""
            picture = self.image(page, options.get("alt", ""), argument, line)
            return f"{picture}\n\n{self.caption(page, 'Figure', body())}".strip() if name == "figure" else picture
        if name == "table":
            return f"{self.caption(page, 'Table', self.inline(page, argument, line))}\n\n{body()}"
        if name == "exercise":
            return self.exercise(page, directive, line)
        if name == "solution-start":
            if self.targets.get(argument, Target(page, "")).kind != "Exercise":
                self.error(page, line, f"there is no exercise {argument}")
            return f"<details><summary>Solution</summary>\n\n{body()}".strip()
        if name == "solution-end":
            return "</details>"
        if name == "predict":
            question = f"**Predict first.** {self.inline(page, argument, line)}"
            text = f"{question}\n\n{body()}\n\nChoose, then run the next cell."
            return "\n".join(f"> {row}".rstrip() for row in text.split("\n"))
        if name == "bibliography":
            return self.bibliography(page)
        if name == "code-cell":
            return self.error(page, line, "a code cell cannot stand inside a directive")
        return self.error(page, line, f"unknown directive {name}")

    def exercise(self, page: Page, directive: Directive, line: int) -> str:
        """The exercise, with what it takes, and the mark where a cell for the answer goes."""
        options = directive.options
        if missing := [f":{name}:" for name in ("label", "difficulty", "minutes") if not options.get(name)]:
            return self.error(page, line, f"an exercise needs {' and '.join(missing)}")
        title = f": {self.inline(page, directive.argument, line)}" if directive.argument else ""
        minutes = f"{options['minutes']} minute{'s' if options['minutes'] != '1' else ''}"
        head = f"**Exercise {self.targets[options['label'].lower()].number}{title}**"
        effort = f"_difficulty {options['difficulty']} of 5, {minutes}_"
        return f"{head} ({effort})\n\n{self.plain(page, directive.body, directive.line)}\n\n{ANSWER}"

    def caption(self, page: Page, kind: str, text: str) -> str:
        if not text:
            return ""
        number = page.captions[kind] = page.captions.get(kind, 0) + 1
        full = f"{page.number}.{number}" if page.number else number
        title, gap, legend = text.partition("\n\n")
        return f"_{kind} {full}: {' '.join(title.split())}_{gap}{legend}"

    def image(self, page: Page, alt: str, source: str, line: int) -> str:
        if not alt:
            self.error(page, line, f"image {source} has no text alternative")
        if re.match(r"https?:|data:", source):
            return f"![{alt}]({source})"
        if not (path := self.resolve(page, source)):
            return self.error(page, line, f"there is no image {source}")
        raw = self.repository.replace("https://github.com/", "https://raw.githubusercontent.com/", 1)
        return f"![{alt}]({raw}/{self.ref}/{path})"

    def resolve(self, page: Page, source: str, suffix: str = "") -> str:
        """The path from the root that `source` means on `page`, or '' where there is no such file."""
        base = "." if source.startswith("/") else PurePosixPath(page.path).parent
        path = normpath(f"{base}/{source}") + suffix
        return path if not path.startswith("..") and (self.root / path).exists() else ""

    def inline(self, page: Page, text: str, line: int) -> str:
        def replace(match: re.Match[str]) -> str:
            here = line + text.count("\n", 0, match.start())
            if match["code"]:
                return match[0]
            if match["math"]:
                if match["label"] and match["dollars"] == "$$":
                    self.error(page, here, "a labelled equation needs an empty line before and after it")
                return match[0]
            if match["role"]:
                return self.role(page, match["role"], " ".join(match["body"].split()), here)
            if match["note"]:
                if not (number := page.notes.get(match["note"])):
                    return self.error(page, here, f"there is no footnote {match['note']}")
                return f"<sup>{number}</sup>" + (" " if match["define"] else "")
            if match["image"]:
                return self.image(page, match["text"], match["url"], here)
            return self.link(page, self.inline(page, match["text"], here), match["url"], here)

        if definition := re.search(r"^ {0,3}\[[^\]^]+\]:\s", text, re.MULTILINE):
            here = line + text.count("\n", 0, definition.start())
            self.error(page, here, "a notebook's cells share no link definitions: write the address in the link")
        return TWO_ARTICLES.sub(r"\1[", INLINE.sub(replace, text))

    def link(self, page: Page, text: str, url: str, line: int) -> str:
        if re.match(r"[a-z][a-z0-9+.-]*:", url):
            return f"[{text or url}]({url})"
        path, _, anchor = url.partition("#")
        if not path or path.lower() in self.targets:
            return self.reference(page, anchor or path, text, line)
        file = self.resolve(page, path)
        if linked := self.pages.get(file.removesuffix(".md")) if file.endswith(".md") else None:
            if anchor and anchor not in linked.anchors:
                return self.error(page, line, f"there is no {anchor} on {linked.file}")
            return f"[{text or self.title_of(linked)}]({self.url(linked, anchor)})"
        if not file:
            return self.error(page, line, f"the link {url} leads nowhere")
        return f"[{text or path}]({self.repository}/blob/{self.ref}/{file}{'#' + anchor if anchor else ''})"

    def reference(self, page: Page, label: str, text: str, line: int) -> str:
        target = self.targets.get(label.lower())
        if target and target.kind == "Exercise":
            text = text or f"Exercise {target.number}"
        if not target or not (text or target.title):
            return self.error(page, line, f"label {label} " + ("has no title: give a text" if target else "is unknown"))
        return f"[{text or self.inline(target.page, target.title, 1)}]({self.url(target.page, target.anchor)})"

    def title_of(self, page: Page) -> str:
        return self.inline(page, page.title, 1)

    def role(self, page: Page, role: str, content: str, line: int) -> str:
        explicit = re.fullmatch(r"(.*?)\s*<([^<>]+)>", content)
        text, label = (explicit[1], explicit[2]) if explicit else ("", content)
        if role in ("cite", "cite:p", "cite:t"):
            return self.citation(page, role, content, line)
        if role == "doc":
            if not (linked := self.pages.get(self.resolve(page, label, ".md").removesuffix(".md"))):
                return self.error(page, line, f"there is no page {label}")
            return f"[{text or self.title_of(linked)}]({self.url(linked)})"
        if role == "ref":
            return self.reference(page, label, text, line)
        if role in ("eq", "numref"):
            target = self.targets.get(label.lower())
            if not target or target.kind not in (["Equation"] if role == "eq" else NUMBERED):
                return self.error(page, line, f"label {label} of role {role} is unknown")
            if role == "numref":
                text = re.sub(r"%s|\{number\}", target.number, text) or f"{target.kind} {target.number}"
                return f"[{text}]({self.url(target.page, target.anchor)})"
            number = f"({target.number})"
            return number if target.page is page else f"[{number}]({self.url(target.page, target.anchor)})"
        if role == "term":
            if not (address := self.terms.get(label.lower())):
                return self.error(page, line, f"the glossary has no term {label}")
            return f"[{text or label}]({address})"
        simple: dict[str, Callable[[str], str]] = {
            "math": "${}$".format, "code": "`{}`".format, "kbd": "<kbd>{}</kbd>".format,
            "sub": "<sub>{}</sub>".format, "sup": "<sup>{}</sup>".format,
            "abbr": lambda text: text.replace(" (", ", ").rstrip(")"),
        }  # fmt: skip
        return simple[role](content) if role in simple else self.error(page, line, f"unknown role {role}")

    def citation(self, page: Page, role: str, keys: str, line: int) -> str:
        links = []
        for key in (key.strip() for key in keys.split(",")):
            if key not in self.references.entries:
                self.error(page, line, f"references.bib has no entry {key}")
                continue
            entry = self.references.entries[key]
            page.cited += [] if key in page.cited else [key]
            people = entry.persons.get("author") or entry.persons.get("editor") or []
            names = [str(Text.from_latex(" ".join(who.prelast_names + who.last_names))) for who in people]
            who = f"{names[0]} et al." if len(names) > 2 else " and ".join(names) or key
            year = entry.fields.get("year", "n.d.")
            text = f"{who} ({year})" if role == "cite:t" else f"{who}, {year}"
            links.append(f"[{text}]({url})" if (url := self.address(entry)) else text)
        return ", ".join(links) if role == "cite:t" else f"({'; '.join(links)})"

    @staticmethod
    def address(entry: Entry) -> str:
        fields = entry.fields
        if "eprint" in fields:
            return f"https://arxiv.org/abs/{fields['eprint']}"
        return f"https://doi.org/{fields['doi']}" if "doi" in fields else fields.get("url", "")

    def bibliography(self, page: Page) -> str:
        """The references that the page cites before this point, in the style that the website uses."""
        if not page.cited:
            return ""
        style = find_plugin("pybtex.style.formatting", "plain")()
        backend = find_plugin("pybtex.backends", "markdown")("utf-8")
        formatted = style.format_bibliography(self.references, page.cited)
        entries = [re.sub(r"\\([.()!#-])", r"\1", entry.text.render(backend)).replace("\n", " ") for entry in formatted]
        return "\n".join(f"- {entry}" for entry in entries)
