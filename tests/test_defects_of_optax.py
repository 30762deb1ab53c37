"""Defects of Optax 0.2.8 that adaptax does not share.

Each test shows the defect in Optax and its absence here. Where a later Optax has
repaired it, the part that shows the defect can go.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptax


@pytest.fixture(autouse=True)
def _as_optax_promotes():
    with jax.numpy_dtype_promotion("standard"):
        yield


def run_along(optimizer, values, params=None, gradient=None):
    """Update along given losses; give the last parameters and the last state."""
    params = jnp.ones(2) if params is None else params
    gradient = jnp.ones_like(params) if gradient is None else gradient
    state = optimizer.init(params)
    for value in values:
        updates, state = optimizer.update(gradient, state, params, value=value)
        params = optax.apply_updates(params, updates)
    return params, state


# Polyak's step size


def test_one_nan_loss_does_not_end_a_run_with_polyak():
    losses = [1.0, np.nan, 1.0]
    params, state = run_along(adaptax.gradient_descent(adaptax.polyak()), losses)
    assert np.all(np.isfinite(params))
    assert float(adaptax.telemetry(state)["polyak/skipped"]) == 1
    assert np.all(np.isnan(run_along(optax.polyak_sgd(), losses)[0]))


def test_polyak_does_not_climb_where_the_loss_is_below_its_bound():
    ours = adaptax.gradient_descent(adaptax.polyak(lower_bound=2.0))
    np.testing.assert_array_equal(run_along(ours, [1.0])[0], 1.0)
    assert np.all(run_along(optax.polyak_sgd(f_min=2.0), [1.0])[0] > 1)


def test_the_step_size_of_polyak_can_be_read():
    _, state = run_along(adaptax.gradient_descent(adaptax.polyak(c=1.0)), [1.0])
    assert float(adaptax.learning_rate(state)) == pytest.approx(0.5)
    _, state = run_along(optax.polyak_sgd(), [1.0])
    assert not any(np.size(leaf) for leaf in jax.tree.leaves(state))


# reduce_on_plateau


def scale_after(make, values, params=None):
    """Return what a plateau multiplies by after the last of these losses."""
    params = jnp.ones(2) if params is None else params
    state, update = make.init(params), jax.jit(make.update)
    for value in np.float32(values):
        updates, state = update(params, state, value=value)
    return float(np.asarray(updates, np.float32)[0])


def ours(**arguments):
    arguments = {"factor": 0.5, "patience": 2, **arguments}
    return adaptax.reduce_on_plateau(**arguments)


def theirs(**arguments):
    arguments = {"factor": 0.5, "patience": 2, **arguments}
    return optax.contrib.reduce_on_plateau(**arguments)


@pytest.mark.parametrize(
    ("values", "right", "arguments"),
    [
        pytest.param([-1.0] * 8, 0.5, {}, id="a constant negative loss is a plateau"),
        pytest.param(
            [-1.0, -0.9, -0.8, -0.7],
            0.5,
            {"rtol": 0.5},
            id="a negative loss that gets worse does not count as better",
        ),
        pytest.param(
            [3.0, 2.0, 1.0],
            1.0,
            {"patience": 0},
            id="with a patience of 0 a loss that falls is not cut",
        ),
        pytest.param(
            [3.0, -np.inf, 2.0, 1.0, 0.5, 0.2, 0.1],
            1.0,
            {},
            id="one loss of -inf is not the best for ever",
        ),
    ],
)
def test_a_plateau_is_told_rightly(values, right, arguments):
    wrong = scale_after(theirs(**arguments), values)
    if "rtol" in arguments:
        arguments = {"threshold": arguments["rtol"]}
    scale = scale_after(ours(**arguments), values)
    assert (scale < 1) == (right < 1)
    assert (wrong < 1) != (right < 1)


def test_a_run_that_improves_is_not_cut_in_bfloat16():
    falling = 1000 - np.arange(40.0)
    weights = jnp.ones(2, jnp.bfloat16)
    assert scale_after(ours(), falling, weights) == 1
    assert scale_after(theirs(), falling, weights) < 1


def test_integer_leaves_pass_through_a_plateau():
    updates = {"w": jnp.ones(2), "count": jnp.ones((), jnp.int32)}
    controller = ours()
    scaled, _ = controller.update(updates, controller.init(updates), value=1.0)
    assert scaled["count"].dtype == jnp.int32
    with pytest.raises(TypeError):
        theirs().update(updates, theirs().init(updates), value=1.0)


# What can be traced


def sum_of(schedule):
    return sum(jnp.asarray(schedule(step)) for step in (0, 3))


TRACED = {
    "steps of a cosine": (
        lambda steps: sum_of(adaptax.cosine(1.0, steps)),
        lambda steps: sum_of(optax.cosine_decay_schedule(1.0, steps)),
        7,
    ),
    "steps of a line": (
        lambda steps: sum_of(adaptax.linear(1.0, total_steps=steps)),
        lambda steps: sum_of(optax.linear_schedule(1.0, 0.0, steps)),
        7,
    ),
    "peak after a warm-up": (
        lambda peak: sum_of(adaptax.cosine(peak, 9, warmup_steps=2)),
        lambda peak: sum_of(optax.warmup_cosine_decay_schedule(0.0, peak, 2, 9)),
        0.5,
    ),
    "rate of an exponential": (
        lambda rate: sum_of(adaptax.exponential_decay(1.0, decay_rate=rate)),
        lambda rate: sum_of(optax.exponential_decay(1.0, 1, rate)),
        0.5,
    ),
    "factors of a piecewise schedule": (
        lambda factor: sum_of(adaptax.piecewise(1.0, [2], [factor])),
        lambda factor: sum_of(optax.piecewise_constant_schedule(1.0, {2: factor})),
        0.5,
    ),
    "factor of a plateau": (
        lambda factor: jnp.ones(()) * ours(factor=factor).init(()).step,
        lambda factor: jnp.ones(()) * theirs(factor=factor).init(()).plateau_count,
        0.5,
    ),
}


@pytest.mark.parametrize(("traced", "not_traced", "value"), TRACED.values(), ids=TRACED)
def test_it_can_be_traced(traced, not_traced, value):
    np.testing.assert_allclose(jax.jit(traced)(value), traced(value), rtol=1e-6)
    with pytest.raises(jax.errors.TracerBoolConversionError):
        jax.jit(not_traced)(value)


# Wrappers and the loss


def test_accumulation_tells_the_mean_loss():
    def best_after(wrap):
        optimizer = wrap(adaptax.gradient_descent([1.0, adaptax.reduce_on_plateau()]))
        _, state = run_along(optimizer, [1.0, 3.0])
        return [
            float(leaf)
            for path, leaf in adaptax.telemetry(state).items()
            if path.endswith("reduce_on_plateau/best")
        ]

    assert best_after(lambda inner: adaptax.accumulate(inner, 2)) == [2.0]
    assert best_after(lambda inner: optax.MultiSteps(inner, 2)) == [3.0]


@pytest.mark.parametrize(
    "wrap",
    [
        adaptax.monitor,
        lambda inner: adaptax.accumulate(inner, 1),
        adaptax.spike_guard,
        adaptax.reject_increase,
        adaptax.restore_best,
    ],
    ids=["monitor", "accumulate", "spike_guard", "reject_increase", "restore_best"],
)
def test_every_wrapper_hands_the_loss_on(wrap):
    plateau = adaptax.reduce_on_plateau(name="inside")
    _, state = run_along(wrap(adaptax.gradient_descent([1.0, plateau])), [0.75])
    bests = {
        float(leaf)
        for path, leaf in adaptax.telemetry(state).items()
        if path.endswith("inside/reduce_on_plateau/best")
    }
    assert 0.75 in bests


REJECTING = {
    "lookahead": lambda inner: optax.lookahead(inner, 2, 0.5),
    "sam": lambda inner: optax.contrib.sam(inner, optax.sgd(0.1), sync_period=1),
    "split_real_and_imaginary": optax.contrib.split_real_and_imaginary,
}


@pytest.mark.parametrize("wrap", REJECTING.values(), ids=REJECTING)
def test_a_controller_is_told_by_observe_where_a_wrapper_rejects_the_loss(wrap):
    controller = adaptax.reduce_on_plateau(0.5, patience=0, monitor=None)
    optimizer = wrap(adaptax.gradient_descent([1.0, controller]))
    params = {"w": jnp.ones(2)}
    if wrap is REJECTING["lookahead"]:
        params = optax.LookaheadParams.init_synced(params)
    state = optimizer.init(params)
    gradient = {"w": jnp.ones(2)}
    with pytest.raises(TypeError, match="value"):
        optimizer.update(gradient, state, params, value=1.0)
    for metric in (1.0, 1.0):
        state = controller.observe(state, metric)
    _, state = optimizer.update(gradient, state, params)
    assert float(adaptax.learning_rate(state)) == 0.5


TRAINED = {"w": True}
IN_A_CHAIN = {
    "chain": (optax.chain, True),
    "named_chain": (lambda inner: optax.named_chain(("inner", inner)), True),
    "masked": (lambda inner: optax.masked(inner, TRAINED), True),
    "partition": (lambda inner: optax.partition({True: inner}, TRAINED), True),
    "flatten": (optax.flatten, True),
    "apply_if_finite": (lambda inner: optax.apply_if_finite(inner, 3), True),
    "conditionally_mask": (
        lambda inner: optax.conditionally_mask(inner, lambda step: step >= 0),
        True,
    ),
    "inject_hyperparams": (
        lambda inner: optax.inject_hyperparams(
            lambda factor: optax.chain(inner, optax.scale(factor))
        )(1.0),
        True,
    ),
    "MultiSteps": (
        lambda inner: optax.MultiSteps(inner, 1).gradient_transformation(),
        False,
    ),
    "lookahead": (REJECTING["lookahead"], False),
    "split_real_and_imaginary": (REJECTING["split_real_and_imaginary"], False),
}
"""Wrappers of Optax, and whether they hand the loss on where they stand in a chain."""


@pytest.mark.parametrize("name", IN_A_CHAIN)
def test_a_wrapper_that_drops_the_loss_in_a_chain_is_named(name):
    wrap, hands_on = IN_A_CHAIN[name]
    plateau = adaptax.reduce_on_plateau()
    optimizer = optax.chain(wrap(adaptax.gradient_descent([1.0, plateau])))
    gradient = params = {"w": jnp.ones(2)}
    if name == "lookahead":
        params = optax.LookaheadParams.init_synced(params)
    shapes = jax.eval_shape(optimizer.init, params)

    def update(state):
        return optimizer.update(gradient, state, params, value=jnp.float32(1))

    if hands_on:
        jax.eval_shape(update, shapes)
    else:
        with pytest.raises(TypeError, match=f"drops it: .*{name}.*observe"):
            jax.eval_shape(update, shapes)


def test_a_gradient_that_would_broadcast_is_not_spread_over_its_parameter():
    params, gradient = {"w": jnp.ones(3)}, {"w": jnp.ones(1)}

    def update(accumulated):
        return accumulated.update(gradient, accumulated.init(params), params)

    theirs = optax.MultiSteps(adaptax.gradient_descent(0.1), 1)
    assert update(theirs)[0]["w"].shape == (3,)
    with pytest.raises(ValueError, match=r"\['w'\] has shape \(1,\)"):
        update(adaptax.accumulate(adaptax.gradient_descent(0.1), 1))


# Steps, and what a rate may be


def test_a_short_one_cycle_starts_low():
    assert adaptax.one_cycle(1.0, total_steps=2)(0) < adaptax.one_cycle(
        1.0, total_steps=2
    )(1)
    assert optax.linear_onecycle_schedule(2, 1.0)(0) == 1.0


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (
            lambda: adaptax.linear(1.0, total_steps=3_000_000_000),
            lambda: optax.linear_schedule(1.0, 0.0, 3_000_000_000),
        ),
        (
            lambda: adaptax.piecewise(1.0, [3_000_000_000], [0.0]),
            lambda: optax.piecewise_constant_schedule(1.0, {3_000_000_000: 0.0}),
        ),
        (
            lambda: adaptax.schedules.join(
                [adaptax.constant(1.0), adaptax.constant(0.0)], [3_000_000_000]
            ),
            lambda: optax.join_schedules(
                [optax.constant_schedule(1.0), optax.constant_schedule(0.0)],
                [3_000_000_000],
            ),
        ),
    ],
    ids=["linear", "piecewise", "join"],
)
def test_a_schedule_may_have_more_steps_than_int32_counts(right, wrong):
    step = jnp.int32(1000)
    assert float(right()(step)) == pytest.approx(1.0)
    with pytest.raises(OverflowError):
        jax.jit(wrong())(step)


@pytest.mark.parametrize("rate", [None, np.nan, np.inf, -1.0, True])
def test_what_is_no_rate_is_refused(rate):
    with pytest.raises((TypeError, ValueError), match="learning_rate"):
        adaptax.adam(rate)
    optax.adam(rate)  # accepted: None climbs


# Methods that infer their rate


def run(optimizer, gradients, params=None, value=1.0):
    """Update along given gradients in one program; give the last parameters."""
    optimizer = optax.with_extra_args_support(optimizer)
    params = jnp.ones(2) if params is None else params
    update, state = jax.jit(optimizer.update), optimizer.init(params)
    for gradient in gradients:
        updates, state = update(gradient, state, params, value=jnp.float32(value))
        params = optax.apply_updates(params, updates)
    return params, state


INFERRING = {
    "prodigy": (lambda: adaptax.prodigy(d0=0.01), lambda: optax.contrib.prodigy()),
    "dadapt_adam": (
        lambda: adaptax.dadapt_adam(d0=0.01),
        lambda: optax.contrib.dadapt_adamw(),
    ),
    "dog": (
        lambda: adaptax.gradient_descent(adaptax.dog(reps_rel=0.01)),
        lambda: optax.contrib.dog(1.0, init_step=("distance", 0.01)),
    ),
    "dowg": (
        lambda: adaptax.gradient_descent(adaptax.dowg(reps_rel=0.01)),
        lambda: optax.contrib.dowg(1.0),
    ),
}
STEP = jnp.asarray([1.0, -1.0])


@pytest.mark.parametrize("name", ["prodigy", "dadapt_adam"])
def test_a_first_gradient_of_zero_does_not_end_training(name):
    ours, theirs = (make() for make in INFERRING[name])
    moved, _ = run(ours, [jnp.zeros(2), STEP, STEP])
    assert np.all(np.isfinite(moved))
    assert np.all(moved != 1)
    assert np.all(np.isnan(run(theirs, [jnp.zeros(2), STEP, STEP])[0]))


@pytest.mark.parametrize("name", INFERRING)
def test_one_nan_in_a_gradient_does_not_end_training(name):
    ours, theirs = (make() for make in INFERRING[name])
    poisoned = [STEP, STEP.at[0].set(jnp.nan), STEP, STEP]
    before, _ = run(ours, poisoned[:2])
    after, _ = run(ours, poisoned)
    assert np.all(np.isfinite(after))
    assert np.all(after != before)
    assert not np.all(np.isfinite(run(theirs, poisoned)[0]))


@pytest.mark.parametrize("make", ["momo", "momo_adam"])
def test_a_loss_that_is_nan_does_not_end_training_with_momo(make):
    ours, theirs = getattr(adaptax, make)(), getattr(optax.contrib, make)()
    np.testing.assert_array_equal(run(ours, [STEP], value=np.nan)[0], 1.0)
    assert np.all(np.isnan(run(theirs, [STEP], value=np.nan)[0]))


def test_the_sum_of_squares_goes_on_past_256_in_bfloat16():
    weights, step = jnp.ones(1, jnp.bfloat16), jnp.ones(1, jnp.bfloat16)
    _, ours = run(adaptax.dog(), [step] * 300, weights)
    _, theirs = run(optax.contrib.dog(1.0), [step] * 300, weights)
    assert float(ours.sum_sq) == pytest.approx(300)
    assert float(theirs[1].sum_sq_norm_grads) == 256


@pytest.mark.parametrize("name", ["prodigy", "dog", "dowg"])
def test_parameters_and_state_can_be_donated_together(name):
    def donated(optimizer):
        params = jnp.ones(2)
        state = optimizer.init(params)
        step = jax.jit(
            lambda params, state: optimizer.update(STEP, state, params),
            donate_argnums=(0, 1),
        )
        return jax.block_until_ready(step(params, state))

    ours, theirs = (make() for make in INFERRING[name])
    donated(ours)
    with pytest.raises((ValueError, RuntimeError), match="donate"):
        donated(theirs)


def test_what_to_evaluate_is_found_inside_a_chain():
    ours = optax.chain(optax.clip(1.0), adaptax.schedule_free_sgd(0.1))
    theirs = optax.chain(
        optax.clip(1.0), optax.contrib.schedule_free(optax.sgd(0.1), 0.1)
    )
    params, state = run(ours, [STEP] * 3)
    assert np.all(adaptax.eval_params(state, params) != params)
    params, state = run(theirs, [STEP] * 3)
    with pytest.raises((AttributeError, ValueError, TypeError)):
        optax.contrib.schedule_free_eval_params(state, params)
