"""The output of a benchmark: a printed table, and its rows in a JSON file."""

import json
import os
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

_PACKAGES = (
    "adaptax",
    "jax",
    "jaxlib",
    "optax",
    "flax",
    "numpy",
    "scikit-learn",
    "torch",
    "optuna",
)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a result depends on."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Describe the machine: architecture, processor and usable cores."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count()
    return {"system": platform.system(), "processor": _processor(), "cores": cores}


def report(name: str, rows: Sequence[dict[str, Any]], out: Path | None) -> None:
    """Print rows as a table, and write them to `NAME.json` in a folder.

    Args:
        name: The benchmark's name.
        rows: Records with the same keys.
        out: The folder, created if it does not exist; `None` writes nothing. Each
            record in the file also has the versions and the machine.
    """
    table = Table(*rows[0], title=name)
    for row in rows:
        table.add_row(*map(_shown, row.values()))
    console = Console()
    if not console.is_terminal:  # a file has room for any table
        console.width = 200
    console.print(table)
    if out is None:
        return
    out.mkdir(parents=True, exist_ok=True)
    about = {"benchmark": name, "versions": versions(), "machine": machine()}
    records = [{**row, **about} for row in rows]
    (out / f"{name}.json").write_text(json.dumps(records, indent=2) + "\n")


def markdown(rows: Sequence[dict[str, str]]) -> str:
    """Return rows with the same keys as a table in Markdown."""
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *(list(row.values()) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.machine()


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
