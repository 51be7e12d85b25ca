"""The HTML report: complete, self-contained, without scripts or external links."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from lstmkit import AnomalyDetector
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.report import Section, format_table, number, numbers, quantities, save_figure, write_report

HOSTILE = '<script>alert("1")</script>&amp;\'"><img src=http://evil.example/x>'
VOID = {"meta", "img", "input", "link", "br"}


class Page(HTMLParser):
    """A parsed page: its tags with their attributes, and the text of each element."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(source)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.open[-1], data.strip()))

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def text(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]


def figure() -> Figure:
    fig = Figure(figsize=(2, 1))
    fig.subplots().plot([1, 2])
    return fig


def table() -> pd.DataFrame:
    return pd.DataFrame({"model": ["LSTM", "naive"], "MASE": [0.8123, 1.25], "coverage-80": [70.0, 81.0]})


def page(path: Path, *sections: Section, title: str = "A title", lead: str = "A lead", fact: str = "1") -> Page:
    write_report(path / "report.html", title, [lead], sections, {"Seed": fact})
    return Page((path / "report.html").read_text(encoding="utf-8"))


def csv(link: dict[str, str]) -> pd.DataFrame:
    kind, content = link["href"].split(",", 1)
    assert kind == "data:text/csv;charset=utf-8;base64"
    return pd.read_csv(io.BytesIO(base64.b64decode(content)))


def test_page_shows_title_sections_tables_and_facts(tmp_path: Path):
    best = {"MASE": "low", "coverage-80": "near:80"}
    scores = Section("Scores", "One.\n\nTwo.", table(), caption="Of the test part", best=best)
    got = page(tmp_path, scores, Section("Picture", figure=figure(), caption="A line", table=table()))
    assert got.text("h1") == got.text("title") == ["A title"]
    assert got.text("h2") == ["Scores", "Picture", "Run details"]
    assert got.text("p")[:2] == ["One.", "Two."]
    assert (got.text("li"), got.text("dt"), got.text("dd")) == (["A lead"], ["Seed"], ["1"])
    assert (got.text("caption"), got.text("figcaption")) == (["Of the test part"], ["A line"])
    assert got.text("td") == ["0.812", "70", "1.250", "81"] * 2
    assert [a.get("class") for a in got.all("td")[:4]] == ["n best", "n", "n", "n best"]
    assert got.all("html") == [{"lang": "en"}]
    assert [a["scope"] for a in got.all("th")] == ["col"] * 3 + ["row"] * 2 + ["col"] * 3 + ["row"] * 2


def test_figures_are_embedded_with_alternative_text(tmp_path: Path):
    got = page(tmp_path, Section("P", figure=figure(), caption="A line"), Section("Q", figure=figure()))
    first, second = got.all("img")
    assert (first["alt"], second["alt"]) == ("A line", "Q")
    assert (first["width"], first["height"]) == ("240", "120")  # 120 pixels per inch
    kind, content = first["src"].split(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(content)[16:24] == (400).to_bytes(4, "big") + (200).to_bytes(
        4, "big"
    )  # at 200 pixels per inch


def test_figure_data_is_in_a_collapsed_table(tmp_path: Path):
    got = page(tmp_path, Section("Error by step!", figure=figure(), table=table()))
    assert got.text("summary") == ["Data table"]
    (link,) = got.all("a")
    assert link["download"] == "error-by-step.csv"
    pd.testing.assert_frame_equal(csv(link), table(), check_dtype=False)


def test_long_tables_are_truncated_on_the_page_but_not_in_the_csv(tmp_path: Path):
    got = page(tmp_path, Section("Long", table=pd.DataFrame({"row": range(120), "y": 0.5})))
    assert len(got.all("tr")) == 51
    assert any("Showing the first 50 of 120 rows" in text for text in got.text("p"))
    assert len(csv(got.all("a")[0])) == 120


def test_page_has_no_scripts_and_no_external_links(tmp_path: Path):
    sections = [Section(f"Part {i}", table=table(), figure=figure()) for i in range(5)]
    got = page(tmp_path, *sections)
    for tag, attributes in got.tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "form", "base")
        assert not any(name.startswith("on") or name in ("style", "srcset", "action") for name in attributes)
        for name in ("src", "href"):
            assert attributes.get(name, "data:").startswith(("data:image/png", "data:text/csv", "data:", "#"))
    parts = {attributes["id"] for attributes in got.all("section")}
    assert {a["href"][1:] for a in got.all("a") if a["href"].startswith("#")} == parts
    source = (tmp_path / "report.html").read_text()
    assert "http:" not in source
    assert "https:" not in source
    assert "url(" not in source
    assert "default-src 'none'" in source


def test_html_in_names_is_escaped(tmp_path: Path):
    frame = pd.DataFrame({HOSTILE: [HOSTILE, "b"], "y": [1.5, 2.5]})
    section = Section(HOSTILE, HOSTILE, frame, caption=HOSTILE)
    got = page(
        tmp_path, section, Section(HOSTILE, figure=figure(), caption=HOSTILE), title=HOSTILE, lead=HOSTILE, fact=HOSTILE
    )
    for tag in ("h1", "h2", "li", "p", "caption", "figcaption", "th", "dd"):
        assert HOSTILE in got.text(tag)
    assert len(got.all("img")) == 1
    assert got.all("img")[0]["alt"] == HOSTILE
    assert not got.all("script")
    assert csv(got.all("a")[0]).columns[0] == HOSTILE


def test_empty_report_and_empty_tables(tmp_path: Path):
    path = tmp_path / "report.html"
    write_report(path, "", [], [], {})
    Page(path.read_text())
    got = page(
        tmp_path, Section("No rows", table=table()[:0]), Section("No columns", table=pd.DataFrame()), Section("No")
    )
    assert got.text("h2") == ["No rows", "No columns", "No", "Run details"]
    page(tmp_path, Section("Half a letter \ud800"))  # as an undecodable file name gives


def test_report_is_deterministic(tmp_path: Path):
    section = Section("P", figure=figure(), table=table())
    page(tmp_path, section)
    first = (tmp_path / "report.html").read_bytes()
    page(tmp_path, section)
    assert (tmp_path / "report.html").read_bytes() == first
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_best_rules_are_validated():
    with pytest.raises(ValueError, match="'RMSE', which the table lacks: its columns are model, MASE"):
        Section("S", table=table(), best={"RMSE": "low"})
    with pytest.raises(ValueError, match="unknown rule 'lowest'"):
        Section("S", table=table(), best={"MASE": "lowest"})
    with pytest.raises(ValueError, match="names the column"):
        Section("S", best={"MASE": "low"})


@pytest.mark.parametrize(
    ("values", "rule", "marked"),
    [
        ([3.0, 1.0, 2.0], "low", [1]),
        ([3.0, 1.0, 2.0], "high", [0]),
        ([70.0, 81.5, 99.0], "near:80", [1]),
        ([0.81231, 0.81229, 0.9], "low", [0, 1]),  # equal when printed
        ([np.nan, 2.0, 3.0], "low", [1]),
        ([np.nan, 2.0, np.nan], "low", []),  # a single value is not marked
        ([None, 2, 3], "low", [1]),
        ([0.5, 0.5, np.nan], "high", []),  # all equal: none is better
        ([np.inf, -np.inf, 0.0], "low", [1]),
    ],
)
def test_best_rows(values: list[float], rule: str, marked: list[int]):
    frame = pd.DataFrame({"name": list("abc"), "v": values})
    lines = format_table(frame, {"v": rule}).splitlines()[1:]
    assert [i for i, line in enumerate(lines) if "*" in line] == marked


def test_format_table_of_every_column_type():
    frame = pd.DataFrame(
        {
            "id": ["a\nb", "[red]\x1b[31m", "日本"],
            "n": pd.array([1, None, 1200], dtype="Int64"),
            "day": pd.to_datetime(["2024-01-02", None, "2024-01-03"]),
            "at": pd.to_datetime(["2024-01-02 05:00", None, "2024-01-03 00:00"]),
            "ok": [True, False, True],
            "mixed": [None, 0.123456, "x"],
        }
    )
    assert format_table(frame).splitlines() == [
        "id             n  day         at                ok   mixed",
        "a b            1  2024-01-02  2024-01-02 05:00  yes  –",
        "[red][31m      –  –           –                 no   0.1235",
        "日本       1,200  2024-01-03  2024-01-03 00:00  yes  x",
    ]
    assert format_table(pd.DataFrame()) == ""


def test_formatted_numbers_keep_three_digits():
    for value in np.random.default_rng(0).lognormal(0, 5, 200):
        assert float(number(value).replace(",", "")) == pytest.approx(value, rel=5e-4)
    assert [number(v) for v in (float("inf"), -float("inf"), -0.5, 1e20)] == ["∞", "-∞", "-0.5", "1e+20"]


def test_characters_missing_from_the_font_become_boxes():
    figure = Figure()
    figure.suptitle("a\uf158b\nc")
    figure.subplots().set_xlabel("中")
    save_figure(figure, io.BytesIO(), format="png")
    assert figure.get_suptitle() == "a▯b\nc"
    assert figure.axes[0].get_xlabel() == "▯"


def test_an_evaluation_and_a_job_in_a_notebook():
    """The table as HTML, the best in bold, names escaped; the job with the settings that were changed."""
    table = pd.DataFrame({"model": ["LSTM", "<naive>"], "MASE": [0.8, 1.2]})
    evaluation = Evaluation(table, {"MASE": "low"}, pd.DataFrame(), ("12 series.",))
    assert "<b>0.800</b>" in evaluation._repr_html_()
    assert "&lt;naive&gt;" in evaluation._repr_html_()
    assert evaluation._repr_html_().endswith("<p>12 series.</p>")
    job = AnomalyDetector(window=50)
    assert repr(job) == "<AnomalyDetector(window=50), not fitted>"
    assert job._repr_html_() == "<code>&lt;AnomalyDetector(window=50), not fitted&gt;</code>"
    job.evaluation = evaluation
    assert job._repr_html_().startswith("<code>&lt;AnomalyDetector(window=50), not fitted&gt;</code><table>")


def test_the_best_model_of_each_row(tmp_path: Path):
    """In a table with a column per model, the best model of each row is shaded, not the easiest row."""
    scores = pd.DataFrame({"group": ["rare", "frequent"], "LSTM": [0.3, 0.8], "item-kNN": [0.2, 0.9]})
    section = Section("By group", table=scores, best={"LSTM": "high", "item-kNN": "high"}, best_in_rows=True)
    write_report(tmp_path / "report.html", "Groups", [], [section], {})
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert re.findall(r'class="n best">([\d.]+)', page) == ["0.300", "0.900"]
    assert "The best value of a row is shaded." in page


def test_a_column_has_exponents_in_all_numbers_or_in_none():
    assert numbers([0.02058, 6.222e-5]) == ["0.02058", "0.00006222"]
    assert numbers([3.0, 0.5, 1.25e-7]) == ["3", "0.5", "0.000000125"]
    assert numbers([0.02058, 6.222e-9, 0.0, float("nan")]) == ["2.058e-02", "6.222e-09", "0", "–"]
    assert numbers([2e15, 0.5]) == ["2.000e+15", "5.000e-01"]


def test_whole_numbers_stay_whole_beside_fractions():
    rows = quantities("data", {"recordings": 1200, "minutes": 0.25})
    assert format_table(rows).splitlines()[1:] == ["recordings  1,200", "minutes      0.25"]


def test_figures_of_few_colors_are_stored_with_a_palette(tmp_path: Path):
    got = page(tmp_path, Section("Line", figure=figure()), Section("Photograph", figure=photograph()))
    contents = [base64.b64decode(image["src"].split(",")[1]) for image in got.all("img")]
    assert [Image.open(io.BytesIO(content)).mode for content in contents] == ["P", "RGB"]


def photograph() -> Figure:
    """All colors side by side."""
    fig = Figure(figsize=(2, 2))
    red, green = np.meshgrid(np.linspace(0, 1, 200), np.linspace(0, 1, 200))
    blue = np.random.default_rng(0).random((200, 200))
    fig.subplots().imshow(np.stack([red, green, blue], axis=-1))
    return fig


def test_csv_numbers_read_back_equal(tmp_path: Path):
    got = page(tmp_path, Section("Thirds", table=pd.DataFrame({"row": ["a"], "y": [1 / 3]})))
    content = base64.b64decode(got.all("a")[0]["href"].split(",")[1]).decode()
    assert content == "row,y\na,0.3333333333333333\n"
