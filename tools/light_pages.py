"""Make the built pages light: a Sphinx extension that works on the finished HTML.

The theme loads 2 MB of icons and MathJax before a page can be read. Here the equations are typeset once, at build
time, by the same MathJax; the icons become a font of the few that the book uses; ten style sheets become one, without
the rules that no page needs; and every other script waits until the page is there. Nothing of this needs a network,
and equations show where no script runs.
"""

from __future__ import annotations

import base64
import html
import json
import logging
import os
import posixpath
import re
import subprocess
import zlib
from pathlib import Path
from typing import Any

import pydata_sphinx_theme
from bs4 import BeautifulSoup
from fontTools import subset
from frontend import ROOT, tool
from search_index import write_index
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

# One equation as Sphinx and MyST write it: \(…\) in a span, \[…\] in a div, or an AMS environment in a div.
EQUATION = re.compile(
    r'(?P<open><(?P<tag>span|div)[^>]*class="[^"]*\bmath notranslate nohighlight[^"]*"[^>]*>\s*'
    r'(?:<span class="eqno">.*?</span>)?\s*)'
    r"(?P<tex>\\\(.*?\\\)|\\\[.*?\\\]|\\begin\{.*?)(?P<close>\s*</(?P=tag)>)",
    re.DOTALL,
)
MATHJAX = re.compile(r"<script>window\.MathJax = .*?</script>\s*|<script[^>]*/mathjax/[^>]*></script>\s*")
ICON_SCRIPT = re.compile(r"<script src=\"[^\"]*fontawesome\.js[^\"]*\"></script>\s*")
SCRIPT_PRELOAD = re.compile(r"<link rel=\"preload\" as=\"script\"[^>]*>\s*")
FONT = "frontend/fonts/source-serif-4-latin-wght-normal.woff2"
OPTIONS_SCRIPT = re.compile(r"<script src=\"[^\"]*documentation_options\.js[^\"]*\"></script>")
# Without a script a page is light; with one it has the reader's colours from the first paint on.
THEMES = {'data-theme="auto"': 'data-theme="light"',
          'localStorage.getItem("theme") || "auto"': 'localStorage.getItem("theme") || '
          '(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")'}  # fmt: skip
EAGER_SCRIPT = re.compile(r"<script (?![^>]*\b(?:defer|async)\b)(?=[^>]*src=)(?![^>]*documentation_options)")
# Names for screen readers that differ from what is shown, which is name enough ("Search" for "Search Ctrl+K").
WRONG_NAME = re.compile(
    r'(<button class="btn search-button-field[^>]*?) aria-label="Search"|(<summary) aria-label="Toggle hidden content"'
)
# A link to one of the theme's sheets, or to the bundle that an earlier build put in their place.
STYLE_LINK = re.compile(
    r'<link(?=[^>]*rel="stylesheet")(?![^>]*media=)[^>]*href="(?:\.\./)*_static/([^"?]*)[^"]*"'
    r'(?:[^>]*data-sheets="([^"]*)")?[^>]*>\s*'
)
CSS_TOKEN = re.compile(r"""\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|url\([^)\"']*\)|[{};]|[^\"'{};u]+|u""", re.DOTALL)
NOTEBOOK_LINK = re.compile(r'(<a href="[^"/]*\.ipynb") target="_blank"')
LANGUAGES = {"French": "fr", "Chinese": "zh-Hans", "German": "de"}
APOSTROPHE = re.compile(r"(?<=\w)(?:'|&#39;|&#x27;)(?=[a-z]{1,2}\b)")
HAN = re.compile(r"([\u3400-\u9fff](?:[\s\u3000-\u303f\u3400-\u9fff\uff00-\uffef]*[\u3400-\u9fff])?)")
# What is left alone; an output's table; a tag; text.
PIECES = re.compile(
    r'<span lang="zh-Hans">[^<]*</span>|'
    r"<(?P<alone>script|style|pre|code|svg|mjx-container|textarea)\b.*?</(?P=alone)>|"
    r"(?P<table><table[^>]*(?:class=\"[^\"]*dataframe|id=\"T_).*?</table>)|<[^>]*>|(?P<text>[^<]+)", re.DOTALL)
# Code's colours: `html[data-theme="light"] .highlight .n { color: #080808 }`, and a block's own without a class.
CODE_COLOUR = re.compile(r'\[data-theme="(\w+)"\] \.highlight(?: \.(\w+))? \{([^}]*)\}')
PLAIN = {"o"}   # operators: coloured like strings, they cost a third of all spans and tell a reader nothing
CODE = re.compile(r'(?<=<div class="highlight">)<pre>.*?</pre>', re.DOTALL)
# A picture of the book's own, and how many pixels one unit of its coordinates is.
DRAWING = re.compile(r'<img\b[^>]*\bsrc="(?P<src>[^":]*_images/[^"]*\.svg)"[^>]*>')
DRAWING_SCALE = 1.15
SOUND = re.compile(r'(?<=src=")data:audio/wav;base64,([A-Za-z0-9+/=]+)(?=")')   # as a notebook carries it
THEME = re.compile(r"(?<!not\()\[data-theme=\"?(light|dark)\"?\]")
ICON_FONTS = ("fa-solid-900", "fa-regular-400", "fa-brands-400")


def split_tex(tex: str) -> tuple[str, bool]:
    """The TeX inside its delimiters, and whether it is a displayed equation."""
    tex = html.unescape(tex)
    if tex.startswith("\\begin"):
        return tex, True
    return tex[2:-2].strip(), tex.startswith("\\[")


def render(pages: list[list[tuple[str, bool]]]) -> list[dict[str, Any]]:
    """Typeset the equations of several pages in one run of MathJax."""
    modules = ROOT / "_build/npm/node_modules"
    equations = [[{"tex": tex, "display": display} for tex, display in page] for page in pages]
    done = subprocess.run(
        [tool("node"), str(Path(__file__).with_name("render_math.js"))], input=json.dumps(equations), text=True,
        capture_output=True, env={**os.environ, "NODE_PATH": str(modules)}, encoding="utf-8",
    )
    if done.returncode:
        raise ExtensionError(f"MathJax cannot typeset an equation: {done.stderr.strip()}")
    return json.loads(done.stdout)


def typeset(pages: dict[Path, str], site: Path) -> None:
    """Replace the TeX of every page by what MathJax makes of it."""
    found = {path: [split_tex(match["tex"]) for match in EQUATION.finditer(text)] for path, text in pages.items()}
    found = {path: equations for path, equations in found.items() if equations}
    if not found:
        return
    for path, result in zip(found, render(list(found.values())), strict=True):
        # A displayed equation scrolls where it is too wide, so the keyboard must reach it.
        rendered = iter(piece.replace(' display="true"', ' display="true" tabindex="0"', 1) for piece in result["html"])
        text = EQUATION.sub(lambda match: match["open"] + next(rendered) + match["close"], pages[path])  # noqa: B023
        up = "../" * (len(path.relative_to(site).parts) - 1)
        css = re.sub(r"\s*\n\s*", " ", result["css"]).replace("MATH-FONTS", f"{up}frontend/mathjax/woff-v2")
        pages[path] = text.replace("</head>", f"<style>{css}</style>\n</head>", 1)


def icon_codes(css: str, used: set[str]) -> set[int]:
    """Code points of the icons that the style sheets need, given the `fa-…` classes that the pages use."""
    codes: set[int] = set()
    for selector, body in re.findall(r"([^{}]+)\{([^{}]*)\}", css):
        names = set(re.findall(r"\.(fa-[\w-]+)", selector))
        if not names or names & used:
            codes.update(int(code, 16) for code in re.findall(r"\\([ef][0-9a-f]{3})\b", body))
            codes.update(ord(char) for char in body if "\ue000" <= char <= "\uf8ff")
    return codes


def shrink_icons(site: Path) -> None:
    """Write the icon fonts anew with only the icons in use."""
    texts = [path.read_text("utf-8") for path in [*site.rglob("*.html"), *site.glob("_static/**/sphinx*.js")]]
    used = {name for text in texts for name in re.findall(r"\bfa-[\w-]+", text)}
    css = "\n".join(path.read_text("utf-8") for path in (site / "_static").rglob("*.css"))
    codes = icon_codes(css, used)
    theme = Path(pydata_sphinx_theme.__file__).parent / "theme/pydata_sphinx_theme/static"
    for name in ICON_FONTS:
        options = subset.Options(flavor="woff2")
        font = subset.load_font(theme / f"vendor/fontawesome/webfonts/{name}.ttf", options)
        made = subset.Subsetter(options)
        made.populate(unicodes=codes)
        made.subset(font)
        folder = site / "_static/vendor/fontawesome/webfonts"
        subset.save_font(font, folder / f"{name}.woff2", options)
        (folder / f"{name}.ttf").unlink(missing_ok=True)
    (site / "_static/scripts/fontawesome.js").unlink(missing_ok=True)


def statements(css: str) -> list[tuple[str, str | None]]:
    """A style sheet's top-level statements: what stands before the braces, and what in them (None without braces)."""
    found: list[tuple[str, str | None]] = []
    depth, head, body = 0, "", ""
    for token in CSS_TOKEN.findall(re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL)):
        depth += (token == "{") - (token == "}")
        if token == "{" and depth == 1:
            body = ""
        elif token == "}" and depth == 0:
            found.append((head.strip(), body))
            head = ""
        elif depth:
            body += token
        elif token == ";":
            found.append((head.strip(), None))
            head = ""
        else:
            head += token
    return found


def purge(css: str, words: set[str]) -> str:
    """The style sheet without the rules for classes that no page and no script mentions."""
    kept = ""
    for head, body in statements(css):
        if body is None:
            kept += f"{head};"
        elif head.startswith(("@media", "@supports")):
            if inner := purge(body, words):
                kept += f"{head}{{{inner}}}"
        elif head.startswith("@"):
            kept += f"{head}{{{body}}}"
        else:
            selectors = [part.strip() for part in re.split(r",(?![^(]*\))", head)]
            outside = {part: re.sub(r"\(.*\)", "", part) for part in selectors}
            needed = [part for part, text in outside.items()
                      if "\\" in text or words.issuperset(re.findall(r"\.([A-Za-z_-][\w-]*)", text))]
            if needed:
                kept += f"{','.join(needed)}{{{body.strip()}}}"
    return kept


def light_by_default(css: str) -> str:
    """The style sheet with its light colours also where no script has chosen a theme, and always on paper."""
    made = ""
    for head, body in statements(css):
        rule = f"{head};" if body is None else f"{head}{{{body}}}"
        if head.startswith(("@media", "@supports")):
            made += f"{head}{{{light_by_default(body)}}}"
        elif body is None or not (theme := THEME.search(head)):
            made += rule
        elif theme[1] == "dark":
            made += f"@media screen{{{rule}}}"
        else:
            made += THEME.sub(":not([data-theme=dark])", rule) + f"@media print{{{THEME.sub('[data-theme]', rule)}}}"
    return made


def read_sheet(name: str, static: Path) -> str:
    """A style sheet with its imports in their places and its addresses relative to `_static/`."""
    folder = posixpath.dirname(name)

    def address(match: re.Match[str]) -> str:
        target = match[1].strip("\"'")
        local = not target.startswith(("data:", "#", "/"))
        return f'url("{posixpath.normpath(posixpath.join(folder, target))}")' if local else match[0]

    def imported(match: re.Match[str]) -> str:
        return read_sheet(posixpath.normpath(posixpath.join(folder, match[1])), static)

    text = (static / name).read_text("utf-8").lstrip("\ufeff").replace('@charset "UTF-8";', "")
    text = re.sub(r"url\((\"[^\"]*\"|'[^']*'|[^)\"']*)\)", address, text)
    return re.sub(r"@import (?:url\()?\"([^\"]*)\"\)?;", imported, text)


def bundle_styles(pages: dict[Path, str], site: Path) -> None:
    """One style sheet in place of the theme's ten, with only the rules that the book needs."""
    static = site / "_static"
    scripts = [path.read_text("utf-8") for path in [*static.rglob("*.js"), *site.glob("frontend/previews/*.js")]]
    words = {word for text in [*pages.values(), *scripts] for word in re.findall(r"[\w-]+", text)}
    made: dict[str, str] = {}
    for path, text in pages.items():
        links = STYLE_LINK.findall(text)
        if not links:
            continue
        sheets = next((names for _, names in links if names), None) or " ".join(link for link, _ in links)
        name = f"book-{zlib.crc32(sheets.encode()):08x}.css"
        if name not in made:
            # Sheets are named by their path below _static/, the same on every page.
            css = light_by_default(purge("".join(read_sheet(sheet, static) for sheet in sheets.split()), words))
            (static / name).write_text(css, "utf-8")
            made[name] = f"{zlib.crc32(css.encode()):08x}"
        up = "../" * (len(path.relative_to(site).parts) - 1)
        link = f'<link rel="stylesheet" href="{up}_static/{name}?v={made[name]}" data-sheets="{sheets}" />\n'
        first = STYLE_LINK.search(text).start()
        pages[path] = text[:first] + link + STYLE_LINK.sub("", text[first:])


def lighten(text: str) -> str:
    """A page without the theme's icon script and MathJax, its other scripts deferred.

    Bootstrap's watch over the contents goes too: it takes any link for an entry and loses its place on a jump, so
    book.js does it.
    """
    text = text.replace('<body data-bs-spy="scroll"', "<body", 1)
    text = NOTEBOOK_LINK.sub(r"\1 download", text)
    for auto, known in THEMES.items():
        text = text.replace(auto, known, 1)
    for unwanted in (MATHJAX, ICON_SCRIPT, SCRIPT_PRELOAD):
        text = unwanted.sub("", text)
    return EAGER_SCRIPT.sub("<script defer ", WRONG_NAME.sub(r"\1\2", text))


def sized(text: str, page: Path) -> str:
    """A page whose drawings have the room that they will need, all on one scale: nothing moves when they arrive."""
    def one(match: re.Match[str]) -> str:
        drawing = page.parent / match["src"]
        box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', drawing.read_text("utf-8")) if drawing.is_file() else None
        if box is None or re.search(r"\b(?:width|height)\b", re.sub(r'alt="[^"]*"', "", match[0])):
            return match[0]
        width, height = (round(DRAWING_SCALE * float(side)) for side in box.groups())
        return f'<img width="{width}" height="{height}"{match[0][4:]}'
    return DRAWING.sub(one, text)


def served(text: str, page: Path, site: Path) -> str:
    """A page whose sounds are files of the site: they cost nothing until somebody listens."""
    def one(match: re.Match[str]) -> str:
        wav = base64.b64decode(match[1])
        file = site / "_static" / "sounds" / f"{zlib.crc32(wav):08x}.wav"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(wav)
        return f"{'../' * (len(page.relative_to(site).parts) - 1)}{file.relative_to(site).as_posix()}"
    return SOUND.sub(one, text)


def token_looks(css: str) -> dict[str, frozenset[str]]:
    """Each kind of code token -> the kinds that look the same in every theme; "" stands for the code around them."""
    looks: dict[str, dict[str, str]] = {}
    for theme, kind, body in CODE_COLOUR.findall(css):
        colour = re.search(r"(?<!-)\bcolor: (\S+)", body)
        looks.setdefault(kind, {})[theme] = colour[1] if colour and (not kind or body.strip() == colour[0]) else body
    return {kind: frozenset(other for other in looks if looks[other] == looks[kind]) for kind in looks}


def fewer_spans(text: str, looks: dict[str, frozenset[str]]) -> str:
    """A page's code without most of the highlighter's spans, which were half of a page's elements.

    Operators and what has no colour of its own need none; neighbours of one colour, as in an f-string, share one.
    """
    plain = {*PLAIN, *looks.get("", ())} - {""}
    bare = re.compile(rf'<span class="(?:{"|".join(sorted(plain))})">([^<]*)</span>')
    alike = {"|".join(sorted(kinds)) for kinds in looks.values() if "" not in kinds}
    pairs = [re.compile(rf'(<span class="(?:{kinds})">[^<]*)</span><span class="(?:{kinds})">') for kinds in alike]

    def fewer(code: re.Match[str]) -> str:
        made = bare.sub(r"\1", code[0])
        for pair in pairs:
            while (joined := pair.sub(r"\1", made)) != made:
                made = joined
        return made

    return CODE.sub(fewer, text)


def in_language(table: str) -> str:
    """An output's table with `lang` on each column whose heading names a language of the book, and on Chinese words."""
    if not HAN.search(table) and not any(f">{name}" in re.sub(r">\s+", ">", table) for name in LANGUAGES):
        return table
    made = BeautifulSoup(table, "html.parser")
    for number, heading in enumerate(made.select("thead tr:first-child th")):
        for name, code in LANGUAGES.items():
            if heading.get_text().strip().startswith(name):
                for cell in made.select(f"tbody tr > :nth-child({number + 1})"):
                    cell["lang"] = code
    for text in made.find_all(string=HAN):
        if not text.find_parent(lang=True):
            text.replace_with(BeautifulSoup(marked(html.escape(text, quote=False)), "html.parser"))
    return str(made)


def marked(text: str) -> str:
    """A piece of a page's text with its Chinese words marked as such."""
    return HAN.sub(r'<span lang="zh-Hans">\1</span>', text)


def set_type(page: str) -> str:
    """A page's text with typographic apostrophes, and its Chinese and French marked as such; code stays as it is."""
    start, end = page.find("<article"), page.rfind("</article>")
    if start < 0:
        return page

    def piece(match: re.Match[str]) -> str:
        if match["table"]:   # its headings are the page's words, its cells are what the code printed
            head, end_of_head, body = match["table"].partition("</thead>")
            return in_language(APOSTROPHE.sub("’", head) + end_of_head + body)
        return marked(APOSTROPHE.sub("’", match["text"])) if match["text"] else match[0]

    return page[:start] + PIECES.sub(piece, page[start:end]) + page[end:]


def early_font(text: str, up: str) -> str:
    """Ask for the text's font first, so that it is there for the first paint; from a file that would be an error."""
    ask = ('<script>if (location.protocol !== "file:") document.head.append(Object.assign('
           'document.createElement("link"), '
           f'{{rel: "preload", as: "font", type: "font/woff2", crossOrigin: "", href: "{up}{FONT}"}}));</script>')
    return text if FONT in text or "<base " in text else text.replace("<head>", f"<head>\n  {ask}", 1)


def finish(app: Sphinx, exception: Exception | None) -> None:
    if exception or app.builder.format != "html":
        return
    site = Path(app.outdir)
    for leftover in (site / "_static").glob("*.html"):   # the theme's templates, copied by mistake
        leftover.unlink()
    before = {path: path.read_text("utf-8") for path in site.rglob("*.html")}
    after = {path: served(text, path, site) for path, text in before.items()}
    typeset(after, site)
    shrink_icons(site)
    bundle_styles(after, site)
    # A few constants that the page's own inline scripts need: in the page, they cost no request.
    looks = token_looks((site / "_static/pygments.css").read_text("utf-8"))
    options = f"<script>{(site / '_static/documentation_options.js').read_text('utf-8')}</script>"
    for path, text in after.items():
        up = "../" * (len(path.relative_to(site).parts) - 1)
        light = sized(fewer_spans(set_type(lighten(text)), looks), path)
        light = early_font(OPTIONS_SCRIPT.sub(lambda _: options, light), up)
        if light != before[path]:
            path.write_text(light, "utf-8")
    write_index(site)


def setup(app: Sphinx) -> dict[str, Any]:
    logging.getLogger("fontTools").setLevel(logging.WARNING)   # it reports every table of a font
    app.connect("build-finished", finish, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
