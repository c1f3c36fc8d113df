"""What stands around the chapters: previews, paper, old addresses, wrong ones, and what a page says of itself."""

import re
from pathlib import Path

import yaml
from conftest import LANDED, PAGES, ROOT
from playwright.sync_api import Browser, Page, expect
from test_site import Reader, text_of

MOVED = yaml.safe_load((ROOT / "book/moved.yml").read_text("utf-8"))
WRONG_WORDS = re.compile(
    r"\b(?:[Tt]he|[Aa]n?) (?:The|An?) \w+|(?<![\d.,])1 (?:threads|words|steps|cores|seconds|minutes)\b"
    r"|\d / %|\w'[a-z]{1,2}\b")
TERM = "article a[href*='glossary.html#term-']"


def test_every_address_that_was_ever_published_leads_somewhere(site: Path):
    """To the place itself or, by `book/moved.yml`, to where it is now; nothing forwards that is still there."""
    published = (ROOT / "tests/site/published.txt").read_text("utf-8").split()
    places = {page: Reader((site / page).read_text("utf-8")).anchors | {""} for page in PAGES}

    def is_there(address: str) -> bool:
        page, _, anchor = address.partition("#")
        return anchor in places.get(page, ())

    lost = [old for old in published if not is_there(MOVED.get(old, old))]
    assert not lost, f"say in book/moved.yml where these are now: {', '.join(lost)}"
    assert not [old for old, new in MOVED.items() if not is_there(new) or is_there(old)]


def test_old_addresses_forward(page: Page, base: str):
    """One for each page that forwards to another, or to another place of its own."""
    pairs = {(old.partition("#")[0], new.partition("#")[0]): (old, new) for old, new in MOVED.items()}
    assert any(old == new for old, new in pairs) and any(old != new for old, new in pairs)
    page.add_init_script(LANDED)
    for old, new in pairs.values():
        page.goto(f"{base}/{old}", wait_until="commit")
        page.wait_for_url(f"{base}/{new}", wait_until="load")
        page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        assert "#" not in new or not page.evaluate("landed(location.hash)"), old


def test_a_wrong_address_gets_a_page_that_helps(page: Page, base: str):
    answer = page.goto(f"{base}/chapters/nothing/at-all.html")
    assert answer.status == 404
    expect(page.locator("article h1")).to_have_text("There is no such page")
    page.get_by_role("link", name="contents").click()
    page.wait_for_url(f"{base}/book/index.html")


def test_a_link_shows_what_it_leads_to(page: Page, base: str):
    page.goto(f"{base}/chapters/rnn.html", wait_until="load")
    assert not page.evaluate("window.tippy"), "previews are loaded only when they are wanted"
    link = page.locator(TERM).first
    link.hover()
    expect(page.locator(".tippy-box .preview strong")).to_be_visible(timeout=15_000)
    page.keyboard.press("Escape")
    expect(page.locator(".tippy-box")).to_have_count(0)
    paper = page.locator("article a[href^='#id']").first
    paper.focus()
    expect(page.locator(".tippy-box .preview")).to_contain_text(re.compile(r"\b(19|20)\d\d[a-z]?\."), timeout=15_000)


def test_a_tap_shows_a_preview_and_a_second_tap_follows(browser: Browser, base: str):
    context = browser.new_context(viewport={"width": 380, "height": 800}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(f"{base}/chapters/rnn.html")
    link = page.locator(TERM).first
    address = link.evaluate("link => link.href")
    link.tap()
    preview = page.locator(".tippy-box .preview")
    expect(preview).to_be_visible(timeout=15_000)
    box = preview.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 380
    link.tap()
    page.wait_for_url(address)
    context.close()


def test_paper_is_light_and_complete(browser: Browser, base: str):
    context = browser.new_context(color_scheme="dark", viewport={"width": 800, "height": 1100})
    page = context.new_page()
    page.goto(f"{base}/chapters/teacher_forcing.html", wait_until="load")
    page.emulate_media(media="print", color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    ink = page.locator("article section > p").first.evaluate(
        "p => getComputedStyle(p).color.match(/[0-9]+/g).map(Number)")
    assert max(ink) < 100
    assert page.locator("article details:not([open])").count() == 0
    for frames in page.locator(".stepper-frames").all():
        assert all(frame.is_visible() for frame in frames.locator("> li").all())
    size = "nodes => nodes.map(node => parseFloat(getComputedStyle(node).fontSize))"
    claims = page.locator(".claim")
    assert claims.count() and min(claims.locator("p:first-child").evaluate_all(size)) > max(
        claims.locator(".claim-measured").evaluate_all(size))
    breaks = page.locator("article .cell_input pre").evaluate_all("""all => all.flatMap(node => {
        const found = [];
        for (let at = node; at.tagName !== "ARTICLE"; at = at.parentElement) {
          const style = getComputedStyle(at);
          if (style.breakInside === "avoid" || style.overflowY !== "visible") found.push(at.className);
        }
        return found;
      })""")
    assert not breaks, set(breaks)
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("article details[open]").count() == 0
    context.close()


def test_pages_say_what_they_are_where_they_are_shared(site: Path, pages: list[str], config: dict):
    descriptions = {}
    for name in pages:
        text = (site / name).read_text("utf-8")
        if name in ("404.html", "genindex.html", "search.html"):
            continue
        said = dict(re.findall(r'<meta property="(og:\w+)" content="([^"]*)"', text))
        assert said["og:url"] == config["html"]["baseurl"] + name
        image = said["og:image"].removeprefix(config["html"]["baseurl"])
        assert (site / image).is_file()
        description = descriptions[name] = said["og:description"]
        assert description.endswith((".", "?", "!")) and "…" not in description, f"{name}: {description}"
    assert len(descriptions) > 10
    assert len(set(descriptions.values())) == len(descriptions), "two pages say the same of themselves"


def test_notebook_links_download(site: Path, chapters: list[str]):
    for name in chapters:
        assert f'<a href="{name}.ipynb" download' in (site / f"chapters/{name}.html").read_text("utf-8"), name


def test_other_languages_are_marked(site: Path, pages: list[str]):
    for name in pages:
        text = re.sub(r"<(script|style|pre|code)\b.*?</\1>", "", (site / name).read_text("utf-8"), flags=re.DOTALL)
        bare = re.sub(r'<(\w+)[^>]* lang="zh[^>]*>[^<]*</\1>', "", text.partition("<article")[2])
        assert not re.search("[\u3400-\u9fff]", re.sub("<[^>]*>", "", bare)), name
    assert 'lang="fr"' in (site / "book/data.html").read_text("utf-8")


def test_words_that_a_machine_puts_together_read_well(site: Path, pages: list[str]):
    """Titles in the middle of a sentence, numbers before their nouns, apostrophes."""
    wrong = []
    for name in pages:
        article = (site / name).read_text("utf-8").partition("<article")[2].rpartition("</article>")[0]
        wrong += [f"{name}: {found[0]}" for found in re.finditer(r'data-label="[^"]*\\[(\[][^"]*"', article)]   # TeX
        article = re.sub(r"<(script|style|pre|code|mjx-container|td|svg)\b.*?</\1>", " ", article, flags=re.DOTALL)
        text = " ".join(text_of("<article" + article).split())
        wrong += [f"{name}: {found[0]}" for found in WRONG_WORDS.finditer(text)]
    assert not wrong, "\n".join(wrong)
