"""Results as tables, in plain text and in HTML."""

from collections.abc import Mapping
from html import escape
from typing import Any

from adaptax._core import checks


def text(columns: Mapping[str, Any], rows: int) -> str:
    """Return columns of numbers as text, right-aligned under their titles.

    Args:
        columns: Arrays of the same length, by title.
        rows: The number of rows to show; a last line counts the others.

    >>> print(text({"rate": [0.1, 0.01], "score": [12.34567, 0.5]}, rows=1))
    rate  score
     0.1  12.35
    … and 1 more
    """
    titles, cells, more = _cells(columns, rows)
    widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in (titles, *cells)
    ]
    return "\n".join([*lines, *more])


def html(columns: Mapping[str, Any], rows: int) -> str:
    """Return columns of numbers as an HTML table, with all text escaped; see `text`.

    >>> print(html({"a<b": [1.0]}, rows=1))
    <table>
    <thead><tr><th>a&lt;b</th></tr></thead>
    <tbody>
    <tr><td>1</td></tr>
    </tbody>
    </table>
    """
    titles, cells, more = _cells(columns, rows)

    def line(cells, kind):
        inner = "".join(f"<{kind}>{escape(cell)}</{kind}>" for cell in cells)
        return f"<tr>{inner}</tr>"

    parts = ["<table>", f"<thead>{line(titles, 'th')}</thead>", "<tbody>"]
    parts += [*(line(row, "td") for row in cells), "</tbody>", "</table>"]
    return "\n".join([*parts, *(f"<p>{escape(one)}</p>" for one in more)])


def _cells(
    columns: Mapping[str, Any], rows: int
) -> tuple[list[str], list[list[str]], list[str]]:
    """Return the titles, the cells of the rows to show, and a line about the others."""
    rows = checks.length("rows", rows, at_least=0)
    listed = list(zip(*columns.values(), strict=True))
    cells = [[_shown(value) for value in row] for row in listed[:rows]]
    more = len(listed) - rows
    return list(columns), cells, [f"… and {more} more"] if more > 0 else []


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:.4g}"
