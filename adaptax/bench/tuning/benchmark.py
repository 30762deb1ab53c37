"""Train small networks with nothing tuned, and compare with AdamW tuned for each.

The protocol is in docs/tuning.md. Results are appended to a journal, one line per run,
from which an interrupted benchmark resumes. The report depends on the journal alone.
"""

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.progress import TimeElapsedColumn as Elapsed

from adaptax.bench.shared.records import machine, versions
from adaptax.bench.shared.tasks import TASKS, Problem
from adaptax.bench.tuning.journal import Journal
from adaptax.bench.tuning.methods import METHODS, REFERENCES, Method
from adaptax.bench.tuning.populations import EVERY, Population, compile_population
from adaptax.bench.tuning.report import write_report
from adaptax.bench.tuning.workers import map_unordered, usable_cores

PROTOCOL = 1
SEEDS = 5
LONGEST = 4
"""The steps of a method that needs no horizon, as a multiple of the task's horizon."""

_SMOKE_TASKS = ("logistic", "quadratic")
_SMOKE_METHODS = ("nadamw_cosine", "prodigy", "dog_average", "optax_prodigy")
_SLOW_FIRST = ("transformer", "convolution", "gru", "mlp", "autoencoder")


class Unit(NamedTuple):
    """A task and a method, by name, with a number of seeds and of steps."""

    task: str
    method: str
    seeds: int
    steps: int

    @property
    def label(self) -> str:
        """The unit's name in the journal."""
        return f"{self.task}/{self.method}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--tasks", nargs="+", choices=TASKS, metavar="TASK")
    parser.add_argument("--methods", nargs="+", choices=METHODS, metavar="METHOD")
    parser.add_argument("--seeds", type=_positive, help=f"{SEEDS} by default")
    parser.add_argument(
        "--workers", type=_positive, help="processes, by default one for each core"
    )
    parser.add_argument(
        "--smoke", action="store_true", help="a tenth of the steps, and few units"
    )
    parser.add_argument(
        "--restart",
        action="store_true",
        help="delete the journal in --out instead of resuming from it",
    )


def _positive(text: str) -> int:
    """Parse a positive integer, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number >= 1, got {text!r}.")
    return int(text)


def run(arguments: argparse.Namespace) -> None:
    """Run the units that the journal lacks, and report on all."""
    smoke = arguments.smoke
    tasks = arguments.tasks or (_SMOKE_TASKS if smoke else tuple(TASKS))
    methods = arguments.methods or (_SMOKE_METHODS if smoke else tuple(METHODS))
    seeds = arguments.seeds or (2 if smoke else SEEDS)
    names = dict.fromkeys([*(method.name for method in REFERENCES), *methods])
    units = [
        Unit(task, method, seeds, horizon(task, smoke))
        for task in sorted(tasks, key=_cost)
        for method in names
    ]
    out = arguments.out or Path("runs/tuning-smoke" if smoke else "runs/tuning")
    path = out / "tuning.jsonl"
    if arguments.restart:
        path.unlink(missing_ok=True)
    conditions = {
        "protocol": PROTOCOL,
        "seeds": seeds,
        "smoke": smoke,
        "versions": versions(),
        "machine": machine(),
    }
    try:
        journal = Journal(path, conditions)
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from None
    _run_units(units, journal, arguments.workers or len(usable_cores()))
    records = [record for unit in units for record in journal.units[unit.label]]
    horizons = {unit.task: unit.steps for unit in units}
    write_report(records, horizons, conditions, out)


def horizon(task: str, smoke: bool) -> int:
    """Return the steps of a task's run, a multiple of EVERY."""
    steps = TASKS[task].steps
    return max(2, steps // (10 * EVERY)) * EVERY if smoke else steps


def _cost(task: str) -> int:
    return _SLOW_FIRST.index(task) if task in _SLOW_FIRST else len(_SLOW_FIRST)


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
            journal.add(unit.label, records)
            progress.update(bar, advance=1, description=unit.label)


def measure(unit: Unit) -> list[dict[str, Any]]:
    """Run a unit: every variant of a task, at the default rate and in the sweep."""
    task, method = TASKS[unit.task], METHODS[unit.method]
    population: Population | None = None
    compiled_for = 0
    records = []
    for variant, problem in task.variants().items():
        if population is None or compiled_for != problem.batch_size:
            longest = LONGEST * unit.steps
            rates = 1 + len(method.sweep())
            population = compile_population(
                task, method, problem, unit.steps, unit.seeds, rates, longest
            )
            compiled_for = problem.batch_size
        name = {"task": unit.task, "variant": variant, "method": unit.method}
        records += [
            name | record
            for record in _measure_variant(population, problem, method, unit, variant)
        ]
    jax.clear_caches()
    return records


def _measure_variant(
    population: Population, problem: Problem, method: Method, unit: Unit, variant: str
) -> list[dict[str, Any]]:
    steps = unit.steps if method.horizon else LONGEST * unit.steps
    default = population.train(problem, [method.rate], unit.seeds, steps)
    records = _runs([method.rate], default)
    if variant == "plain" or method in REFERENCES:
        rates = [rate for rate in method.sweep() if rate != method.rate]
        if rates:
            swept = population.train(problem, rates, unit.seeds, unit.steps)
            records += _runs(rates, swept)
    seconds = population.step_seconds(problem, method.rate, unit.seeds, 50, 5)
    timing = {"compile_seconds": population.compile_seconds, "step_seconds": seconds}
    return [*records, timing]


def _runs(rates: list[float], losses: np.ndarray) -> list[dict[str, Any]]:
    return [
        {"rate": rate, "seed": seed, "losses": [_rounded(loss) for loss in curve]}
        for rate, curves in zip(rates, losses, strict=True)
        for seed, curve in enumerate(curves)
    ]


def _rounded(loss: float) -> float | None:
    return float(f"{loss:.6g}") if np.isfinite(loss) else None
