"""Restore best: where it goes back to, with which rate and which inner state."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conformance.contracts import Contract, Goal
from reference.momentum import Momentum
from test_reduce_on_plateau import reference as reduce_on_plateau

import adaptax
from adaptax._core import following


def reference(
    w,
    gradients,
    values,
    *,
    learning_rate,
    restart=True,
    factor=0.1,
    patience=10,
    threshold=1e-4,
):
    """Go back to the best point where the plateau cuts the scale."""
    inner, seen, scale, best, returned = (
        Momentum(w, learning_rate),
        [],
        1.0,
        None,
        False,
    )
    plateau = reduce_on_plateau(
        iter(seen.pop, None), factor=factor, patience=patience, threshold=threshold
    )
    for g, value in zip(gradients, values, strict=True):
        cut = False
        if not returned:
            if best is None or value < best[0] - threshold * abs(best[0]):
                best = value, w
            seen.append(value)
            before, scale = scale, next(plateau)
            cut = scale < before
        returned = cut
        if cut:
            _, w = best
            inner = Momentum(w, learning_rate) if restart else inner
        else:
            w = w + float(np.float32(scale)) * inner.step(g)
        yield w


CONTRACT = Contract(
    reference,
    goals={"quadratic": Goal(200, 1e-2)},
)


def best_of(inner=None, restart=True, **arguments):
    arguments = {"factor": 0.5, "patience": 1, "threshold": 0.0, **arguments}
    inner = adaptax.momentum(0.1) if inner is None else inner
    plateau = adaptax.reduce_on_plateau(**arguments)
    return adaptax.restore_best(inner, plateau, restart=restart)


def run_along(optimizer, losses, params=None, state=None):
    """Update along given losses; give the points and the states, the first included."""
    params = jnp.linspace(1.0, 2.0, 3) if params is None else params
    state = optimizer.init(params) if state is None else state
    points, states, update = [params], [state], jax.jit(optimizer.update)
    for value in losses:
        updates, state = update(jnp.ones_like(params), state, params, value=value)
        params = optax.apply_updates(params, updates)
        points.append(params)
        states.append(state)
    return points, states


def test_a_cut_leads_back_to_the_best_parameters_and_a_smaller_rate():
    points, states = run_along(best_of(), [3.0, 2.0, 1.0, 4.0, 5.0])
    np.testing.assert_allclose(points[-1], points[2], rtol=1e-6)
    np.testing.assert_array_equal(states[-1].saved_params, points[2])
    assert float(states[-1].best) == 1.0
    assert int(states[-1].restores) == 1
    assert float(adaptax.learning_rate(states[-1])) == pytest.approx(0.05)


def test_after_it_the_steps_go_on_with_the_smaller_rate():
    optimizer = best_of(adaptax.gradient_descent(0.1))
    points, _ = run_along(optimizer, [3.0, 1.0, 4.0, 5.0, 1.0, 0.5])
    np.testing.assert_allclose(points[5] - points[4], -0.05, rtol=1e-5)
    np.testing.assert_allclose(points[6] - points[5], -0.05, rtol=1e-5)


def test_until_then_it_is_the_controller_behind_the_optimizer():
    losses = [3.0, 2.0, 1.0, 0.5, 0.2]
    chain = optax.chain(adaptax.adam(0.1), adaptax.reduce_on_plateau(patience=3))
    wrapped = adaptax.restore_best(
        adaptax.adam(0.1), adaptax.reduce_on_plateau(patience=3)
    )
    chex.assert_trees_all_close(
        run_along(wrapped, losses)[0], run_along(chain, losses)[0]
    )


def test_the_inner_state_starts_afresh_but_its_schedule_goes_on():
    schedule = adaptax.linear(0.1, total_steps=100)
    points, states = run_along(best_of(adaptax.adam(schedule)), [3.0, 1.0, 4.0, 5.0])
    adam_state, descent = states[-1].inner_state
    fresh, _ = states[0].inner_state
    chex.assert_trees_all_equal(adam_state, fresh)
    assert int(descent[0].step) == 3
    assert not np.array_equal(points[3], points[4])


def test_it_stays_as_it_was_on_request():
    _, states = run_along(best_of(restart=False), [3.0, 1.0, 4.0, 5.0])
    chex.assert_trees_all_equal(states[4].inner_state, states[3].inner_state)
    assert states[4].inner_state[0].velocity.all()


def test_a_rate_that_is_set_outlives_the_restart():
    optimizer = best_of(optax.inject_hyperparams(adaptax.momentum)(learning_rate=0.1))
    _, (*_, state) = run_along(optimizer, [3.0, 1.0, 4.0])
    state = adaptax.set_learning_rate(state, 0.4)
    _, (*_, state) = run_along(optimizer, [5.0], state=state)
    assert int(state.restores) == 1
    assert float(adaptax.learning_rate(state)) == pytest.approx(0.2)


def test_the_rate_that_is_read_is_the_one_applied():
    points, states = run_along(
        best_of(adaptax.gradient_descent(0.5)), [3.0, 1.0, 4.0, 5.0, 1.0]
    )
    applied = points[4] - points[5]
    np.testing.assert_allclose(applied, adaptax.learning_rate(states[5]), rtol=1e-5)
    assert float(adaptax.learning_rate(states[5])) == 0.25


def test_without_patience_it_still_steps_between_two_cuts():
    optimizer = best_of(adaptax.gradient_descent(0.1), patience=0)
    points, states = run_along(optimizer, [1.0, 2.0, 1.0, 2.0, 1.0])
    assert int(states[-1].restores) == 2
    np.testing.assert_allclose(points[5] - points[4], -0.025, rtol=1e-5)


def test_where_the_scale_is_at_its_smallest_it_goes_on_from_where_it_is():
    optimizer = best_of(adaptax.gradient_descent(0.1), patience=0, min_scale=1.0)
    points, states = run_along(optimizer, [1.0, 2.0, 2.0, 2.0])
    assert int(states[-1].restores) == 0
    np.testing.assert_allclose(points[4] - points[0], -0.4, rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_loss_that_is_not_finite_is_never_the_best(bad):
    points, states = run_along(best_of(), [3.0, 1.0, bad, 2.0, 2.0])
    np.testing.assert_allclose(points[-1], points[1], rtol=1e-6)
    assert float(states[-1].best) == 1.0


def test_the_largest_metric_is_the_best_on_request():
    points, _ = run_along(best_of(mode="max"), [1.0, 3.0, 2.0, 2.0])
    np.testing.assert_allclose(points[-1], points[1], rtol=1e-6)


def test_a_metric_that_is_observed_decides():
    plateau = adaptax.reduce_on_plateau(
        factor=0.5, patience=0, threshold=0.0, monitor=None
    )
    optimizer = adaptax.restore_best(adaptax.gradient_descent(0.1), plateau)
    params = jnp.ones(2)
    state, path = optimizer.init(params), []
    for metric in (None, 1.0, None, 2.0, None, None):
        if metric is not None:
            state = plateau.observe(state, metric)
        path.append(float(params[0]))
        updates, state = optimizer.update(jnp.ones(2), state, params)
        params = optax.apply_updates(params, updates)
    path.append(float(params[0]))
    np.testing.assert_allclose(path, [1.0, 0.9, 0.8, 0.7, 0.9, 0.85, 0.8], rtol=1e-5)
    assert int(state.restores) == 1


def test_from_very_far_it_goes_back_in_several_calls_without_another_cut():
    optimizer = best_of(adaptax.gradient_descent(1.0), patience=0)
    start = jnp.asarray([1.0, -0.3])
    _, (*_, state) = run_along(optimizer, [1.0], start)
    points, states = run_along(optimizer, [1e9] * 4, start - 1e9, state)
    np.testing.assert_allclose(points[-2], start, rtol=1e-5)
    assert int(states[-1].restores) == 1


def test_it_rescues_a_run_that_leaves_its_best_behind():
    """The rate is too large for the steep half of the valley."""

    def loss(w):
        return jnp.sum(jnp.where(w > 0, 10.0, 0.1) * w**2) / 2

    def trained(optimizer):
        def step(carry, _):
            params, state = carry
            value, gradient = jax.value_and_grad(loss)(params)
            updates, state = optimizer.update(gradient, state, params, value=value)
            return (optax.apply_updates(params, updates), state), value

        params = jnp.asarray([-1.0])
        return jax.lax.scan(step, (params, optimizer.init(params)), length=200)

    inner = adaptax.momentum(0.6, b=0.95)
    plateau = {"factor": 0.5, "patience": 5}
    (_, state), values = trained(
        adaptax.restore_best(inner, adaptax.reduce_on_plateau(**plateau))
    )
    assert int(state.restores) > 0
    assert float(values[-20:].max()) < 1e-3
    (_, _), plain = trained(adaptax.monitor(inner))
    assert float(values[-20:].max()) < 0.1 * float(plain[-20:].max())


def test_members_under_vmap_are_so_many_separate_runs():
    losses = jnp.asarray([3.0, 2.0, 1.0, 4.0, 5.0, 1.5, 0.5, 2.0, 2.0, 2.0])

    def train(factor, patience, rate):
        optimizer = best_of(adaptax.momentum(rate), factor=factor, patience=patience)

        def step(carry, value):
            params, state = carry
            updates, state = optimizer.update(params, state, params, value=value)
            params = optax.apply_updates(params, updates)
            return (params, state), params

        params = jnp.ones(3)
        (_, state), path = jax.lax.scan(step, (params, optimizer.init(params)), losses)
        return path, state.restores

    members = (
        jnp.asarray([0.5, 0.1, 0.7]),
        jnp.asarray([0, 1, 2]),
        jnp.asarray([0.1, 0.2, 0.3]),
    )
    together, alone = jax.jit(jax.vmap(train))(*members), jax.jit(train)
    assert len(set(together[1].tolist())) > 1
    for index in range(3):
        one = alone(*(member[index] for member in members))
        batched = jax.tree.map(lambda x, at=index: x[at], together)
        chex.assert_trees_all_close(batched, one, rtol=1e-5)


def test_a_state_saved_in_the_middle_makes_bitwise_the_same_decisions():
    optimizer, losses = best_of(), [3.0, 1.0, 4.0, 5.0, 2.0, 3.0, 4.0]
    points, states = run_along(optimizer, losses)
    for middle in (3, 4, 5):
        restored = jax.tree.map(lambda x: jnp.asarray(np.array(x)), states[middle])
        after = run_along(optimizer, losses[middle:], points[middle], restored)
        chex.assert_trees_all_equal(after[0][-1], points[-1])
        chex.assert_trees_all_equal(after[1][-1], states[-1])


def test_a_controller_that_keeps_no_best_is_refused():
    controller = following.follow(
        lambda params: adaptax._core.schedule.ScheduleState(*(jnp.zeros(()),) * 3),
        lambda state, *rest: state,
    )
    with pytest.raises(TypeError, match="best"):
        adaptax.restore_best(adaptax.adam(0.1), controller)


def test_what_it_needs_is_named_where_it_is_missing():
    optimizer, params = best_of(), jnp.ones(2)
    state = optimizer.init(params)
    with pytest.raises(TypeError, match="`value`"):
        optimizer.update(params, state, params)
    with pytest.raises(ValueError, match="params"):
        optimizer.update(params, state, value=1.0)
