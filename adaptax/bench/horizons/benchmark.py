"""Cool one run down to many horizons, and compare with a tuned cosine for each.

The protocol is in docs/horizons.md. The results of a task are appended to a journal as
soon as they are there, and an interrupted benchmark resumes from it.
"""

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax

from adaptax.bench.horizons.report import write_report
from adaptax.bench.horizons.runs import FULL, SMOKE, measure
from adaptax.bench.shared.journal import (
    add_journal_arguments,
    ended_now,
    open_journal,
)
from adaptax.bench.shared.tasks import TASKS
from adaptax.bench.shared.workers import map_unordered, usable_cores

PROTOCOL = 2

_SMOKE_TASKS = ("logistic", "quadratic")


class _Unit(NamedTuple):
    task: str
    smoke: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--tasks", nargs="+", choices=TASKS, metavar="TASK")
    parser.add_argument(
        "--smoke", action="store_true", help="two tasks, a tenth of the steps, two runs"
    )
    add_journal_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Run the tasks that the journal lacks, and report on all."""
    smoke = arguments.smoke
    tasks = arguments.tasks or (_SMOKE_TASKS if smoke else tuple(TASKS))
    out = arguments.out or Path(f"runs/horizons{'-smoke' if smoke else ''}")
    journal, about = open_journal(out / "horizons.jsonl", arguments, PROTOCOL)
    missing = [_Unit(task, smoke) for task in tasks if task not in journal.units]
    workers = arguments.workers or len(usable_cores())
    for unit, record in map_unordered(_measured, missing, workers):
        journal.add(unit.task, [record | ended_now()])
        print(f"{unit.task}: done", flush=True)
    records: list[dict[str, Any]] = [journal.units[task][0] for task in tasks]
    summary = write_report(records, about, out)
    (out / "horizons.json").write_text(json.dumps(summary, indent=1) + "\n")


def _measured(unit: _Unit) -> dict[str, Any]:
    try:
        return measure(TASKS[unit.task], SMOKE if unit.smoke else FULL)
    finally:
        jax.clear_caches()
