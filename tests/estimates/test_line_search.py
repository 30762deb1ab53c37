"""The line search: it keeps its promise, and is that of Optax where they agree."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conformance.contracts import Contract, Goal
from steps import minimize

import adaptax


def reference(
    w,
    gradients,
    values,
    *,
    initial,
    c,
    decrease,
    increase,
    max_rate,
    max_trials,
    tolerance,
    test="armijo",
):
    """Try rates on a loss of curvature 1; where one is too small, double it."""
    accepted = initial
    for g, value in zip(gradients, values, strict=True):
        slope = g @ g
        rate, trials = min(accepted * increase, max_rate), 1
        while True:
            loss = value - rate * slope + rate**2 * slope / 2
            good = loss <= value - c * rate * slope + tolerance * abs(value)
            short = loss < value - (1 - c) * rate * slope and rate < max_rate
            short = good and short and test == "goldstein"
            if (good and not short) or trials == max_trials:
                break
            rate = min(2 * rate, max_rate) if short else rate * decrease
            trials += 1
        accepted = rate
        w = w - (rate if good else 0.0) * g
        yield w


CONTRACT = Contract(
    reference,
    optax_forms=("optax.scale_by_backtracking_linesearch",),
    goals={"quadratic": Goal(200, 1e-2)},
)


def rosenbrock(params):
    x, y = params["x"], params["y"]
    return (1 - x) ** 2 + 100 * (y - x * x) ** 2


START = {"x": jnp.asarray(-1.2), "y": jnp.asarray(1.0)}


def search(loss, params, gradient=None, direction=None, **arguments):
    controller = adaptax.line_search(**arguments)
    value, grad = jax.value_and_grad(loss)(params)
    grad = grad if gradient is None else gradient
    extra_args = {"value": value, "grad": grad, "value_fn": loss}
    direction = grad if direction is None else direction
    state = controller.init(params)
    _, state = controller.update(direction, state, params, **extra_args)
    return state.followed["gradient"]


def test_every_step_keeps_the_promise_of_armijo():
    def run():
        optimizer = adaptax.gradient_descent(adaptax.line_search(tolerance=0.0))
        return minimize(optimizer, rosenbrock, START, 100)

    _, state, losses, rates = jax.jit(run)()
    assert (np.diff(losses) < 0).all()
    assert rates.min() > 0
    assert losses[-1] < 0.2 * losses[0]
    assert int(state[1][0].followed["gradient"].failures) == 0


def test_it_takes_the_steps_of_optax():
    optimizers = (
        optax.chain(
            optax.scale(-1.0),
            optax.scale_by_backtracking_linesearch(
                30, 0.2, 0.7, 1.3, max_learning_rate=1.0
            ),
        ),
        adaptax.gradient_descent(
            adaptax.line_search(
                initial=1.0,
                c=0.2,
                decrease=0.7,
                increase=1.3,
                max_rate=1.0,
                max_trials=30,
                tolerance=0.0,
            )
        ),
    )
    ends = []
    with jax.numpy_dtype_promotion("standard"):
        for optimizer in optimizers:
            run = jax.jit(lambda o=optimizer: minimize(o, rosenbrock, START, 30))
            ends.append(run()[2:])
    np.testing.assert_allclose(ends[1][1], ends[0][1], rtol=1e-4)
    np.testing.assert_allclose(ends[1][0], ends[0][0], rtol=1e-3)


def test_along_updates_that_do_not_descend_it_stands_still():
    loss = lambda w: w * w / 2  # noqa: E731
    found = search(loss, jnp.asarray(2.0), direction=jnp.asarray(-2.0))
    assert found.learning_rate == 0
    assert found.failures == 1


def test_where_the_loss_is_not_defined_it_goes_back():
    found = search(lambda w: w - jnp.log(w), jnp.asarray(4.0), initial=10.0)
    assert 0 < found.learning_rate < 4 / 0.75
    assert found.trials > 1


def test_a_search_without_success_goes_on_from_its_smallest_trial():
    controller = adaptax.line_search(
        initial=1e4, decrease=0.1, max_rate=1e4, max_trials=2
    )
    loss = lambda w: w * w / 2  # noqa: E731
    params = jnp.asarray(2.0)
    state, rates = controller.init(params), []
    for _ in range(4):
        extra_args = {"value": loss(params), "grad": params, "value_fn": loss}
        _, state = controller.update(params, state, params, **extra_args)
        rates.append(float(adaptax.learning_rate(state)))
    assert rates[0] == 0
    assert rates[-1] > 0
    assert int(state.followed["gradient"].failures) >= 1


def test_goldstein_lengthens_a_step_that_is_too_short():
    loss = lambda w: w * w / 2  # noqa: E731
    short, long = (
        search(loss, jnp.asarray(2.0), initial=1e-3, test=test)
        for test in ("armijo", "goldstein")
    )
    assert short.learning_rate == pytest.approx(1.1e-3)
    assert 0.2 <= long.learning_rate <= 1.8


def test_a_direction_of_adam_is_searched_with_the_gradient_it_is_told():
    def run():
        return minimize(
            adaptax.adam(adaptax.line_search(max_rate=1.0)), rosenbrock, START, 60
        )

    losses = jax.jit(run)()[2]
    assert losses[-1] < 0.5 * losses[0]


def test_bfloat16_parameters_are_rounded_before_the_loss_is_read():
    loss = lambda w: jnp.sum(w.astype(jnp.float32) ** 2) / 2  # noqa: E731
    params = jnp.asarray([2.0, -1.0], jnp.bfloat16)
    found = search(loss, params, initial=1.0)
    assert found.learning_rate == pytest.approx(1.1)


def test_a_loss_that_is_no_scalar_is_an_error():
    controller = adaptax.line_search()
    with pytest.raises(ValueError, match="the value of value_fn must be a scalar"):
        controller.update(
            jnp.ones(2),
            controller.init(jnp.ones(2)),
            jnp.ones(2),
            value=1.0,
            grad=jnp.ones(2),
            value_fn=lambda w: w,
        )


def test_optax_reads_value_and_gradient_from_the_state():
    calls = []

    def loss(params):
        calls.append("traced")
        return jnp.sum(params["w"] ** 4) / 4 + jnp.sum(params["b"] ** 2)

    search = adaptax.line_search(store_grad=True)
    optimizer = adaptax.gradient_descent(search)
    params = {"w": jnp.asarray([1.0, -2.0]), "b": jnp.asarray(0.5)}
    state = optimizer.init(params)
    value_and_grad = optax.value_and_grad_from_state(loss)
    for _ in range(4):
        value, grad = value_and_grad(params, state=state)
        expected = jax.value_and_grad(loss)(params)
        np.testing.assert_allclose(value, expected[0], rtol=1e-5)
        jax.tree.map(
            lambda ours, wanted: np.testing.assert_allclose(ours, wanted, rtol=1e-4),
            grad,
            expected[1],
        )
        updates, state = optimizer.update(
            grad, state, params, value=value, grad=grad, value_fn=loss
        )
        params = optax.apply_updates(params, updates)
    assert np.isfinite(optax.tree.get(state, "value"))
    bad = jax.tree.map(lambda g: jnp.full_like(g, jnp.nan), grad)
    _, state = optimizer.update(
        bad, state, params, value=value, grad=bad, value_fn=loss
    )
    assert np.isinf(optax.tree.get(state, "value"))  # so it is computed anew


def test_without_a_stored_gradient_optax_says_so():
    optimizer = adaptax.gradient_descent(adaptax.line_search())
    with pytest.raises(ValueError, match="gradient not found in the state"):
        optax.value_and_grad_from_state(lambda w: w**2)(
            jnp.ones(()), state=optimizer.init(jnp.ones(()))
        )


def test_a_derivative_goes_through_the_search():
    def reached(initial, weight):
        optimizer = adaptax.gradient_descent(
            adaptax.line_search(initial=initial, max_rate=9.0)
        )
        params = jnp.asarray([1.0, 2.0])
        state = optimizer.init(params)

        def loss(params):
            return jnp.sum(weight * params**2) / 2

        for _ in range(2):
            value, grad = jax.value_and_grad(loss)(params)
            updates, state = optimizer.update(
                grad, state, params, value=value, grad=grad, value_fn=loss
            )
            params = params + updates
        return jnp.sum(params)

    slopes = jax.jit(jax.grad(reached, (0, 1)))(0.3, 1.1)
    step = 1e-3
    for at, slope in enumerate(slopes):
        moved = [[0.3, 1.1], [0.3, 1.1]]
        moved[0][at] += step
        moved[1][at] -= step
        high, low = (reached(*map(jnp.float32, point)) for point in moved)
        np.testing.assert_allclose(slope, (high - low) / (2 * step), rtol=1e-2)
