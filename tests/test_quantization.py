"""State in 8 bits: codes, their errors, their size, and what they leave of training."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptax
from adaptax.quantization import Quantized, quantize

BLOCK = 64
NORMAL = np.random.default_rng(0).standard_normal((37, 50)).astype(np.float32)


def rounded(array, step=0, block=BLOCK):
    return np.asarray(quantize(jnp.asarray(array), block, jnp.int32(step)).array(block))


def is_coded(node):
    return isinstance(node, Quantized)


def blocks_of(array):
    flat = np.pad(np.ravel(array), (0, -array.size % BLOCK))
    return flat.reshape(-1, BLOCK)


@pytest.mark.parametrize(("levels", "power"), [(127, 2), (255, 4)])
def test_no_number_is_off_by_more_than_the_distance_of_two_codes(levels, power):
    numbers = NORMAL if power == 2 else NORMAL**4
    size = np.abs(blocks_of(numbers)).max(axis=1, keepdims=True)
    fine = levels * (np.abs(blocks_of(numbers)) / size) ** (1 / power)
    above = size * ((np.floor(fine) + 1) / levels) ** power
    below = size * (np.floor(fine) / levels) ** power
    error = np.abs(blocks_of(rounded(numbers)) - blocks_of(numbers))
    assert (error <= (above - below) * 1.001).all()
    assert np.median(error / np.abs(blocks_of(numbers)).clip(1e-9)) < 0.02


@pytest.mark.parametrize("step", range(5))
@pytest.mark.parametrize("power", [1, 2])
def test_what_is_on_a_code_stays_there(step, power):
    once = rounded(NORMAL**power)
    np.testing.assert_array_equal(rounded(once, step), once)


def test_rounding_is_right_on_the_average():
    several = [rounded(NORMAL, step) for step in range(300)]
    bias = np.abs(np.mean(several, axis=0) - NORMAL).mean()
    assert bias < 0.1 * np.abs(several[0] - NORMAL).mean()
    assert (several[0] != several[1]).any()


def test_a_positive_number_beside_larger_ones_does_not_become_zero():
    tiny = np.where(np.arange(BLOCK) == 0, 1.0, 1e-30).astype(np.float32)
    assert (rounded(tiny) > 0).all()
    assert rounded(tiny)[0] == 1
    assert (rounded(0 * tiny) == 0).all()


def test_a_number_that_is_not_finite_does_not_spoil_its_block():
    spoilt = NORMAL.copy()
    spoilt[0, :3] = np.nan, np.inf, -np.inf
    found = rounded(spoilt)
    np.testing.assert_array_equal(found[0, :3], 0)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[0, 3:], NORMAL[0, 3:], atol=0.05)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_adam_takes_two_bytes_a_parameter_instead_of_eight(dtype):
    params = {"w": jnp.zeros((512, 100), dtype), "bias": jnp.zeros(100, dtype)}
    state = adaptax.quantized(adaptax.scale_by_adam()).init(params)
    moments = state.inner_state
    assert isinstance(moments.mean["w"], Quantized)
    assert moments.mean["bias"].dtype == jnp.float32
    numbers = 2 * 51_200
    expected = numbers + 4 * numbers / 256 + 2 * 4 * 100 + 4 + 4
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(state)) == expected


def test_arrays_that_are_no_moments_stay_as_they_are():
    def with_table(inner):
        def init(params):
            return inner.init(params), jnp.zeros(7000), jnp.zeros((100, 50), jnp.int32)

        def update(updates, state, params=None):
            updates, changed = inner.update(updates, state[0], params)
            return updates, (changed, *state[1:])

        return optax.GradientTransformation(init, update)

    params = jnp.zeros((100, 50))
    tx = adaptax.quantized(with_table(adaptax.scale_by_momentum()))
    (velocity, table, counts) = tx.init(params).inner_state
    assert isinstance(velocity.velocity, Quantized)
    assert (table.dtype, counts.dtype) == (jnp.float32, jnp.int32)


def test_a_moving_average_follows_a_gradient_that_shrinks():
    tx = adaptax.quantized(adaptax.scale_by_rmsprop(0.999), BLOCK, smallest=1)

    @jax.jit
    def run(state):
        def step(state, size):
            _, state = tx.update(jnp.full(BLOCK, size), state)
            return state, None

        large, small = jnp.ones(200), jnp.full(3000, 1e-3)
        return jax.lax.scan(step, state, jnp.concatenate([large, small]))[0]

    state = run(tx.init(jnp.zeros(BLOCK)))
    (kept,) = [
        node.array(BLOCK)
        for node in jax.tree.leaves(state, is_leaf=is_coded)
        if is_coded(node)
    ]
    left = (1 - 0.999**200) * 0.999**3000 / (1 - 0.999**3200)
    # A share of 0.001 of the difference is less than half of what is between codes.
    np.testing.assert_allclose(np.median(kept), left, rtol=0.2)


def test_a_regression_is_learnt_as_well_as_in_32_bits():
    generator = np.random.default_rng(1)
    x = generator.standard_normal((256, 64)).astype(np.float32)
    y = x @ generator.standard_normal((64, 80)).astype(np.float32)

    def loss(w):
        return jnp.mean((x @ w - y) ** 2)

    def trained(direction):
        tx = optax.chain(direction, adaptax.descend(0.03))

        @jax.jit
        def run(w):
            def step(carry, _):
                w, state = carry
                updates, state = tx.update(jax.grad(loss)(w), state, w)
                return (optax.apply_updates(w, updates), state), None

            return jax.lax.scan(step, (w, tx.init(w)), length=400)[0][0]

        return loss(run(jnp.zeros((64, 80))))

    exact = trained(adaptax.scale_by_adam())
    coded = trained(adaptax.quantized(adaptax.scale_by_adam()))
    start = loss(jnp.zeros((64, 80)))
    assert exact < 1e-4 * start
    assert coded < 1e-4 * start


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"block": 0}, ValueError, "block must be >= 1"),
        ({"block": 2.0}, TypeError, "block"),
        ({"smallest": 0}, ValueError, "smallest must be >= 1"),
    ],
)
def test_bad_arguments_are_named(options, error, message):
    with pytest.raises(error, match=message):
        adaptax.quantized(adaptax.scale_by_adam(), **options)


def test_parameters_in_the_state_are_not_put_into_bytes():
    tx = adaptax.quantized(adaptax.schedule_free_adamw(0.1))
    with pytest.raises(ValueError, match="evaluate with"):
        tx.init(jnp.zeros((64, 64)))


def test_it_goes_around_an_optimizer_of_optax():
    tx = adaptax.quantized(optax.adam(1e-2))
    params = jnp.ones((64, 64))
    state = tx.init(params)
    assert isinstance(state.inner_state[0].mu, Quantized)
    with jax.numpy_dtype_promotion("standard"):
        updates, state = tx.update(jnp.ones((64, 64)), state)
    np.testing.assert_allclose(updates, -1e-2, rtol=1e-4)
