"""Steps that end all training elsewhere: Optax 0.2.8 fails at each of these."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptax

STEPS, MIDDLE = 40, 7
START = {"w": jnp.asarray([1.0, -2.0, 0.5]), "b": jnp.asarray(0.3)}
INFERRED = {
    "prodigy": adaptax.prodigy(d0=1e-2),
    "dadapt_adam": adaptax.dadapt_adam(d0=1e-2),
    "dadapt_sgd": adaptax.dadapt_sgd(d0=1e-2),
    "dadapt_lion": adaptax.dadapt_lion(d0=1e-2),
    "momo": adaptax.momo(0.3),
    "momo_adam": adaptax.momo_adam(0.1),
    "momo, estimated bound": adaptax.momo(0.3, use_fstar=True),
    "momo_adam, estimated bound": adaptax.momo_adam(0.1, use_fstar=True),
}
"""Methods with scalars made of all the gradients: their steps count as a whole."""

METHODS = {**INFERRED, "adamg": adaptax.adamg(), "cocob": adaptax.cocob(alpha=10.0)}


@functools.cache
def runner(name):
    """Compile a run of one step more, in which each gradient is g · factor + extra."""
    optimizer = optax.with_extra_args_support(METHODS[name])

    def loss(params):
        return sum(jnp.sum(x**2) for x in jax.tree.leaves(params)) / 2

    def step(carry, inputs):
        params, state = carry
        factor, extra, noise = inputs
        value, gradient = jax.value_and_grad(loss)(params)
        gradient = jax.tree.map(lambda g: factor * g + extra, gradient)
        updates, state = optimizer.update(gradient, state, params, value=value + noise)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    def run(factors, extras, noises):
        carry = START, optimizer.init(START)
        carry, path = jax.lax.scan(step, carry, (factors, extras, noises))
        return *carry, path, loss(START), loss(carry[0])

    return jax.jit(run)


def run(name, factors=None, extras=None, noises=None):
    """Run with some factors, extra terms or loss errors, each a dict by step."""
    disturbances = []
    for usual, changes in ((1, factors), (0, extras), (0, noises)):
        array = np.full(STEPS + 1, usual, np.float32)
        for at, value in (changes or {}).items():
            array[at] = value
        disturbances.append(array)
    params, state, path, before, after = runner(name)(*disturbances)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((params, state)))
    return params, state, path, float(after / before)


def skipped(state):
    return getattr(state, "model", state).skipped


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("name", METHODS)
def test_after_a_zero_first_gradient_training_goes_on(name):
    _, _, path, ratio = run(name, factors={0: 0.0})
    np.testing.assert_array_equal(path["w"][0], START["w"])
    assert ratio < 0.9


@pytest.mark.parametrize("name", INFERRED)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("at", [0, MIDDLE])
def test_a_bad_gradient_is_as_if_it_had_never_been(name, bad, at):
    expected, _, _, _ = run(name, extras={STEPS: np.nan})
    params, state, path, ratio = run(name, extras={at: bad})
    assert skipped(state) == 1
    assert_equal(params, expected)
    before = path["w"][at - 1] if at else START["w"]
    np.testing.assert_array_equal(path["w"][at], before)
    assert ratio < 0.9


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("bad", ["gradient", "loss"])
def test_without_jit_a_bad_step_does_no_harm_either(name, bad):
    optimizer = optax.with_extra_args_support(METHODS[name])
    nothing = jax.tree.map(jnp.zeros_like, START)
    state = optimizer.init(START)
    for at in range(2):
        gradient = jnp.nan * START["w"] if bad == "gradient" else START["w"]
        value = jnp.nan if bad == "loss" else 1.0
        updates, state = optimizer.update(
            {**START, "w": gradient}, state, START, value=value
        )
        if name in INFERRED and (bad == "gradient" or "momo" in name):
            assert_equal(updates, nothing)
        assert all(np.isfinite(x).all() for x in jax.tree.leaves((updates, state))), at


@pytest.mark.parametrize("name", [name for name in INFERRED if "momo" in name])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_loss_is_as_if_it_had_never_been(name, bad):
    expected, _, _, _ = run(name, noises={STEPS: np.nan})
    params, state, path, ratio = run(name, noises={MIDDLE: bad})
    assert state.model.skipped == 1
    assert_equal(params, expected)
    np.testing.assert_array_equal(path["w"][MIDDLE], path["w"][MIDDLE - 1])
    assert ratio < 0.9


@pytest.mark.parametrize("name", [name for name in INFERRED if "momo" in name])
def test_a_huge_loss_is_survived(name):
    _, _, _, ratio = run(name, noises={MIDDLE: 1e30})
    assert ratio < 0.9


@pytest.mark.parametrize("name", ["momo", "momo_adam"])
def test_below_its_bound_it_stands_still(name):
    below = {at: -100.0 for at in range(STEPS + 1)}
    params, state, _, _ = run(name, noises=below)
    assert_equal(params, START)
    assert adaptax.learning_rate(state) == 0


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_prodigys_sums_grow_in_half_precision_as_they_should(dtype):
    optimizer = adaptax.prodigy(d0=0.5, bias_correction=False)
    ones = jnp.ones(3, dtype)

    def step(state, _):
        return optimizer.update(ones, state, ones)[1], None  # x stays at x₀

    state = jax.jit(lambda: jax.lax.scan(step, optimizer.init(ones), length=2000)[0])()
    b3 = np.sqrt(0.999)
    expected = 3 * 0.5 * (1 - b3**2000) / (1 - b3)
    assert expected > 1000  # where bfloat16 counts in steps of 8
    np.testing.assert_allclose(state.denominator, expected, rtol=1e-4)
    assert {x.dtype for x in state[2:7]} == {jnp.dtype("float32")}


def test_a_coordinate_whose_first_gradient_is_bad_still_starts_where_it_is():
    optimizer, params = adaptax.cocob(), jnp.asarray([5.0, -7.0])
    state = optimizer.init(params)
    _, state = optimizer.update(jnp.asarray([jnp.nan, 1.0]), state, params)
    updates, _ = optimizer.update(jnp.asarray([2.0, 1.0]), state, params)
    np.testing.assert_allclose(updates[0], -0.01, rtol=1e-5)


def test_cocobs_sums_grow_in_half_precision_as_they_should():
    optimizer, ones = adaptax.cocob(), jnp.ones(3, jnp.bfloat16)

    def step(state, _):
        return optimizer.update(ones, state, ones)[1], None

    state = jax.jit(lambda: jax.lax.scan(step, optimizer.init(ones), length=1000)[0])()
    np.testing.assert_array_equal(state.sum_abs, 1000)
