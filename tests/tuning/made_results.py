"""A small result of every tool, made by hand: four rates, two seeds, twelve steps."""

import numpy as np

from adaptax import tuning

_GENERATOR = np.random.default_rng(0)
RATES = np.geomspace(0.01, 0.3, 4).astype(np.float32)
ABOUT = {"plan": "one by one", "seeds": [0, 1], "name": "learning_rate"}


def losses(*shape):
    return _GENERATOR.uniform(0.5, 2.0, shape).astype(np.float32)


SWEEP = (
    {"learning_rate": RATES},
    losses(4, 2, 12),
    losses(4, 2),
    {"accuracy": losses(4, 2)},
    ABOUT,
)
RACE = np.array([6, 12], np.int32), np.array([1, 2, 1, 2], np.int32)
SUGGESTED = {"valley": 0.03, "slide": 0.02, "minimum": 0.1, "steep": None}
RANGES = {name: rate and (rate / 2, rate * 2) for name, rate in SUGGESTED.items()}
BASELINE = tuning.CosineBaseline(0.1, 0.05, losses(2, 12), losses(2), {})

MADE = {
    "find_learning_rate": tuning.FinderResult(
        np.geomspace(1e-4, 1.0, 12).astype(np.float32),
        losses(2, 12),
        losses(2, 12),
        SUGGESTED,
        RANGES,
        "ok",
        {**ABOUT, "mode": "exponential"},
    ),
    "sweep": tuning.SweepResult(*SWEEP),
    "successive_halving": tuning.HalvingResult(*SWEEP, *RACE),
    "median_stopping": tuning.StoppingResult(*SWEEP, *RACE),
    "population_based_training": tuning.PopulationResult(
        {"learning_rate": np.stack([RATES, RATES[[0, 1, 2, 0]]])},
        losses(4, 12),
        losses(2, 4),
        np.array([[0, 1, 2, 3], [0, 1, 2, 0]]),
        {"accuracy": losses(2, 4)},
        6,
        ABOUT,
    ),
    "branch": tuning.BranchResult(
        {"learning_rate": np.stack([RATES, RATES])},
        losses(2, 4, 3),
        losses(2, 4),
        np.array([1, 2]),
        losses(12),
        6,
        ABOUT,
    ),
    "search_schedule": tuning.SearchResult(
        np.log(RATES[[0, 2]]),
        losses(2, 12),
        losses(2),
        {},
        losses(3, 4),
        np.log(_GENERATOR.choice(RATES, (3, 4, 2))),
        BASELINE,
        ABOUT,
    ),
    "play_rule": tuning.RuleResult(
        np.array([0, 0, 0, 1]),
        np.array([-1, -1, -1, 2]),
        {"learning_rate": RATES},
        losses(4, 12),
        losses(4),
        {},
        ABOUT,
    ),
}
