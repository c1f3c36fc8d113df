"""One Chromium and one server for all tests of the built site."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from lighthouse import CHROMIUM_FLAGS, chromium
from playwright.sync_api import Browser, Page, sync_playwright
from site_server import SITE, serving

ROOT = Path(__file__).resolve().parents[2]

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


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh page of a desktop window; animations are off, as some readers ask for."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    yield context.new_page()
    context.close()
