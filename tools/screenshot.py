"""Take the README's picture of the built landing page, and draw the card that goes with a link to the book:
`python tools/screenshot.py`.
"""

import sys

from frontend import ROOT
from light_pages import FONT
from lighthouse import CHROMIUM_FLAGS, chromium
from playwright.sync_api import sync_playwright
from site_server import SITE, serving

PICTURE = ROOT / "book/static/screenshot.png"
CARD = ROOT / "book/static/card.png"
CARD_HTML = """<style>
  @font-face {{ font-family: Serif4; src: url({base}/{font}); font-weight: 200 900; }}
  body {{ margin: 0; width: 1200px; height: 630px; display: grid; grid-template-columns: 400px 1fr; align-items: center;
         background: #fff; color: #23272c; font-family: Serif4;
         border-bottom: 14px solid #0b5a8a; box-sizing: border-box; }}
  img {{ width: 260px; margin-left: 90px; }} h1 {{ font-size: 86px; line-height: 1.05; font-weight: 640; margin: 0; }}
  p {{ font-size: 38px; line-height: 1.3; margin: 26px 60px 0 0; color: #56616d; }}
</style><img src="{base}/_static/logo.svg"><div><h1>Sequence to Sequence</h1>
<p>An executable book: its figures and numbers come from running it.</p></div>"""
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
        page.set_viewport_size({"width": 1200, "height": 630})
        page.set_content(CARD_HTML.format(base=base, font=FONT), wait_until="networkidle")
        page.screenshot(path=CARD)
        browser.close()
    for picture in (PICTURE, CARD):
        size = picture.stat().st_size
        print(f"{picture.relative_to(ROOT)}: {size:,} bytes")
        if size > LIMIT:
            sys.exit(f"That is over {LIMIT:,} bytes.")


if __name__ == "__main__":
    main()
