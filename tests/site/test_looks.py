"""Do the book's components look as they did? Pictures of them lie in `looks/`; `make looks` takes them anew.

They are taken of a small book without anything trained (looks.py), in the font that the site brings, so that they
change when somebody changes how pages look and at no other time. Machines draw the edges of letters differently, so
pictures are compared when both are shrunk: what counts is where things are and what colour they have.
"""

import os
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import looks
import pytest
from conftest import ROOT
from filelock import FileLock
from lighthouse import CHROMIUM_FLAGS, chromium
from PIL import Image, ImageChops, ImageFilter
from playwright.sync_api import Browser, Page
from site_server import serving

KEPT = Path(__file__).with_name("looks")
NEW = ROOT / "_build/looks"
RENEW = os.environ.get("LOOKS") == "renew"
SHRINK = 8          # times, before two pictures are compared
TOLERANCE = 26      # of 255: how much a colour may differ
DIFFERENT = 0.004   # the share of a picture that may differ by more

CHAPTER, LANDING = "chapters/components.html", "book/index.html"
# Name -> page, and the elements shown: from the top of the first to the end of the last.
SHOWN = {
    "landing": (LANDING, ".hero", ".hero"),
    "landing-result": (LANDING, ".landing-result", ".landing-result"),
    "landing-path": (LANDING, ".path", ".path"),
    "chapter-head": (CHAPTER, "body", "article .cost-card"),
    "text": (CHAPTER, "#words-and-formulas > h2", "#words-and-formulas > details"),
    "figure": (CHAPTER, "#fig-looks", "#fig-looks"),
    "code": (CHAPTER, "#code-and-what-it-prints > h2", "#code-and-what-it-prints > div.cell:nth-of-type(1)"),
    "widget": (CHAPTER, ".stepper", ".stepper"),
    "explorer": (CHAPTER, ".explorer", ".explorer"),
    "table": (CHAPTER, "#what-was-measured table:not(.results)", "#what-was-measured table:not(.results)"),
    "dots": (CHAPTER, ".dots", ".dots"),
    "results": (CHAPTER, "table.results", "table.results"),
    "claim": (CHAPTER, ".claim", ".claim"),
    "claims": ("book/claims.html", "section section", "section section"),
    "predict": (CHAPTER, ".predict", "details.predicted"),
    "exercise": (CHAPTER, ".exercise", "#to-work-on > details:last-of-type"),
    "search": ("search.html?q=colours", "main form", "main ol.hits"),
    "references": (CHAPTER, "#references > h2", "div.citation"),
    "print": (CHAPTER, "#code-and-what-it-prints", ".exercise"),
}
# Letters in the site's own font, whatever the machine has; what differs from build to build is hidden.
STYLE = """
@font-face {
  font-family: Looks;
  src: url("/frontend/fonts/source-serif-4-latin-wght-normal.woff2");
  font-weight: 200 900;
}
*:not([class*="fa-"], mjx-container *), td::before { font-family: Looks !important; font-style: normal !important; }
html { scroll-behavior: auto !important; }
.bd-links, .bd-sidebar-secondary .sidebar-secondary-item { visibility: hidden; }
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the small book, which the first of several processes builds for all."""
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    with FileLock(folder / "looks.lock"):
        site = folder / "looks/_build/html"
        if not (site / "chapters/components.html").is_file():
            looks.make(folder / "looks")
    with serving(site) as address:
        yield address


def take(page: Page, home: str, name: str, style: str = "html {}") -> Image.Image:
    """A picture of one component, with more style where one is given."""
    address, first, last = SHOWN[name]
    page.emulate_media(media="print" if name == "print" else "screen")
    if page.url != f"{home}/{address}":
        page.goto(f"{home}/{address}", wait_until="networkidle")
        page.add_style_tag(content=STYLE)
        page.evaluate("document.fonts.load('16px Looks').then(() => document.fonts.ready)")
    more = page.add_style_tag(content=style)
    above = page.locator(first).first.bounding_box()
    below = page.locator(last).last.bounding_box()
    if above is None or below is None:
        raise AssertionError(f"{name}: {first if above is None else last} is not on {address}")
    left, top = max(0, above["x"] - 8), max(0, above["y"] - 8)
    right = min(page.viewport_size["width"], above["x"] + above["width"] + 8)
    clip = {"x": left, "y": top, "width": right - left, "height": below["y"] + below["height"] + 8 - top}
    picture = page.screenshot(full_page=True, clip=clip, animations="disabled")
    more.evaluate("element => element.remove()")
    return Image.open(BytesIO(picture)).convert("RGB")


def difference(one: Image.Image, other: Image.Image) -> float:
    """The share of two pictures that looks different, 1.0 where they are not of one size."""
    if max(abs(one.width - other.width), abs(one.height - other.height)) > 4:
        return 1.0
    size = max(1, other.width // SHRINK), max(1, other.height // SHRINK)
    small = [image.filter(ImageFilter.BoxBlur(2)).resize(size, Image.Resampling.BOX) for image in (one, other)]
    bands = ImageChops.difference(*small).split()
    worst = ImageChops.lighter(ImageChops.lighter(bands[0], bands[1]), bands[2])
    return sum(worst.histogram()[TOLERANCE:]) / (size[0] * size[1])


def kept(name: str, width: int, scheme: str = "light") -> Image.Image:
    return Image.open(KEPT / f"{name}-{width}-{scheme}.png").convert("RGB")


def opened(browser: Browser, width: int, scheme: str) -> Page:
    return browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce",
                               device_scale_factor=1).new_page()  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [380, 1440])
def test_components_look_as_they_did(browser: Browser, home: str, width: int, scheme: str):
    page, changed = opened(browser, width, scheme), []
    for name in SHOWN:
        now, file = take(page, home, name), f"{name}-{width}-{scheme}.png"
        if RENEW:
            now.quantize(96, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(KEPT / file, optimize=True)
        elif (share := difference(now, kept(name, width, scheme))) > DIFFERENT:
            NEW.mkdir(parents=True, exist_ok=True)
            now.save(NEW / file)
            changed.append(f"{file} ({share:.1%})")
    page.context.close()
    assert not changed, (f"These look different from tests/site/looks: {', '.join(changed)}. Look at the new ones in "
                         "_build/looks; if they are as they should be, `make looks` keeps them.")  # fmt: skip


@pytest.mark.skipif(RENEW, reason="the pictures are being taken")
def test_another_drawing_of_letters_is_no_difference(browser: Browser, home: str):
    """As on other machines: no hinting, no smoothing to sub-pixels, letters at whole pixels."""
    flags = [flag for flag in CHROMIUM_FLAGS.split() if flag != "--headless" and "hinting" not in flag]
    other = ["--font-render-hinting=full", "--disable-font-subpixel-positioning", "--disable-lcd-text"]
    another = browser.browser_type.launch(executable_path=chromium(), args=[*flags, *other])
    page = opened(another, 380, "light")
    style = "* { text-rendering: geometricPrecision !important; }"
    found = {name: difference(take(page, home, name, style), kept(name, 380)) for name in SHOWN}
    another.close()
    assert {name: share for name, share in found.items() if share > DIFFERENT} == {}


# What somebody may do without noticing: the component, a selector and a declaration.
MISTAKES = {
    "a moved slider": ("widget", ".stepper-controls input", "margin-left: 2rem"),
    "bars gone": ("explorer", ".explorer-source b", "visibility: hidden"),
    "no buttons": ("widget", ".stepper-controls button", "visibility: hidden"),
    "a claim without its colour": ("claim", ".bd-article .claim", "background: none; border-color: grey"),
    "a claim without its line": ("claim", ".bd-article .claim", "border-left-color: transparent"),
    "an option missing": ("predict", ".predict li:last-child", "visibility: hidden"),
    "an exercise indented": ("exercise", ".bd-article .exercise", "transform: translateX(12px)"),
    "a row missing": ("table", ".bd-article table tbody tr:last-child", "visibility: hidden"),
    "numbers moved": ("results", ".bd-article table.results td", "padding-left: 10px"),
    "dots gone": ("dots", ".dots-track :is(i, b, s)", "visibility: hidden"),
    "a button gone": ("landing", ".hero .button.primary", "visibility: hidden"),
    "a shorter bar": ("landing-result", ".bars div:last-child span", "transform: scaleY(.8)"),
    "a larger title": ("chapter-head", ".bd-article h1", "font-size: 2.6rem"),
    "code without its ground": ("code", ".bd-article div.highlight, .bd-article div.highlight pre", "background: red"),
}


@pytest.mark.skipif(RENEW, reason="the pictures are being taken")
@pytest.mark.parametrize("width", [380, 1440])
def test_mistakes_are_seen(browser: Browser, home: str, width: int):
    page, missed = opened(browser, width, "light"), {}
    for what, (name, selector, declaration) in MISTAKES.items():
        style = f"{selector} {{ {declaration.replace(';', ' !important;')} !important }}"
        share = difference(take(page, home, name, style), kept(name, width))
        if share <= DIFFERENT:
            missed[what] = f"{share:.2%}"
    page.context.close()
    assert not missed


@pytest.mark.skipif(RENEW, reason="the pictures are being taken")
def test_pictures_are_small_and_all_are_used():
    kept = list(KEPT.glob("*.png"))
    assert {path.stem for path in kept} == {f"{name}-{width}-{scheme}" for name in SHOWN for width in (380, 1440)
                                            for scheme in ("light", "dark")}  # fmt: skip
    assert sum(path.stat().st_size for path in kept) < 1_500_000


@pytest.mark.parametrize("width", [380, 1440])
def test_parts_are_where_they_belong(browser: Browser, home: str, width: int):
    """What a picture would not tell a machine: the number below its equation, no code cut, no button alone."""
    page = opened(browser, width, "light")
    page.goto(f"{home}/{CHAPTER}")
    equation = page.locator("div.math mjx-container").first.bounding_box()
    number = page.locator("div.math .eqno").first.bounding_box()
    if width == 380:
        assert number["y"] >= equation["y"] + equation["height"]
        assert page.locator("table.results thead").bounding_box()["width"] <= 1        # cards name their cells
        assert '"PER"' in page.evaluate(
            "getComputedStyle(document.querySelector('table.results td:nth-child(2)'), '::before').content")
    else:
        assert number["x"] >= equation["x"] + equation["width"]
        page.evaluate("for (const fold of document.querySelectorAll('article details')) fold.open = true")
        cut = page.evaluate("""() => [...document.querySelectorAll("div.cell_input pre")].filter(
            pre => pre.offsetParent && pre.scrollWidth > pre.clientWidth).map(pre => pre.textContent)""")
        assert cut == []                                                               # 88 columns fit
    page.goto(f"{home}/{LANDING}")
    rows = [page.locator(".hero .button").nth(i).bounding_box()["y"] for i in range(2)]
    assert rows[0] == rows[1]
    assert page.locator(".navbar-brand .logo__title").first.text_content().strip() == "Sequence to Sequence"
    page.context.close()


def test_a_widget_needs_no_kernel_and_answers_to_arrows(page: Page, home: str):
    page.goto(f"{home}/{CHAPTER}")
    assert "widget-state" not in page.content() and "embed-amd" not in page.content()
    spelled = page.get_by_role("group", name="Spell a word")
    frames = spelled.locator(".stepper-frames > li")
    spelled.locator(".stepper-frames").focus()                    # not the slider: the frames themselves
    for key, text in {"ArrowRight": "6 letters: k, n, i, g, h, t", "ArrowLeft": "3 letters: b, o, x",
                      "End": "6 letters", "Home": "3 letters"}.items():  # fmt: skip
        page.keyboard.press(key)
        assert text in frames.locator("visible=true").inner_text()
    page.keyboard.press("Control+ArrowRight")                     # the browser's own keys stay the browser's
    assert "3 letters" in frames.locator("visible=true").inner_text()


def test_pages_that_are_no_notebooks_offer_none(page: Page, home: str):
    for name in ("book/results.html", "book/claims.html", "book/systems.html", LANDING):
        page.goto(f"{home}/{name}")
        assert page.locator(".article-header-buttons a[href*='colab']").count() == 0, name
    page.goto(f"{home}/{CHAPTER}")
    assert page.locator(".article-header-buttons a[href*='colab']").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_without_scripts_colours_and_borders_stay(browser: Browser, home: str, scheme: str):
    context = browser.new_context(java_script_enabled=False, color_scheme=scheme)
    page = context.new_page()
    page.goto(f"{home}/{CHAPTER}")
    parts = {"color": "article p a", "borderLeftColor": ".claim", "backgroundColor": ".predict"}
    style = {name: page.locator(selector).first.evaluate(f"element => getComputedStyle(element).{name}")
             for name, selector in parts.items()}  # fmt: skip
    assert style == {"color": "rgb(11, 90, 138)", "borderLeftColor": "rgb(0, 104, 75)",
                     "backgroundColor": "rgb(251, 239, 231)"}  # fmt: skip
    context.close()
