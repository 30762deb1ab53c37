"""Scheduled trials: hyperparameters that change from step to step.

    step t:  advance(hparams_at(hparams, t), state, 1)

So any trial can follow a schedule, and the tools can vary the schedule's parameters.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adaptax import spaces
from adaptax._core import checks, tool_checks
from adaptax._core.checks import require
from adaptax.tuning.trials.trials import Trial


class ScheduledState(NamedTuple):
    """The `state` of the underlying trial, and the index of the next `step`."""

    state: Any
    step: jax.Array


def scheduled(trial: Trial, hparams_at: Callable[[Any, jax.Array], Any]) -> Trial:
    """Make a trial in which the hyperparameters of another one depend on the step.

    Args:
        trial: The trial to run. Its hyperparameters must have an effect at every step,
            as a number given to an adaptax optimizer or controller has.
        hparams_at: `hparams_at(hparams, step)` returns the trial's hyperparameters at a
            step, an int32 scalar from 0; `hparams` are those of the new trial. It is
            initialized with those of step 0, and evaluated with those of its last step.

    >>> import adaptax
    >>> one = jnp.float32(1.0)
    >>> total = adaptax.Trial(
    ...     init=lambda rate, key: 0 * one,
    ...     advance=lambda rate, x, n: (x + rate, (x + rate)[None]),
    ... )
    >>> doubling = scheduled(total, lambda first, step: first * 2.0**step)
    >>> state, losses = doubling.advance(one, doubling.init(one, None), 4)
    >>> losses.tolist()
    [1.0, 3.0, 7.0, 15.0]
    """

    def init(hparams, key, shared=None):
        first = jnp.zeros((), jnp.int32)
        state = trial.init(hparams_at(hparams, first), key, **_given(shared))
        return ScheduledState(state, first)

    def advance(hparams, state, num_steps, shared=None):
        def on_step(now, offset):
            later = (
                None if shared is None else shared._replace(step=shared.step + offset)
            )
            state, losses = trial.advance(
                hparams_at(hparams, now.step), now.state, 1, **_given(later)
            )
            return ScheduledState(state, now.step + 1), losses[0]

        return jax.lax.scan(on_step, state, jnp.arange(num_steps, dtype=jnp.int32))

    def judge(evaluate, hparams, state, shared=None):
        last = hparams_at(hparams, jnp.maximum(state.step - 1, 0))
        return evaluate(last, state.state, **_given(shared))

    evaluate = trial.evaluate and partial(judge, trial.evaluate)
    return trial._replace(init=init, advance=advance, evaluate=evaluate)


def following_tables(trial: Trial, name: str) -> Trial:
    """Make a trial in which one hyperparameter follows a table.

    Its hyperparameters are a dict of the `constants` and the `rates` (steps,).
    """

    def hparams_at(hparams, step):
        return {**hparams["constants"], name: hparams["rates"][step]}

    return scheduled(trial, hparams_at)


def along(constants: Any, rates: np.ndarray) -> dict[str, Any]:
    """Return the hyperparameters of runs along tables.

    Args:
        constants: Arrays of shape (1,).
        rates: The tables, (runs, steps).
    """
    constants = jax.tree.map(
        lambda leaf: np.repeat(leaf, len(rates), axis=0), constants
    )
    return {"constants": constants, "rates": rates}


def require_rates(low: float, high: float) -> None:
    """Check the bounds of positive rates.

    Raises:
        ValueError: If one is out of range; the message names it.
        TypeError: If one is not a number.
    """
    for name, bound in (("low", low), ("high", high)):
        checks.number(name, bound, above=0)
        checks.rate(name, bound)
    require(low < high, f"low must be < high, got {low} >= {high}.")


def constants_beside(name: str, hparams: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the hyperparameters besides a varied one, as arrays of shape (1,).

    Raises:
        ValueError: If they contain the varied one, or one has several values.
    """
    tool_checks.text("name", name)
    if not isinstance(hparams, Mapping | None):
        raise TypeError(f"hparams must be a dict of constants, got {hparams!r}.")
    others = dict(hparams or {})
    require(
        name not in others,
        f"hparams must not have {name!r}, which changes from step to step. Leave it "
        "out, or give the name of the one that changes as name=.",
    )
    return spaces.constants(others, "hparams") if others else {}


def _given(shared: Any) -> dict[str, Any]:
    """Return the extra argument of trials with data."""
    return {} if shared is None else {"shared": shared}
