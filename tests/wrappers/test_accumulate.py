"""Accumulated steps equal steps on the whole batch, loss included."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conformance.contracts import Contract, Goal
from reference.momentum import Momentum, momentum_of_optax

import adaptax


def reference(w, gradients, values, *, learning_rate, every):
    """Step with the mean of so many gradients."""
    inner, waiting = Momentum(w, learning_rate), []
    for g in gradients:
        waiting.append(g)
        if len(waiting) == every:
            w = w + inner.step(sum(waiting) / every)
            waiting = []
        yield w


CONTRACT = Contract(
    reference,
    breaks={"nonfinite": "it moves by the finite gradients of the other calls"},
    optax_forms=("optax.MultiSteps",),
    optax_twin=lambda: optax.MultiSteps(
        momentum_of_optax(), 2
    ).gradient_transformation(),
    calls=2,
    goals={"quadratic": Goal(400, 1e-2)},
)

PARAMS = {"w": jnp.ones((2, 3)), "h": jnp.ones(4, jnp.bfloat16)}


def gradients_of(seed):
    keys = jax.random.split(jax.random.key(seed), 2)
    return {
        "w": jax.random.normal(keys[0], (2, 3)),
        "h": jax.random.normal(keys[1], (4,), jnp.bfloat16),
    }


def mean_of(trees):
    def mean(*leaves):
        stacked = jnp.stack([leaf.astype(jnp.float32) for leaf in leaves])
        return stacked.mean(axis=0).astype(leaves[0].dtype)

    return jax.tree.map(mean, *trees)


def test_every_kth_step_equals_one_with_the_mean_gradient():
    inner = adaptax.adam(0.1)
    optimizer = adaptax.accumulate(inner, 3)
    state, inner_state = optimizer.init(PARAMS), inner.init(PARAMS)
    step = jax.jit(optimizer.update)
    for start in (0, 3):
        micro = [gradients_of(start + i) for i in range(3)]
        expected, inner_state = inner.update(mean_of(micro), inner_state, PARAMS)
        for i, gradients in enumerate(micro):
            updates, state = step(gradients, state, PARAMS)
            if i < 2:
                assert not any(leaf.any() for leaf in jax.tree.leaves(updates))
        jax.tree.map(
            lambda ours, wanted: np.testing.assert_allclose(ours, wanted, rtol=1e-5),
            jax.tree.map(lambda leaf: leaf.astype(jnp.float32), updates),
            jax.tree.map(lambda leaf: leaf.astype(jnp.float32), expected),
        )


def rate_after(losses, optimizer):
    def step(state, loss):
        return optimizer.update(gradients_of(0), state, PARAMS, value=loss)[1], None

    state, _ = jax.lax.scan(step, optimizer.init(PARAMS), jnp.array(losses))
    return float(adaptax.learning_rate(state))


def plateau():
    return adaptax.gradient_descent(
        [1.0, adaptax.reduce_on_plateau(factor=0.5, patience=0)]
    )


def test_a_loss_driven_rate_sees_the_mean_loss():
    # The means fall, 3 to 2, while the last loss of each pair rises, 1 to 2.
    losses = [5.0, 1.0, 2.0, 2.0]
    assert rate_after(losses, adaptax.accumulate(plateau(), 2)) == 1.0
    multi_steps = optax.MultiSteps(plateau(), 2).gradient_transformation()
    with jax.numpy_dtype_promotion("standard"):
        assert rate_after(losses, multi_steps) == 0.5


def test_a_loss_that_is_not_finite_is_left_out_of_the_mean():
    losses = [5.0, 1.0, jnp.nan, 2.0, 2.5, jnp.inf]
    assert rate_after(losses[:4], adaptax.accumulate(plateau(), 2)) == 1.0
    assert rate_after(losses, adaptax.accumulate(plateau(), 2)) == 0.5


def test_a_window_of_bad_losses_changes_no_rate_and_leaves_no_trace():
    optimizer = adaptax.accumulate(plateau(), 2)
    losses = [1.0, 1.0, jnp.nan, jnp.nan]
    assert rate_after(losses, optimizer) == 1.0
    assert rate_after([*losses, 0.5, 0.5], optimizer) == 1.0


def test_a_gradient_that_is_not_finite_leaves_no_trace():
    optimizer = adaptax.accumulate(adaptax.adam(0.1), 2)
    bad = {**gradients_of(0), "w": jnp.full((2, 3), jnp.nan)}
    state = optimizer.init(PARAMS)
    for gradients in (bad, gradients_of(1)):
        updates, state = optimizer.update(gradients, state, PARAMS)
    leaves = jax.tree.leaves((updates, state))
    assert all(jnp.isfinite(leaf).all() for leaf in leaves)
    assert updates["w"].any()


def test_the_number_of_micro_batches_can_be_traced_and_vmapped():
    @jax.vmap
    def steps_taken(every):
        optimizer = adaptax.accumulate(adaptax.adam(0.1), every)
        state, _ = jax.lax.scan(
            lambda state, _: (
                optimizer.update(gradients_of(0), state, PARAMS)[1],
                None,
            ),
            optimizer.init(PARAMS),
            length=6,
        )
        return state.inner_state[0].step

    np.testing.assert_array_equal(steps_taken(jnp.array([1, 2, 3, 6])), [6, 3, 2, 1])


def test_leaves_that_are_not_trained_pass_through():
    params = {"w": jnp.ones(3), "n": None, "i": jnp.arange(3)}
    no_gradient = np.zeros(3, jax.dtypes.float0)
    gradients = {"w": jnp.ones(3), "n": None, "i": no_gradient}
    optimizer = adaptax.accumulate(adaptax.adam(0.1), 2)
    state = optimizer.init(params)
    for _ in range(2):
        updates, state = optimizer.update(gradients, state, params)
    assert updates["n"] is None
    assert updates["i"].dtype == jax.dtypes.float0
    np.testing.assert_allclose(updates["w"], -0.1, rtol=1e-5)


def test_a_loss_that_is_no_scalar_is_refused():
    optimizer = adaptax.accumulate(adaptax.adam(0.1), 2)
    with pytest.raises(ValueError, match="Take its mean"):
        optimizer.update(gradients_of(0), optimizer.init(PARAMS), value=jnp.ones(3))


@pytest.mark.parametrize(
    ("every", "error"),
    [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)],
)
def test_a_bad_number_of_micro_batches_is_refused(every, error):
    with pytest.raises(error, match="every"):
        adaptax.accumulate(adaptax.adam(0.1), every)


@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
def test_the_last_partial_step_is_the_mean_over_what_there_is(jit):
    inner = adaptax.adam(0.1)
    optimizer = adaptax.accumulate(inner, 4)
    step = jax.jit(optimizer.update) if jit else optimizer.update
    state, micro = optimizer.init(PARAMS), [gradients_of(i) for i in range(3)]
    for i, gradients in enumerate(micro):
        updates, state = step(gradients, state, PARAMS, flush=i == 2)
    expected, _ = inner.update(mean_of(micro), inner.init(PARAMS), PARAMS)
    np.testing.assert_allclose(updates["w"], expected["w"], rtol=1e-5)
    assert int(state.micro_step) == 0
    assert int(state.step) == 1
    updates, state = step(micro[0], state, PARAMS, flush=False)
    assert not np.any(updates["w"])


def test_a_flush_hands_on_the_mean_of_the_values_so_far():
    seen = []

    def update(updates, state, params=None, *, value, **extra_args):
        del params, extra_args
        seen.append(float(value))
        return updates, state

    tx = optax.GradientTransformationExtraArgs(lambda params: (), update)
    optimizer = adaptax.accumulate(tx, 8)
    state = optimizer.init(PARAMS)
    for value, last in ((1.0, False), (jnp.nan, False), (4.0, True), (7.0, True)):
        _, state = optimizer.update(
            gradients_of(0), state, PARAMS, value=value, flush=last
        )
    assert seen == [2.5, 7.0]


def test_the_number_of_micro_batches_may_follow_the_steps():
    optimizer = adaptax.accumulate(
        adaptax.gradient_descent(1.0), lambda step: 1 + 2 * step
    )
    theirs = optax.MultiSteps(optax.sgd(1.0), lambda step: 1 + 2 * step)
    state, their_state = optimizer.init(PARAMS["w"]), theirs.init(PARAMS["w"])
    step = jax.jit(optimizer.update)
    for i in range(9):
        gradient = gradients_of(i)["w"]
        updates, state = step(gradient, state, PARAMS["w"])
        with jax.numpy_dtype_promotion("standard"):
            expected, their_state = theirs.update(gradient, their_state, PARAMS["w"])
        np.testing.assert_allclose(updates, expected, rtol=1e-5, atol=1e-7)
    assert int(state.step) == 3


def test_what_is_no_flag_is_refused():
    optimizer = adaptax.accumulate(adaptax.gradient_descent(1.0), 2)
    with pytest.raises(TypeError, match="flush must be a boolean, got 1"):
        optimizer.update(PARAMS, optimizer.init(PARAMS), PARAMS, flush=1)
