"""The search of the built site: does it find the section that answers?"""

from pathlib import Path

from playwright.sync_api import Page, expect


def ask(page: Page, text: str) -> list[dict[str, str]]:
    """The answers in the search window, opened by its keys."""
    page.wait_for_load_state("networkidle")   # the theme's script has attached its keys
    if not page.locator("#pst-search-dialog[open]").count():
        page.keyboard.press("Control+k")
    field = page.locator("#pst-search-dialog input")
    field.fill(text)
    status = page.locator("#pst-search-dialog .hits-status")
    expect(status).to_have_attribute("data-asked", text, timeout=20_000)
    return page.eval_on_selector_all(
        "#pst-search-dialog .hits li",
        "hits => hits.map(hit => ({href: hit.querySelector('a').href, title: hit.querySelector('strong').textContent, "
        "text: hit.textContent}))")


def test_answers_name_and_open_the_section(page: Page, base: str):
    page.goto(f"{base}/chapters/rnn.html")
    hits = ask(page, "padding mask")
    assert hits and all("#" in hit["href"] and hit["title"] for hit in hits)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url(hits[0]["href"])
    target = page.locator(f"[id='{hits[0]['href'].partition('#')[2]}']")
    assert 0 < target.bounding_box()["y"] < 130


def test_words_are_found_as_words_and_names_as_names(page: Page, base: str):
    page.goto(f"{base}/chapters/rnn.html")
    for hit in ask(page, "exposure bias"):
        assert "bias_ih" not in hit["text"], hit
    assert ask(page, "exposure bias")[0]["title"].lower() == "exposure bias", "prose comes before code"
    for name in ("bias_ih_l0", "greedy_search", "src_padding"):
        hits = ask(page, name)
        assert hits and all(name in hit["text"] for hit in hits[:3]), name
    assert ask(page, "greedy_sea"), "the beginning of a name is enough"


def test_the_search_page_answers_too(page: Page, base: str):
    page.goto(f"{base}/search.html?q=encoder")
    expect(page.locator(".hits a").first).to_be_visible(timeout=20_000)
    assert all("#" in link for link in page.eval_on_selector_all(".hits a", "all => all.map(a => a.href)"))


def test_search_fits_a_phone(page: Page, base: str):
    page.set_viewport_size({"width": 380, "height": 800})
    page.goto(f"{base}/chapters/rnn.html", wait_until="networkidle")
    page.locator(".search-button:visible").click()
    page.keyboard.type("padding")
    expect(page.locator("#pst-search-dialog .hits a").first).to_be_visible(timeout=20_000)
    box = page.locator("#pst-search-dialog").bounding_box()
    assert box["x"] >= 0 and box["y"] >= 0 and box["x"] + box["width"] <= 380 and box["y"] + box["height"] <= 800


def test_search_in_files_keeps_the_old_way(page: Page, site: Path):
    page.goto((site / "search.html").as_uri() + "?q=encoder")
    expect(page.locator("#search-results li a").first).to_be_visible(timeout=10_000)
