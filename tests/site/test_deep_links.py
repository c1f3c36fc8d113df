"""Every link to a place inside a page is followed, as a reader follows it: where does the window stand afterwards?"""

import json

import pytest
from conftest import PAGES
from playwright.sync_api import Browser

WIDTHS = {"desktop": (1440, 900), "phone": (380, 800)}

# Follows every link of a page that stays on it, each once from the text and once from the contents.
INSIDE = """async () => {
  const frames = async (n) => { for (let i = 0; i < n; i++) await new Promise(requestAnimationFrame); };
  const wrong = [], seen = new Set();
  for (const link of document.querySelectorAll("a[href^='#']:not([href='#'], .skip-link a, #jb-print-docs-body a)")) {
    const inContents = link.closest("#pst-page-toc-nav") !== null, name = link.getAttribute("href");
    if (seen.has(name + inContents) || !link.checkVisibility()) continue;
    seen.add(name + inContents);
    window.scrollTo(0, Math.min(300, document.documentElement.scrollHeight / 3));
    await frames(1);
    const before = scrollY;
    link.click();
    await frames(2);
    const complaint = landed(name);
    if (complaint) wrong.push(`${name}: ${complaint}`);
    const end = scrollY + innerHeight >= document.documentElement.scrollHeight - 2;
    if (inContents && innerWidth > 1000 && !end) {
      for (const late = Date.now() + 3000; Date.now() < late && !link.classList.contains("active");) await frames(1);
      if (!link.classList.contains("active")) {
        const shown = document.querySelector("#pst-page-toc-nav a.active");
        wrong.push(`${name}: the contents show ${shown?.hash ?? "nothing"}`);
      }
    }
    const back = new Promise((done) => addEventListener("popstate", done, {once: true}));
    history.back();
    await back;
    await frames(2);
    if (Math.abs(scrollY - before) > 2) wrong.push(`${name}: Back leads ${scrollY - before} px away`);
  }
  return wrong;
}"""

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
}"""


def visit(browser: Browser, width: str):
    size = WIDTHS[width]
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, reduced_motion="reduce")
    context.add_init_script(LANDED)
    return context, context.new_page()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_links_inside_a_page_lead_where_they_say(browser: Browser, base: str, name: str, width: str):
    context, page = visit(browser, width)
    page.goto(f"{base}/{name}", wait_until="networkidle")
    if width == "phone" and page.locator(".secondary-toggle").is_visible():
        for entry in range(page.locator("#pst-page-toc-nav > ul > li").count()):
            before = page.evaluate("scrollY")
            page.locator(".secondary-toggle").click()
            page.locator("#pst-page-toc-nav > ul > li > a").nth(entry).click()
            assert not page.locator("dialog[open]").count(), "the contents still cover the page"
            assert not page.evaluate("landed(location.hash)"), page.url
            page.go_back()
            page.wait_for_function(f"Math.abs(scrollY - {before}) < 3", timeout=5000)
    wrong = page.evaluate(INSIDE)
    context.close()
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("width", WIDTHS)
def test_links_to_places_in_other_pages_lead_there(browser: Browser, base: str, pages: list[str], width: str):
    """Each place once, from the first page that links to it; then back to where the reader was."""
    context, page = visit(browser, width)
    wrong, seen = {}, set()
    for name in pages:
        page.goto(f"{base}/{name}", wait_until="networkidle")
        links = page.eval_on_selector_all(
            "article a[href*='#']",
            "links => links.map(a => a.href).filter(h => h.startsWith(location.origin))")
        for address in dict.fromkeys(links):
            if address in seen or address.startswith(page.url.partition("#")[0] + "#"):
                continue
            seen.add(address)
            link = page.locator("article a[href]").and_(page.locator(f"[href$='{address.rpartition('/')[2]}']")).first
            link.evaluate("link => link.scrollIntoView({block: 'center'})")
            before = page.evaluate("scrollY")
            link.evaluate("link => link.click()")
            page.wait_for_url(address, wait_until="load")
            if complaint := page.evaluate("landed(location.hash)"):
                wrong[address] = f"from {name}: {complaint}"
            page.go_back(wait_until="load")
            page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
            away = page.evaluate("scrollY") - before
            if abs(away) > 2:
                wrong[f"{address} back"] = f"{away} px away in {name}"
    context.close()
    assert len(seen) > 10
    assert not wrong, json.dumps(wrong, indent=1)
