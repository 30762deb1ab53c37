"""A journal: results in a file of JSON lines, written so that a kill loses little.

The first line says under which conditions the results were obtained, and a journal of
other conditions is refused. The results of one unit of work are written in one piece,
closed by a line `{"unit": ...}`, and synced; what follows the last such line was cut
short and is removed when the journal is opened again.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from adaptax.tuning.storage.atomic_files import write_atomically
from adaptax.tuning.storage.strict_json import differences, plain


class Journal:
    """An open journal; `units` maps the name of a finished unit to its records."""

    def __init__(self, path: Path, conditions: dict[str, Any]):
        """Open a journal, or begin one.

        Args:
            path: The file; its folder is made if need be.
            conditions: What the results depend on, as JSON has it.

        Raises:
            ValueError: If the file is a journal of other conditions, or none at all.
        """
        self.path = path
        self.units: dict[str, list[dict[str, Any]]] = {}
        whole = path.read_bytes() if path.exists() else b""
        if b"\n" not in whole:  # not even the first line is whole
            first = json.dumps({"conditions": conditions}) + "\n"
            write_atomically(path, first.encode())
            return
        kept = self._read(whole, conditions)
        if kept < len(whole):
            os.truncate(path, kept)

    def add(self, unit: str, records: Iterable[dict[str, Any]]) -> None:
        """Append a unit's records, and wait until they are on the disk."""
        records = list(records)
        lines = [json.dumps(record) for record in [*records, {"unit": unit}]]
        with self.path.open("a", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.units[unit] = records

    def _read(self, whole: bytes, conditions: dict[str, Any]) -> int:
        """Fill `units`, and give the number of bytes that count."""
        first, *lines = whole.splitlines(keepends=True)
        found = _parsed(first).get("conditions")
        if found is None:
            raise ValueError(f"{self.path} is no journal of this benchmark.")
        other = differences(found, plain(conditions))
        if other:
            raise ValueError(
                f"{self.path} has results of other conditions: {'; '.join(other)}. "
                "Give another --out, or remove it."
            )
        end = kept = len(first)
        pending: list[dict[str, Any]] = []
        for line in lines:
            record = _parsed(line)
            if not record:
                break
            end += len(line)
            if "unit" in record:
                self.units[record["unit"]] = pending
                pending, kept = [], end
            else:
                pending.append(record)
        return kept


def _parsed(line: bytes) -> dict[str, Any]:
    """Return a line's record, or an empty one if the line is not whole."""
    if not line.endswith(b"\n"):
        return {}
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}
