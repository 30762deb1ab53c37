"""Early stopping: when, why, and wherever its answer is wanted."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conformance.contracts import Contract, Goal
from flax import nnx
from metrics import followed, run

import adaptax
from adaptax import StopReason


def reference(metrics, gradients=None, **arguments):
    """Leave the scale at 1."""
    del gradients, arguments
    for _ in metrics:
        yield 1.0


CONTRACT = Contract(
    reference,
    goals={"quadratic": Goal(200, 1e-2)},
)

ARGUMENTS = {
    "at once": {"patience": 0},
    "with patience": {"patience": 2, "min_delta": 0.5},
    "over windows": {"patience": 1, "window": 2},
    "for the largest": {"patience": 1, "mode": "max"},
}
METRICS = {
    "falling, then flat": [5, 4, 3, 2, 2, 2, 2, 2],
    "steps of a half": [5, 4.5, 4, 3.5, 3, 2.5, 2, 1.5],
    "up and down": [3, 4, 2, 3, 1, 5, 0, 4],
    "below zero": [-1, -1, -2, -2, -3, -3, -3, -3],
}


def stops_at(metrics, patience, min_delta=0.0, window=1, mode="min"):
    """Return the number of the metric at which the rule stops, or None."""
    best, bad = np.inf, 0
    for last in range(window, len(metrics) + 1, window):
        mean = np.mean(metrics[last - window : last]) * (1 if mode == "min" else -1)
        bad = 0 if mean < best - min_delta else bad + 1
        best = min(best, mean) if bad == 0 else best
        if bad > patience:
            return last - 1
    return None


@pytest.mark.parametrize("metrics", METRICS.values(), ids=METRICS)
@pytest.mark.parametrize("arguments", ARGUMENTS.values(), ids=ARGUMENTS)
def test_it_converges_when_the_rule_says_so(arguments, metrics):
    stop = adaptax.early_stop(**arguments)
    state, verdicts = stop.init(()), []
    for metric in metrics:
        state = stop.observe(state, metric)
        verdicts.append(bool(adaptax.converged(state)))
    expected = stops_at(metrics, **arguments)
    first = verdicts.index(True) if any(verdicts) else None
    assert first == expected
    assert verdicts == sorted(verdicts)  # what has converged stays so


def test_the_rate_is_one():
    scales, _ = run(adaptax.early_stop(patience=0), [3, 3, 3, np.nan, 4])
    np.testing.assert_array_equal(scales, 1)


@pytest.mark.parametrize(
    ("metrics", "reason"),
    [
        ([3, 2, 1], StopReason.RUNNING),
        ([3, 3, 3, 3, 0.1], StopReason.NO_IMPROVEMENT),
        ([3, 0.5, 3, 3, 3, 3], StopReason.TARGET_REACHED),
        ([3, np.nan, np.inf, -np.inf, 0.1], StopReason.NOT_FINITE),
        ([3, np.nan, np.inf, 2, np.nan, np.nan], StopReason.RUNNING),
    ],
)
def test_the_first_reason_is_kept(metrics, reason):
    stop = adaptax.early_stop(patience=2, target=0.5, max_lost=2)
    _, state = run(stop, metrics)
    assert int(followed(state).reason) == reason
    assert bool(adaptax.converged(state)) == (reason != StopReason.RUNNING)


def test_a_target_for_the_largest_is_reached_from_below():
    stop = adaptax.early_stop(target=0.9, mode="max")
    assert not adaptax.converged(run(stop, [0.1, 0.89])[1])
    assert adaptax.converged(run(stop, [0.1, 0.91])[1])


def test_what_has_converged_stays_as_it_is():
    stop = adaptax.early_stop(patience=0, window=2)
    state = run(stop, [3, 3, 3, 3])[1]
    later = state
    for metric in (0.0, np.nan, -5.0):
        later = stop.observe(later, metric)
    jax.tree.map(np.testing.assert_array_equal, later.followed, state.followed)


def test_telemetry_says_when_the_best_was():
    _, state = run(adaptax.early_stop(patience=1), [3, 1, 2, 2, 0])
    shown = adaptax.telemetry(state)
    assert shown["early_stop/best"] == 1
    assert shown["early_stop/best_at"] == 2
    assert shown["early_stop/evaluated"] == 4
    assert shown["early_stop/reason"] == StopReason.NO_IMPROVEMENT


def test_it_ends_a_while_loop_in_one_program():
    stop = adaptax.early_stop(patience=3, min_delta=1e-3)
    optimizer = adaptax.adam(optax.chain(adaptax.constant(0.05), stop))

    @jax.jit
    def train(w):
        def step(carry):
            w, state, steps = carry
            loss, gradient = jax.value_and_grad(lambda w: jnp.sum((w - 2) ** 2))(w)
            update, state = optimizer.update(gradient, state, w, value=loss)
            return w + update, state, steps + 1

        def goes_on(carry):
            return ~adaptax.converged(carry[1]) & (carry[2] < 1000)

        return jax.lax.while_loop(goes_on, step, (w, optimizer.init(w), 0))

    w, state, steps = train(jnp.zeros(3))
    assert 20 < steps < 1000
    np.testing.assert_allclose(w, 2, atol=0.1)
    assert adaptax.converged(state)


def test_a_run_of_nan_ends_too():
    stop = adaptax.early_stop(max_lost=4)
    state = jax.lax.while_loop(
        lambda state: ~adaptax.converged(state),
        lambda state: stop.update((), state, value=jnp.nan)[1],
        stop.init(()),
    )
    assert int(state.skipped) == 5


@pytest.mark.parametrize("last", [1.0, 0.0])
def test_it_is_found_at_any_depth(last):
    stop = adaptax.early_stop(patience=0)
    groups = {"x": adaptax.adam(optax.chain(adaptax.constant(0.1), stop))}
    optimizer = adaptax.monitor(
        adaptax.accumulate(optax.partition(groups, {"a": "x"}), 1)
    )
    params = {"a": jnp.ones(2)}
    state = optimizer.init(params)
    for value in (1.0, last):
        _, state = optimizer.update(params, state, params, value=value)
    assert bool(adaptax.converged(state)) == (last == 1)


def test_it_is_found_in_an_nnx_optimizer():
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    stop = adaptax.early_stop(patience=0)
    optimizer = nnx.Optimizer(
        model, optax.chain(adaptax.scale_by_adam(), stop), wrt=nnx.Param
    )
    gradients = jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param))
    for expected in (False, True):
        optimizer.update(model, gradients, value=1.0)
        assert bool(adaptax.converged(optimizer)) == expected


def test_it_answers_for_a_batch_of_states():
    stop = adaptax.early_stop(patience=1)
    state = jax.vmap(lambda _: stop.init(()))(jnp.arange(3))
    rows = jnp.asarray([[3.0, 2.0, 1.0], [3.0, 3.0, 3.0], [1.0, 2.0, 0.0]])
    for metrics in rows.T:
        state = jax.vmap(lambda s, m: stop.update((), s, value=m)[1])(state, metrics)
    np.testing.assert_array_equal(adaptax.converged(state), [False, True, False])


def test_asking_where_nothing_can_stop_is_an_error():
    with pytest.raises(ValueError, match=r"adaptax\.early_stop"):
        adaptax.converged(adaptax.adam(0.1).init(jnp.ones(())))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"patience": -1}, "patience must"),
        ({"min_delta": -0.1}, "min_delta must"),
        ({"window": 0}, "window must"),
        ({"max_lost": -1}, "max_lost must"),
        ({"target": np.nan}, "target must be finite"),
        ({"mode": "least"}, "mode must be one of"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments, says):
    with pytest.raises(ValueError, match=says):
        adaptax.early_stop(**arguments)
