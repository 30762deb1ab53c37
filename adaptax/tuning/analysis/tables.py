"""Results as plain-text tables."""

from collections.abc import Mapping
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
    rows = checks.length("rows", rows, at_least=0)
    listed = list(zip(*columns.values(), strict=True))
    shown = [
        list(columns),
        *([_shown(value) for value in row] for row in listed[:rows]),
    ]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in shown
    ]
    if len(listed) > rows:
        lines.append(f"… and {len(listed) - rows} more")
    return "\n".join(lines)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"
