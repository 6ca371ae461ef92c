"""The page in a real browser, on a phone, a desk and paper. Skipped where Chromium or Playwright are not installed."""

import shutil

import pytest
from test_report import EVENTS, TINY, make_long_run

from spikewise.engine.loop import train
from spikewise.report.report import write_report

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore::DeprecationWarning")]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def browser():
    pytest.importorskip("plotly", reason="the page carries Plotly's script")
    playwright = pytest.importorskip("playwright.sync_api", reason="drives the browser")
    if CHROMIUM is None:
        pytest.skip("no Chromium here (Debian: apt install chromium)")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """The report of a run of images, one of events, and one of 3,000 epochs made by hand."""
    folder = tmp_path_factory.mktemp("browser")
    train(TINY, folder / "images", quiet=True)
    train(EVENTS, folder / "events", quiet=True)
    return write_report([folder / "images", folder / "events", make_long_run(folder / "long")]).file


@pytest.fixture
def opened(browser, file, request):
    """The page, drawn, at the width and theme of the test's parameter; at its end nothing may have gone wrong."""
    width, scheme = getattr(request, "param", (1280, "light"))
    wrong = []
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda r: None if r.url.startswith(("data:", "blob:", file.as_uri())) else wrong.append(r.url))
    page.goto(file.as_uri())
    page.wait_for_selector("html[data-drawn]", state="attached", timeout=120_000)
    yield page
    assert wrong == []
    page.close()


@pytest.mark.parametrize("opened", [(360, "dark"), (1280, "light"), (2560, "dark")], indirect=True, ids=str)
def test_every_chart_is_drawn_within_the_page(opened):
    charts = opened.locator("figure.chart")
    assert charts.count() > 15
    assert all(charts.nth(i).locator("svg.main-svg").count() for i in range(charts.count()))
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
    heights = "[...document.querySelectorAll('.plot')].map(p => [p.clientHeight, p.querySelector('.main-svg').clientHeight])"
    assert all(plot == drawn for plot, drawn in opened.evaluate(heights))


def test_curves_are_hidden_and_shown_by_their_buttons_and_the_keyboard(opened):
    button = opened.locator("#curve-loss .toggle").first
    curves = opened.locator("#curve-loss .scatterlayer .trace")
    shown = curves.count()
    button.focus()
    opened.keyboard.press("Enter")
    assert button.get_attribute("aria-pressed") == "false"
    assert curves.count() == shown - 1
    opened.keyboard.press("Space")
    assert curves.count() == shown


def test_the_theme_button_draws_the_charts_in_the_other_colours(opened):
    colour = "getComputedStyle(document.querySelector('#curve-loss .xtick text')).fill"
    light = opened.evaluate(colour)
    for theme in ("light", "dark"):
        opened.locator("#theme").click()
        opened.wait_for_timeout(1500)
        assert opened.evaluate("document.documentElement.dataset.theme") == theme
        assert (opened.evaluate(colour) == light) == (theme == "light")


def test_recordings_are_played_stopped_and_stepped_through(opened):
    place = "document.querySelector('.picture[data-frames]').style.backgroundPosition"
    button, slider = opened.locator(".player button"), opened.locator(".player input")
    assert button.text_content() == "Pause"
    seen = set()
    for _ in range(100):  # ten seconds
        seen.add(opened.evaluate(place))
        if len(seen) == 3:
            break
        opened.wait_for_timeout(100)
    assert len(seen) == 3
    button.click()
    assert button.text_content() == "Play"
    slider.focus()
    opened.keyboard.press("End")
    assert opened.evaluate(place) == "0px 100%"
    opened.keyboard.press("Home")
    assert opened.evaluate(place) == "0px 0%"


def test_it_prints_light_and_with_charts(opened):
    opened.emulate_media(media="print")
    opened.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert opened.evaluate("document.documentElement.dataset.theme") == "light"
    assert not opened.locator("nav").is_visible()
    widths = opened.evaluate("[...document.querySelectorAll('.main-svg')].map(drawn => drawn.clientWidth)")
    assert max(widths) <= round(178 / 25.4 * 96)  # millimetres of a page, as pixels
    assert len(opened.pdf()) > 50_000
