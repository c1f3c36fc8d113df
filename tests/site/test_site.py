"""The built site as a whole: its files, its links, and what is left of it without a server or without scripts."""

import json
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import pytest
from bs4 import BeautifulSoup
from conftest import ROOT, watch
from playwright.sync_api import Browser, Page, expect


class Reader(HTMLParser):
    """Links, anchors and images of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.no_alternative: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors.update(values[name] for name in ("id", "name") if values.get(name))
        if tag not in ("form", "base"):
            self.links += [values[name] for name in ("href", "src") if name in values]
        if tag == "img":
            # An empty alternative marks an ornament; a file's name is no alternative.
            alternative = values.get("alt")
            if alternative is None or alternative.startswith(("../", "_images", "/")):
                self.no_alternative.append(values.get("src", "?"))

    def addresses(self, page: str) -> list[str]:
        """What the page links to inside the site, each once: `chapters/rnn.html#exercises`."""
        found = [urljoin(f"http://site/{page}", link) for link in self.links]
        return list(dict.fromkeys(unquote(link.removeprefix("http://site/")) for link in found
                                  if link.startswith("http://site/")))  # fmt: skip


@pytest.fixture(scope="module")
def read(site: Path, pages: list[str]) -> dict[str, Reader]:
    return {page: Reader((site / page).read_text("utf-8")) for page in pages}


def test_pages_work_from_files(page: Page, site: Path, pages: list[str]):
    problems = watch(page, "file://")
    found = {}
    for name in pages:
        if name == "404.html":   # only ever sent by a server
            continue
        page.goto((site / name).as_uri(), wait_until="load")
        expect(page.locator("h1").first).to_be_attached()
        if problems:
            found[name] = list(problems)
            problems.clear()
    assert not found, json.dumps(found, indent=1)


def test_internal_links_and_anchors_resolve(site: Path, read: dict[str, Reader]):
    home = "http://site/"
    broken = []
    for name, reader in read.items():
        for link in reader.links:
            address, anchor = urldefrag(urljoin(home + name, link))
            parts = urlsplit(address)
            if parts.netloc != "site":
                continue
            path = unquote(parts.path).lstrip("/") or "index.html"
            known = read[path].anchors if path in read else {unquote(anchor)}
            if not (site / path).is_file() or (anchor and unquote(anchor) not in known):
                broken.append(f"{name}: {link}")
    assert not broken, "\n".join(broken)


def test_pages_are_whole_without_scripts(browser: Browser, base: str, pages: list[str], site: Path):
    """Widgets show every frame, equations are there, and a question's answer waits in a fold."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()

    def first_with(kind: str) -> str:
        return f"{base}/" + next(name for name in pages if f'class="{kind}"' in (site / name).read_text("utf-8"))

    page.goto(first_with("stepper"))
    assert all(frame.is_visible() for frame in page.locator(".stepper-frames > li").all())
    assert page.locator(".stepper").count() > 0 and not page.locator(".stepper-controls").first.is_visible()
    page.goto(f"{base}/chapters/rnn.html")
    assert page.locator("mjx-container").count() > 0
    assert not any("\\(" in text for text in page.locator("article p").all_inner_texts())
    page.goto(first_with("predict"))
    for box in page.locator(".predict").all():
        fold = page.locator(f"details[data-question={box.get_attribute('id')}]")
        assert box.locator("li").count() > 1 and not box.get_by_role("button").count()
        expect(fold.locator(".cell").first).to_be_hidden()
        fold.locator("summary").first.click()
        expect(fold.locator(".cell").first).to_be_visible()
    context.close()


def test_light_and_dark_switch(page: Page, base: str):
    page.goto(f"{base}/book/index.html")
    button = page.locator("button.theme-switch-button:visible").first
    seen = {page.locator("html").get_attribute("data-theme")}
    for _ in range(3):
        button.click()
        seen.add(page.locator("html").get_attribute("data-theme"))
    assert seen == {"light", "dark"}


def test_chapters_offer_their_notebook(site: Path, read: dict[str, Reader], chapters: list[str], config: dict):
    repository, branch = config["repository"]["url"], config["repository"]["branch"]
    project = repository.removeprefix("https://github.com/")
    assert chapters
    for name in chapters:
        links = read[f"chapters/{name}.html"].links
        assert f"https://colab.research.google.com/github/{project}/blob/{branch}/chapters/{name}.ipynb" in links
        assert f"{name}.ipynb" in links
        assert f"{repository}/edit/{branch}/chapters/{name}.md" in links
        assert any(link.startswith(f"{repository}/issues/new") for link in links)
        source = ROOT / f"chapters/{name}.ipynb"
        assert (site / f"chapters/{name}.ipynb").read_bytes() == source.read_bytes()


def test_pages_tell_search_engines_what_they_are(site: Path, pages: list[str], config: dict):
    for name in pages:
        if name in ("404.html", "genindex.html", "search.html"):
            continue
        page = BeautifulSoup((site / name).read_text("utf-8"), "lxml")
        [description] = page.select('meta[name="description"]')
        assert 30 < len(description["content"]) <= 200, name
        assert page.select_one('link[rel="canonical"]')["href"] == config["html"]["baseurl"] + name
        assert len(page.select("article h1")) == 1, name


def test_readers_do_not_see_the_exporters_marks(site: Path, pages: list[str]):
    for name in pages:
        assert "#| export" not in text_of((site / name).read_text("utf-8")), name


def text_of(text: str) -> str:
    """The text of a page, as the highlighter's spans leave it."""
    parser = HTMLParser()
    parts: list[str] = []
    parser.handle_data = parts.append
    parser.feed(text)
    return "".join(parts)
