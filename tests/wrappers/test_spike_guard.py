"""The spike guard: what it skips, what stays in its window, and when it backs off."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conformance.contracts import Contract, Goal
from reference.momentum import Momentum

import adaptax


def reference(
    w,
    gradients,
    values,
    *,
    learning_rate,
    sigma,
    patience,
    factor,
    recovery,
    min_scale,
    min_deviation,
    window=128,
):
    """Skip what lies σ deviations above the mean of the latest accepted steps."""
    inner, scale, recent, in_a_row = Momentum(w, learning_rate), np.float32(1), [], 0
    for g, value in zip(gradients, values, strict=True):
        pair = np.array([np.sqrt(np.sum(g**2)), value])
        spike = False
        if len(recent) == window:
            mean, deviation = np.mean(recent, axis=0), np.std(recent, axis=0)
            deviation = np.maximum(deviation, min_deviation * abs(mean))
            spike = np.any(pair > mean + sigma * deviation)
        if spike or not np.all(np.isfinite(pair)):
            in_a_row += 1
            if in_a_row % patience == 0:
                scale = max(scale * np.float32(factor), np.float32(min_scale))
                if spike:
                    recent = []
        else:
            in_a_row = 0
            scale = min(scale * np.float32(recovery), np.float32(1))
            recent = [*recent, pair][-window:]
            w = w + scale * inner.step(g)
        yield w


CONTRACT = Contract(
    reference,
    static=frozenset({"window"}),
    optax_forms=("optax.apply_if_finite",),
    goals={"quadratic": Goal(200, 1e-2)},
)

PARAMS = {"w": jnp.ones((3,)), "h": jnp.ones((2,), jnp.bfloat16)}
QUIET = [1.0, 1.1, 0.9, 1.05, 0.95, 1.0, 1.1, 0.9]


def gradient(size=1.0):
    return {
        "w": jnp.full((3,), size, jnp.float32),
        "h": jnp.full((2,), size, jnp.bfloat16),
    }


def guard(**arguments):
    arguments = {"window": 4, **arguments}
    return adaptax.spike_guard(adaptax.adam(0.1), **arguments)


def run(optimizer, losses, sizes=None, state=None):
    """Return the first update of each step, as one program, and the last state."""
    sizes = jnp.ones(len(losses)) if sizes is None else jnp.asarray(sizes)

    @jax.jit
    def scan(state, losses, sizes):
        def step(state, inputs):
            loss, size = inputs
            updates, state = optimizer.update(gradient(size), state, PARAMS, value=loss)
            return state, updates["w"][0]

        return jax.lax.scan(step, state, (losses, sizes))

    state = optimizer.init(PARAMS) if state is None else state
    state, updates = scan(state, jnp.asarray(losses, jnp.float32), sizes)
    return np.asarray(updates), state


def test_a_loss_a_million_times_too_large_is_skipped_and_leaves_no_trace():
    updates, state = run(guard(), [*QUIET, 1e6, *QUIET])
    assert np.flatnonzero(updates == 0).tolist() == [8]
    assert int(state.skipped) == 1
    assert int(state.reason) == 4
    assert int(state.consecutive) == 0
    clean_updates, clean = run(guard(), [*QUIET, *QUIET])
    np.testing.assert_array_equal(np.delete(updates, 8), clean_updates)
    for name in ("recent", "filled", "position", "inner_state", "learning_rate"):
        chex.assert_trees_all_equal(getattr(state, name), getattr(clean, name))


def test_a_gradient_far_too_large_is_skipped():
    sizes = [1.0, 1.1, 0.9, 1.0, 1.05, 100.0, 1.0]
    updates, state = run(guard(), [1.0] * 7, sizes)
    assert np.flatnonzero(updates == 0).tolist() == [5]
    assert int(state.reason) == 3
    assert float(state.recent.max()) < 10


def test_one_loss_that_is_not_finite_does_not_stop_the_steps_after_it():
    """Where the window takes it in, as in OLMo and MaxText, they are all skipped."""
    updates, state = run(guard(), [*QUIET, np.nan, np.inf, -np.inf, *QUIET])
    assert np.flatnonzero(updates == 0).tolist() == [8, 9, 10]
    assert np.isfinite(state.recent).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_one_bad_gradient_leaves_the_inner_state_bitwise_unchanged(bad):
    optimizer = guard()
    _, before = run(optimizer, QUIET)
    poisoned = gradient()
    poisoned["w"] = poisoned["w"].at[1].set(bad)
    updates, after = jax.jit(optimizer.update)(poisoned, before, PARAMS, value=1.0)
    chex.assert_trees_all_equal(after.inner_state, before.inner_state)
    chex.assert_trees_all_equal(after.recent, before.recent)
    assert not any(leaf.any() for leaf in jax.tree.leaves(updates))
    assert int(after.reason) == 1


def test_while_the_window_fills_only_what_is_not_finite_is_skipped():
    updates, state = run(guard(), [1.0, 1e6, np.nan, 1e-6])
    assert np.flatnonzero(updates == 0).tolist() == [2]
    assert int(state.filled) == 3


def test_a_fall_of_the_loss_is_no_spike():
    updates, _ = run(guard(), [*QUIET, -1e6, 1e-9])
    assert updates.all()


def test_losses_of_one_value_have_no_spikes_of_rounding():
    updates, state = run(guard(), [1.0] * 6 + [1.0001, 1.0])
    assert updates.all()
    assert int(state.skipped) == 0
    assert run(guard(), [1.0] * 6 + [1.1])[0][-1] == 0


def test_steps_without_a_gradient_are_followed_by_steps_with_one():
    updates, _ = run(guard(), [1.0] * 8, [0.0] * 6 + [1.0, 1.0])
    assert updates[-2:].all()


def test_the_rate_backs_off_after_so_many_skips_in_a_row_and_says_so():
    updates, state = run(guard(patience=3, factor=0.5), [*QUIET, *[np.nan] * 7])
    assert not updates[8:].any()
    assert int(state.skipped) == int(state.consecutive) == 7
    assert int(state.backoffs) == 2
    assert float(state.learning_rate) == 0.25
    assert float(adaptax.learning_rate(state)) == pytest.approx(0.025)
    assert int(state.reason) == 2
    assert int(state.filled) == 4


def test_the_rate_does_not_fall_below_its_bound():
    _, state = run(guard(patience=1, min_scale=0.2), [np.nan] * 9)
    assert float(state.learning_rate) == np.float32(0.2)


def test_the_rate_recovers_over_accepted_steps():
    optimizer = guard(patience=1, recovery=1.25)
    losses = [np.nan, np.nan, 1.0, 1.0]
    _, state = run(optimizer, losses)
    assert float(state.learning_rate) == 0.25 * 1.25**2
    _, state = run(optimizer, [1.0] * 8, state=state)
    assert float(state.learning_rate) == 1.0


def test_without_recovery_a_cut_is_for_good():
    _, state = run(guard(patience=1), [np.nan, *QUIET])
    assert float(state.learning_rate) == 0.5


def test_a_loss_that_stays_at_another_level_is_learned_after_one_back_off():
    updates, state = run(guard(patience=3), [*QUIET, *[100.0] * 8])
    assert np.flatnonzero(updates == 0).tolist() == [8, 9, 10]
    assert int(state.backoffs) == 1
    assert float(state.recent[1].min()) == 100


def test_the_applied_update_is_scaled_by_the_rate_that_is_read():
    optimizer = adaptax.spike_guard(
        adaptax.gradient_descent(0.5), patience=1, factor=0.25, window=4
    )
    updates, state = run(optimizer, [np.nan, 1.0])
    assert updates[-1] == -float(adaptax.learning_rate(state)) == -0.125


def test_gradient_norms_alone_are_watched_where_nothing_is_monitored():
    optimizer = guard(monitor=None)
    state = optimizer.init(PARAMS)
    assert state.recent.shape == (1, 4)
    step = jax.jit(optimizer.update)
    for size in (1.0, 1.1, 0.9, 1.0, 1e3, jnp.nan):
        updates, state = step(gradient(size), state, PARAMS)
    assert int(state.skipped) == 2
    assert int(state.reason) == 1
    assert not updates["w"].any()


def test_a_missing_loss_is_named():
    optimizer = guard()
    with pytest.raises(TypeError, match="`value`"):
        optimizer.update(gradient(), optimizer.init(PARAMS), PARAMS)


def test_a_state_saved_in_the_middle_makes_bitwise_the_same_decisions():
    losses = [*QUIET, 1e3, *QUIET, np.nan, 1e3, 1e3, *QUIET]
    optimizer = guard(patience=2, recovery=1.1)
    whole, state = run(optimizer, losses)
    first, middle = run(optimizer, losses[:10])
    leaves, structure = jax.tree.flatten(middle)
    restored = structure.unflatten([jnp.asarray(np.array(leaf)) for leaf in leaves])
    second, resumed = run(optimizer, losses[10:], state=restored)
    np.testing.assert_array_equal(whole, np.concatenate([first, second]))
    chex.assert_trees_all_equal(resumed, state)


def test_members_under_vmap_are_so_many_separate_runs():
    losses = jnp.asarray([*QUIET, 1.5, 3.0, np.nan, 50.0, *QUIET], jnp.float32)

    def train(sigma, patience, factor, rate):
        optimizer = adaptax.spike_guard(
            adaptax.adam(rate),
            sigma=sigma,
            patience=patience,
            factor=factor,
            recovery=1.1,
            window=4,
        )

        def step(state, loss):
            updates, state = optimizer.update(gradient(), state, PARAMS, value=loss)
            return state, updates["w"]

        return jax.lax.scan(step, optimizer.init(PARAMS), losses)

    members = (
        jnp.asarray([2.0, 6.0, 30.0]),
        jnp.asarray([1, 2, 1]),
        jnp.asarray([0.5, 0.5, 0.1]),
        jnp.asarray([0.1, 0.2, 0.3]),
    )
    alone = jax.jit(train)
    state, updates = jax.jit(jax.vmap(train))(*members)
    assert len(set(state.skipped.tolist())) > 1
    for index in range(3):
        one = alone(*(member[index] for member in members))
        chex.assert_trees_all_close(
            jax.tree.map(lambda x, at=index: x[at], (state, updates)), one, rtol=1e-6
        )


def test_the_statistics_do_not_overflow_into_the_state():
    _, state = run(guard(), [3e38] * 6, [1e18] * 6)
    assert all(np.isfinite(np.float32(leaf)).all() for leaf in jax.tree.leaves(state))


def test_integer_and_missing_leaves_pass_through():
    params = {"w": jnp.ones(2), "i": jnp.arange(3), "n": None}
    gradients = {"w": jnp.ones(2), "i": np.zeros(3, jax.dtypes.float0), "n": None}
    optimizer = guard()
    state = optimizer.init(params)
    for loss in (1.0, jnp.nan):
        updates, state = optimizer.update(gradients, state, params, value=loss)
        assert updates["i"].dtype == jax.dtypes.float0
        assert updates["n"] is None


def test_it_works_inside_accumulation_and_a_chain():
    inner = optax.chain(optax.clip(1.0), guard())
    optimizer = adaptax.accumulate(inner, 2)
    state = optimizer.init(PARAMS)
    for _ in range(4):
        updates, state = optimizer.update(gradient(), state, PARAMS, value=1.0)
    assert updates["w"].any()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"sigma": 0.0}, ValueError),
        ({"sigma": float("nan")}, ValueError),
        ({"sigma": True}, TypeError),
        ({"patience": 0}, ValueError),
        ({"patience": 1.5}, TypeError),
        ({"factor": 1.0}, ValueError),
        ({"factor": 0.0}, ValueError),
        ({"recovery": 0.9}, ValueError),
        ({"min_scale": 2.0}, ValueError),
        ({"min_deviation": -1.0}, ValueError),
        ({"window": 1}, ValueError),
        ({"window": 2.5}, TypeError),
    ],
)
def test_a_bad_argument_is_refused_by_name(arguments, error):
    (name,) = arguments
    with pytest.raises(error, match=name):
        adaptax.spike_guard(adaptax.adam(0.1), **arguments)


def test_a_traced_window_is_refused():
    with pytest.raises(TypeError, match="window"):
        jax.eval_shape(
            functools.partial(
                lambda window: guard(window=window).init(PARAMS),
            ),
            jnp.asarray(4),
        )
