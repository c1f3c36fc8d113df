"""The built site, as a reader's browser sees it. Every test covers every page it can."""

import json
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import pytest
from conftest import ROOT
from playwright.sync_api import Browser, Page, expect

AXE = ROOT / "_build/npm/node_modules/axe-core/axe.min.js"


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


@pytest.fixture(scope="module")
def read(site: Path, pages: list[str]) -> dict[str, Reader]:
    return {page: Reader((site / page).read_text("utf-8")) for page in pages}


def watch(page: Page, home: str) -> list[str]:
    """Notes console errors, script errors, failed requests and requests to other hosts."""
    problems: list[str] = []
    page.on("console", lambda message: message.type == "error" and problems.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: problems.append(f"script error: {error}"))
    # A request that ends because the test goes on to the next page is no fault of the page.
    page.on("requestfailed", lambda request: request.failure != "net::ERR_ABORTED"
            and problems.append(f"failed: {request.url}, {request.failure}"))
    page.on("response", lambda answer: answer.status >= 400 and problems.append(f"{answer.status}: {answer.url}"))
    page.on("request", lambda request: not request.url.startswith((home, "data:", "blob:"))
            and problems.append(f"another host: {request.url}"))
    return problems


def test_pages_load_cleanly_and_ask_no_other_host(page: Page, base: str, pages: list[str]):
    problems = watch(page, base)
    found = {}
    for name in pages:
        page.goto(f"{base}/{name}", wait_until="networkidle")
        if problems:
            found[name] = list(problems)
            problems.clear()
    assert not found, json.dumps(found, indent=1)


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


def test_every_image_has_a_text_alternative(read: dict[str, Reader], page: Page, base: str):
    missing = {name: reader.no_alternative for name, reader in read.items() if reader.no_alternative}
    for name in read:
        page.goto(f"{base}/{name}")
        bare = page.evaluate(
            """() => Array.from(document.querySelectorAll('article svg')).filter(svg =>
                 !svg.closest('[aria-hidden=true], [role=img][aria-label], a, button')
                 && !svg.getAttribute('aria-label') && !svg.querySelector('title'))
                 .map(svg => svg.outerHTML.slice(0, 80))"""
        )
        if bare:
            missing[name] = missing.get(name, []) + bare
    assert not missing, json.dumps(missing, indent=1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessibility(browser: Browser, base: str, pages: list[str], scheme: str):
    context = browser.new_context(color_scheme=scheme, viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    page = context.new_page()
    found = {}
    for name in pages:
        page.goto(f"{base}/{name}")
        page.add_script_tag(path=AXE)
        result = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        serious = [f"{rule['id']}: {node['html'][:160]} ({node['failureSummary'][:300]})"
                   for rule in result["violations"] if rule["impact"] in ("serious", "critical")
                   for node in rule["nodes"][:5]]
        if serious:
            found[name] = serious
    context.close()
    assert not found, json.dumps(found, indent=1)


def test_no_page_scrolls_sideways_on_a_phone(browser: Browser, base: str, pages: list[str]):
    context = browser.new_context(viewport={"width": 380, "height": 800}, reduced_motion="reduce")
    page = context.new_page()
    wide = {}
    for name in pages:
        page.goto(f"{base}/{name}")
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > 380:
            wide[name] = f"{width} px: " + str(page.evaluate(
                """() => Array.from(document.querySelectorAll('article *')).filter(e =>
                     e.getBoundingClientRect().right > 381).slice(0, 5).map(e => e.outerHTML.slice(0, 100))"""
            ))
    context.close()
    assert not wide, json.dumps(wide, indent=1)


def test_steppers_answer_to_mouse_and_keyboard(page: Page, base: str, pages: list[str], site: Path):
    with_stepper = [name for name in pages if 'class="stepper"' in (site / name).read_text("utf-8")]
    assert with_stepper
    for name in with_stepper:
        page.goto(f"{base}/{name}")
        for stepper in page.locator(".stepper").all():
            frames, slider = stepper.locator(".stepper-frames > li"), stepper.get_by_role("slider")
            last = frames.count()
            assert last > 1

            def shows(step: int, frames=frames, slider=slider, last=last):
                expect(frames.locator("visible=true").first).to_be_attached()
                visible = [i for i in range(last) if frames.nth(i).is_visible()]
                assert visible == [step - 1]
                assert slider.get_attribute("aria-valuetext") == f"step {step} of {last}"

            shows(1)
            stepper.get_by_role("button", name="Next").click()
            shows(2)
            stepper.get_by_role("button", name="Back").click()
            shows(1)
            slider.focus()
            page.keyboard.press("ArrowRight")
            shows(2)
            page.keyboard.press("End")
            shows(last)
            page.keyboard.press("Home")
            shows(1)
        play = page.locator(".stepper").first.get_by_role("button", name="Play")
        play.focus()
        page.keyboard.press("Enter")
        expect(page.locator(".stepper").first.get_by_role("slider")).to_have_value("2", timeout=5000)


def test_steps_and_equations_show_without_scripts(browser: Browser, base: str, pages: list[str], site: Path):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    with_stepper = next(name for name in pages if 'class="stepper"' in (site / name).read_text("utf-8"))
    page.goto(f"{base}/{with_stepper}")
    for frame in page.locator(".stepper-frames > li").all():
        assert frame.is_visible()
    assert page.locator(".stepper").count() > 0 and not page.locator(".stepper-controls").first.is_visible()
    page.goto(f"{base}/chapters/rnn.html")
    assert page.locator("mjx-container").count() > 0
    assert not any("\\(" in text for text in page.locator("article p").all_inner_texts())
    context.close()


def test_light_and_dark_switch(page: Page, base: str):
    page.goto(f"{base}/book/index.html")
    button = page.locator("button.theme-switch-button:visible").first
    seen = {page.locator("html").get_attribute("data-theme")}
    for _ in range(3):
        button.click()
        seen.add(page.locator("html").get_attribute("data-theme"))
    assert seen == {"light", "dark"}


def test_chapters_offer_their_notebook(site: Path, page: Page, base: str, chapters: list[str], config: dict):
    repository, branch = config["repository"]["url"], config["repository"]["branch"]
    project = repository.removeprefix("https://github.com/")
    assert chapters
    for name in chapters:
        page.goto(f"{base}/chapters/{name}.html")
        links = set(page.eval_on_selector_all("a[href]", "links => links.map(a => a.href)"))
        assert f"https://colab.research.google.com/github/{project}/blob/{branch}/chapters/{name}.ipynb" in links
        assert f"{base}/chapters/{name}.ipynb" in links
        assert f"{repository}/edit/{branch}/chapters/{name}.md" in links
        assert any(link.startswith(f"{repository}/issues/new") for link in links)
        source = ROOT / f"chapters/{name}.ipynb"
        assert (site / f"chapters/{name}.ipynb").read_bytes() == source.read_bytes()


def test_pages_tell_search_engines_what_they_are(site: Path, page: Page, base: str, pages: list[str], config: dict):
    for name in pages:
        if name in ("404.html", "genindex.html", "search.html"):
            continue
        page.goto(f"{base}/{name}")
        description = page.locator('meta[name="description"]')
        assert description.count() == 1 and 30 < len(description.get_attribute("content")) <= 200, name
        assert page.locator('link[rel="canonical"]').get_attribute("href") == config["html"]["baseurl"] + name
        assert page.locator("article h1").count() == 1, name


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
