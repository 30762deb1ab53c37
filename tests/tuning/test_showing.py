"""What every result offers to look at: plots, notebooks, tables, data frames."""

import xml.etree.ElementTree as ElementTree
from dataclasses import replace

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
