"""One Chromium and one server for all tests of the built site; a page is loaded once for all that is asked of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from lighthouse import CHROMIUM_FLAGS, chromium
from playwright.sync_api import Browser, Page, sync_playwright
from site_server import SITE, serving

ROOT = Path(__file__).resolve().parents[2]
WIDTHS = {"desktop": (1440, 900), "phone": (380, 800)}

# What is wrong with where the window stands after a jump to `hash`, or nothing. At a page's end a target may be lower.
LANDED = """window.landed = (hash) => {
  const target = document.getElementById(decodeURIComponent(hash.slice(1)));
  if (!target) return "there is no such place";
  if (!target.checkVisibility()) return "the place is hidden";
  const place = target.getBoundingClientRect(), header = document.querySelector(".bd-header-article");
  const top = header ? header.getBoundingClientRect().bottom : 0;
  const end = scrollY + innerHeight >= document.documentElement.scrollHeight - 2;
  if (place.top < top - 1) return `it is ${Math.round(top - place.top)} px above the window`;
  if (place.top > (end ? innerHeight - 10 : top + 60)) return `it is ${Math.round(place.top - top)} px too low`;
}
// The reader's way back; a browser that does not go says so by where it still stands, and nobody waits for ever.
window.goBack = async () => {
  const gone = new Promise((done) => addEventListener("popstate", done, {once: true}));
  history.back();
  await Promise.race([gone, new Promise((done) => setTimeout(done, 3000))]);
}"""

# A change of width lets the sidebars slide into place, which moves the text: a test begins when they have arrived. The
# second is for what never ends, such as an animation that somebody has paused.
SETTLED = """async () => {
  const arrived = async () => {
    await new Promise(requestAnimationFrame);
    await Promise.allSettled(document.getAnimations().map((animation) => animation.finished));
  };
  await Promise.race([arrived(), new Promise((done) => setTimeout(done, 1000))]);
}"""

# Every page's path inside the site, less the one-line page that sends `/` to the landing page.
PAGES = sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html") if path != SITE / "index.html")


@pytest.fixture(scope="session")
def site() -> Path:
    """The built site's folder."""
    if not (SITE / "index.html").is_file():
        pytest.fail("There is no built site to test: run `make book` first.")
    return SITE


@pytest.fixture(scope="session")
def pages(site: Path) -> list[str]:
    return PAGES


@pytest.fixture(scope="session")
def chapters(site: Path) -> list[str]:
    return sorted(path.stem for path in (ROOT / "chapters").glob("*.md"))


@pytest.fixture(scope="session")
def config() -> dict:
    return yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))


@pytest.fixture(scope="session")
def base(site: Path) -> Iterator[str]:
    """The address the site is served at."""
    with serving(site) as address:
        yield address


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    flags = [flag for flag in CHROMIUM_FLAGS.split() if flag != "--headless"]
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium(), args=flags)
        yield launched
        launched.close()


@dataclass
class Opened:
    """A page that is loaded once, for every test of it; each test sets the width and the colours that it needs."""

    name: str
    text: str
    page: Page
    problems: list[str]

    def at(self, width: str, scheme: str = "light") -> Page:
        self.page.set_viewport_size(dict(zip(("width", "height"), WIDTHS[width], strict=True)))
        self.page.emulate_media(color_scheme=scheme)
        self.page.evaluate("scheme => { document.documentElement.dataset.theme = scheme; }", scheme)
        self.page.evaluate(SETTLED)
        return self.page


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


# pytest asks all that it has to ask of one page before it goes on to the next.
@pytest.fixture(scope="session", params=PAGES)
def opened(request: pytest.FixtureRequest, browser: Browser, base: str, site: Path) -> Iterator[Opened]:
    context = browser.new_context(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
    page = context.new_page()
    problems = watch(page, base)
    page.add_init_script(LANDED)
    page.goto(f"{base}/{request.param}", wait_until="networkidle")
    yield Opened(request.param, (site / request.param).read_text("utf-8"), page, problems)
    context.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh page of a desktop window; animations are off, as some readers ask for."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    yield context.new_page()
    context.close()
