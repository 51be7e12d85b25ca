"""Report pages in a real browser: complete, readable on a phone, with every figure's data one click away."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from lstmkit import LSTM
from lstmkit.look import ExampleSequence, write_inspection_page
from lstmkit.report import Section, write_report

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
DRIVER = shutil.which("chromedriver")

pytestmark = pytest.mark.skipif(not (BROWSER and DRIVER), reason="Chromium or chromedriver is not installed")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    profile = tmp_path_factory.mktemp("profile")
    for argument in (
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update", f"--user-data-dir={profile}",
    ):  # fmt: skip
        options.add_argument(argument)
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


def open_page(browser: Any, page: Path, width: int) -> None:
    # A window cannot be made as narrow as a phone, so the browser emulates one.
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 2, "mobile": width < 700}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(page.as_uri())


def test_a_page_is_small(page: Path):
    assert page.stat().st_size < 800_000, "four layers and directions of 96 steps"


@pytest.mark.parametrize("width", [360, 1280])
def test_images_load_and_nothing_overflows(browser: Any, page: Path, width: int):
    open_page(browser, page, width)
    images = browser.execute_script("return [...document.images].map(i => [i.complete, i.naturalWidth])")
    assert len(images) > 8
    assert all(done and size > 500 for done, size in images)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script("return parseFloat(getComputedStyle(document.body).fontSize)") >= 16
    assert browser.get_log("browser") == []


def test_every_figure_has_a_collapsed_data_table(browser: Any, page: Path):
    open_page(browser, page, 1280)
    details = browser.find_elements("tag name", "details")
    figures = browser.find_elements("css selector", "figure")
    assert len(details) == len(figures), "every figure has a data table"
    for element in details:
        table = element.find_element("tag name", "table")
        assert not table.is_displayed()
        element.find_element("tag name", "summary").click()
        assert table.is_displayed()
        assert element.find_element("css selector", "a[download]").get_attribute("href").startswith("data:text/csv")


def test_text_contrast_meets_wcag_aa(browser: Any, page: Path):
    """The contrast of all text with its background is at least 4.5 to 1 (WCAG AA)."""
    open_page(browser, page, 1280)
    colors = browser.execute_script(
        "return [...document.querySelectorAll('h1,h2,p,a,th,td,li,summary,figcaption,dt,dd')]"
        ".map(e => getComputedStyle(e).color)"
    )
    for color in set(colors):
        assert contrast_with_white(color) >= 4.5, color


def contrast_with_white(color: str) -> float:
    parts = [int(part) / 255 for part in color[color.index("(") + 1 : -1].split(",")[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 1.05 / (np.dot([0.2126, 0.7152, 0.0722], linear) + 0.05)


@pytest.mark.parametrize("width", [400, 1280])
def test_a_table_of_many_columns_and_long_names_scrolls_in_its_box(browser: Any, tmp_path: Path, width: int):
    names = ["a model with a name that is longer than most names of models are", "b" * 90]
    scores = pd.DataFrame({"model": names} | {f"score number {i}": [0.5, 0.25] for i in range(300)})
    write_report(tmp_path / "wide.html", "Wide", ["A lead."], [Section("Scores", table=scores)], {})
    open_page(browser, tmp_path / "wide.html", width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    box = browser.find_element("css selector", ".wide")
    assert browser.execute_script("return arguments[0].scrollWidth > 10 * arguments[0].clientWidth", box)
    last = box.find_elements("css selector", "thead th")[-1]
    visible = "const box = arguments[0].getBoundingClientRect(), cell = arguments[1].getBoundingClientRect();"
    visible += "return box.left <= cell.left && cell.right <= box.right + 1"
    assert not browser.execute_script(visible, box, last)
    browser.execute_script("arguments[0].scrollLeft = arguments[0].scrollWidth", box)
    assert browser.execute_script(visible, box, last), "its last column can be reached"


def test_a_wide_window_is_used(browser: Any, tmp_path: Path):
    scores = pd.DataFrame({"model": ["LSTM"]} | {f"score {i}": [0.5] for i in range(10)})
    write_report(tmp_path / "wide.html", "Wide", [], [Section("Scores", table=scores)], {})
    open_page(browser, tmp_path / "wide.html", 1280)
    box = browser.find_element("css selector", ".wide")
    assert browser.execute_script("return arguments[0].scrollWidth <= arguments[0].clientWidth", box)
    assert 1000 < browser.execute_script("return document.body.clientWidth") <= 1110
