"""Train networks with nothing tuned, and compare with AdamW tuned for each.

The protocol is in docs/tuning.md. Results are appended to a journal, one line per run,
from which an interrupted benchmark resumes. The report depends on the journal alone.
"""

import argparse
from pathlib import Path
from typing import Any, NamedTuple, get_args

import jax
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.progress import TimeElapsedColumn as Elapsed

from adaptax.bench.shared.journal import (
    Journal,
    add_journal_arguments,
    ended_now,
    open_journal,
)
from adaptax.bench.shared.workers import map_unordered, usable_cores
from adaptax.bench.tuning import runs
from adaptax.bench.tuning.cases import CASES, Effort, Stage
from adaptax.bench.tuning.methods import FACTORS, LONG, OURS, RECIPES, TUNED
from adaptax.bench.tuning.report import write_report

PROTOCOL = 2

_SMOKE_CASES = ("logistic, plain", "quadratic, plain")
_SMOKE_RECIPES = (OURS[0].name, "prodigy")
_SMOKE = Effort(rates=2, finer=False, choosing=1, target=2, scoring=2)


class Unit(NamedTuple):
    """A case and a recipe, by name."""

    case: str
    recipe: str
    smoke: bool

    @property
    def label(self) -> str:
        """The unit's name in the journal."""
        return f"{self.case}/{self.recipe}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument(
        "--stage",
        choices=get_args(Stage),
        default="small",
        help="the small tasks (default), or a half of the large ones",
    )
    parser.add_argument("--cases", nargs="+", choices=CASES, metavar="CASE")
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, metavar="RECIPE")
    parser.add_argument(
        "--smoke", action="store_true", help="a tenth of the steps, and few runs"
    )
    parser.add_argument(
        "--again",
        nargs="+",
        choices=RECIPES,
        default=[],
        metavar="RECIPE",
        help="delete these recipes' results from the journal and run them again",
    )
    add_journal_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Run the units that the journal lacks, and report on all."""
    smoke, stage = arguments.smoke, arguments.stage
    of_stage = [case.name for case in CASES.values() if case.stage == stage]
    cases = arguments.cases or (_SMOKE_CASES if smoke else of_stage)
    recipes = arguments.recipes or (_SMOKE_RECIPES if smoke else _usual(stage))
    names = dict.fromkeys([*(recipe.name for recipe in TUNED), *recipes])
    units = [
        Unit(case, name, smoke)
        for case in cases
        for name in names
        if not CASES[case].long or name in LONG
    ]
    out = arguments.out or Path(f"runs/tuning-{'smoke' if smoke else stage}")
    journal, conditions = open_journal(out / "tuning.jsonl", arguments, PROTOCOL)
    journal.drop(
        unit for unit in journal.units if unit.partition("/")[2] in arguments.again
    )
    _run_units(units, journal, arguments.workers or len(usable_cores()))
    records = [record for unit in units for record in journal.units[unit.label]]
    dates = sorted(record["ended"] for record in records if "ended" in record)
    print(f"Runs ended from {dates[0]} to {dates[-1]}.")
    write_report(records, conditions | {"ended": [dates[0], dates[-1]]}, out)


def _usual(stage: str) -> list[str]:
    """Return the names of all recipes, on small tasks without multiples of the rate."""
    left_out = [recipe.name for recipe in FACTORS] if stage == "small" else []
    return [name for name in RECIPES if name not in left_out]


def _run_units(units: list[Unit], journal: Journal, workers: int) -> None:
    missing = [unit for unit in units if unit.label not in journal.units]
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Elapsed(),
    )
    with Progress(*columns) as progress:
        bar = progress.add_task("starting", total=len(units))
        progress.update(bar, completed=len(units) - len(missing))
        for unit, records in map_unordered(measure, missing, workers):
            journal.add(unit.label, [*records, ended_now()])
            progress.update(bar, advance=1, description=unit.label)


def measure(unit: Unit) -> list[dict[str, Any]]:
    """Run a unit, and return a record for each of its runs."""
    case, recipe = CASES[unit.case], RECIPES[unit.recipe]
    effort, every = case.effort, case.every
    if unit.smoke:
        effort, every = _SMOKE, max(1, case.every // 10)
    try:
        return runs.measure(case, recipe, effort, every)
    finally:
        jax.clear_caches()
