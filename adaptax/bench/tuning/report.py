"""The report of the tuning benchmark: tables, figures and a summary."""

import importlib.util
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from adaptax.bench.shared.intervals import (
    Interval,
    interval,
    interval_of_problems,
    lower_median,
    median,
)
from adaptax.bench.shared.records import markdown
from adaptax.bench.tuning import protocol
from adaptax.bench.tuning.cases import CASES, LONG
from adaptax.bench.tuning.methods import FACTORS, OURS, RECIPES
from adaptax.bench.tuning.results import TUNED_ADAMW, CaseResults, evaluate

Row = dict[str, str]


def write_report(
    records: Sequence[Mapping[str, Any]], conditions: Mapping[str, Any], out: Path
) -> list[CaseResults]:
    """Print the methods, and write `tuning.md`, `tuning.json` and the figures."""
    out.mkdir(parents=True, exist_ok=True)
    results = evaluate(records)
    horizons = {
        "": [result for result in results if not CASES[result.name].long],
        "-long": [result for result in results if CASES[result.name].long],
    }
    summary: dict[str, Any] = dict(conditions)
    parts: list[str] = []
    for suffix, group in horizons.items():
        if not group:
            continue
        methods = summarize(group)
        _print(methods, f"tuning{suffix}")
        summary[f"methods{suffix}"] = methods
        parts += _tables(group, methods, f", {LONG} T" if suffix else "")
        _draw(group, methods, out, suffix)
    summary["cases"] = [_case_json(result) for result in results]
    text = json.dumps(_plain(summary), indent=2, allow_nan=False)
    (out / "tuning.json").write_text(text + "\n")
    (out / "tuning.md").write_text("\n\n".join(parts) + "\n")
    return results


def _print(methods: Sequence[Mapping[str, Any]], title: str) -> None:
    rows = [_method_row(row) for row in methods]
    table = Table(title=title)
    for name in rows[0]:
        table.add_column(name, no_wrap=name == "method")
    for row in rows:
        table.add_row(*row.values())
    Console().print(table)


def _draw(
    results: Sequence[CaseResults],
    methods: Sequence[Mapping[str, Any]],
    out: Path,
    suffix: str,
) -> None:
    if importlib.util.find_spec("matplotlib"):
        from adaptax.bench.tuning.figures import draw_figures

        draw_figures(results, methods, out, suffix)
    else:
        print('No figures: they need Matplotlib, pip install "adaptax[plots]".')


def _tables(
    results: Sequence[CaseResults], methods: Sequence[Mapping[str, Any]], at: str
) -> list[str]:
    """Return headings and tables; `at` is added to the headings."""
    tables = {
        recipe.name: case_rows(results, recipe.name)
        for recipe in OURS
        if any(recipe.name in result.ratios for result in results)
    }
    tables["All methods"] = [_method_row(row) for row in methods]
    if valley := _valley_rows(methods):
        tables["At multiples of the inferred rate"] = valley
    tables["Tuned AdamW"] = _tuned_rows(results)
    tables["Loss at the end over tuned AdamW's"] = _all_rows(
        results, methods, lambda result, name: median(result.ratios[name])
    )
    tables["Budget to match"] = _all_rows(
        results, methods, lambda result, name: _budget(result, name).value
    )
    parts: list[str] = []
    for heading, rows in tables.items():
        parts += [f"## {heading}{at}", markdown(rows)]
    return parts


def summarize(results: Sequence[CaseResults]) -> list[dict[str, Any]]:
    """Return a row for each method that has run on every case, the best ratio first."""
    names = [
        name
        for name in (TUNED_ADAMW, *RECIPES)
        if all(name in result.ratios for result in results)
    ]
    rows = []
    for name in names:
        ratios = [result.ratios[name] for result in results]
        budgets = [result.budgets[name] for result in results]
        of_cases = np.array([lower_median(values) for values in budgets])
        tuned = np.array([lower_median(r.budgets[TUNED_ADAMW]) for r in results])
        ours, theirs = protocol.pairwise_scores(of_cases, tuned)
        worst = [median(values) for values in ratios]
        rows.append(
            {
                "method": name,
                "ratio": interval_of_problems(ratios),
                "worst_ratio": max(worst),
                "worst_case": results[int(np.argmax(worst))].name,
                "budget": interval_of_problems(budgets, lower_median),
                "reached": int(np.isfinite(of_cases).sum()),
                "cases": len(results),
                "score": ours / theirs if theirs else math.inf,
            }
        )
    return sorted(rows, key=lambda row: (row["ratio"].value, row["method"]))


def case_rows(results: Sequence[CaseResults], method: str) -> list[Row]:
    """Return a row for each case, the largest ratio first, and one for all."""
    shown = [result for result in results if method in result.ratios]
    ratio = {r.name: interval(r.ratios[method]) for r in shown}
    rows = [
        {
            "problem": result.name,
            "loss at T over tuned AdamW's": _with_ends(ratio[result.name]),
            "budget to match, T": _with_ends(_budget(result, method)),
        }
        for result in sorted(shown, key=lambda result: -ratio[result.name].value)
    ]
    whole = (
        interval_of_problems([r.ratios[method] for r in shown]),
        interval_of_problems([r.budgets[method] for r in shown], lower_median),
    )
    ends = map(_with_ends, whole)
    last = ["**median**", *(f"**{one}**" for one in ends)]
    return [*rows, dict(zip(rows[0], last, strict=True))]


def _method_row(row: Mapping[str, Any]) -> Row:
    return {
        "method": row["method"],
        "loss at T": _with_ends(row["ratio"]),
        "worst": f"{_number(row['worst_ratio'])} ({row['worst_case']})",
        "budget, T": _with_ends(row["budget"]),
        "reached": f"{row['reached']}/{row['cases']}",
        "score": _number(row["score"]),
    }


def _valley_rows(methods: Sequence[Mapping[str, Any]]) -> list[Row]:
    factors = {recipe.name: recipe.rate for recipe in (*FACTORS, OURS[0])}
    found = {row["method"]: row for row in methods if row["method"] in factors}
    if len(found) < 2:
        return []
    return [
        {"factor": f"{factors[name]:g}", "loss at T": _with_ends(found[name]["ratio"])}
        for name in sorted(found, key=lambda name: factors[name])
    ]


def _tuned_rows(results: Sequence[CaseResults]) -> list[Row]:
    return [
        {
            "problem": result.name,
            "chosen": result.tuned,
            "rate": f"{result.rate:.3g}",
            "target": f"{result.target:.4g}",
            "test loss": f"{median(result.tests[TUNED_ADAMW]):.4g}",
            "budget, T": _with_ends(_budget(result, TUNED_ADAMW)),
            "with the cost of the sweep, T": _number(result.cost),
        }
        for result in results
    ]


def _all_rows(
    results: Sequence[CaseResults],
    methods: Sequence[Mapping[str, Any]],
    value: Callable[[CaseResults, str], float],
) -> list[Row]:
    return [
        {"method": row["method"]}
        | {result.name: _number(value(result, row["method"])) for result in results}
        for row in methods
    ]


def _budget(result: CaseResults, method: str) -> Interval:
    return interval(result.budgets[method], lower_median)


def _case_json(result: CaseResults) -> dict[str, Any]:
    """Return the medians of a case, for the summary."""
    return {
        "case": result.name,
        "tuned": result.tuned,
        "rate": result.rate,
        "target": result.target,
        "rates": result.chosen,
        "sweep_budget": result.cost,
        "ratio": {name: interval(v) for name, v in result.ratios.items()},
        "budget": {name: _budget(result, name) for name in result.budgets},
    }


def _plain(value: Any) -> Any:
    """Return JSON values; `None` replaces infinity."""
    if isinstance(value, Interval):
        return _plain(value._asdict())
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def _with_ends(found: Interval) -> str:
    ends = f"{_number(found.low)}, {_number(found.high)}"
    return f"{_number(found.value)} [{ends}]"


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "∞"
    return f"{value:.3g}" if abs(value) >= 10 else f"{value:.2f}"
