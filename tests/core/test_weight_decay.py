"""Weight decay, wherever it is taken: a number, traced or a function, and a mask."""

import functools
import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conformance.contracts import contract_of
from steps import PARAMS, assert_same_steps, gradients, updates_of

import adaptax
from adaptax import catalog

DIRECTION = adaptax.scale_by_gradient_descent()

DECAYING = {
    entry.name: entry
    for entry in catalog.ENTRIES
    if "weight_decay" in inspect.signature(entry.factory).parameters
}
each = pytest.mark.parametrize("name", DECAYING)


def falling(step):
    """Decay by 0.5, 0.4, … 0.1, and then not at all, by a negative number and NaN."""
    step = jnp.asarray(step).astype(jnp.float32)
    return jnp.where(step == 7, jnp.nan, 0.5 - 0.1 * step)


@functools.cache
def stepper(name, decay=None, masked=()):
    """Compile a step, of which a `decay` that is not given is an argument."""
    entry, arguments = DECAYING[name], {"mask": dict(masked)} if masked else {}

    def made(given):
        optimizer = entry.optimizer(
            weight_decay=given if decay is None else decay, **arguments
        )
        return optax.with_extra_args_support(optimizer)

    def step(given, gradient, state, params, value):
        extra_args = {"value": value} if "value" in entry.needs else {}
        updates, state = made(given).update(gradient, state, params, **extra_args)
        return updates, state, optax.apply_updates(params, updates)

    return made(0.0).init, jax.jit(step)


def run(name, decays, **kind):
    """List the updates of training with a weight decay for each step."""
    init, step = stepper(name, **kind)
    params, state, updates = PARAMS, init(PARAMS), []
    for index, (gradient, decay) in enumerate(zip(gradients(), decays, strict=False)):
        given = jnp.float32(decay), gradient, state, params, 3 - index / 4
        update, state, params = step(*given)
        updates.append(update)
    return updates


@each
def test_a_function_of_the_step_is_what_a_loop_with_its_numbers_does(name):
    numbers = [0.5, 0.4, 0.3, 0.2, 0.1, 0.0, 0.0, 0.0]
    ours, expected = run(name, [0.0] * 8, decay=falling), run(name, numbers)
    chex.assert_trees_all_close(ours, expected, rtol=1e-4, atol=1e-6)
    constant = run(name, [0.5] * 8)
    assert not np.allclose(ours[-1]["matrix"], constant[-1]["matrix"], rtol=1e-3)


@each
def test_leaves_that_are_masked_do_not_decay(name):
    mask = (("matrix", False), ("scalar", True))
    masked, plain = run(name, [0.3] * 6, masked=mask), run(name, [0.0] * 6)
    # Rates made of all the leaves differ from then on, but not the direction.
    first = next(at for at, update in enumerate(plain) if update["matrix"].any())
    ours, theirs = (np.ravel(run[first]["matrix"]) for run in (masked, plain))
    cosine = ours @ theirs / (np.linalg.norm(ours) * np.linalg.norm(theirs))
    np.testing.assert_allclose(cosine, 1, rtol=1e-6)
    differs = [
        not np.allclose(one["scalar"], other["scalar"], rtol=1e-3, atol=0)
        for one, other in zip(masked, plain, strict=True)
    ]
    # LAMB's steps of one number are as long as it, whatever its direction.
    assert any(differs) or contract_of(DECAYING[name]).by_leaf


def test_momo_steps_to_the_bound_of_the_leaves_that_decay_and_of_the_others():
    # min over y of max(l + g'(y - x), bound) + ||y - x||^2 / 2a + decay ||y_m||^2 / 2
    params = {"a": jnp.float32([1.0, -2.0]), "b": jnp.float32([0.5, 3.0])}
    gradients = {"a": jnp.float32([0.5, 1.0]), "b": jnp.float32([-1.0, 2.0])}
    rate, decay, bound, value = 0.7, 0.4, 0.0, 3.0
    optimizer = adaptax.momo(rate, 0.0, bound, decay, mask={"a": True, "b": False})
    updates, _ = optimizer.update(
        gradients, optimizer.init(params), params, value=value
    )
    x, g = (np.concatenate([tree["a"], tree["b"]]) for tree in (params, gradients))
    shrink = 1 + rate * decay * np.array([1, 1, 0, 0])
    ways = [(x - step * g) / shrink - x for step in np.linspace(0, rate, 7001)]

    def objective(way):
        model = max(value + g @ way, bound)
        decaying = (x + way)[:2]
        return model + way @ way / (2 * rate) + decay / 2 * decaying @ decaying

    best = min(ways, key=objective)
    np.testing.assert_allclose([*updates["a"], *updates["b"]], best, atol=3e-4)
    assert value + g @ best == pytest.approx(bound, abs=2e-3)


def jitted(optimizer):
    return optax.GradientTransformation(optimizer.init, jax.jit(optimizer.update))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (adaptax.adamw, optax.adamw),
        (adaptax.lion, optax.lion),
        (adaptax.lamb, optax.lamb),
    ],
)
def test_a_schedule_decays_as_in_optax(ours, theirs):
    schedule = optax.linear_schedule(0.5, 0.0, 15)
    mask = {"matrix": True, "scalar": False}
    with jax.numpy_dtype_promotion("standard"):
        one, other = (
            updates_of(jitted(of(0.1, weight_decay=schedule, mask=mask)), gradients(20))
            for of in (ours, theirs)
        )
    chex.assert_trees_all_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_schedule_of_adaptax_and_one_of_optax_decay_alike():
    ours = adaptax.linear(0.5, total_steps=4, end=0.1)
    theirs = optax.linear_schedule(0.5, 0.1, 4)
    made = (adaptax.lion(0.1, weight_decay=decay) for decay in (ours, theirs))
    assert_same_steps(*map(jitted, made))


def test_behind_gradient_descent_it_is_the_gradient_of_a_square():
    penalty, rate = 0.3, 0.1
    decayed = adaptax.with_weight_decay(DIRECTION, penalty)
    optimizer = optax.chain(decayed, adaptax.descend(rate))
    (gradient,) = gradients(1)
    updates, _ = optimizer.update(gradient, optimizer.init(PARAMS), PARAMS)
    square = jax.grad(
        lambda w: sum(penalty / 2 * (x * x).sum() for x in jax.tree.leaves(w))
    )(PARAMS)
    expected = jax.tree.map(lambda g, s: -rate * (g + s), gradient, square)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), updates, expected
    )


@pytest.mark.parametrize("mask", [None, True, {"matrix": True, "scalar": True}])
def test_a_mask_may_be_a_prefix_of_the_parameters(mask):
    assert_same_steps(
        adaptax.with_weight_decay(DIRECTION, 0.3, mask),
        optax.chain(DIRECTION, optax.add_decayed_weights(0.3)),
    )


def test_without_parameters_it_says_what_to_pass():
    decayed = adaptax.with_weight_decay(DIRECTION, 0.3)
    (gradient,) = gradients(1)
    with pytest.raises(ValueError, match=r"needs the parameters: call tx\.update"):
        decayed.update(gradient, decayed.init(PARAMS))


def test_it_hands_extra_arguments_to_the_direction():
    decayed = adaptax.with_weight_decay(adaptax.reduce_on_plateau(), 0.3)
    (gradient,) = gradients(1)
    decayed.update(gradient, decayed.init(PARAMS), PARAMS, value=1.0)
    with pytest.raises(TypeError, match="value"):
        decayed.update(gradient, decayed.init(PARAMS), PARAMS)


@pytest.mark.parametrize("decay", ["0.1", None, True])
@each
def test_what_is_no_decay_is_refused_by_name(name, decay):
    with pytest.raises(
        TypeError, match="weight_decay must be a number or a function of the step"
    ):
        DECAYING[name].make(weight_decay=decay)
    with pytest.raises(ValueError, match="weight_decay must be >= 0"):
        DECAYING[name].make(weight_decay=-0.1)


def test_a_function_that_gives_no_real_scalar_is_refused_by_name():
    for function, error in {
        (lambda step: jnp.ones(2)): ValueError,
        (lambda step: 1j): TypeError,
    }.items():
        with pytest.raises(error, match="weight_decay must return a"):
            updates_of(adaptax.adamw(0.1, weight_decay=function))


def test_the_state_of_a_function_counts_its_steps_and_keeps_its_types():
    optimizer = adaptax.lion(0.1, weight_decay=falling)
    state = optimizer.init(PARAMS)
    update = jax.jit(optimizer.update)
    for gradient in gradients(3):
        _, new = update(gradient, state, PARAMS)
        chex.assert_trees_all_equal_shapes_and_dtypes(new, state)
        state = new
    assert state[0].step == 3
    assert update._cache_size() == 1
