"""The report of the horizons benchmark: tables of what a cool-down costs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adaptax.bench.horizons.runs import (
    FRACTIONS,
    FULL,
    HORIZONS,
    SHAPES,
    share_of_steps,
)
from adaptax.bench.shared.intervals import interval, interval_of_problems, median
from adaptax.bench.shared.records import markdown

WITHIN = 1.005
"""A cool-down is as good as the cosine up to this ratio of losses."""


class Results:
    """The losses of all tasks: `cosines` and `cooled` as in `runs.measure`.

    `ratios` (tasks, fractions, shapes, horizons, seeds) are those of `cooled` to
    `cosines`. `best` is the fraction and the shape chosen for all tasks, on the seeds
    that choose.
    """

    def __init__(self, records: Sequence[Mapping[str, Any]]):
        """Collect the records of the tasks."""
        self.records = records
        self.tasks = [record["task"] for record in records]
        self.cosines = _array([record["cosines"] for record in records])
        self.cooled = _array([record["cooled"] for record in records])
        self.ratios = self._over_cosines(self.cooled)
        excess = _array([record["chosen"] for record in records]).mean(axis=0)
        fraction, shape = np.unravel_index(excess.argmin(), excess.shape)
        self.best = int(fraction), int(shape)

    def _over_cosines(self, losses: np.ndarray) -> np.ndarray:
        bases = self.cosines[:, None, None]
        with np.errstate(invalid="ignore"):
            ratios = losses / bases
        return np.where(np.isfinite(losses), np.nan_to_num(ratios, nan=np.inf), np.inf)

    @property
    def share(self) -> np.ndarray:
        """The steps of a trunk with cool-downs over the cosines', (fractions,)."""
        shares = [share_of_steps(record["steps"]) for record in self.records]
        return np.mean(shares, axis=0)

    @property
    def of_chance(self) -> np.ndarray:
        """The ratios of cosines to cosines of other seeds, (tasks, horizons, seeds)."""
        others = np.roll(self.cosines, 1, axis=-1)
        return self._over_cosines(others[:, None, None])[:, 0, 0]


def write_report(
    records: Sequence[Mapping[str, Any]], about: Mapping[str, Any], out: Path
) -> dict[str, Any]:
    """Print and write the tables, and return a summary, which the caller keeps."""
    results = Results(records)
    fraction, shape = results.best
    text = "\n\n".join(
        [
            f"Chosen: {_way(fraction, shape)}.",
            markdown(_of_tasks(results)),
            markdown(_of_ways(results)),
            f"Rates at the end of the range: {_at_ends(results) or 'none'}.",
        ]
    )
    print(text)
    (out / "horizons.md").write_text(text + "\n")
    return {
        **about,
        "chosen": {"fraction": FRACTIONS[fraction], "shape": SHAPES[shape]},
        "steps": dict(zip(map(str, FRACTIONS), results.share.tolist(), strict=True)),
        "records": list(records),
    }


def _of_tasks(results: Results) -> list[dict[str, str]]:
    """Return a row for each task, the worst first, and one for all."""
    fraction, shape = results.best
    ratios = results.ratios[:, fraction, shape]
    worst = np.argsort(-median(ratios).max(axis=1))
    rows = [
        {"task": results.tasks[task]}
        | {
            f"{horizon:g} T": _with_ends(ratios[task, index])
            for index, horizon in enumerate(HORIZONS)
        }
        for task in worst
    ]
    whole = {"task": "median of the tasks"} | {
        f"{horizon:g} T": _shown(interval_of_problems(list(ratios[:, index])))
        for index, horizon in enumerate(HORIZONS)
    }
    return [*rows, whole]


def _of_ways(results: Results) -> list[dict[str, str]]:
    """Return a row for each kind of cool-down, the worst first."""
    ways = [
        (np.log(median(results.ratios[:, fraction, shape])).mean(), fraction, shape)
        for fraction in range(len(FRACTIONS))
        for shape in range(len(SHAPES))
    ]
    rows = [
        {"cool-down": _way(fraction, shape)}
        | _judged(results.ratios[:, fraction, shape])
        | {"steps": f"{results.share[fraction]:.2f}"}
        for _, fraction, shape in sorted(ways, reverse=True)
    ]
    chance = {"cool-down": "the cosines, with other seeds"}
    return [*rows, chance | _judged(results.of_chance) | {"steps": "1.00"}]


def _judged(ratios: np.ndarray) -> dict[str, str]:
    """Return the columns of ratios (tasks, horizons, seeds)."""
    medians = median(ratios)
    return {
        "median": _shown(interval_of_problems(list(median(ratios.swapaxes(1, 2))))),
        "geometric mean": f"{np.exp(np.log(medians).mean()):.3f}",
        f"at most {WITHIN:g}": f"{int((medians <= WITHIN).sum())}/{medians.size}",
        "worst": f"{medians.max():.3f}",
    }


def _at_ends(results: Results) -> str:
    ends = (FULL.rates[0], FULL.rates[-1])
    return ", ".join(
        f"{record['task']} ({kind})"
        for record in results.records
        for kind in ("cosine", "trunk")
        if np.isin(np.array(record[f"{kind}_rates"]), ends).any()
    )


def _way(fraction: int, shape: int) -> str:
    return f"{SHAPES[shape]}, {100 * FRACTIONS[fraction]:g} %"


def _with_ends(ratios: np.ndarray) -> str:
    return _shown(interval(ratios))


def _shown(found: Any) -> str:
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _array(nested: Any) -> np.ndarray:
    """Return nested lists as an array; `None` is infinite."""
    array = np.array(nested, float)
    return np.where(np.isnan(array), np.inf, array)
