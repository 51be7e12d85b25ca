"""The studio in a real browser, on a phone and on a wide screen: from a dropped file to an export."""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from job_cases import CASES, make
from lstmkit.jobs import load

pytest.importorskip("starlette")

from lstmkit.studio.workspace import Run, Workspace

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
DRIVER = shutil.which("chromedriver")

pytestmark = pytest.mark.skipif(not (BROWSER and DRIVER), reason="Chromium or chromedriver is not installed")

WIDTHS = (360, 1280)
PATIENCE = 120.0  # seconds for a training, on a busy machine

#: The contrast of every visible text with its background, below what WCAG AA asks for.
CONTRAST = """
const luminance = ([r, g, b]) => {
  const [x, y, z] = [r, g, b].map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * x + 0.7152 * y + 0.0722 * z;
};
const parts = (color) => (color.match(/[\\d.]+/g) || []).map(Number);
const background = (element) => {
  for (let e = element; e; e = e.parentElement) {
    const color = parts(getComputedStyle(e).backgroundColor);
    if (color.length === 3 || (color.length === 4 && color[3] === 1)) return color.slice(0, 3);
  }
  return [255, 255, 255];
};
const low = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  const box = element.getBoundingClientRect();
  const isSvg = element instanceof SVGElement;
  const isShown = walker.currentNode.textContent.trim() && box.width && box.height;
  if (!isShown || ["SCRIPT", "STYLE"].includes(element.tagName)) continue;
  const style = getComputedStyle(element);
  const [a, b] = [luminance(parts(isSvg ? style.fill : style.color).slice(0, 3)), luminance(background(element))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  const size = parseFloat(style.fontSize);
  const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
  if (ratio < (isLarge ? 3 : 4.5)) low.push([element.textContent.trim().slice(0, 40), ratio]);
}
return low;
"""

#: Drops a file on the page, as a mouse or a finger does.
DROP = """
const files = new DataTransfer();
files.items.add(new File([arguments[1]], arguments[0]));
document.dispatchEvent(new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true }));
"""


class Server:
    """A studio in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.workspace = folder, Workspace(folder)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "lstmkit", "studio", str(folder), "--port", "0", "--no-browser"],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().split()[-1].rstrip("/")
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", self.address)
        self.host = self.address.removeprefix("http://")

    def ask(self, method: str, path: str, headers: dict[str, str], body: bytes | None = None) -> tuple[int, bytes]:
        """Status and content of the answer to a request with these headers alone."""
        with closing(http.client.HTTPConnection(self.host, timeout=60)) as connection:
            connection.putrequest(method, path, skip_host=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def end(self) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.communicate(timeout=30)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("studio"))
    yield server
    server.end()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for argument in (
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update", "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream", f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(str(DRIVER)))
    yield driver
    driver.quit()


def set_width(browser: Any, width: int) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 700}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def until(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    """The first result of the condition that is true."""
    from selenium.common.exceptions import WebDriverException

    deadline = time.monotonic() + seconds
    while True:
        try:
            if result := condition():
                return result
        except WebDriverException:  # the page is being replaced
            pass
        assert time.monotonic() < deadline, "it has not happened"
        time.sleep(0.1)


def find(browser: Any, selector: str) -> Any:
    return browser.find_element("css selector", selector)


def text_of(browser: Any) -> str:
    return find(browser, "main").text


def fill(browser: Any, values: dict[str, str]) -> None:
    for name, value in values.items():
        field = find(browser, f"[name={name}]")
        field.clear()
        field.send_keys(value)


def press(browser: Any, text: str) -> None:
    """Press the first button or link with a text."""
    element = next(e for e in browser.find_elements("css selector", "main button, main a") if e.text == text)
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    element.click()


def assert_good(browser: Any, width: int) -> None:
    """Nothing overflows, every text can be read, charts are drawn, each input has a name."""
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script(CONTRAST) == []
    assert browser.execute_script("return [...document.querySelectorAll('.plot')].every(p => p.dataset.drawn)")
    unnamed = "return [...document.querySelectorAll('main input:not([type=hidden]):not([hidden]), main select, main "
    unnamed += "textarea')].filter(e => !e.labels.length && !e.ariaLabel).map(e => e.name)"
    assert browser.execute_script(unnamed) == []


def assert_nothing_from_outside(browser: Any, server: Server) -> None:
    """Every request since the last call went to the studio, and nothing was written to the console."""
    entries = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in entries if e["method"] == "Network.requestWillBeSent"]
    assert asked, "nothing was recorded"
    assert not [url for url in asked if url.startswith(("http", "ws")) and not url.startswith(f"{server.address}/")]
    assert not [entry for entry in browser.get_log("browser") if "status of 422" not in entry["message"]]


# ---- data ------------------------------------------------------------------------------------------------------------


def sales(days: int = 120) -> str:
    """A series with a week's season, under names that no default knows."""
    dates = pd.date_range("2024-01-01", periods=days)
    values = 80 + 20 * (dates.dayofweek >= 5) + np.random.default_rng(0).normal(0, 2, days)
    return pd.DataFrame({"date": dates.strftime("%Y-%m-%d"), "sales": values.round(1)}).to_csv(index=False)


TINY = {"horizon": "7", "epochs": "2", "hidden_size": "4"}


def fitted(server: Server, case: str, **options: Any) -> Run:
    """A run of a tiny model, as the studio keeps it."""
    workspace, data = server.workspace, CASES[case].data()
    job = make(case, **options).fit(data, run=server.folder / "fitted")
    upload = workspace.add([("data.conll", io.BytesIO(b"the\ncat\nsat\n\na\nmat\n"))])
    run = workspace.new_run(job.name, upload.id, options)
    shutil.move(server.folder / "fitted", run.model_folder)
    return run


# ---- from a file to an export ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [360, pytest.param(1280, marks=pytest.mark.complete)])
def test_a_forecast_from_drop_to_export(width: int, server: Server, browser: Any, tmp_path: Path):
    """Drop a file, see it drawn, train, read the report, try the model, look inside, download it."""
    set_width(browser, width)
    browser.get(server.address)
    assert ("There are no runs yet." in text_of(browser)) == (not server.workspace.runs())
    assert_good(browser, width)
    find(browser, "a[href='/fit/forecaster']").click()
    assert_good(browser, width)
    browser.execute_script(DROP, "sales.csv", sales())
    until(lambda: "/fit/forecaster/sales-" in browser.current_url)
    until(lambda: find(browser, ".plot").get_attribute("data-drawn"))
    assert "120 rows, 2 columns" in text_of(browser)
    chosen = [find(browser, f"[name={name}]").get_attribute("value") for name in ("time_col", "target_col")]
    assert chosen == ["date", "sales"], "the columns are guessed"
    assert_good(browser, width)
    fill(browser, TINY)
    press(browser, "Train")
    until(lambda: "/runs/forecaster-" in browser.current_url)
    run = browser.current_url.rpartition("/")[2]
    assert "training" in find(browser, "h1").text
    until(lambda: "finished" in find(browser, "h1").text, PATIENCE)
    assert "SeasonalNaive" in text_of(browser)
    assert_good(browser, width)

    browser.switch_to.frame(find(browser, "iframe"))
    assert "lstmkit forecaster" in find(browser, "h1").text
    browser.switch_to.default_content()

    press(browser, "Try the model")
    press(browser, "Ask the model")
    until(lambda: "answer=1" in browser.current_url)
    assert find(browser, "img.figure").get_property("naturalWidth") > 500
    assert "2024-04-30" in text_of(browser)
    assert_good(browser, width)

    press(browser, "Look inside")
    until(lambda: len(browser.find_elements("css selector", ".maps .plot[data-drawn]")) == 6)
    assert_good(browser, width)
    press(browser, "Find matching places")
    until(lambda: browser.find_elements("css selector", ".matches li svg"))
    assert_good(browser, width)

    status, archive = server.ask("GET", f"/runs/{run}/download/run", {"Host": server.host})
    assert status == 200
    with zipfile.ZipFile(io.BytesIO(archive)) as zipped:
        zipped.extractall(tmp_path / "run")
    (tmp_path / "sales.csv").write_text(sales(), encoding="utf-8")
    assert len(load(tmp_path / "run").predict(tmp_path / "sales.csv")) == 7
    assert_nothing_from_outside(browser, server)


@pytest.mark.parametrize("width", [1280, pytest.param(360, marks=pytest.mark.complete)])
def test_a_forecast_with_the_keyboard_alone_stopped_and_resumed(
    width: int, server: Server, browser: Any, tmp_path: Path
):
    """Tab, arrows, Enter and Space do everything; a stop keeps the best weights; a resumed run goes on."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    def key(*keys: str) -> None:
        ActionChains(browser).send_keys(*keys).perform()

    def focused() -> Any:
        return browser.switch_to.active_element

    def tab_to(condition: Callable[[Any], bool]) -> None:
        for _ in range(120):
            key(Keys.TAB)
            if condition(focused()):
                outline = browser.execute_script("return getComputedStyle(arguments[0]).outlineStyle", focused())
                assert outline != "none", "the focus is visible"
                return
        raise AssertionError("the keyboard does not reach it")

    set_width(browser, width)
    browser.get(server.address)
    key(Keys.TAB)
    assert focused().text == "Skip to the content"
    tab_to(lambda e: e.get_attribute("href") == f"{server.address}/fit/forecaster")
    key(Keys.ENTER)
    until(lambda: "/fit/forecaster" in browser.current_url)
    tab_to(lambda e: e.get_attribute("id") == "files")
    (tmp_path / "long.csv").write_text(sales(400), encoding="utf-8")
    focused().send_keys(str(tmp_path / "long.csv"))  # what the file dialog of the system gives
    until(lambda: "/fit/forecaster/long-" in browser.current_url)
    assert_good(browser, width)
    for name, value in {**TINY, "epochs": "5000"}.items():
        tab_to(lambda e, name=name: e.get_attribute("name") == name)
        key(Keys.CONTROL, "a", Keys.NULL, value)
    tab_to(lambda e: e.text == "Train")
    key(Keys.ENTER)
    until(lambda: "/runs/forecaster-" in browser.current_url)
    run = browser.current_url.rpartition("/")[2]
    history = server.workspace.run(run).model_folder / "history.csv"
    until(lambda: find(browser, "#loss .legend"), PATIENCE)
    until(lambda: re.search(r"Training: \d+ %.*At most \d+ (s|min|h)", text_of(browser), re.DOTALL))
    assert_good(browser, width)
    tab_to(lambda e: e.text == "Stop and keep the best weights")
    key(Keys.ENTER)
    until(lambda: "stopped early" in find(browser, "h1").text, PATIENCE)
    assert "SeasonalNaive" in text_of(browser)
    assert_good(browser, width)
    tab_to(lambda e: e.text == "Resume the training")
    key(Keys.SPACE)
    until(lambda: "training" in find(browser, "h1").text, PATIENCE)
    rows = len(history.read_text().splitlines())
    until(lambda: "Training: " in text_of(browser), PATIENCE)
    tab_to(lambda e: e.text.startswith("Stop"))
    key(Keys.ENTER)
    until(lambda: "stopped early" in find(browser, "h1").text, PATIENCE)
    assert len(history.read_text().splitlines()) >= rows

    tab_to(lambda e: e.text == "Look inside")
    key(Keys.ENTER)
    until(lambda: browser.find_elements("css selector", ".maps .plot[data-drawn]"))
    tab_to(lambda e: e.get_attribute("id") == "step")
    key(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert find(browser, "#step-label").text.startswith("step 2: 2025")
    tab_to(lambda e: e.get_attribute("id") == "unit")
    key(Keys.CONTROL, "a", Keys.NULL, "1")
    assert find(browser, "#unit-name").text == "1"
    tab_to(lambda e: e.text == "Take the step of the player")
    key(Keys.ENTER)
    assert find(browser, "#start").get_attribute("value") == "2"
    assert_good(browser, width)

    browser.get(f"{server.address}/compare?a=forecaster-1&b={run}")
    assert [find(browser, f"#{name}").get_attribute("value") for name in "ab"] == ["forecaster-1", run]
    assert "The runs have different data" in text_of(browser)
    assert "--epochs\n" not in text_of(browser)
    assert "5000" in text_of(browser)
    assert_good(browser, width)
    assert_nothing_from_outside(browser, server)


# ---- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", WIDTHS)
def test_a_bad_file_is_one_line_where_it_was_dropped(width: int, server: Server, browser: Any):
    set_width(browser, width)
    before = len(server.workspace.uploads())
    browser.get(f"{server.address}/fit/forecaster")
    for name, content, message in (
        ("data.csv", "a,b\x00", "data.csv is not a text file"),
        ("notes.docx", "x", "unsupported file format: give delimited text (.csv, .tsv"),
        ("<b>bold.csv", "", "is empty"),
    ):
        browser.execute_script(DROP, name, content)
        problem = until(lambda: find(browser, "#problem")).text
        assert message in problem
        assert "/" not in problem.replace("/fit", ""), "no path of the server"
        assert browser.switch_to.active_element.get_attribute("id") == "problem"
        assert_good(browser, width)
        browser.get(f"{server.address}/fit/forecaster")
    assert len(server.workspace.uploads()) == before
    assert_nothing_from_outside(browser, server)


def test_wrong_settings_and_columns_are_shown_in_the_form(server: Server, browser: Any):
    """A wrong number at once; data that the job refuses as soon as its process says so."""
    set_width(browser, 1280)
    browser.get(f"{server.address}/fit/forecaster")
    browser.execute_script(DROP, "few.csv", "when,count\n2024-01-01,1\n2024-01-02,2\n")
    until(lambda: "/fit/forecaster/few-1" in browser.current_url)
    browser.execute_script("document.querySelector('main form').noValidate = true")
    fill(browser, {"horizon": "0"})
    press(browser, "Train")
    assert "--horizon must be at least 1, got 0" in until(lambda: find(browser, "#problem")).text
    fill(browser, {"horizon": "1", "hidden_size": "4"})
    press(browser, "Train")
    until(lambda: "run=forecaster" in browser.current_url, PATIENCE)
    assert "has 2 steps, but horizon 1 needs 5" in find(browser, "#problem").text
    assert find(browser, "[name=hidden_size]").get_attribute("value") == "4", "what was typed is kept"
    assert_nothing_from_outside(browser, server)


def test_another_site_cannot_send_anything(server: Server):
    own = {"Host": server.host, "Origin": server.address, "Content-Length": "0"}
    runs = len(server.workspace.runs())
    assert server.ask("POST", "/fit/forecaster/sample", {**own, "Origin": "http://evil.example"})[0] == 403
    assert server.ask("POST", "/fit/forecaster/sample", {"Host": server.host, "Content-Length": "0"})[0] == 403
    assert server.ask("GET", "/", {"Host": "evil.example"})[0] == 400
    port = server.host.rpartition(":")[2]
    for host in ("", "localhost:evil", "evil.example@localhost", f"localhost.:{port}", f"::1:{port}"):
        assert server.ask("GET", "/", {"Host": host})[0] == 400, host
    for host in ("localhost", "LOCALHOST", "[::1]", f"[::1]:{port}"):
        assert server.ask("GET", "/", {"Host": host})[0] == 200, host
    for origin in ("null", "http://evil.example", f"ftp://{server.host}", f"http://{server.host}@evil.example"):
        assert server.ask("POST", "/fit/forecaster/sample", {**own, "Origin": origin})[0] == 403, origin
        assert server.ask("GET", "/", {"Host": server.host, "Origin": origin})[0] == 403, origin
    assert server.ask("GET", "/", {"Host": server.host, "Origin": server.address})[0] == 200
    assert server.ask("POST", "/fit/forecaster/data", {**own, "Content-Length": str(10**12)})[0] == 413
    chunked = {"Host": server.host, "Origin": server.address, "Transfer-Encoding": "chunked"}
    assert server.ask("POST", "/fit/forecaster/data", chunked, b"0\r\n\r\n")[0] == 411
    assert len(server.workspace.runs()) == runs
    for path in ("/runs/..%2F..", "/runs/x/report", "/static/../app.py", "/static/%2e%2e/app.py", "/fit/nothing"):
        status, page = server.ask("GET", path, {"Host": server.host})
        assert status == 404, path
        assert b"create_app" not in page


# ---- other data ------------------------------------------------------------------------------------------------------


def test_text_is_typed_and_labels_from_data_are_escaped(server: Server, browser: Any):
    run = fitted(server, "tagger")
    set_width(browser, 360)
    browser.get(f"{server.address}/runs/{run.id}/try")
    fill(browser, {"lines": "the <i>cat</i> sat"})
    press(browser, "Ask the model")
    until(lambda: "answer=1" in browser.current_url)
    assert "<i>cat</i>" in text_of(browser)
    assert_good(browser, 360)
    browser.get(f"{server.address}/runs/{run.id}/look?start=0&last=0&threshold=-9&units=0,1")
    assert "the cat sat" in find(browser, ".matches mark").text
    assert_good(browser, 360)
    assert_nothing_from_outside(browser, server)


def test_a_clip_is_recorded_and_a_drawing_drawn(server: Server, browser: Any):
    """The microphone of the test browser beeps; the canvas takes a stroke of the mouse."""
    from selenium.webdriver.common.action_chains import ActionChains

    set_width(browser, 1280)
    listener = fitted(server, "classifier:audio", sample_rate=8000)
    browser.get(f"{server.address}/runs/{listener.id}/try")
    press(browser, "Record")
    until(lambda: "Recording" in find(browser, "#recorded").text)
    time.sleep(0.6)
    press(browser, "Stop")
    until(lambda: find(browser, "#recorded").text.startswith("Recorded 0."))
    press(browser, "Ask the model")
    until(lambda: "answer=1" in browser.current_url)
    assert "high" in text_of(browser) or "low" in text_of(browser)
    assert_good(browser, 1280)

    drawings = [points for points, _ in CASES["handwriting_synthesizer"].data()]
    job = make("handwriting_synthesizer").fit(drawings, run=server.folder / "fitted")
    writer = server.workspace.new_run(job.name, "none-1", {})
    shutil.move(server.folder / "fitted", writer.model_folder)
    browser.get(f"{server.address}/runs/{writer.id}/try")
    find(browser, "[value=canvas]").click()
    canvas = find(browser, "#canvas")
    ActionChains(browser).move_to_element(canvas).click_and_hold().move_by_offset(40, 20).move_by_offset(
        40, -30
    ).release().perform()
    press(browser, "Ask the model")
    until(lambda: "answer=1" in browser.current_url)
    assert find(browser, "img.figure").get_property("naturalWidth") > 500
    assert "answers.svg" in text_of(browser)
    assert_good(browser, 1280)
    assert_nothing_from_outside(browser, server)
