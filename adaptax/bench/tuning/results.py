"""Targets, times, scores and bands from the journal of the tuning benchmark."""

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
    """The loss that tuned AdamW reached on a problem, with its variant and rate."""

    loss: float
    method: str
    rate: float


class Results(NamedTuple):
    """All results of the benchmark.

    `curves[place][method][rate]` has the shape (seeds, evaluations). `steps` and
    `seconds` map a method to its times to target on the problems, in the order of
    `places`; `bands` maps it to its bands by task.
    """

    places: list[Place]
    curves: dict[Place, dict[str, dict[float, np.ndarray]]]
    targets: dict[Place, Target]
    steps: dict[str, list[float]]
    seconds: dict[str, list[float]]
    bands: dict[str, dict[str, Band]]

    def methods(self) -> list[str]:
        """Return the methods, the best score in steps first."""
        scores = self.scores(self.steps)
        return sorted(self.steps, key=lambda name: -scores[name])

    def scores(
        self, times: Mapping[str, list[float]], plain: bool | None = None
    ) -> dict[str, float]:
        """Return every method's score on all, only plain or only held-out problems."""
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
        records: Records of complete units, including both sweeps of tuned AdamW.
        horizons: The number of steps of a run, by task.
    """
    curves, step_seconds = _collected(records)
    places = sorted(curves, key=lambda place: (place[1] != "plain", place[0]))
    targets, bands = {}, defaultdict(dict)
    steps, seconds = defaultdict(list), defaultdict(list)
    for place in places:
        evaluations = horizons[place[0]] // EVERY
        target = targets[place] = _target(curves[place], evaluations)
        tuned = curves[place][target.method][target.rate][:, :evaluations]
        measured = {TUNED: (tuned, target.method)}
        for name, by_rate in curves[place].items():
            measured[name] = by_rate[METHODS[name].rate], name
            if place[1] == "plain" and len(by_rate) > 1:
                rates = sorted(by_rate)
                losses = [
                    protocol.median_best(by_rate[rate][:, :evaluations])
                    for rate in rates
                ]
                if found := band(rates, losses, protocol.TOLERANCE):
                    bands[name][place[0]] = found
        for name, (runs, method) in measured.items():
            taken = protocol.steps_to_target(runs, EVERY, target.loss)
            steps[name].append(taken)
            seconds[name].append(taken * step_seconds[place, method])
    return Results(places, curves, targets, dict(steps), dict(seconds), dict(bands))


def _target(by_method, evaluations: int) -> Target:
    configurations = {
        (method.name, rate): runs[:, :evaluations]
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
