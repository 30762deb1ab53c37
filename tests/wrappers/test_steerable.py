"""`steerable`, and the orders that it takes."""

import re
from pathlib import Path

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conformance.contracts import Contract, Goal
from flax import nnx
from flax.training.train_state import TrainState
from reference.momentum import Momentum

import adaptax
from adaptax import schedules
from adaptax._core.states import optimizer_state, without_variables
from adaptax.schedules.curves import FALLS


def reference(w, gradients, values, *, learning_rate, total_steps):
    """Without orders it is the rate inside."""
    del total_steps
    return Momentum(w, learning_rate).along(gradients)


CONTRACT = Contract(
    reference,
    elementwise=True,
    goals={"quadratic": Goal(200, 1e-2)},
)

STEPS = 40
COSINE = adaptax.cosine(peak=1.0, total_steps=20)
OPTIMIZER = adaptax.gradient_descent(adaptax.steerable(COSINE))
CONSTANT = adaptax.gradient_descent(adaptax.steerable(0.5))


def runner(optimizer):
    """Compile a run of 40 steps along a gradient of 1; return all rates and states."""

    def step(state, _):
        updates, state = optimizer.update(jnp.float32(1), state, jnp.float32(0))
        return state, (-updates, state)

    return jax.jit(lambda state: jax.lax.scan(step, state, None, STEPS)[1])


RUN = runner(OPTIMIZER)


def start(optimizer=OPTIMIZER):
    return optimizer.init(jnp.float32(0))


def after(steps, state=None):
    """Return the state after some steps with the cosine."""
    states = RUN(start() if state is None else state)[1]
    return jax.tree.map(lambda leaf: leaf[steps - 1], states)


def rates(state):
    return np.asarray(RUN(state)[0])


COSINES = np.asarray(COSINE(np.arange(2 * STEPS)))


def test_without_orders_it_is_the_schedule_to_the_bit():
    np.testing.assert_array_equal(rates(start()), COSINES[:STEPS])


def test_a_cool_down_of_a_constant_is_a_trapezoid():
    steps, state = jnp.arange(STEPS), adaptax.steerable(0.5).init(())

    def rates_of_each():
        for shape in FALLS:
            yield adaptax.cool_down(state, 12, shape=shape, end=0.1).order.rate(steps)
            yield adaptax.warmup_stable_decay(
                0.5, 12, warmup_steps=0, decay_steps=12, shape=shape, end=0.1
            )(steps)

    found = jax.jit(lambda: jnp.stack(list(rates_of_each())))()
    np.testing.assert_allclose(found[::2], found[1::2], rtol=1e-6)
    assert len({rates.tobytes() for rates in np.asarray(found[::2])}) == len(FALLS)


def test_a_cool_down_begins_at_the_rate_of_the_last_step_and_stays_at_its_end():
    found = rates(adaptax.cool_down(after(8), 4, shape="linear", end=0.1))
    np.testing.assert_allclose(
        found[:6], np.interp(range(6), [0, 4], [COSINES[7], 0.1]), rtol=1e-6
    )
    assert np.all(found[4:] == np.float32(0.1))


def test_a_hold_keeps_the_rate_beyond_the_end_of_the_schedule():
    held = adaptax.hold(after(8))
    found = rates(held)
    assert np.all(found == COSINES[7])
    released = adaptax.release(after(4, held))
    assert float(adaptax.learning_rate(released)) == COSINES[7]  # as applied
    np.testing.assert_array_equal(rates(released)[:20], COSINES[12:32])


def test_a_second_order_begins_at_the_rate_of_the_first():
    cooling = after(2, adaptax.cool_down(after(8), 4, shape="linear"))
    now = 0.75 * COSINES[7]
    np.testing.assert_allclose(rates(adaptax.hold(cooling)), now, rtol=1e-6)
    again = rates(adaptax.cool_down(cooling, 2, shape="linear"))
    np.testing.assert_allclose(again[:3], [now, now / 2, 0], rtol=1e-6)


@pytest.mark.parametrize("total", [14, 32, 200])
def test_a_stretched_run_has_the_rest_of_the_schedule_over_the_new_rest(total):
    found = rates(adaptax.stretch_run(after(8), total))
    clock = 8 + np.arange(STEPS) * 12 / (total - 8)
    clock = np.minimum(clock, 20)
    expected = np.interp(clock, np.arange(2 * STEPS), COSINES)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    assert np.all(found[: total - 8] > 0)
    assert np.all(found[total - 8 :] == 0)


def test_a_run_stretched_from_its_start_is_the_stretched_schedule():
    found = rates(adaptax.stretch_run(start(), 40))
    stretched = schedules.stretch(COSINE, 2.0)
    expected = jax.jit(lambda: stretched(np.arange(STEPS)))()
    np.testing.assert_allclose(found[::2], expected[::2], rtol=1e-6)
    np.testing.assert_allclose(found, expected, atol=4e-3)  # linear between two steps


def test_a_run_is_stretched_again_from_where_its_clock_is():
    longer = after(9, adaptax.stretch_run(after(8), 32))  # 4.5 of the schedule's steps
    found = rates(adaptax.stretch_run(longer, 17 + 15))
    np.testing.assert_allclose(found, rates(longer), rtol=1e-5, atol=1e-7)
    shorter = rates(adaptax.stretch_run(longer, 17 + 3))
    expected = np.interp([12.5, 15, 17.5, 20], np.arange(2 * STEPS), COSINES)
    np.testing.assert_allclose(shorter[:4], expected, rtol=1e-5, atol=1e-7)


def test_a_hold_and_a_stretched_clock_are_apart():
    state = adaptax.stretch_run(adaptax.hold(after(8)), 32)
    assert np.all(rates(state) == COSINES[7])
    found = rates(adaptax.release(after(4, state)))
    np.testing.assert_allclose(found[::2], COSINES[10:30], rtol=1e-6, atol=1e-7)


def test_steps_beyond_the_integers_of_float32_are_counted():
    many = 2**24 + 1
    state = adaptax.steerable(adaptax.cosine(1.0, 2 * many)).init(())
    state = state._replace(step=jnp.int32(many))
    order = adaptax.cool_down(state, 4, shape="linear").order
    found = [float(order.rate(state.step + k)) for k in range(5)]
    np.testing.assert_allclose(found, [1, 0.75, 0.5, 0.25, 0])
    clock = adaptax.stretch_run(state, 3 * many).clock
    assert [float(x) for x in clock.at(state.step)] == [0, 0]
    assert [float(x) for x in clock.at(jnp.int32(3 * many))] == [-many, 0]


def test_a_function_of_the_step_is_asked_for_whole_steps():
    table = jnp.linspace(1.0, 0.0, 11)
    rate = adaptax.steerable(lambda step: table[step], total_steps=10)
    state = adaptax.stretch_run(rate.init(()), 40)
    found = []
    for _ in range(6):
        _, state = rate.update((), state)
        found.append(float(adaptax.learning_rate(state)))
    np.testing.assert_allclose(found, 1 - np.arange(6) / 40, rtol=1e-6)


PARAMS = {"a": jnp.ones((2, 3)), "b": jnp.ones(4)}
PLACES = {
    "a chain": lambda tx: optax.chain(optax.clip(1.0), optax.chain(tx)),
    "masked": lambda tx: optax.masked(tx, {"a": True, "b": False}),
    "partition": lambda tx: optax.partition({"all": tx}, {"a": "all", "b": "all"}),
    "inject_hyperparams": lambda tx: optax.inject_hyperparams(
        lambda limit: optax.chain(optax.clip(limit), tx)
    )(limit=1.0),
    "MultiSteps": lambda tx: optax.MultiSteps(tx, 2),
    "apply_if_finite": lambda tx: optax.apply_if_finite(tx, 3),
    "accumulate": lambda tx: adaptax.accumulate(tx, 2),
    "packed": lambda tx: adaptax.packed(tx, elementwise=True),
    "iterate_average": adaptax.iterate_average,
    "spike_guard": adaptax.spike_guard,
    "a saved state": lambda tx: adaptax.reject_increase(tx, restart=False),
}
HOLDERS = {
    "TrainState": lambda tx: TrainState.create(apply_fn=None, params=PARAMS, tx=tx),
    "nnx.Optimizer": lambda tx: nnx.Optimizer(
        nnx.Linear(2, 2, rngs=nnx.Rngs(0)), tx, wrt=nnx.Param
    ),
}


def orders_in(state, field):
    """Return a field of each order in a state, those of saved copies included."""
    values = adaptax.telemetry(state)
    found = [values[name] for name in values if name.endswith(f"order/{field}")]
    assert found
    return found


def types(state):
    leaves = map(
        jnp.asarray, jax.tree.leaves(without_variables(optimizer_state(state)))
    )
    return [(x.shape, x.dtype, x.weak_type) for x in leaves]


@pytest.mark.parametrize("place", [*PLACES, *HOLDERS])
def test_orders_are_taken_at_any_depth_and_change_no_type(place):
    tx = adaptax.gradient_descent([adaptax.steerable(COSINE), adaptax.bold_driver()])
    with jax.numpy_dtype_promotion("standard"):
        if place in PLACES:
            state = PLACES[place](tx).init(PARAMS)
        else:
            state = HOLDERS[place](tx)
    before = types(state)
    orders = {
        "num_steps": (7, lambda state: adaptax.cool_down(state, 7, end=0.25)),
        "end": (1, adaptax.hold),
        "given": (False, adaptax.release),
    }
    for field, (value, order) in orders.items():
        state = adaptax.stretch_run(order(state), 50)
        assert all(found == value for found in orders_in(state, field))
    after = types(state)
    assert after == before


def test_orders_inside_jit_and_outside_recompile_nothing():
    traces = []

    @jax.jit
    def step(state):
        traces.append("traced")
        return OPTIMIZER.update(jnp.float32(1), state, jnp.float32(0))[1]

    order = jax.jit(lambda state, n: adaptax.cool_down(state, n, shape="linear"))
    state = step(step(start()))
    cooling = step(step(order(state, 2)))
    np.testing.assert_allclose(adaptax.learning_rate(cooling), COSINES[1] / 2)
    held = step(step(adaptax.hold(cooling)))
    assert adaptax.learning_rate(held) == adaptax.learning_rate(cooling)
    assert adaptax.learning_rate(step(adaptax.release(held))) == COSINES[6]
    stretched = step(step(adaptax.stretch_run(state, 38)))
    np.testing.assert_allclose(adaptax.learning_rate(stretched), COSINES[2:4].mean())
    assert len(traces) == 1


@pytest.mark.parametrize(
    "order",
    [
        adaptax.hold,
        lambda state: adaptax.release(adaptax.hold(state)),
        lambda state: adaptax.cool_down(state, 3),
        lambda state: adaptax.stretch_run(adaptax.stretch_run(state, 30), 40),
    ],
    ids=["hold", "release", "cool_down", "stretch_run"],
)
def test_a_state_with_an_order_can_be_donated(order):
    state = order(after(3))
    buffers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state)]
    assert len(set(buffers)) == len(buffers)


def test_members_of_a_population_take_orders_of_their_own():
    states = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), start())
    ends = jnp.asarray([0.0, 0.25, 0.5])
    order = jax.vmap(lambda state, end: adaptax.cool_down(state, 4, end=end))
    (found,) = orders_in_each(order(states, ends), "end")
    np.testing.assert_array_equal(found, ends)
    (found,) = orders_in_each(adaptax.cool_down(states, 4, end=0.25), "end")
    np.testing.assert_array_equal(found, [0.25] * 3)


def orders_in_each(states, field):
    return jax.vmap(lambda state: orders_in(state, field))(states)


def test_the_page_on_concepts_gives_orders():
    page = Path(__file__).parents[2] / "docs" / "concepts.md"
    section = page.read_text("utf-8").partition("## Orders to a run under way")[2]
    (code, *_) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    names = {"adaptax": adaptax, "params": PARAMS}
    exec(compile(code, str(page), "exec"), names)
    assert orders_in(names["state"], "given") == [False]
    assert adaptax.telemetry(names["state"])["steerable/clock/rest"] == 15_000


def test_an_nnx_optimizer_is_changed_itself():
    optimizer = HOLDERS["nnx.Optimizer"](OPTIMIZER)
    assert adaptax.hold(optimizer) is optimizer
    assert orders_in(optimizer, "given") == [True]


def test_a_cool_down_goes_on_from_a_checkpoint_to_the_bit():
    state = adaptax.stretch_run(adaptax.cool_down(after(8), 9), 30)
    whole = RUN(state)[1]
    saved = flax.serialization.to_bytes(after(4, state))
    restored = flax.serialization.from_bytes(start(), saved)
    for ours, theirs in zip(
        *map(jax.tree.leaves, (RUN(restored)[1], whole)), strict=True
    ):
        np.testing.assert_array_equal(ours[: STEPS - 4], theirs[4:])


def test_what_is_inside_goes_on_under_an_order():
    plateau = adaptax.reduce_on_plateau(factor=0.5, patience=0)
    optimizer = adaptax.gradient_descent(adaptax.steerable([0.8, plateau]))
    state = adaptax.hold(optimizer.init(0.0))
    for _ in range(2):
        _, state = optimizer.update(1.0, state, 0.0, value=1.0)
        assert float(adaptax.learning_rate(state)) == np.float32(0.8)
    values = adaptax.telemetry(state)
    assert values["reduce_on_plateau/learning_rate"] == 0.5
    assert values["steerable/learning_rate"] == np.float32(0.8)
    state = plateau.observe(adaptax.release(state), 0.5)
    updates, state = optimizer.update(1.0, state, 0.0, value=0.1)
    assert float(updates) == -np.float32(0.4) == -float(adaptax.learning_rate(state))


def test_setting_the_rate_ends_an_order():
    plateau = adaptax.reduce_on_plateau(factor=0.5, patience=0)
    outside = adaptax.reduce_on_plateau(factor=0.25, patience=0, name="outside")
    rate = adaptax.steerable([0.8, plateau])
    optimizer = adaptax.gradient_descent([rate, outside])
    state = optimizer.init(0.0)
    for _ in range(2):
        _, state = optimizer.update(1.0, state, 0.0, value=1.0)
    state = adaptax.set_learning_rate(adaptax.hold(state), 0.2)
    for value in (0.5, 0.4):
        np.testing.assert_allclose(adaptax.learning_rate(state), 0.2)
        _, state = optimizer.update(1.0, state, 0.0, value=value)
    beside = adaptax.gradient_descent([0.5, adaptax.steerable(COSINE)])
    held = adaptax.set_learning_rate(adaptax.hold(beside.init(0.0)), 0.25)
    assert adaptax.telemetry(held)["steerable/order/given"]


def test_what_differs_between_leaves_does_so_under_an_order():
    masked = optax.masked(adaptax.constant(0.5), {"a": True, "b": False})
    rate = adaptax.steerable([COSINE, masked])
    _, state = rate.update(PARAMS, rate.init(PARAMS), PARAMS)
    state = adaptax.cool_down(state, 2, shape="linear")
    for part in (1, 0.5, 0):
        updates, state = rate.update(PARAMS, state, PARAMS)
        np.testing.assert_allclose(updates["a"], part * 0.5, rtol=1e-6)
        np.testing.assert_allclose(updates["b"], part, rtol=1e-6)
        np.testing.assert_allclose(adaptax.learning_rate(state), part * 0.5)


def test_an_estimate_skips_a_bad_step_under_an_order():
    rate = adaptax.steerable(adaptax.dog())
    _, state = rate.update(PARAMS, rate.init(PARAMS), PARAMS)
    bad = {**PARAMS, "b": jnp.full(4, jnp.nan)}
    updates, _ = rate.update(bad, adaptax.hold(state), PARAMS)
    assert not any(leaf.any() for leaf in jax.tree.leaves(updates))


def test_half_precision_keeps_the_steps_of_a_held_rate():
    rate = adaptax.steerable(adaptax.piecewise(0.5, [1], [1e-8]))
    state, one = rate.init(()), jnp.ones((), jnp.float16)
    _, state = rate.update(one, state)
    updates, _ = rate.update(one, adaptax.hold(state))
    assert updates.dtype == jnp.float16
    assert float(updates) == 0.5


def test_groups_and_members_of_a_container_all_take_an_order():
    groups = optax.partition(
        {
            "one": adaptax.gradient_descent(adaptax.steerable(COSINE)),
            "other": adaptax.gradient_descent(adaptax.steerable(0.5)),
            "plain": adaptax.gradient_descent(0.25),
        },
        {"a": "one", "b": "other", "c": "plain"},
    )
    params = {**PARAMS, "c": jnp.ones(())}
    states = {"groups": groups.init(params), "alone": start(CONSTANT)}
    states = adaptax.stretch_run(adaptax.cool_down(states, 1), 40)
    values = adaptax.telemetry(states)
    given = [values[name] for name in values if name.endswith("order/given")]
    assert given == [True] * 3
    rests = [values[name] for name in values if name.endswith("clock/rest")]
    assert rests == [40]  # the others do not know the length of a schedule


def test_a_state_of_optax_goes_on_where_its_schedule_is():
    begun = optax.ScaleByScheduleState(jnp.int32(8))
    state = (optax.EmptyState(), begun)  # of optax.sgd
    ours = adaptax.from_optax(state, OPTIMIZER, PARAMS)
    assert float(adaptax.learning_rate(ours)) == COSINES[7]
    _, ours = OPTIMIZER.update(PARAMS, adaptax.stretch_run(ours, 32), PARAMS)
    _, ours = OPTIMIZER.update(PARAMS, ours, PARAMS)
    np.testing.assert_allclose(
        adaptax.learning_rate(ours), COSINES[8:10].mean(), rtol=1e-6
    )


def test_the_length_is_that_of_the_one_schedule_that_has_one():
    def length(rate, **arguments):
        clock = adaptax.steerable(rate, **arguments).init(()).clock
        return None if clock is None else int(clock.total_steps)

    plateau = adaptax.reduce_on_plateau()
    assert length([COSINE, plateau, adaptax.inverse_sqrt(1.0, warmup_steps=5)]) == 20
    assert length(adaptax.warmup(COSINE, 5)) is None
    assert length(adaptax.warmup(COSINE, 5), total_steps=25) == 25
    assert length([COSINE, adaptax.linear(1.0, total_steps=30)]) is None
    assert length([0.1, plateau]) is None


def refused():
    plain = adaptax.adam(1e-3).init(0.0)
    two = adaptax.adam([adaptax.steerable(0.1), adaptax.steerable(COSINE)]).init(0.0)
    state = after(8)
    yield lambda: adaptax.cool_down(plain, 5), "around its rate: adaptax.adam"
    yield lambda: adaptax.hold({"one": plain}), "this optimizer state takes no orders"
    yield lambda: adaptax.release(two), "several steerable rates, which multiply"
    yield lambda: adaptax.cool_down(state, 0), "num_steps must be a whole number >= 1"
    yield lambda: adaptax.cool_down(state, -5), "num_steps must be .* got -5"
    yield lambda: adaptax.cool_down(state, np.nan), "num_steps must be .* got nan"
    yield lambda: adaptax.cool_down(state, 0.2), r"give round\(0.2 \* total_steps\)"
    yield lambda: adaptax.cool_down(state, 5, end=2.0), "end must be <= the present"
    yield lambda: adaptax.cool_down(state, 5, end=-1.0), "end must be >= 0, got -1"
    yield lambda: adaptax.cool_down(state, 5, shape="1-sqrt"), "shape must be one of"
    yield lambda: adaptax.stretch_run(state, 8), "more than the 8 steps taken so far"
    yield lambda: adaptax.stretch_run(state, np.inf), "total_steps must be a whole"
    yield lambda: adaptax.stretch_run(after(20), 30), "has run all of its 20 steps"
    yield lambda: adaptax.stretch_run(start(CONSTANT), 9), "rate, total_steps=..."
    yield lambda: adaptax.steerable(COSINE, total_steps=0), "total_steps must be a"
    yield lambda: adaptax.steerable(adaptax.reduce_on_plateau()), "only multiplies"
    yield lambda: adaptax.steerable(optax.sgd(0.1)), "got a whole optimizer"
    for hidden in (optax.scale(0.1), optax.scale_by_schedule(COSINE)):
        yield lambda rate=hidden: adaptax.steerable(rate).init(0.0), "not in its state"
    grouped = optax.partition({"x": adaptax.constant(0.1)}, {"a": "x", "b": "x"})
    yield lambda: adaptax.steerable(grouped).init(PARAMS), "a steerable in each group"


def test_what_is_wrong_is_refused_with_a_remedy():
    for order, message in refused():
        with pytest.raises(ValueError, match=message):
            order()
