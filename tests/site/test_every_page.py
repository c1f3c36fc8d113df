"""What holds on every page, asked of one loaded page after the other: looks, links, widgets, questions."""

import json

import pytest
from conftest import LANDED, PAGES, ROOT, WIDTHS, Opened
from playwright.sync_api import Browser, Page, expect
from test_site import Reader

AXE = ROOT / "_build/npm/node_modules/axe-core/axe.min.js"
SCHEMES = {"light": {}, "dark": {"runOnly": ["color-contrast", "link-in-text-block"]}}   # in the dark colours differ

# Follows every link of a page that stays on it, each once from the text and once from the contents, and goes back; then
# jumps to each place that other pages link to.
INSIDE = """async (others) => {
  const frames = async (n) => { for (let i = 0; i < n; i++) await new Promise(requestAnimationFrame); };
  const wrong = [], seen = new Set();
  for (const link of document.querySelectorAll("a[href^='#']:not([href='#'], .skip-link a, #jb-print-docs-body a)")) {
    const inContents = link.closest("#pst-page-toc-nav") !== null, name = link.getAttribute("href");
    if (seen.has(name + inContents) || !link.checkVisibility()) continue;
    seen.add(name + inContents);
    window.scrollTo(0, Math.min(300, document.documentElement.scrollHeight / 3));
    await frames(1);   // the browser notes where the reader is
    const before = scrollY;
    link.click();
    await frames(1);
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
    await goBack();
    await frames(2);
    if (Math.abs(scrollY - before) > 2) wrong.push(`${name}: Back leads ${scrollY - before} px away`);
  }
  for (const name of others.filter((name) => !seen.has(name + false))) {
    window.scrollTo(0, 0);
    location.hash = name;
    await frames(1);
    const complaint = landed(name);
    if (complaint) wrong.push(`${name}, from another page: ${complaint}`);
  }
  history.replaceState(null, "", location.pathname);
  window.scrollTo(0, 0);
  return wrong;
}"""

# On a phone the contents cover the page: every entry closes them and leads to its section.
CONTENTS = """async () => {
  const frames = async (n) => { for (let i = 0; i < n; i++) await new Promise(requestAnimationFrame); };
  const wrong = [], toggle = document.querySelector(".secondary-toggle");
  if (!toggle?.checkVisibility()) return wrong;
  for (const entry of document.querySelectorAll("#pst-page-toc-nav a")) {
    const before = scrollY;
    toggle.click();
    const opened = document.querySelector("dialog[open] #pst-page-toc-nav") !== null;
    if (!opened) { wrong.push(`${entry.hash}: the button opens no contents`); break; }
    entry.click();
    await frames(1);
    if (document.querySelector("dialog[open]")) wrong.push(`${entry.hash}: the contents still cover the page`);
    const complaint = landed(entry.hash);
    if (complaint) wrong.push(`${entry.hash}: ${complaint}`);
    await goBack();
    await frames(2);
    if (Math.abs(scrollY - before) > 2) wrong.push(`${entry.hash}: Back leads ${scrollY - before} px away`);
  }
  return wrong;
}"""

# A widget's buttons and slider: which frames are seen, and what a screen reader hears, after each.
WIDGET = """(stepper) => {
  const frames = [...stepper.querySelectorAll(".stepper-frames > li")];
  const slider = stepper.querySelector("input[type=range]"), buttons = [...stepper.querySelectorAll("button")];
  const wrong = frames.length > 1 ? [] : ["it has one frame"];
  const shows = (step, what) => {
    const seen = frames.flatMap((frame, i) => frame.checkVisibility() ? [i + 1] : []);
    const heard = slider.getAttribute("aria-valuetext");
    if (String(seen) !== String(step)) wrong.push(`${what}: frames ${seen} and not ${step}`);
    if (heard !== `step ${step} of ${frames.length}`) wrong.push(`${what}: ${heard}`);
  };
  const press = (name) => buttons.find((button) => (button.ariaLabel ?? button.textContent).includes(name)).click();
  const slide = (step) => { slider.value = step; slider.dispatchEvent(new Event("input", {bubbles: true})); };
  shows(1, "at first");
  press("Next"); shows(2, "Next");
  press("Back"); shows(1, "Back");
  slide(frames.length); shows(frames.length, "slider");
  slide(1); shows(1, "slider back");
  return wrong;
}"""


@pytest.fixture(scope="session")
def linked(site) -> dict[str, list[str]]:
    """For each page, the places in it that other pages link to."""
    found: dict[str, dict[str, None]] = {name: {} for name in PAGES}
    for name in PAGES:
        for address in Reader((site / name).read_text("utf-8")).addresses(name):
            target, _, anchor = address.partition("#")
            if anchor and target != name and target in found:
                found[target][f"#{anchor}"] = None
    return {name: list(places) for name, places in found.items()}


def test_every_image_has_a_text_alternative(opened: Opened):
    assert not Reader(opened.text).no_alternative
    assert not opened.page.evaluate(
        """() => Array.from(document.querySelectorAll('article svg')).filter(svg =>
             !svg.closest('[aria-hidden=true], [role=img][aria-label], a, button')
             && !svg.getAttribute('aria-label') && !svg.querySelector('title'))
             .map(svg => svg.outerHTML.slice(0, 80))""")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_accessibility(opened: Opened, scheme: str):
    page = opened.at("desktop", scheme)
    if not page.evaluate("'axe' in window"):
        page.add_script_tag(path=AXE)
    options = {"resultTypes": ["violations"], "preload": False, **SCHEMES[scheme]}
    result = page.evaluate("options => axe.run(document, options)", options)
    opened.at("desktop")
    serious = [f"{rule['id']}: {node['html'][:160]} ({node['failureSummary'][:300]})"
               for rule in result["violations"] if rule["impact"] in ("serious", "critical")
               for node in rule["nodes"][:5]]  # fmt: skip
    assert not serious, json.dumps(serious, indent=1)


def test_no_page_scrolls_sideways_on_a_phone(opened: Opened):
    page = opened.at("phone")
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 380, page.evaluate(
        """() => Array.from(document.querySelectorAll('article *')).filter(e =>
             e.getBoundingClientRect().right > 381).slice(0, 5).map(e => e.outerHTML.slice(0, 100))""")


@pytest.mark.parametrize("width", WIDTHS)
def test_links_to_places_lead_there(opened: Opened, linked: dict[str, list[str]], width: str):
    page = opened.at(width)
    wrong = page.evaluate(CONTENTS) if width == "phone" else []
    wrong += page.evaluate(INSIDE, linked[opened.name])
    assert not wrong, "\n".join(wrong)


def test_widgets_answer_to_mouse_and_keyboard(opened: Opened):
    """Each to its buttons and its slider; the first, as they are all made alike, to keys too."""
    page = opened.at("desktop")
    steppers = page.locator(".stepper")
    wrong = [complaint for stepper in steppers.all() for complaint in stepper.evaluate(WIDGET)]
    assert not wrong, "\n".join(wrong)
    if steppers.count():
        frames, slider = steppers.first.locator(".stepper-frames > li"), steppers.first.get_by_role("slider")
        slider.focus()
        for key, step in {"ArrowRight": 2, "End": frames.count(), "Home": 1}.items():
            page.keyboard.press(key)
            expect(frames.nth(step - 1)).to_be_visible()
            assert slider.get_attribute("aria-valuetext") == f"step {step} of {frames.count()}"
        steppers.first.get_by_role("button", name="Play").focus()
        page.keyboard.press("Enter")
        expect(slider).to_have_value("2", timeout=5000)


def test_choosing_opens_the_result_and_marks_the_choice_only(opened: Opened):
    page = opened.at("desktop")
    for number, box in enumerate(page.locator(".predict").all()):
        fold = page.locator(f"details[data-question={box.get_attribute('id')}]")
        result, options = fold.locator(".cell").first, box.get_by_role("button")
        expect(result).to_be_hidden()
        if number == 0:
            options.first.focus()
            page.keyboard.press("Tab")  # to the second option, which the keyboard then chooses
            page.keyboard.press("Enter")
        else:
            options.nth(1).click()
        expect(result).to_be_visible()
        pressed = "buttons => buttons.map(button => button.ariaPressed)"
        assert options.evaluate_all(pressed) == ["true" if i == 1 else "false" for i in range(options.count())]
        options.first.click()
        assert options.evaluate_all(pressed) == ["true" if i == 0 else "false" for i in range(options.count())]


def test_sounds_are_files_of_the_site_that_play(opened: Opened):
    page = opened.at("desktop")
    for sound in page.locator("article audio").all():
        path, found, seconds, at = sound.evaluate("""async (audio) => {
          const answer = await fetch(audio.src);
          audio.muted = true;
          await audio.play();
          for (const late = Date.now() + 5000; Date.now() < late && !audio.currentTime;)
            await new Promise(requestAnimationFrame);
          audio.pause();
          return [new URL(audio.src).pathname, answer.ok, audio.duration, audio.currentTime];
        }""")
        assert "/_static/sounds/" in path and found and seconds > 0.5 and at > 0, (path, found, seconds, at)


def test_nothing_went_wrong_and_no_other_host_was_asked(opened: Opened):
    """The last test of a page: it hears of what happened in those before, too."""
    assert not opened.problems, json.dumps(opened.problems, indent=1)


@pytest.mark.parametrize("width", WIDTHS)
def test_links_to_places_in_other_pages(browser: Browser, base: str, site, width: str):
    """From the first page that links to a place in another, once for each other; then back to where the reader was."""
    size = WIDTHS[width]
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, reduced_motion="reduce")
    context.add_init_script(LANDED)
    page = context.new_page()
    wrong, seen = {}, set()
    for name in PAGES:
        for address in Reader((site / name).read_text("utf-8")).addresses(name):
            target, _, anchor = address.partition("#")
            if target not in PAGES or target in seen or target == name or not anchor:
                continue
            if not follow(page, f"{base}/{name}", f"{base}/{address}", wrong):
                continue
            seen.add(target)
    context.close()
    assert len(seen) > 5
    assert not wrong, json.dumps(wrong, indent=1)


def follow(page: Page, start: str, address: str, wrong: dict[str, str]) -> bool:
    """Click the link in the text of `start` that leads to `address`, and come back; False if the text has none."""
    if page.url != start:
        page.goto(start)
    links = page.locator("article a[href]").and_(page.locator(f"[href$='{address.rpartition('/')[2]}']"))
    if not links.count():
        return False
    links.first.evaluate("link => link.scrollIntoView({block: 'center'})")
    before = page.evaluate("scrollY")
    links.first.evaluate("link => link.click()")
    page.wait_for_url(address, wait_until="load")
    if complaint := page.evaluate("landed(location.hash)"):
        wrong[address] = f"from {start}: {complaint}"
    page.go_back(wait_until="load")
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    if abs(away := page.evaluate("scrollY") - before) > 2:
        wrong[f"{address} back"] = f"{away} px away in {start}"
    return True
