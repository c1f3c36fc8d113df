"""Take the README's picture of the built landing page: `python tools/screenshot.py`."""

import sys

from frontend import ROOT
from lighthouse import CHROMIUM_FLAGS, chromium
from playwright.sync_api import sync_playwright
from site_server import SITE, serving

PICTURE = ROOT / "book/static/screenshot.png"
LIMIT = 300_000  # bytes


def main() -> None:
    if not (SITE / "index.html").is_file():
        sys.exit("There is no built site yet: run `make book` first.")
    flags = [flag for flag in CHROMIUM_FLAGS.split() if flag != "--headless"]
    with serving() as base, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=flags)
        page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme="light", reduced_motion="reduce")
        page.goto(f"{base}/book/index.html", wait_until="networkidle")
        page.screenshot(path=PICTURE)
        browser.close()
    size = PICTURE.stat().st_size
    print(f"{PICTURE.relative_to(ROOT)}: {size:,} bytes")
    if size > LIMIT:
        sys.exit(f"That is over {LIMIT:,} bytes.")


if __name__ == "__main__":
    main()
