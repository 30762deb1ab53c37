"""The methods of the tuning benchmark: how each is made of a rate and a horizon.

A method's default rate is what it is run at "with nothing tuned"; the sweep multiplies
it by 10^(k/2), k = −6 … 6. A method with a horizon is told the number of steps.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import optax

import adaptax


def trained(opt_state: Any, params: Any) -> Any:
    """Evaluate with the parameters that are trained."""
    del opt_state
    return params


class Method(NamedTuple):
    """A way to train.

    `make(rate, steps)` gives the optimizer; `rate` is the default, `centre` the middle
    of the sweep if that is another, `None` where there is nothing to sweep; `horizon`
    tells whether it needs to know the number of steps; `evaluated(state, params)` gives
    the parameters to judge by.
    """

    name: str
    make: Callable[[Any, int], optax.GradientTransformation]
    rate: float
    centre: float | None
    horizon: bool = False
    evaluated: Callable[[Any, Any], Any] = trained

    def sweep(self) -> list[float]:
        """List the 13 rates of the sweep, over 6 decades."""
        if self.centre is None:
            return []
        return [self.centre * 10 ** (k / 2) for k in range(-6, 7)]


def warmed_cosine(peak: Any, steps: int) -> adaptax.rates.Schedule:
    """Rise to the peak over a twentieth of the steps, then fall to 0 as a cosine."""
    return adaptax.cosine(peak, steps, warmup_steps=max(1, steps // 20))


def _free(name, make, rate=1.0, **options) -> Method:
    return Method(name, make, rate, rate, **options)


def _adam_with(controller):
    def make(rate, steps):
        del steps
        return optax.chain(
            adaptax.scale_by_adam(), adaptax.rates.descend(rate, controller)
        )

    return make


REFERENCES = (
    Method("adamw", lambda rate, steps: adaptax.adamw(rate), 1e-3, 1e-2),
    Method(
        "adamw_cosine",
        lambda rate, steps: adaptax.adamw(warmed_cosine(rate, steps)),
        1e-3,
        1e-2,
        horizon=True,
    ),
)
"""Their sweeps, constant and cosine, are what the target of a task is made from."""
