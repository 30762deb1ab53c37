"""The methods of the tuning benchmark, each a function of a rate and a horizon.

"With nothing tuned", a method runs at its default rate. The sweep multiplies the middle
of its grid by 10^(k/2), k = −6 … 6. A method with a horizon receives the number of
steps, and follows a schedule of that length.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import optax

import adaptax


class Method(NamedTuple):
    """A way to train.

    `make(rate, steps)` returns the optimizer; `rate` is the default one and `centre`
    the middle of the sweep, `None` without a sweep. `horizon` says whether it needs
    `steps`. `evaluated(state, params)` returns the parameters to evaluate.
    """

    name: str
    make: Callable[[Any, int], optax.GradientTransformation]
    rate: float
    centre: float | None
    horizon: bool = False
    evaluated: Callable[[Any, Any], Any] = adaptax.eval_params

    def sweep(self) -> list[float]:
        """Return the 13 rates of the sweep, over 6 decades, including the default."""
        if self.centre is None:
            return []
        rates = (self.centre * 10 ** (k / 2) for k in range(-6, 7))
        return [float(f"{rate:.3g}") for rate in rates]


def warmed_cosine(peak: Any, steps: int) -> adaptax.Schedule:
    """Return a cosine to 0, after a warm-up over a twentieth of the steps."""
    return adaptax.cosine(peak, steps, warmup_steps=max(1, steps // 20))


def _method(name: str, make: Any, rate: float = 1.0, **options: Any) -> Method:
    """Make a method that is swept around its default and needs no horizon."""
    return Method(name, lambda rate, steps: make(rate), rate, rate, **options)


def _with_horizon(name: str, make: Any, rate: float = 1.0) -> Method:
    """Make a method that receives the number of steps."""
    return Method(name, make, rate, rate, horizon=True)


def _swept_higher(method: Method) -> Method:
    """Sweep Adam's rates from 1e-5 to 10: tiny networks have high best rates."""
    return method._replace(centre=10 * method.rate)


def _adam_at(other: Any) -> Callable[[Any], optax.GradientTransformation]:
    return lambda rate: optax.chain(
        adaptax.scale_by_adam(), adaptax.descend(other, rate)
    )


def _three_phases(rate: Any, steps: int) -> adaptax.Controller:
    """Warm up, then follow `reduce_on_plateau`, and cool down in the last fifth."""
    warm, cool = max(1, steps // 20), steps // 5
    return adaptax.phases(
        adaptax.schedules.linear(0.0, total_steps=warm, end=rate),
        adaptax.reduce_on_plateau(),
        adaptax.schedules.linear(1.0, total_steps=cool),
        warm,
        steps - cool,
    )


def _gradient_at(estimate: Any) -> Callable[[Any], optax.GradientTransformation]:
    return lambda rate: optax.chain(
        adaptax.scale_by_gradient_descent(), adaptax.descend(estimate, rate)
    )


def _averaged(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda rate: adaptax.iterate_average(make(rate))


_debiased = partial(adaptax.prodigy, bias_correction=True)
_biased = partial(adaptax.prodigy, bias_correction=False)

REFERENCES = (
    _swept_higher(_method("adamw", adaptax.adamw, 1e-3)),
    _swept_higher(
        _with_horizon(
            "adamw_cosine",
            lambda rate, steps: adaptax.adamw(warmed_cosine(rate, steps)),
            1e-3,
        )
    ),
)
"""The methods whose sweeps, constant and cosine, determine the target of a task."""

FIXED = (
    _with_horizon(
        "nadamw_cosine",
        lambda rate, steps: adaptax.adamw(warmed_cosine(rate, steps), nesterov=True),
        0.03,
    ),
    _method("schedule_free_adamw", adaptax.schedule_free_adamw, 2.5e-3),
    _method("schedule_free_radam", adaptax.schedule_free_radam, 2.5e-3),
)
"""Methods with one rate for all tasks."""

FREE = (
    _method("prodigy", _biased),
    _method("dadapt_adam", adaptax.dadapt_adam),
    _method("dog", _gradient_at(adaptax.dog())),
    _method("dowg", _gradient_at(adaptax.dowg())),
    _method("cdat", _gradient_at(adaptax.cdat())),
    _method("mechanic", lambda rate: adaptax.mechanic(adaptax.adamw(rate))),
    _method("trac", lambda rate: adaptax.trac(adaptax.adamw(rate)), 1e-3),
    _method("momo", adaptax.momo),
    _method("momo_adam", adaptax.momo_adam, 1e-2),
    Method("cocob", lambda rate, steps: adaptax.cocob(), 1.0, None),
    _method("adamg", adaptax.adamg),
)
"""Methods that infer their rate; the sweep varies a factor of it."""

COMBINATIONS = (
    _method("dog_average", _averaged(_gradient_at(adaptax.dog()))),
    _method("l_dog_average", _averaged(_gradient_at(adaptax.l_dog()))),
    _method("adam_dog", _adam_at(adaptax.dog())),
    _method("adam_dog_average", _averaged(_adam_at(adaptax.dog()))),
    _with_horizon(
        "adam_dog_cosine",
        lambda rate, steps: _adam_at(adaptax.dog())(warmed_cosine(rate, steps)),
    ),
    _method("prodigy_debiased", _debiased),
    _method("prodigy_debiased_average", _averaged(_debiased)),
    _method(
        "prodigy_debiased_root_average",
        _averaged(lambda rate: _debiased(adaptax.inverse_sqrt(rate, rate=0.02))),
    ),
    _method(
        "prodigy_debiased_decay_average",
        _averaged(partial(_debiased, weight_decay=0.1)),
    ),
    _with_horizon(
        "prodigy_debiased_cosine",
        lambda rate, steps: _debiased(warmed_cosine(rate, steps)),
    ),
    _with_horizon(
        "prodigy_cosine",
        lambda rate, steps: _biased(warmed_cosine(rate, steps)),
    ),
    _with_horizon(
        "prodigy_phases",
        lambda rate, steps: _biased(_three_phases(rate, steps)),
    ),
    _with_horizon(
        "mechanic_cosine",
        lambda rate, steps: adaptax.mechanic(adaptax.adamw(warmed_cosine(rate, steps))),
    ),
    _method(
        "mechanic_average",
        _averaged(lambda rate: adaptax.mechanic(adaptax.adamw(rate))),
    ),
    _method("momo_adam_average", _averaged(adaptax.momo_adam), 1e-2),
    _method("adam_bold_driver", _adam_at(adaptax.bold_driver(decay=0.9)), 1e-3),
    _method("adam_greedy", _adam_at(adaptax.greedy(window=50)), 1e-3),
    _with_horizon(
        "adam_phases",
        lambda rate, steps: adaptax.adamw(_three_phases(rate, steps)),
        1e-3,
    ),
)
"""Estimates and default Adam, with averages, schedules and controllers."""

PEERS = (
    _method("optax_prodigy", optax.contrib.prodigy),
    _method("optax_dadapt_adamw", optax.contrib.dadapt_adamw),
    _method("optax_dog", optax.contrib.dog),
    _method("optax_dowg", optax.contrib.dowg),
    _method("optax_mechanic", lambda rate: optax.contrib.mechanize(optax.adamw(rate))),
    _method("optax_momo_adam", optax.contrib.momo_adam, 1e-2),
    Method("optax_cocob", lambda rate, steps: optax.contrib.cocob(), 1.0, None),
    _method(
        "optax_schedule_free_adamw",
        optax.contrib.schedule_free_adamw,
        2.5e-3,
        evaluated=optax.contrib.schedule_free_eval_params,
    ),
)
"""Optax's versions of these methods."""

METHODS = {
    method.name: method
    for method in (*REFERENCES, *FIXED, *FREE, *COMBINATIONS, *PEERS)
}
