"""Results as tables to print."""

import io
from collections.abc import Mapping
from typing import Any


def text(columns: Mapping[str, Any], rows: int) -> str:
    """Lay out columns of numbers.

    Args:
        columns: Arrays of one length by their titles.
        rows: How many to show; a last line counts those that are left out.

    Raises:
        ImportError: If rich is missing.
    """
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError as error:
        raise ImportError('tables need rich: pip install "adaptax[tools]".') from error
    table = Table(box=None, pad_edge=False)
    for title in columns:
        table.add_column(title, justify="right")
    listed = list(zip(*columns.values(), strict=True))
    for row in listed[:rows]:
        table.add_row(*(_shown(value) for value in row))
    out = io.StringIO()
    Console(file=out, width=200, color_system=None).print(table)
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    if len(listed) > rows:
        lines.append(f"… and {len(listed) - rows} more")
    return "\n".join(lines)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"
