"""What every result offers to look at: plots, notebooks, tables, data frames."""

import base64
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from made_results import MADE
from matplotlib.figure import Figure

import adaptax


@pytest.mark.parametrize("tool", MADE)
def test_a_result_plots_itself(tool):
    figure = MADE[tool].plot()
    assert isinstance(figure, Figure)
    assert all(axes.get_xlabel() or axes.get_ylabel() for axes in figure.axes)


@pytest.mark.parametrize("tool", MADE)
def test_a_notebook_shows_the_table(tool):
    result = MADE[tool]
    (*_, table) = ElementTree.fromstring(f"<div>{result._repr_html_(3)}</div>").iter(
        "table"
    )
    titles = [cell.text for cell in table.iter("th")]
    rows = [[cell.text for cell in row.iter("td")] for row in table.iter("tr")][1:]
    assert titles == list(result._table())
    text = result.table(rows=3).splitlines()
    assert text[0].split() == " ".join(titles).split()
    assert [line.split() for line in text[1 : len(rows) + 1]] == rows


def test_what_a_notebook_shows_is_escaped():
    found = MADE["sweep"]
    names = {"a<script>&": found.hparams["learning_rate"]}
    html = replace(found, hparams=names)._repr_html_()
    assert "<script" not in html
    assert "a&lt;script&gt;&amp;" in html


@pytest.mark.parametrize("tool", MADE)
def test_records_make_a_data_frame(tool):
    result = MADE[tool]
    frame = pd.DataFrame(result.to_records())
    assert len(frame) > 1
    assert not any(pd.api.types.is_object_dtype(kind) for kind in frame.dtypes)


@pytest.mark.parametrize("tool", MADE)
def test_a_plot_option_that_does_not_exist_is_named(tool):
    with pytest.raises(TypeError, match="rate_name"):
        MADE[tool].plot(rate_name="learning_rate")


def test_the_finders_table_has_its_suggestions_even_without_any():
    found = MADE["find_learning_rate"]
    none = dict.fromkeys(found.suggestions)
    empty = replace(found, suggestions=none, spread=none)
    rows = [line.split() for line in empty.table().splitlines()[1:]]
    assert rows == [[name, "-", "-", "-"] for name in none]


def test_a_run_of_a_rule_is_drawn_behind_the_one_that_it_continues():
    losses = np.ones((3, 4), np.float32)
    losses[2, 2:] = np.nan
    rates = {"learning_rate": np.float32([0.1, 0.2, 0.2])}
    found = adaptax.tuning.RuleResult(
        np.array([0, 0, 1]), np.array([-1, -1, 1]), rates, losses, losses[:, 0], {}, {}
    )
    drawn = [line.get_xdata() for line in found.plot().axes[1].lines]
    assert [list(steps[:2]) for steps in drawn if len(steps)] == [
        [1, 2],
        [1, 2],
        [5, 6],
    ]


class Page(HTMLParser):
    """The tags and texts of a page; it fails at tags that do not match."""

    VOID = ("img", "meta")

    def __init__(self, text):
        super().__init__()
        self.open, self.images, self.texts = [], [], {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        links = {"src", "href"} & dict(attributes).keys()
        assert tag == "img" if links else tag not in ("script", "link")
        if tag == "img":
            self.images.append(dict(attributes)["src"])
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.setdefault(self.open[-1] if self.open else "", []).append(data)


@pytest.mark.parametrize("tool", MADE)
def test_a_report_is_one_page_with_figure_table_and_the_call(tool, tmp_path):
    result = MADE[tool]
    call = 'adaptax.tool(\n    trial,\n    name="a<b&c",\n)'
    about = {**result.about, "call": call, "versions": {"jax": "0.12"}}
    replace(result, about=about).report(tmp_path / "new" / "report.html", rows=2)
    page = Page((tmp_path / "new" / "report.html").read_text("utf-8"))
    (image,) = page.images
    kind, data = image.split(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data, validate=True).startswith(b"\x89PNG")
    assert call in page.texts["code"][0]
    headings = ["Table", "How it was run", "How to repeat it", "Versions"]
    assert page.texts["h2"] == headings
    assert {*result._table()} <= {*page.texts["th"]}
    assert "one by one" in page.texts["td"]


def test_a_report_that_cannot_be_written_is_refused_before_it_is_drawn(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(adaptax.SweepResult, "plot", None)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"path .* cannot be written"):
        MADE["sweep"].report(tmp_path / "file" / "report.html")
    with pytest.raises(OSError, match="must be a file, and is a folder"):
        MADE["sweep"].report(tmp_path)


def test_a_report_that_fails_leaves_the_old_one(tmp_path, monkeypatch):
    monkeypatch.setattr(adaptax.SweepResult, "plot", None)
    (tmp_path / "report.html").write_text("old")
    with pytest.raises(TypeError):
        MADE["sweep"].report(tmp_path / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text() == "old"
