"""State in 8 bits: codes, their errors, their size, and what they leave of training."""

import time

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conformance.contracts import Contract, Goal
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from reference.momentum import Momentum

import adaptax
from adaptax.wrappers.block_codes import Quantized, quantize


def reference(w, gradients, values, *, learning_rate, block, smallest):
    """Keep what momentum remembers in bytes, rounded by a hash of step and place."""
    inner = Momentum(w, learning_rate)
    for t, g in enumerate(gradients, start=1):
        w = w + inner.step(g)
        if w.size >= smallest:
            inner.v = in_bytes(inner.v, block, t)
        yield w


def in_bytes(x, block, step):
    """Round to s (q/255)⁴, or s sign(q) (q/127)² in blocks with negative numbers."""
    result = np.empty_like(x)
    for row, start in enumerate(range(0, x.size, block)):
        part = x[start : start + block]
        size, signed = abs(part).max(), (part < 0).any()
        levels, power = (127, 2) if signed else (255, 4)
        for column, number in enumerate(part):
            share = abs(number) / size if size else 0.0
            below = min(np.floor(levels * share ** (1 / power)), levels - 1)
            low, high = ((code / levels) ** power for code in (below, below + 1))
            code = below + ((share - low) / (high - low) > dither(step, row, column))
            if number > 0 and not signed:
                code = max(code, 1)
            value = size * np.sign(number) * (code / levels) ** power
            result[start + column] = value
    return result


def dither(step, row, column):
    """Return a number in [2⁻¹², 1 − 2⁻¹²]."""
    turn = step * 0x9E3779B1 + row * 0x85EBCA6B + column * 0xC2B2AE35
    return 2**-12 + (1 - 2**-11) * (turn % 2**32 >> 8) / 2**24


CONTRACT = Contract(
    reference,
    by_leaf=True,
    static=frozenset({"block", "smallest"}),
    breaks={
        "complex": "complex moments are not quantized, real ones are",
        "map_params": "moments are kept in blocks of codes",
    },
    steady={"smallest": 4096},
    goals={"quadratic": Goal(200, 1e-2)},
)

BLOCK = 64
NORMAL = np.random.default_rng(0).standard_normal((37, 50)).astype(np.float32)


def rounded(array, step=0, block=BLOCK):
    return np.asarray(quantize(jnp.asarray(array), block, jnp.int32(step)).array())


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


def test_a_number_that_is_not_finite_is_not_kept_and_harms_no_other():
    gradient = jnp.asarray(NORMAL).at[7, 0].set(5.0)
    bad = gradient.at[3, 5].set(jnp.nan).at[7, 0].set(jnp.inf)
    tx = adaptax.quantized(optax.scale_by_adam(), BLOCK, smallest=1)
    with jax.numpy_dtype_promotion("standard"):
        state = tx.update(gradient, tx.init(gradient))[1]
        before, after, clean = (
            adaptax.unquantize_state(one)
            for one in (state, tx.update(bad, state)[1], tx.update(gradient, state)[1])
        )
    chex.assert_tree_all_finite(after)
    assert int(jnp.sum(after.mu[0] != clean.mu[0])) == 0
    np.testing.assert_allclose(after.nu[7, 0], before.nu[7, 0], rtol=0.02)


def test_numbers_that_their_optimizer_keeps_do_not_drift():
    tx = adaptax.quantized(adaptax.momo_adam(0.1), BLOCK, smallest=1)  # skips bad steps
    params = jnp.asarray(NORMAL)
    step = jax.jit(lambda g, state: tx.update(g, state, params, value=1.0)[1])
    state = first = step(params, tx.init(params))
    for _ in range(20):
        state = step(jnp.full_like(NORMAL, jnp.nan), state)
    assert is_coded(state.inner_state.mean_sq)
    chex.assert_trees_all_equal(state.inner_state[1:], first.inner_state[1:])


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


def test_a_moving_average_falls_beside_one_that_does_not():
    """In a step it loses a thousandth, less than half of what is between codes."""
    sizes = jnp.logspace(0, -2, BLOCK)
    lone = jnp.zeros((32, BLOCK)).at[:, 0].set(1.0)
    tx = adaptax.quantized(adaptax.scale_by_rmsprop(0.999), BLOCK, smallest=1)

    @jax.jit
    def run(state):
        def step(state, t):
            gradient = jnp.where(t < 500, jnp.broadcast_to(sizes, (32, BLOCK)), lone)
            return tx.update(gradient, state)[1], None

        return jax.lax.scan(step, state, jnp.arange(3500))[0]

    average = adaptax.unquantize_state(run(tx.init(lone))).mean_sq
    left = (1 - 0.999**500) * 0.999**3000 * jnp.square(sizes)
    ratio = average.mean(axis=0)[1:] / left[1:]
    assert float(jnp.median(ratio)) == pytest.approx(1, abs=0.25)
    assert float(ratio.max()) < 3


@pytest.mark.parametrize("relative", [0.3, 0.03])
def test_a_moving_average_of_noise_stays_at_its_mean(relative):
    sizes = jnp.ones((4, 256)).at[:, 1:].set(relative)
    tx = adaptax.quantized(adaptax.scale_by_rmsprop(0.999), 256, smallest=1)

    @jax.jit
    def run(state):
        def step(state, t):
            key = jax.random.fold_in(jax.random.key(0), t)
            return tx.update(sizes * jax.random.normal(key, (4, 256)), state)[1], None

        return jax.lax.scan(step, state, jnp.arange(4000))[0]

    average = adaptax.unquantize_state(run(tx.init(sizes))).mean_sq
    expected = relative**2 * (1 - 0.999**4000)
    assert float(average[:, 1:].mean()) == pytest.approx(expected, rel=0.03)


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


def test_parameters_to_evaluate_with_keep_all_their_bits():
    params = jnp.linspace(-1, 1, 4096).reshape(64, 64)
    averaged = adaptax.schedule_free_adamw(0.1)
    tx = adaptax.quantized(optax.chain(adaptax.scale_by_adam(), averaged))
    moments, average = tx.init(params).inner_state
    assert isinstance(moments.mean, Quantized)
    assert jax.tree.structure(average) == jax.tree.structure(averaged.init(params))
    inner = adaptax.quantized(adaptax.scale_by_adam())
    inside = adaptax.schedule_free(optax.chain(inner, adaptax.descend(0.1)))
    held = jax.tree.leaves(inside.init(params), is_leaf=is_coded)
    assert sum(map(is_coded, held)) == 2


def test_it_goes_around_an_optimizer_of_optax():
    tx = adaptax.quantized(optax.adam(1e-2))
    params = jnp.ones((64, 64))
    state = tx.init(params)
    assert isinstance(state.inner_state[0].mu, Quantized)
    with jax.numpy_dtype_promotion("standard"):
        updates, state = tx.update(jnp.ones((64, 64)), state)
    np.testing.assert_allclose(updates, -1e-2, rtol=1e-4)


def test_states_are_read_and_set_through_it():
    inner = adaptax.momentum(0.25)
    tx = optax.chain(optax.clip_by_global_norm(1.0), adaptax.quantized(inner))
    params = jnp.ones((64, 64))
    state = tx.init(params)
    assert float(adaptax.learning_rate(state)) == 0.25
    assert float(adaptax.telemetry(state)["constant/learning_rate"]) == 0.25
    state = adaptax.set_learning_rate(state, 0.5)
    assert float(adaptax.learning_rate(tx.update(params, state)[1])) == 0.5
    plain = optax.chain(optax.clip_by_global_norm(1.0), inner).init(params)
    restored = adaptax.unquantize_state(state)
    chex.assert_trees_all_equal_shapes_and_dtypes(restored, plain)


def test_it_goes_around_itself_and_stores_nothing_twice():
    params = jnp.ones((64, 64))
    once = adaptax.quantized(adaptax.momentum(0.1))
    twice = adaptax.quantized(once)
    states = once.init(params), twice.init(params)
    for _ in range(3):
        expected, state = once.update(params, states[0])
        updates, outer = twice.update(params, states[1])
        states = state, outer
    chex.assert_trees_all_equal(updates, expected)
    chex.assert_trees_all_equal_structs(states[1].inner_state, states[0])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_halves_stay_halves_and_what_is_on_a_code_stays_there(dtype):
    numbers = jnp.asarray(NORMAL).astype(dtype)
    kept = first = quantize(numbers, BLOCK, 0)
    assert kept.array().dtype == dtype
    for step in range(20):
        kept = quantize(kept.array(), BLOCK, step)
    chex.assert_trees_all_equal(kept, first)


def test_blocks_along_the_last_axis_are_sharded_with_it():
    mesh = Mesh(np.array(jax.devices()), ("devices",))
    tx = adaptax.quantized(adaptax.adam(0.1), block=128)
    for spec in (PartitionSpec("devices"), PartitionSpec(None, "devices")):
        sharding = NamedSharding(mesh, spec)
        params = jax.device_put(jnp.ones((8, 1024)), sharding)
        state = tx.init(params)
        compiled = jax.jit(tx.update).lower(params, state, params).compile()
        assert "all-gather" not in compiled.as_text()
        assert "all-reduce" not in compiled.as_text()
        for one in (state, compiled(params, state, params)[1]):
            mean = one.inner_state[0].mean
            assert mean.codes.sharding.is_equivalent_to(sharding, 2)
            assert mean.scales.sharding.is_equivalent_to(sharding, 2)


def test_a_first_state_compiles_in_no_time():
    """XLA would fold the zeros that it is made of, for minutes."""
    params, tx = jnp.ones((4000, 512)), adaptax.quantized(adaptax.scale_by_adam())
    state = jax.eval_shape(tx.init, params)

    def seconds_of_the_processor(function, *arguments):
        start = time.process_time()
        jax.jit(function).lower(*arguments).compile()
        return time.process_time() - start

    step = seconds_of_the_processor(tx.update, params, state)
    assert seconds_of_the_processor(tx.init, params) < 10 * step


def test_the_derivative_of_a_step_is_finite():
    tx = adaptax.quantized(adaptax.momentum(0.1))
    gradient = jnp.zeros((64, 64)).at[0].set(1.0)

    def length(scale):
        state = tx.init(gradient)
        for _ in range(2):
            updates, state = tx.update(scale * gradient, state)
        return jnp.sum(jnp.square(updates))

    expected = 2 * float(length(1.0))
    assert float(jax.grad(length)(1.0)) == pytest.approx(expected, rel=0.05)
