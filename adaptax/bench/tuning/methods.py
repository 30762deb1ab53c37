"""The recipes of the tuning benchmark, each a function of a rate and a horizon.

A recipe is swept, or runs at its default. A sweep multiplies its centre by 10^(k/2).
A recipe with a horizon receives the number of steps of the run.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import optax

import adaptax

Role = Literal["tuned", "reference", "fixed", "opponent", "ours"]


class Recipe(NamedTuple):
    """A way to train.

    `make(rate, steps)` returns the optimizer. `rate` is the default one; a swept recipe
    has `centre` instead, the middle of its rates. `horizon` says whether it needs
    `steps`. `evaluated(state, params)` returns the parameters to evaluate.
    """

    name: str
    role: Role
    make: Callable[[Any, Any], optax.GradientTransformation]
    rate: float = 1.0
    centre: float | None = None
    horizon: bool = False
    evaluated: Callable[[Any, Any], Any] = adaptax.eval_params

    def grid(self, count: int) -> list[float]:
        """Return rates in steps of half a decade; with an even count, more below."""
        assert self.centre is not None
        rates = (self.centre * 10 ** (k / 2 - count // 2 / 2) for k in range(count))
        return [float(f"{rate:.3g}") for rate in rates]


def finer(rate: float) -> list[float]:
    """Return the rates a quarter of a decade beside a rate."""
    return [float(f"{rate * 10**power:.3g}") for power in (-0.25, 0.25)]


def warmed_cosine(peak: Any, steps: Any) -> adaptax.Schedule:
    """Return a cosine to 0, after a warm-up over a twentieth of the steps."""
    return adaptax.cosine(peak, steps, warmup_steps=steps // 20)


def warmed_linear(peak: Any, steps: Any) -> adaptax.Schedule:
    """Return a line to 0, after a warm-up over a twentieth of the steps."""
    warm = steps // 20
    return adaptax.warmup(adaptax.linear(peak, total_steps=steps - warm), steps=warm)


_DECAY = 0.01
"""The weight decay of tuned recipes, and of AdamW: PyTorch's default."""

adamw = partial(adaptax.adamw, weight_decay=_DECAY)


def _averaged(optimizer: Any) -> optax.GradientTransformation:
    return adaptax.iterate_average(optimizer)


TUNED = (
    Recipe("adamw", "tuned", lambda rate, steps: adamw(rate), centre=1e-2),
    Recipe(
        "adamw_cosine",
        "tuned",
        lambda rate, steps: adamw(warmed_cosine(rate, steps)),
        centre=1e-2,
        horizon=True,
    ),
    Recipe(
        "adamw_linear",
        "tuned",
        lambda rate, steps: adamw(warmed_linear(rate, steps)),
        centre=1e-2,
        horizon=True,
    ),
)
"""Tuned AdamW is the best of these, each at its best rate."""

REFERENCES = (
    Recipe(
        "adamw_average",
        "reference",
        lambda rate, steps: _averaged(adamw(rate)),
        centre=1e-2,
    ),
    Recipe(
        "nadamw_average",
        "reference",
        lambda rate, steps: _averaged(adamw(rate, nesterov=True)),
        centre=1e-2,
    ),
    Recipe(
        "schedule_free_adamw",
        "reference",
        lambda rate, steps: adaptax.schedule_free_adamw(rate, weight_decay=_DECAY),
        centre=1e-2,
    ),
    Recipe(
        "muon_cosine",
        "reference",
        lambda rate, steps: adaptax.muon(
            warmed_cosine(rate, steps), weight_decay=_DECAY
        ),
        centre=1e-2,
        horizon=True,
    ),
)
"""Other recipes that are swept on each problem."""

FIXED = (
    Recipe("adamw_1e-3", "fixed", lambda rate, steps: adamw(rate), rate=1e-3),
    Recipe(
        "adamw_average_1e-3",
        "fixed",
        lambda rate, steps: _averaged(adamw(rate)),
        rate=1e-3,
    ),
    *(
        Recipe(
            f"adamw_cosine_{name}",
            "fixed",
            lambda rate, steps: adamw(warmed_cosine(rate, steps)),
            rate=rate,
            horizon=True,
        )
        for name, rate in {"1e-3": 1e-3, "3e-4": 3e-4}.items()
    ),
)
"""AdamW as it is used without tuning."""

OPPONENTS = (
    Recipe("prodigy", "opponent", lambda rate, steps: optax.contrib.prodigy(rate)),
    Recipe(
        "prodigy_cosine",
        "opponent",
        lambda rate, steps: optax.contrib.prodigy(warmed_cosine(rate, steps)),
        horizon=True,
    ),
    Recipe(
        "prodigy_average",
        "opponent",
        lambda rate, steps: _averaged(adaptax.prodigy(rate)),
    ),
    Recipe(
        "dadapt_adamw",
        "opponent",
        lambda rate, steps: optax.contrib.dadapt_adamw(rate),
    ),
    Recipe("dog", "opponent", lambda rate, steps: optax.contrib.dog(rate)),
    Recipe("dowg", "opponent", lambda rate, steps: optax.contrib.dowg(rate)),
    Recipe("cocob", "opponent", lambda rate, steps: optax.contrib.cocob()),
    Recipe(
        "mechanic",
        "opponent",
        lambda rate, steps: optax.contrib.mechanize(optax.adamw(rate)),
    ),
    Recipe(
        "momo_adam",
        "opponent",
        lambda rate, steps: optax.contrib.momo_adam(rate),
        rate=1e-2,
    ),
    Recipe(
        "schedule_free_adamw_2.5e-3",
        "opponent",
        lambda rate, steps: optax.contrib.schedule_free_adamw(rate),
        rate=2.5e-3,
        evaluated=optax.contrib.schedule_free_eval_params,
    ),
)
"""Methods without a rate to tune as published: Optax's own, and Prodigy averaged."""

OURS = (
    Recipe("self_tuning", "ours", lambda rate, steps: adaptax.self_tuning(rate)),
    Recipe(
        "self_tuning, T known",
        "ours",
        lambda rate, steps: adaptax.self_tuning(rate, total_steps=steps),
        horizon=True,
    ),
    Recipe(
        "self_tuning, Muon",
        "ours",
        lambda rate, steps: adaptax.self_tuning(rate, direction="muon"),
    ),
)
"""With nothing tuned."""

FACTORS = tuple(
    Recipe(
        f"self_tuning × {factor:g}",
        "ours",
        lambda rate, steps: adaptax.self_tuning(rate),
        rate=factor,
    )
    for factor in (0.1, 0.3, 3.0, 10.0)
)
"""How wide the valley is: multiples of the rate that is inferred."""

RECIPES = {
    recipe.name: recipe
    for recipe in (*TUNED, *REFERENCES, *FIXED, *OPPONENTS, *OURS, *FACTORS)
}

LONG = (
    *(recipe.name for recipe in (*TUNED, REFERENCES[0])),
    "self_tuning, T known",
    "adamw_cosine_1e-3",
)
"""The recipes that are run for the longer horizon.

Those without a horizon continue their scoring runs instead.
"""
