"""What the journal of the tuning benchmark says: targets, times, scores, bands."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from adaptax.bench.tuning import protocol
from adaptax.bench.tuning.methods import METHODS, REFERENCES
from adaptax.bench.tuning.populations import EVERY
from adaptax.tuning.analysis.bands import Band, band

TUNED = "tuned AdamW"

Place = tuple[str, str]
"""A task and a variant: a problem."""


class Target(NamedTuple):
    """What tuned AdamW reached on a problem, and how it was tuned."""

    loss: float
    method: str
    rate: float


class Results(NamedTuple):
    """The whole of it.

    `curves[place][method][rate]` has the shape (seeds, looks); `steps` and `seconds`
    map methods onto times to target, a problem each, in the order of `places`; `bands`
    maps methods onto bands by task.
    """

    places: list[Place]
    curves: dict[Place, dict[str, dict[float, np.ndarray]]]
    targets: dict[Place, Target]
    steps: dict[str, list[float]]
    seconds: dict[str, list[float]]
    bands: dict[str, dict[str, Band]]

    def methods(self) -> list[str]:
        """List the methods, the best score in steps first."""
        scores = self.scores(self.steps)
        return sorted(self.steps, key=lambda name: -scores[name])

    def scores(
        self, times: Mapping[str, list[float]], plain: bool | None = None
    ) -> dict[str, float]:
        """Score every method, on all problems or only the plain or held-out ones."""
        chosen = [
            plain is None or (variant == "plain") == plain for _, variant in self.places
        ]
        ratios = protocol.ratios_to_fastest(times)
        return {name: protocol.score(ratio[chosen]) for name, ratio in ratios.items()}


def evaluate(
    records: Iterable[Mapping[str, Any]], horizons: Mapping[str, int]
) -> Results:
    """Evaluate the records of a journal.

    Args:
        records: Of complete units, those of tuned AdamW's two sweeps among them.
        horizons: The steps of a task's run.
    """
    curves, step_seconds = _collected(records)
    places = sorted(curves, key=lambda place: (place[1] != "plain", place[0]))
    targets, bands = {}, defaultdict(dict)
    steps, seconds = defaultdict(list), defaultdict(list)
    for place in places:
        looks = horizons[place[0]] // EVERY
        target = targets[place] = _target(curves[place], looks)
        tuned = curves[place][target.method][target.rate][:, :looks]
        measured = {TUNED: (tuned, target.method)}
        for name, by_rate in curves[place].items():
            measured[name] = by_rate[METHODS[name].rate], name
            if place[1] == "plain" and len(by_rate) > 1:
                rates = sorted(by_rate)
                losses = [
                    protocol.median_best(by_rate[rate][:, :looks]) for rate in rates
                ]
                if found := band(rates, losses, protocol.TOLERANCE):
                    bands[name][place[0]] = found
        for name, (runs, method) in measured.items():
            taken = protocol.steps_to_target(runs, EVERY, target.loss)
            steps[name].append(taken)
            seconds[name].append(taken * step_seconds[place, method])
    return Results(places, curves, targets, dict(steps), dict(seconds), dict(bands))


def _target(by_method, looks: int) -> Target:
    configurations = {
        (method.name, rate): runs[:, :looks]
        for method in REFERENCES
        for rate, runs in sorted(by_method[method.name].items())
    }
    (method, rate), loss = protocol.choose_target(configurations)
    return Target(loss, method, rate)


def _collected(records: Iterable[Mapping[str, Any]]):
    runs: Any = defaultdict(lambda: defaultdict(lambda: defaultdict(dict)))
    seconds = {}
    for record in records:
        place, method = (record["task"], record["variant"]), record["method"]
        if "losses" in record:
            losses = np.array(record["losses"], float)  # None becomes NaN
            runs[place][method][record["rate"]][record["seed"]] = losses
        else:
            seconds[place, method] = record["step_seconds"]
    curves = {
        place: {
            method: {
                rate: np.stack([by_seed[seed] for seed in sorted(by_seed)])
                for rate, by_seed in by_rate.items()
            }
            for method, by_rate in by_method.items()
        }
        for place, by_method in runs.items()
    }
    return curves, seconds
