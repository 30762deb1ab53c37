"""A journal: results in a file of JSON lines that survives an interruption.

The first line has the conditions of the results; a journal with other conditions is
refused. The results of a unit of work are appended at once, followed by a line
`{"unit": ...}`, and synced. Lines after the last such line are incomplete, and are
removed when the journal is opened again.
"""

import argparse
import json
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from adaptax.bench.shared.arguments import at_least
from adaptax.bench.shared.records import machine, versions
from adaptax.tuning.storage.atomic_files import write_atomically
from adaptax.tuning.storage.strict_json import differences, plain


class Journal:
    """An open journal; `units` maps the name of a finished unit to its records."""

    def __init__(self, path: Path, conditions: dict[str, Any]):
        """Open a journal, or create one.

        Args:
            path: The file; its folder is created if it does not exist.
            conditions: Everything the results depend on, as JSON values.

        Raises:
            ValueError: The file is a journal with other conditions, or no journal.
        """
        self.path = path
        self.units: dict[str, list[dict[str, Any]]] = {}
        whole = path.read_bytes() if path.exists() else b""
        if b"\n" not in whole:  # the first line is incomplete
            first = json.dumps({"conditions": conditions}) + "\n"
            write_atomically(path, first.encode())
            return
        size = self._read(whole, conditions)
        if size < len(whole):
            os.truncate(path, size)

    def add(self, unit: str, records: Iterable[dict[str, Any]]) -> None:
        """Append a unit's records, and sync them to the disk."""
        records = list(records)
        lines = [json.dumps(record) for record in [*records, {"unit": unit}]]
        with self.path.open("a", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.units[unit] = records

    def drop(self, units: Iterable[str]) -> None:
        """Remove units from the file, so that they can be added again."""
        dropped = set(units)
        if not dropped:
            return
        first, *lines = self.path.read_bytes().splitlines(keepends=True)
        kept, pending = [first], []
        for line in lines:
            pending.append(line)
            if (unit := _parsed(line).get("unit")) is not None:
                if unit not in dropped:
                    kept += pending
                pending = []
        write_atomically(self.path, b"".join(kept))
        for unit in dropped:
            del self.units[unit]

    def _read(self, whole: bytes, conditions: dict[str, Any]) -> int:
        """Fill `units`, and return the number of bytes of the complete units."""
        first, *lines = whole.splitlines(keepends=True)
        found = _parsed(first).get("conditions")
        if found is None:
            raise ValueError(f"{self.path} is not a journal of this benchmark.")
        other = differences(found, plain(conditions))
        if other:
            raise ValueError(
                f"{self.path} has results with other conditions: {'; '.join(other)}. "
                "Use another --out, or delete the file."
            )
        end = complete = len(first)
        pending: list[dict[str, Any]] = []
        for line in lines:
            record = _parsed(line)
            if not record:
                break
            end += len(line)
            if "unit" in record:
                self.units[record["unit"]] = pending
                pending, complete = [], end
            else:
                pending.append(record)
        return complete


def _parsed(line: bytes) -> dict[str, Any]:
    """Return a line's record, or an empty one if the line is incomplete."""
    if not line.endswith(b"\n"):
        return {}
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def add_journal_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of a benchmark whose runs are in a journal."""
    parser.add_argument(
        "--workers", type=at_least(1), help="processes, by default one for each core"
    )
    parser.add_argument(
        "--restart",
        action="store_true",
        help="delete the journal in --out instead of resuming from it",
    )


def open_journal(
    path: Path, arguments: argparse.Namespace, protocol: int
) -> tuple[Journal, dict[str, Any]]:
    """Return a benchmark's journal, and the conditions of its results.

    Args:
        path: The file.
        arguments: The command line, with `smoke` and `restart`.
        protocol: The number of the protocol.

    Raises:
        SystemExit: The file cannot be read or is of other conditions; it is kept.
    """
    if arguments.restart:
        path.unlink(missing_ok=True)
    conditions = {
        "protocol": protocol,
        "smoke": arguments.smoke,
        "versions": versions(),
        "machine": machine(),
    }
    try:
        return Journal(path, conditions), conditions
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from None


def ended_now() -> dict[str, str]:
    """Return the record of when a unit of work has ended."""
    return {"ended": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"}


def rounded(values: Any) -> Any:
    """Return an array as nested lists of numbers, `None` where they are not finite."""
    if np.ndim(values):
        return [rounded(part) for part in values]
    return float(f"{values:.6g}") if np.isfinite(values) else None
