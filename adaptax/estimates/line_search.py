"""Stochastic line search: try rates on the batch until one lowers the loss enough.

    rate ← min(rate · increase, max_rate)
    while f(w − rate u) > f(w) − c rate ⟨g, u⟩ + tolerance |f(w)|:
        rate ← rate · decrease

This is the Armijo test. The Goldstein test also doubles the rate, up to `max_rate`,
while f(w − rate u) < f(w) − (1 − c) rate ⟨g, u⟩.

Source: Vaswani, Mishkin, Laradji, Schmidt, Gidel & Lacoste-Julien (2019), "Painless
Stochastic Gradient: Interpolation, Line-Search, and Convergence Rates", NeurIPS (arXiv
1905.09997). If 100 trials fail, they use the rate 10⁻⁶; here there is no step.
`optax.scale_by_backtracking_linesearch` has the same extra arguments, but its updates
already point downhill; here they are subtracted, like all updates before `scale(-1)`.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax

from adaptax._core import checks, counters
from adaptax._core.checks import Scalar
from adaptax._core.extra_args import as_metric
from adaptax._core.following import Controller, follow_gradients
from adaptax._core.leaves import (
    computing_dtype,
    dtype_of,
    inner_product,
    is_placeholder,
    is_trained,
    times,
)
from adaptax._core.methods import Method
from adaptax._core.metrics import whole
from adaptax._core.scalars import real
from adaptax._core.varying import axes_of, spread
from adaptax._core.words import translating

Test = Literal["armijo", "goldstein"]


_LARGEST_SHARE = 1e30
"""The largest ratio of two rates: finite, so that its product with 0 is 0."""


class LineSearchState(NamedTuple):
    """The state of `line_search`.

    `learning_rate` is the rate applied, initially 0. `tried` is the last one tried,
    where the next search starts. `trials` counts the losses computed at the last step,
    and `failures` the steps at which no rate passed. For
    `optax.value_and_grad_from_state`, `value` is the loss after the step, infinite if
    unknown, and `grad` its gradient; both are `None` without `store_grad`.
    """

    learning_rate: jax.Array
    tried: jax.Array
    trials: jax.Array
    failures: jax.Array
    value: jax.Array | None
    grad: optax.Updates | None

    def has_unit(self) -> bool:
        """Return True: a rate by itself; see `adaptax._core.seats`."""
        return True


@translating
def line_search(
    *,
    initial: Scalar = 1.0,
    c: Scalar = 0.1,
    decrease: Scalar = 0.9,
    increase: Scalar = 1.1,
    max_rate: Scalar = 10.0,
    max_trials: Scalar = 100,
    tolerance: Scalar = 1e-7,
    test: Test = "armijo",
    store_grad: bool = False,
    name: str | None = None,
) -> Controller:
    """Use the first rate, from large to small, that lowers the loss of this batch.

    By default a failed rate shrinks by 0.9, the rate grows by 1.1 up to 10, and c is
    0.1; `optax.scale_by_backtracking_linesearch` has 0.8, 1.5, 1 and 1e-4.

    Put it after all other rates: it scales the updates that reach it. Each trial costs
    one evaluation of the loss, without its gradient.

    In an `nnx.Optimizer`, `value_fn` receives the state of the model's parameters:
    `lambda params: loss(nnx.merge(graphdef, params))`.

    Args:
        initial: The rate > 0 at which the first search starts.
        c: The fraction of the linearly predicted decrease that the loss must reach, in
            (0, 1); in (0, 1/2) for Goldstein.
        decrease: The factor of a rate that fails, in (0, 1).
        increase: The factor of the last rate for the next search, >= 1; in the paper,
            2 to the power of 1 / batches per epoch.
        max_rate: The largest rate, > 0.
        max_trials: The largest number of trials per step, >= 1.
        tolerance: The relative rise of the loss that counts as rounding, >= 0.
        test: "armijo" or "goldstein". Structural.
        store_grad: Whether to compute the gradient at the new point as well, which
            saves `optax.value_and_grad_from_state` from doing so. Structural.
        name: The name of the state in `telemetry`. Structural.

    `update` needs `params` and the extra arguments `value`, the loss; `grad`, its
    gradient; and `value_fn`, a function of the parameters that returns the loss on the
    same batch, with the same random numbers. (Optax passes further extra arguments to
    `value_fn`; here it closes over its batch.) It is called with the parameters that
    `update` receives, so search for all of them together, not inside `optax.partition`
    or `optax.masked`.

    Raises:
        ValueError: At `update`, if `params` is missing.
        TypeError: At `update`, if one of the extra arguments is.

    If no trial passes, the rate is 0, and the next search starts from the last trial.
    Along updates that do not descend, the rate is 0 too. A trial with a loss that is
    not finite fails. If `value` or the gradient is not finite, the state stays as it
    is, and the previous rate applies.

    >>> import optax
    >>> optimizer = optax.chain(line_search(), optax.scale(-1.0))
    >>> arguments = {"value": 2.0, "grad": 2.0, "value_fn": lambda w: w * w / 2}
    >>> update, state = optimizer.update(2.0, optimizer.init(2.0), 2.0, **arguments)
    >>> float(update)
    -2.2
    """
    checks.number("initial", initial, above=0)
    checks.one_of("test", test, Test)
    goldstein = test == "goldstein"
    checks.number("c", c, above=0, below=0.5 if goldstein else 1)
    checks.number("decrease", decrease, above=0, below=1)
    checks.number("increase", increase, at_least=1)
    checks.number("max_rate", max_rate, above=0)
    checks.count("max_trials", max_trials, at_least=1)
    checks.number("tolerance", tolerance, at_least=0)

    def init(params):
        return LineSearchState(
            real(0.0),
            real(initial),
            counters.zero(),
            counters.zero(),
            value=real(jnp.inf) if store_grad else None,
            grad=jax.tree.map(jnp.zeros_like, params) if store_grad else None,
        )

    def advance(state, gradients, updates, params, value, grad, value_fn):
        del grad  # it is `gradients`
        first = jnp.minimum(state.tried * real(increase), real(max_rate))
        # A while loop has no reverse-mode derivative, so its inputs are constants, what
        # value_fn closes over included.
        start, params, updates, gradients, value = jax.lax.stop_gradient(
            (first, params, updates, gradients, value)
        )
        slope = inner_product(gradients, updates)
        usable = jnp.isfinite(slope)
        descends = usable & (slope > 0)
        line = _line(value_fn, params, updates, start)
        needed = _Needed(value, slope, c, tolerance, max_rate, goldstein)

        def search_on(search):
            rate, loss, trials = search
            unsettled = ~needed.passes(rate, loss) | needed.too_short(rate, loss)
            return descends & (unsettled & (trials < whole(max_trials)))

        def try_next(search):
            rate, loss, trials = search
            longer = jnp.minimum(rate * 2, real(max_rate))
            shorter = jnp.maximum(rate * real(decrease), jnp.finfo(jnp.float32).tiny)
            rate = jnp.where(needed.too_short(rate, loss), longer, shorter)
            return rate, line.loss_at(rate), trials + 1

        first_loss = jnp.where(descends, line.loss_at(start), value)
        axes = axes_of(params, updates, first_loss)
        search = spread((start, first_loss, counters.zero() + 1), axes)
        rate, loss, trials = jax.lax.while_loop(search_on, try_next, search)
        passed = descends & needed.passes(rate, loss)
        share = jnp.minimum(rate / start, _LARGEST_SHARE)
        rate = rate + share * (first - start)  # adds 0, for the derivative
        applied = jnp.where(passed, rate, 0)
        after = LineSearchState(
            learning_rate=applied,
            tried=jnp.where(descends, rate, state.tried),
            trials=trials,
            failures=counters.increment(state.failures, where=~passed),
            value=jnp.where(passed, loss, value) if store_grad else None,
            grad=line.gradient_at(applied) if store_grad else None,
        )
        return after, usable

    needs = ("params", "value", "grad", "value_fn")
    search = follow_gradients("line_search", init, advance, needs=needs, name=name)
    return _without_stale_values(search) if store_grad else search


class _Needed(NamedTuple):
    """What the loss must be at a rate: the tests of Armijo and Goldstein.

    `value` is f(w), and `slope` is ⟨g, u⟩.
    """

    value: jax.Array
    slope: jax.Array
    c: Scalar
    tolerance: Scalar
    max_rate: Scalar
    goldstein: bool

    def passes(self, rate, loss):
        """Return whether the loss has fallen by enough."""
        predicted = self.value - real(self.c) * rate * self.slope
        allowed = predicted + real(self.tolerance) * jnp.abs(self.value)
        return jnp.isfinite(loss) & (loss <= allowed)

    def too_short(self, rate, loss):
        """Return whether Goldstein's test demands a larger rate."""
        if not self.goldstein:
            return jnp.zeros((), bool)
        least = self.value - (1 - real(self.c)) * rate * self.slope
        is_smaller = rate < real(self.max_rate)
        return self.passes(rate, loss) & (loss < least) & is_smaller


class _Line(NamedTuple):
    """The loss as a function of the rate: f(w − rate u)."""

    value_fn: Callable[..., Any]
    closed_over: list[Any]
    params: optax.Params
    updates: optax.Updates

    def loss_at(self, rate):
        there = _moved(self.params, self.updates, rate)
        loss = self.value_fn(there, *self.closed_over)
        return as_metric("the value of value_fn", loss)

    def gradient_at(self, rate):
        there = _moved(self.params, self.updates, rate)
        slopes = jax.grad(lambda w: self.value_fn(w, *self.closed_over))(there)
        return jax.tree.map(lambda g, w: g.astype(dtype_of(w)), slopes, self.params)


def _line(value_fn, params, updates, rate) -> _Line:
    """Return the loss along the updates, with constants for what it closes over."""
    here = _moved(params, updates, rate)
    value_fn, closed_over = jax.closure_convert(value_fn, here)
    return _Line(value_fn, jax.lax.stop_gradient(closed_over), params, updates)


def _without_stale_values(search: Controller) -> Controller:
    """Forget the stored loss at a skipped step: the one after it is not known."""

    def update(updates, state, params=None, **extra_args):
        result = search.update(updates, state, params, **extra_args)
        updates, after = cast(tuple[Any, Any], result)
        ((label, method),) = after.followed.items()
        skipped = after.skipped != state.skipped
        method = method._replace(value=jnp.where(skipped, jnp.inf, method.value))
        return updates, after._replace(followed={label: method})

    return Controller(search.init, update)


def _moved(params, updates, rate):
    """Return w − rate u, rounded once, to the parameters' own dtype."""

    def move(param, update):
        if not is_trained(param) or not is_trained(update):
            return param
        wide = computing_dtype(dtype_of(param), dtype_of(update))
        step = times(jnp.asarray(update).astype(wide), rate)
        return (jnp.asarray(param).astype(wide) - step).astype(dtype_of(param))

    return jax.tree.map(move, params, updates, is_leaf=is_placeholder)


METHOD = Method(
    {
        "initial": 0.3,
        "c": 0.25,
        "decrease": 0.75,
        "increase": 1.25,
        "max_rate": 10.0,
        "max_trials": 30,
        "tolerance": 1e-7,
    },
    source="Vaswani, Mishkin, Laradji, Schmidt, Gidel & Lacoste-Julien (2019)",
    variants=({"test": "goldstein"},),
    needs=frozenset({"params", "value", "grad", "value_fn"}),
    differs="optax.scale_by_backtracking_linesearch expects updates downhill.",
)
