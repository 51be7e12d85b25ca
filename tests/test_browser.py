"""The pages in a real browser: they are whole, fit a phone, and their numbers are a click away."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lstmkit import LSTM
from lstmkit.look import ExampleSequence, write_inspection_page

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
DRIVER = shutil.which("chromedriver")

pytestmark = pytest.mark.skipif(not (BROWSER and DRIVER), reason="no Chromium with its driver here")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    profile = tmp_path_factory.mktemp("profile")
    for word in (
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update", f"--user-data-dir={profile}",
    ):  # fmt: skip
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(str(DRIVER)))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("page") / "look.html"
    labels = [f"2024-01-{1 + t // 24:02d} {t % 24:02d}:00" for t in range(96)]
    example_sequence = ExampleSequence(
        torch.randn(1, 96, 3), "a long name of a series", labels, np.sin(np.arange(96) / 4), {"odd": np.arange(96) % 2}
    )
    write_inspection_page(path, LSTM(3, 12, num_layers=2, bidirectional=True, batch_first=True), example_sequence)
    return path


def opened(browser: Any, page: Path, width: int) -> None:
    # A window may not become as narrow as a phone: the browser is told to behave as one.
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 2, "mobile": width < 700}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(page.as_uri())


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_missing_and_nothing_sticks_out(browser: Any, page: Path, width: int):
    opened(browser, page, width)
    pictures = browser.execute_script("return [...document.images].map(i => [i.complete, i.naturalWidth])")
    assert len(pictures) > 8
    assert all(done and size > 500 for done, size in pictures)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script("return parseFloat(getComputedStyle(document.body).fontSize)") >= 16
    assert browser.get_log("browser") == []


def test_the_numbers_are_a_click_away(browser: Any, page: Path):
    opened(browser, page, 1280)
    details = browser.find_elements("tag name", "details")
    pictures = browser.find_elements("css selector", "figure")
    assert len(details) == len(pictures), "every picture has its numbers"
    for each in details:
        table = each.find_element("tag name", "table")
        assert not table.is_displayed()
        each.find_element("tag name", "summary").click()
        assert table.is_displayed()
        assert each.find_element("css selector", "a[download]").get_attribute("href").startswith("data:text/csv")


def test_it_can_be_read_without_colour(browser: Any, page: Path):
    """Text stands out from what is behind it by at least 4.5 to 1 (WCAG AA), whatever the hue."""
    opened(browser, page, 1280)
    colours = browser.execute_script(
        "return [...document.querySelectorAll('h1,h2,p,a,th,td,li,summary,figcaption,dt,dd')]"
        ".map(e => getComputedStyle(e).color)"
    )
    for colour in set(colours):
        assert contrast_with_white(colour) >= 4.5, colour


def contrast_with_white(colour: str) -> float:
    parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 1.05 / (np.dot([0.2126, 0.7152, 0.0722], linear) + 0.05)
