"""The HTML report in a real browser: what a person does with it, with mouse and keys."""

import json
import os
import re
import shutil

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from tests.helpers.report import TUMORS, make_summary, written
from unet_jax.reporting.pictures import Picture

N = 60
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
)
EVIL = "</script><img src=x onerror=document.title='owned'>"


def make_rows():
    """Slices 1 to 60 of 20 patients; Dice and HD95 go through all values in orders of their own."""
    rows = []
    for i in range(N):
        row = {"slice": i + 1, "pid": EVIL if i == 0 else f"MR{i // 3:03d}", "tumor": TUMORS[i % 3]}
        for resolution in ("network", "native"):
            row |= {f"{resolution}_dice": (i * 7 % N) / N, f"{resolution}_hd95": float(i * 11 % N)}
        row["native_hd95"] = None if i == 30 else row["native_hd95"]
        rows.append(row | {"native_tumor_pixels": 100 + i, "missed": int(i * 7 % N == 0)})
    return rows


def make_pictures():
    ys, xs = np.mgrid[:64, :64]
    for i in range(N):
        mask = (ys - 20) ** 2 + (xs - 40) ** 2 <= 36
        probs = np.exp(-((ys - 22) ** 2 + (xs - 40) ** 2) / 60).astype(np.float32)
        image = ((ys + xs + 3 * i) % 256).astype(np.uint8)
        yield Picture(slice=i + 1, image=image, mask=mask, pred=probs >= 0.35, probs=probs)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    programs = {"chromium": shutil.which("chromium"), "chromium-driver": shutil.which("chromedriver")}
    absent = [package for package, program in programs.items() if program is None]
    if absent:
        message = f"needs a browser: install Debian's {' and '.join(absent)}"
        if os.environ.get("UNET_JAX_REQUIRE_BROWSER"):
            pytest.fail(message)
        pytest.skip(message)
    options = webdriver.ChromeOptions()
    options.binary_location = programs["chromium"]
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}", "--window-size=1366,768"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(programs["chromium-driver"]))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    written(path, make_rows(), make_pictures(), summary=make_summary(N, threshold=0.35))
    return path.as_uri()


@pytest.fixture
def page(browser, report):
    """The report, just opened; when the test is done it has neither complained nor asked for anything."""
    browser.set_window_size(1366, 768)
    browser.get_log("performance")  # what was before
    browser.get(report)
    yield browser
    said = [entry["message"] for entry in browser.get_log("browser")]
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requests = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    # The browser's own first tab may still be loading.
    asked = [r["request"]["url"] for r in requests if not r["documentURL"].startswith("chrome:")]
    assert said == []
    assert report in asked  # else nothing would have been seen
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def wait(page, condition):
    return WebDriverWait(page, 10, poll_frequency=0.02).until(lambda _: condition())


def cards(page):
    """The slice numbers shown, in order."""
    words = page.execute_script(
        "return [...document.querySelectorAll('.card .words')].map(e => e.firstChild.textContent)"
    )
    return [int(w.removeprefix("Slice ")) for w in words]


def choose(page, name, value):
    Select(page.find_element(By.ID, name)).select_by_value(value)


def by(key, rows, reverse=False):
    rows = sorted(rows, key=lambda r: r["slice"])
    return [r["slice"] for r in sorted(rows, key=lambda r: r[key], reverse=reverse)]


def press(page, *keys):
    page.switch_to.active_element.send_keys(*keys)


def viewed(page):
    """The heading of the open viewer."""
    return page.find_element(By.ID, "viewer-title").text


def is_open(page):
    return page.execute_script("return document.getElementById('viewer').open")


def focused_slice(page):
    return page.execute_script("return document.activeElement.closest('li')?.slice.slice")


def test_the_gallery_shows_every_slice_worst_first(page):
    assert cards(page) == by("native_dice", make_rows())
    assert page.find_element(By.ID, "shown").text == "60 of 60 slices"
    words = page.find_elements(By.CSS_SELECTOR, ".card:first-child .words > span")[:5]
    said = [w.get_property("textContent").strip() for w in words]
    assert said == ["Slice 1", f"{EVIL} · meningioma", "Dice 0.000 HD95 0.00", "Missed", ""]
    assert page.title == "runs/a, test: evaluation"


def test_sorting_by_any_measure_both_ways(page):
    rows = make_rows()
    choose(page, "measure", "network_hd95")
    assert page.find_element(By.ID, "order").get_attribute("value") == "highest"  # of a distance that is the worst
    assert cards(page) == by("network_hd95", rows, reverse=True)
    assert page.find_element(By.CSS_SELECTOR, ".card").text.splitlines()[-1] == "Network HD95 59.00 px"
    choose(page, "order", "lowest")
    assert cards(page) == by("network_hd95", rows)
    choose(page, "measure", "slice")
    assert cards(page) == list(range(1, N + 1))
    choose(page, "order", "highest")
    assert cards(page) == list(range(N, 0, -1))


def test_slices_without_a_value_come_last_whichever_way(page):
    rows = [r for r in make_rows() if r["native_hd95"] is not None]
    choose(page, "measure", "native_hd95")
    assert cards(page) == [*by("native_hd95", rows, reverse=True), 31]
    choose(page, "order", "lowest")
    assert cards(page) == [*by("native_hd95", rows), 31]


def test_filtering_by_type_patient_and_slice(page):
    rows = make_rows()
    choose(page, "tumor", "glioma")
    assert cards(page) == by("native_dice", [r for r in rows if r["tumor"] == "glioma"])
    assert page.find_element(By.ID, "shown").text == "20 of 60 slices"
    search = page.find_element(By.ID, "search")
    search.send_keys("mr01")
    assert sorted(cards(page)) == [r["slice"] for r in rows if "MR01" in r["pid"] and r["tumor"] == "glioma"]
    choose(page, "tumor", "")
    search.clear()
    search.send_keys("37")
    assert cards(page) == [37]
    search.send_keys("x")
    assert cards(page) == [] and page.find_element(By.ID, "shown").text == "0 of 60 slices"


def test_a_slice_opens_with_image_truth_prediction_and_probability(page):
    page.find_element(By.CSS_SELECTOR, ".card").click()
    assert viewed(page) == f"Slice 1 · patient {EVIL} · meningioma"
    panels = page.find_elements(By.CSS_SELECTOR, "#panels figure")
    assert [p.text for p in panels] == ["Image", "Truth", "Prediction and truth", "Probability"]
    boxes = [p.find_element(By.TAG_NAME, "svg").rect for p in panels]
    assert len({b["y"] for b in boxes}) == 1 and all(b["width"] > 300 and b["height"] > 300 for b in boxes)
    outlines = [[o.get_attribute("class") for o in p.find_elements(By.CSS_SELECTOR, ".outline")] for p in panels]
    assert outlines == [[], ["outline truth"], ["outline truth", "outline pred"], ["outline truth"]]
    table = page.find_element(By.ID, "values").text.split()
    assert table == ["Dice", "HD95,", "px", "native", "0.000", "0.00", "network", "0.000", "0.00"]
    # All of it is seen without scrolling on a laptop.
    assert page.execute_script("const v = document.getElementById('viewer'); return v.scrollHeight <= v.clientHeight")
    assert page.find_element(By.ID, "tick-label").text == "threshold 0.35"


def test_pictures_hold_their_pixels_in_the_browser(page):
    page.find_element(By.CSS_SELECTOR, ".card").click()
    read = """
        const done = arguments[0];
        Promise.all([...document.querySelectorAll('#panels image')].map(async (e) => {
            const image = new Image();
            image.src = e.getAttribute('href');
            await image.decode();
            const canvas = document.createElement('canvas');
            [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
            const context = canvas.getContext('2d');
            context.drawImage(image, 0, 0);
            return [...context.getImageData(0, 0, canvas.width, canvas.height).data];
        })).then(done);
    """
    image, truth, prediction, probability = (
        np.array(pixels, np.uint8).reshape(64, 64, 4) for pixels in page.execute_async_script(read)
    )
    first = next(iter(make_pictures()))
    for shown in (image, truth, prediction):
        np.testing.assert_array_equal(shown[..., 0], first.image)
    brightness = probability[..., :3].astype(int).sum(axis=2)
    assert np.unravel_index(brightness.argmax(), brightness.shape) == (22, 40)


def test_keys_walk_through_the_slices_shown_and_leave(page):
    choose(page, "tumor", "pituitary")
    order = cards(page)
    page.find_elements(By.CSS_SELECTOR, ".card")[1].send_keys(Keys.ENTER)
    assert viewed(page).startswith(f"Slice {order[1]} ")
    press(page, Keys.ARROW_RIGHT)
    press(page, Keys.ARROW_RIGHT)
    assert viewed(page).startswith(f"Slice {order[3]} ") and page.find_element(By.ID, "place").text == "4 of 20"
    for _ in range(5):  # stops at the first
        press(page, Keys.ARROW_LEFT)
    assert viewed(page).startswith(f"Slice {order[0]} ")
    assert page.find_element(By.ID, "previous").get_attribute("aria-disabled") == "true"
    press(page, Keys.ESCAPE)
    wait(page, lambda: not is_open(page))
    assert focused_slice(page) == order[0]


def test_focus_stays_in_the_viewer_and_returns_to_the_card(page):
    card = page.find_elements(By.CSS_SELECTOR, ".card")[2]
    card.send_keys(Keys.SPACE)
    inside = "return document.getElementById('viewer').contains(document.activeElement)"
    names = set()
    for _ in range(5):
        assert page.execute_script(inside)
        names.add(page.switch_to.active_element.get_attribute("id"))
        press(page, Keys.TAB)
    assert {"next", "outlines", "zoom", "close"} <= names
    page.find_element(By.ID, "close").click()
    wait(page, lambda: not is_open(page))
    assert page.switch_to.active_element == card


def test_outlines_and_zoom_by_key_and_by_button(page):
    page.find_element(By.CSS_SELECTOR, ".card").click()
    drawn = page.find_element(By.CSS_SELECTOR, "#panels .outline")
    svg = page.find_element(By.CSS_SELECTOR, "#panels svg")
    assert drawn.is_displayed() and svg.get_dom_attribute("viewBox") == "0 0 64 64"
    press(page, "o")
    assert not drawn.is_displayed()
    page.find_element(By.ID, "outlines").click()
    assert drawn.is_displayed()
    press(page, "z")
    x, y, width, height = map(float, svg.get_dom_attribute("viewBox").split())
    assert width == height < 64 and x < 34 and x + width > 46 and y < 14 and y + height > 26
    press(page, Keys.ARROW_RIGHT)  # the next slice is as close
    assert page.find_element(By.CSS_SELECTOR, "#panels svg").get_dom_attribute("viewBox") != "0 0 64 64"
    page.find_element(By.ID, "zoom").click()
    assert page.find_element(By.CSS_SELECTOR, "#panels svg").get_dom_attribute("viewBox") == "0 0 64 64"


def test_the_pointer_is_shown_in_the_other_panels(page):
    page.find_element(By.CSS_SELECTOR, ".card").click()
    panels = page.find_elements(By.CSS_SELECTOR, "#panels svg")
    webdriver.ActionChains(page).move_to_element(panels[0]).perform()
    crosses = [p.find_element(By.CSS_SELECTOR, ".cross").get_attribute("d") for p in panels]
    assert crosses[0] == ""
    for cross in crosses[1:]:
        x, y = re.fullmatch(r"M(.+) 0V64M0 (.+)H64", cross).groups()
        assert abs(float(x) - 32) < 0.5 and abs(float(y) - 32) < 0.5


def test_only_what_is_near_the_window_is_decoded(page):
    drawn = "return document.querySelectorAll('.card image').length"
    page.find_element(By.ID, "shown")
    before = page.execute_script(drawn)
    assert 24 <= before < N  # those that would be printed, at least
    page.execute_script("window.scrollTo(0, document.body.scrollHeight)")
    wait(page, lambda: page.execute_script(drawn) > before)
    last = page.find_elements(By.CSS_SELECTOR, ".card")[-1]
    wait(page, lambda: last.find_elements(By.TAG_NAME, "image"))


def test_a_phone_shows_it_without_scrolling_sideways(page):
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 375, "height": 700, "deviceScaleFactor": 2, "mobile": True}
    )
    try:
        narrow = "const e = {}; return e.scrollWidth <= e.clientWidth"
        assert page.execute_script(narrow.format("document.documentElement"))
        page.find_element(By.CSS_SELECTOR, ".card").click()
        assert is_open(page)
        assert page.execute_script(narrow.format("document.getElementById('viewer')"))
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_on_paper_are_the_scores_and_the_first_slices(page):
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        printed = [c for c in page.find_elements(By.CSS_SELECTOR, ".cards li") if c.is_displayed()]
        assert len(printed) == 24 and all(c.find_elements(By.TAG_NAME, "image") for c in printed)
        assert page.find_element(By.ID, "scores").is_displayed()
        assert not page.find_element(By.ID, "controls").is_displayed()
        assert page.find_element(By.ID, "printed").text == "The first 24 of 60 slices by Dice, lowest first."
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
