"""The results of the tuning benchmark, from the records of its journal."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from adaptax.bench.shared.intervals import median
from adaptax.bench.tuning import protocol
from adaptax.bench.tuning.cases import CASES, LONG
from adaptax.bench.tuning.methods import RECIPES, TUNED
from adaptax.bench.tuning.protocol import LOOKS
from adaptax.bench.tuning.runs import CHOOSING, SCORING, TARGET

TUNED_ADAMW = "tuned AdamW"


class Runs(NamedTuple):
    """Runs of a recipe at one rate.

    `seeds` (runs,) ascend; `curves` has the validation losses (runs, looks), and
    `tests` (runs,) the test losses at the end.
    """

    seeds: np.ndarray
    curves: np.ndarray
    tests: np.ndarray

    def seeded(self, first: int, below: float = np.inf) -> "Runs":
        """Return the runs with seeds in a range."""
        rows = (self.seeds >= first) & (self.seeds < below)
        return Runs(self.seeds[rows], self.curves[rows], self.tests[rows])


class CaseResults(NamedTuple):
    """The results of a case.

    `tuned` is the recipe that tuned AdamW chose, `rate` its rate, and `target` the loss
    that it reached. `ratios`, `budgets` and `tests` have for each recipe the values of
    the scoring seeds. `cost` is the budget of AdamW with the cost of its sweep.
    `chosen` has the rates of all recipes.
    """

    name: str
    tuned: str
    rate: float
    target: float
    ratios: dict[str, np.ndarray]
    budgets: dict[str, np.ndarray]
    tests: dict[str, np.ndarray]
    curves: dict[str, np.ndarray]
    chosen: dict[str, float]
    cost: float


def evaluate(records: Iterable[Mapping[str, Any]]) -> list[CaseResults]:
    """Evaluate the records of a journal, whose cases all have tuned AdamW."""
    by_case = _collected(records)
    results = []
    for name, recipes in by_case.items():
        by_recipe = dict(recipes)
        short = name.removesuffix(f", {LONG} T")
        if short != name:
            by_recipe |= {
                recipe: _continued(runs)
                for recipe, runs in by_case.get(short, {}).items()
                if recipe not in by_recipe and not RECIPES[recipe].horizon
            }
        results.append(_evaluated(name, by_recipe))
    return results


def _evaluated(name: str, recipes: dict[str, dict[Any, Runs]]) -> CaseResults:
    chosen = {recipe: _chosen_rate(runs) for recipe, runs in recipes.items()}
    scores = {
        recipe.name: _choosing_score(recipes[recipe.name])
        for recipe in TUNED
        if recipe.name in recipes
    }
    tuned = min(scores, key=lambda recipe: scores[recipe])
    judged = {
        recipe: recipes[recipe][LOOKS, rate].seeded(SCORING)
        for recipe, rate in chosen.items()
        if (LOOKS, rate) in recipes[recipe]
    }
    of_target = recipes[tuned][LOOKS, chosen[tuned]].seeded(TARGET, SCORING)
    loss = protocol.target(of_target.curves)
    reference = judged[tuned]
    judged[TUNED_ADAMW] = reference
    longer = {
        recipe: recipes[recipe].get((LONG * LOOKS, rate), judged[recipe])
        for recipe, rate in chosen.items()
        if recipe in judged
    }
    longer[TUNED_ADAMW] = reference
    return CaseResults(
        name,
        tuned,
        chosen[tuned],
        loss,
        {
            recipe: protocol.ratios(runs.tests, _paired(reference, runs.seeds))
            for recipe, runs in judged.items()
        },
        {
            recipe: protocol.budgets(runs.curves, loss)
            for recipe, runs in longer.items()
        },
        {recipe: runs.tests for recipe, runs in judged.items()},
        {recipe: runs.curves for recipe, runs in longer.items()},
        chosen,
        _cost(recipes, loss),
    )


def _paired(reference: Runs, seeds: np.ndarray) -> np.ndarray:
    """Return the reference's test losses with these seeds."""
    return reference.tests[np.searchsorted(reference.seeds, seeds)]


def _chosen_rate(runs: dict[Any, Runs]) -> float:
    """Return the rate of the judging runs."""
    (rate,) = {
        rate for (_, rate), found in runs.items() if (found.seeds >= TARGET).any()
    }
    return rate


def _choosing_score(runs: dict[Any, Runs]) -> float:
    return min(map(_median_best, _choosing(runs)))


def _choosing(runs: dict[Any, Runs]) -> list[Runs]:
    """Return the choosing runs of each rate."""
    found = (
        one.seeded(CHOOSING, TARGET)
        for (looks, _), one in runs.items()
        if looks == LOOKS
    )
    return [one for one in found if len(one.seeds)]


def _median_best(runs: Runs) -> float:
    return median(protocol.best_losses(runs.curves))


def _cost(recipes: dict[str, dict[Any, Runs]], loss: float) -> float:
    """Return the expected budget of trying AdamW's configurations in random order."""
    best = [
        _median_best(runs)
        for recipe in TUNED
        if recipe.name in recipes
        for runs in _choosing(recipes[recipe.name])
    ]
    return protocol.sweep_budget(sum(one <= loss for one in best), len(best))


def _continued(runs: dict[Any, Runs]) -> dict[Any, Runs]:
    """Return runs to 4 T as runs with the looks of that horizon."""
    return {
        (LOOKS, rate): found._replace(curves=found.curves[:, LONG - 1 :: LONG])
        for (looks, rate), found in runs.items()
        if looks == LONG * LOOKS
    }


def _collected(
    records: Iterable[Mapping[str, Any]],
) -> dict[str, dict[str, dict[Any, Runs]]]:
    """Return runs by case, by recipe, and by their number of looks and rate."""
    grouped: Any = defaultdict(lambda: defaultdict(lambda: defaultdict(dict)))
    for record in records:
        if "losses" not in record:  # the date
            continue
        at = grouped[record["case"]][record["recipe"]]
        at[len(record["losses"]), record["rate"]][record["seed"]] = record
    order = [case for case in CASES if case in grouped]
    return {
        case: {
            recipe: {at: _runs(by_seed) for at, by_seed in by_rate.items()}
            for recipe, by_rate in grouped[case].items()
        }
        for case in order
    }


def _runs(by_seed: Mapping[int, Mapping[str, Any]]) -> Runs:
    rows = [by_seed[seed] for seed in sorted(by_seed)]
    return Runs(
        np.array(sorted(by_seed)),
        np.array([row["losses"] for row in rows], float),  # None becomes NaN
        np.array([row["test"] for row in rows], float),
    )
