"""A question before its result, as a reader meets it: with a mouse, with the keyboard, and where no script runs."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect


@pytest.fixture(scope="module")
def asking(site: Path, pages: list[str]) -> list[str]:
    """The pages that ask for a prediction."""
    return [name for name in pages if 'class="predict"' in (site / name).read_text("utf-8")]


def test_choosing_opens_the_result_and_marks_the_choice_only(page: Page, base: str, asking: list[str]):
    assert asking
    for name in asking:
        page.goto(f"{base}/{name}")
        for number in range(page.locator(".predict").count()):
            box = page.locator(".predict").nth(number)
            fold = page.locator(f"details[data-question={box.get_attribute('id')}]")
            result, options = fold.locator(".cell").first, box.get_by_role("button")
            expect(result).to_be_hidden()
            options.first.focus()
            page.keyboard.press("Tab")  # to the second option, which the keyboard then chooses
            page.keyboard.press("Enter")
            expect(result).to_be_visible()
            assert [button.get_attribute("aria-pressed") for button in options.all()].count("true") == 1
            expect(options.nth(1)).to_have_attribute("aria-pressed", "true")
            options.first.click()
            expect(options.first).to_have_attribute("aria-pressed", "true")
            expect(options.nth(1)).to_have_attribute("aria-pressed", "false")


def test_the_result_can_be_seen_without_choosing_and_without_a_script(browser: Browser, base: str, asking: list[str]):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    for name in asking:
        page.goto(f"{base}/{name}")
        for number in range(page.locator(".predict").count()):
            box = page.locator(".predict").nth(number)
            fold = page.locator(f"details[data-question={box.get_attribute('id')}]")
            assert box.locator("li").count() > 1 and not box.get_by_role("button").count()
            expect(fold.locator(".cell").first).to_be_hidden()
            fold.locator("summary").first.click()
            expect(fold.locator(".cell").first).to_be_visible()
    context.close()
