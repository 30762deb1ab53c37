"""The report of the tuning benchmark: tables, figures and a summary."""

import importlib.util
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from adaptax.bench.shared.records import markdown
from adaptax.bench.tuning.results import TUNED, Results, evaluate

Row = dict[str, str]


def write_report(
    records: Sequence[Mapping[str, Any]],
    horizons: Mapping[str, int],
    conditions: Mapping[str, Any],
    out: Path,
) -> Results:
    """Print the scores, and write `tuning.md`, `tuning.json` and the figures."""
    results = evaluate(records, horizons)
    summary = summarize(results)
    scores = [_score_row(row) for row in summary]
    table = Table(title="tuning")
    for name in scores[0]:
        table.add_column(name, no_wrap=name == "method")
    for row in scores:
        table.add_row(*row.values())
    Console().print(table)
    out.mkdir(parents=True, exist_ok=True)
    whole = {**conditions, "horizons": dict(horizons), "methods": summary}
    text = json.dumps(whole, indent=2, allow_nan=False)
    (out / "tuning.json").write_text(text + "\n")
    parts = [
        "# Scores\n",
        markdown(scores),
        "\n# Targets\n",
        markdown(_target_rows(results, horizons)),
        "\n# Steps to target\n",
        markdown(_step_rows(results)),
        "\n# Bands of rates, in decades\n",
        markdown(_band_rows(results)),
    ]
    (out / "tuning.md").write_text("\n".join(parts) + "\n")
    if importlib.util.find_spec("matplotlib"):
        from adaptax.bench.tuning.figures import draw_figures

        draw_figures(results, out)
    else:
        print('No figures: they need Matplotlib, pip install "adaptax[plots]".')
    return results


def summarize(results: Results) -> list[dict[str, Any]]:
    """Return a row for each method, the best first; `None` replaces infinity."""
    steps = results.scores(results.steps)
    seconds = results.scores(results.seconds)
    plain = results.scores(results.steps, plain=True)
    held_out = results.scores(results.steps, plain=False)
    rows = []
    for name in results.methods():
        widths = [band.decades for band in results.bands.get(name, {}).values()]
        rows.append(
            {
                "method": name,
                "score_steps": steps[name],
                "score_seconds": seconds[name],
                "score_steps_plain": plain[name],
                "score_steps_held_out": held_out[name],
                "of_tuned_steps": _ratio(steps[name], steps[TUNED]),
                "of_tuned_seconds": _ratio(seconds[name], seconds[TUNED]),
                "reached": sum(map(math.isfinite, results.steps[name])),
                "problems": len(results.places),
                "band_decades": median(widths) if widths else None,
                "steps_to_target": _by_place(results, results.steps[name]),
                "seconds_to_target": _by_place(results, results.seconds[name]),
            }
        )
    return rows


def _by_place(results: Results, times: list[float]) -> dict[str, float | None]:
    return {
        "/".join(place): time if math.isfinite(time) else None
        for place, time in zip(results.places, times, strict=True)
    }


def _ratio(one: float, other: float) -> float | None:
    return one / other if other else None


def _score_row(row: Mapping[str, Any]) -> Row:
    return {
        "method": row["method"],
        "steps": _number(row["score_steps"]),
        "seconds": _number(row["score_seconds"]),
        "÷ tuned": _number(row["of_tuned_steps"]),
        "plain": _number(row["score_steps_plain"]),
        "held out": _number(row["score_steps_held_out"]),
        "reached": f"{row['reached']}/{row['problems']}",
        "band": _number(row["band_decades"]),
    }


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _target_rows(results: Results, horizons: Mapping[str, int]) -> list[Row]:
    return [
        {
            "problem": ", ".join(place),
            "horizon": str(horizons[place[0]]),
            "target": f"{target.loss:.4g}",
            "reached by": target.method,
            "rate": f"{target.rate:.3g}",
        }
        for place, target in results.targets.items()
    ]


def _step_rows(results: Results) -> list[Row]:
    return [
        {"method": name}
        | {
            ", ".join(place): f"{time:.0f}" if math.isfinite(time) else "–"
            for place, time in zip(results.places, results.steps[name], strict=True)
        }
        for name in results.methods()
    ]


def _band_rows(results: Results) -> list[Row]:
    tasks = [task for task, variant in results.places if variant == "plain"]
    rows = []
    for name in results.methods():
        if bands := results.bands.get(name):
            cells = {
                task: f"{'≥ ' if bands[task].open else ''}{bands[task].decades:.2f}"
                if task in bands
                else "–"
                for task in tasks
            }
            rows.append({"method": name} | cells)
    return rows
