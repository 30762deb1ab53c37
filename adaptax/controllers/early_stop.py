"""Early stop: detect that the metric no longer improves; the rate itself stays 1.

    m < best − δ:    best ← m,   bad ← 0;      otherwise   bad ← bad + 1
    converged  =  bad > patience   or   m ≤ target   or   lost > max_lost

An evaluation m is the mean of `window` metrics. `lost` counts consecutive metrics that
were not finite. Once `converged` is true, the state does not change any more; `reason`
is the first that applied:

    0 RUNNING,   1 NO_IMPROVEMENT,   2 TARGET_REACHED,   3 NOT_FINITE

Source: Prechelt (1998), "Early Stopping — But When?", in Neural Networks: Tricks of the
Trade. Patience counts as in `reduce_on_plateau`; Keras stops one evaluation earlier.
"""

import enum
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adaptax._core import checks, counters, metrics
from adaptax._core.checks import Scalar, require
from adaptax._core.following import Controller, follow
from adaptax._core.leaves import chosen
from adaptax._core.methods import Method
from adaptax._core.metrics import UNSEEN, Mode, Window, improves, whole
from adaptax._core.scalars import real
from adaptax._core.states import optimizer_state, without_variables
from adaptax._core.words import translating


class StopReason(enum.IntEnum):
    """The reasons of `early_stop` to stop: the codes in its state."""

    RUNNING = 0
    NO_IMPROVEMENT = 1
    TARGET_REACHED = 2
    NOT_FINITE = 3


class EarlyStopState(NamedTuple):
    """The state of `early_stop`, all scalars.

    `learning_rate` is 1. `converged` is whether to stop, and `reason` a `StopReason`.
    `best` is the best evaluation so far, as minimized (float32's largest number before
    the first), and `best_at` its number, from 1. `evaluated` counts the evaluations,
    `bad` the last ones without improvement, and `lost` the last metrics that were not
    finite. `window` has the metrics of the next evaluation.
    """

    learning_rate: jax.Array
    converged: jax.Array
    reason: jax.Array
    best: jax.Array
    best_at: jax.Array
    evaluated: jax.Array
    bad: jax.Array
    lost: jax.Array
    window: Window


@translating
def early_stop(
    patience: Scalar = 10,
    *,
    min_delta: Scalar = 0.0,
    window: Scalar = 1,
    max_lost: Scalar = 10,
    target: Scalar | None = None,
    mode: Mode = "min",
    monitor: str | None = "value",
    name: str | None = None,
) -> Controller:
    """Stop after more than `patience` consecutive evaluations without improvement.

    Query the state with `converged`, inside a compiled loop or outside.

    The default patience is 10; in Keras and Flax it is 0, and Keras stops one
    evaluation earlier with the same `patience`.

    Args:
        patience: Evaluations without improvement to wait for, >= 0.
        min_delta: δ >= 0, the smallest improvement that counts.
        window: Metrics per evaluation, >= 1.
        max_lost: Consecutive metrics that may be not finite, >= 0; after more, training
            has diverged and stops too.
        target: An evaluation good enough to stop at; `None` for none.
        mode: "min" for a loss, "max" for an accuracy. Structural.
        monitor: The extra argument of `update` to follow; with `None`, only `observe`
            passes metrics.
        name: Distinguishes two such controllers for `observe`.

    Raises:
        TypeError: At `update`, if the extra argument is missing.

    A metric that is not finite changes only the counters `skipped` and `lost`, and may
    stop training by the latter.

    >>> import jax, optax
    >>> import adaptax
    >>> optimizer = adaptax.gradient_descent(
    ...     optax.chain(adaptax.constant(0.25), early_stop(patience=2))
    ... )
    >>> def step(carry):
    ...     w, state = carry
    ...     loss, gradient = jax.value_and_grad(lambda w: (w - 3) ** 2)(w)
    ...     update, state = optimizer.update(gradient, state, w, value=loss)
    ...     return w + update, state
    >>> w, state = jax.lax.while_loop(
    ...     lambda carry: ~converged(carry[1]), step, (0.0, optimizer.init(0.0))
    ... )
    >>> float(w), StopReason(int(state[1][0][1].followed["value"].reason)).name
    (3.0, 'NO_IMPROVEMENT')
    """
    checks.count("patience", patience)
    checks.number("min_delta", min_delta, at_least=0)
    checks.count("window", window, at_least=1)
    checks.count("max_lost", max_lost)
    if target is not None:
        checks.number("target", target)
    checks.one_of("mode", mode, Mode)

    def init(params):
        del params
        return EarlyStopState(
            learning_rate=real(1.0),
            converged=jnp.zeros((), bool),
            reason=whole(StopReason.RUNNING),
            best=real(UNSEEN),
            best_at=counters.zero(),
            evaluated=counters.zero(),
            bad=counters.zero(),
            lost=counters.zero(),
            window=metrics.window(),
        )

    def advance(state, metric, updates, params):
        heard = state._replace(lost=counters.zero())
        evaluated = by_windows(heard, metric, updates, params)
        return chosen(state.converged, state, evaluated)

    def evaluate(state, mean):
        improved = improves(mean, state.best, min_delta, "absolute")
        bad = jnp.where(improved, 0, counters.increment(state.bad))
        evaluated = counters.increment(state.evaluated)
        state = state._replace(
            best=jnp.where(improved, mean, state.best),
            best_at=jnp.where(improved, evaluated, state.best_at),
            evaluated=evaluated,
            bad=bad,
        )
        state = _stopped(state, reached(mean), StopReason.TARGET_REACHED)
        return _stopped(state, bad > whole(patience), StopReason.NO_IMPROVEMENT)

    def reached(mean):
        if target is None:
            return jnp.zeros((), bool)
        return mean <= (real(target) if mode == "min" else -real(target))

    by_windows = metrics.by_windows(evaluate, window, mode)

    def skip(state):
        lost = counters.increment(state.lost, where=~state.converged)
        too_many = lost > whole(max_lost)
        return _stopped(state._replace(lost=lost), too_many, StopReason.NOT_FINITE)

    return follow(init, advance, skip=skip, monitor=monitor, name=name)


def converged(opt_state: Any) -> jax.Array:
    """Return whether any `early_stop` in an optimizer's state has converged.

    Args:
        opt_state: The state of an optimizer that contains one or more at any depth, or
            a Flax `TrainState` or `nnx.Optimizer`. Of several, as in the groups of
            `optax.partition`, the first to converge counts.

    Returns:
        A boolean scalar, for `jax.lax.while_loop` or `if`.

    Raises:
        ValueError: If it contains none.
    """
    state = without_variables(optimizer_state(opt_state))
    found = convergences(state)
    require(
        bool(found),
        "opt_state contains no early_stop. Put adaptax.early_stop into the optimizer's "
        "chain.",
    )
    return jnp.stack(found).any(axis=0)


def convergences(state: Any) -> list[jax.Array]:
    """Return `converged` of every `early_stop` in a state."""

    def stops(node):
        return isinstance(node, EarlyStopState)

    nodes = jax.tree.leaves(state, is_leaf=stops)
    return [node.converged for node in nodes if stops(node)]


def _stopped(state, condition, reason) -> EarlyStopState:
    """Stop for a reason if a condition holds and it has not stopped before."""
    now = condition & ~state.converged
    return state._replace(
        converged=state.converged | now,
        reason=jnp.where(now, whole(reason), state.reason),
    )


METHOD = Method(
    {"patience": 2, "min_delta": 1e-3, "window": 2, "max_lost": 3},
    source="Prechelt (1998)",
    variants=({"target": 0.5}, {"mode": "max"}),
    needs=frozenset({"value"}),
    differs="Optax has no early stopping.",
)
