"""Phases: what the controller hears in each, and where the cool-down starts."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conformance.contracts import Contract, Goal
from metrics import followed, run

import adaptax


def reference(
    metrics,
    gradients=None,
    *,
    warmup,
    controller,
    cooldown,
    warmup_steps,
    cooldown_at,
):
    """Tell the controller of its own phase alone, and multiply what it gives."""
    del gradients
    state = controller.init(())
    for step, metric in enumerate(metrics):
        factor = 1.0
        if step >= cooldown_at:
            factor = float(cooldown(step - cooldown_at))
        elif step >= warmup_steps:
            state = controller.observe(state, metric)
        else:
            factor = float(warmup(step))
        yield factor * float(adaptax.learning_rate(state))


CONTRACT = Contract(
    reference,
    goals={"quadratic": Goal(200, 1e-2, {"cooldown_at": 150})},
)

RISE, FALL = (
    adaptax.linear(0.25, total_steps=3, end=1.0),
    adaptax.linear(1.0, total_steps=4),
)


def plateau(**arguments):
    return adaptax.reduce_on_plateau(factor=0.5, patience=0, **arguments)


def test_the_cool_down_starts_from_where_the_controller_left_the_rate():
    rate = adaptax.phases(RISE, plateau(), FALL, warmup_steps=3, cooldown_at=6)
    scales, state = run(rate, [1.0] * 10)
    expected = [0.25, 0.5, 0.75, 1, 0.5, 0.25, 0.25, 0.1875, 0.125, 0.0625]
    np.testing.assert_allclose(scales, expected, rtol=1e-6)
    assert adaptax.learning_rate(state) == scales[-1]
    assert (int(followed(state).phase), int(followed(state).entered)) == (2, 6)


def test_the_controller_hears_of_its_own_phase_alone():
    rate = adaptax.phases(RISE, plateau(), FALL, warmup_steps=3, cooldown_at=5)
    _, state = run(rate, [0.1, 0.1, 0.1, 5.0, 4.0, 4.0, 4.0])
    (own,) = followed(state).inner
    assert followed(own).best == 4
    assert int(followed(own).cuts) == 0
    assert int(own.step) == 7


def test_its_own_stop_begins_the_cool_down():
    both = [plateau(min_scale=0.5), adaptax.early_stop(patience=1)]
    rate = adaptax.phases(RISE, both, FALL, warmup_steps=2)
    scales, state = run(rate, [9, 9, 3, 2, 1, 1, 1, 0, 0])
    expected = [0.25, 0.5, 1, 1, 1, 0.5, 0.5, 0.375, 0.25]
    np.testing.assert_allclose(scales, expected, rtol=1e-6)
    assert int(followed(state).entered) == 6


def test_a_stop_that_never_comes_leaves_the_controller_its_rate():
    rate = adaptax.phases(RISE, adaptax.early_stop(), FALL, warmup_steps=0)
    np.testing.assert_array_equal(run(rate, [3, 2, 1, 0])[0], 1)


@pytest.mark.parametrize("outside", [True, False])
def test_both_observes_reach_the_controller(outside):
    inner = plateau(monitor=None)
    rate = adaptax.phases(RISE, inner, FALL, warmup_steps=1, cooldown_at=20)
    optimizer = adaptax.gradient_descent(optax.chain(adaptax.constant(2.0), rate))
    w = jnp.ones(())

    def steps(state, observer):
        _, state = optimizer.update(w, state, w)
        for metric in (1.0, 1.0):
            state = observer.observe(state, metric)
        return optimizer.update(w, state, w)

    for observer in (inner, rate):
        steps_of = lambda state, observer=observer: steps(state, observer)  # noqa: E731
        update, state = (steps_of if outside else jax.jit(steps_of))(optimizer.init(w))
        assert update == -1
        assert adaptax.learning_rate(state) == 1
        assert int(adaptax.telemetry(state)["phases/step"]) == 2


def test_observing_during_the_warm_up_or_the_cool_down_is_not_heard():
    rate = adaptax.phases(RISE, plateau(), FALL, warmup_steps=2, cooldown_at=2)
    state = rate.init(())
    for _ in range(4):
        for metric in (1.0, 1.0):
            state = rate.observe(state, metric)
        _, state = rate.update((), state, value=1.0)
    assert int(followed(followed(state).inner[0]).cuts) == 0


def test_a_stop_that_is_observed_begins_the_cool_down_at_the_next_step():
    stop = adaptax.early_stop(patience=0, monitor=None)
    rate = adaptax.phases(
        RISE, stop, adaptax.linear(0.5, total_steps=4), warmup_steps=0
    )
    state, scales = rate.init(()), []
    for metric in (2.0, 1.0, 1.0, 1.0):
        scale, state = rate.update(jnp.ones(()), state)
        scales.append(float(scale))
        state = rate.observe(state, metric)
    np.testing.assert_allclose(scales, [1, 1, 1, 0.5])
    assert int(followed(state).entered) == 3


def test_rates_beside_it_multiply():
    rate = adaptax.phases(RISE, plateau(), FALL, warmup_steps=3, cooldown_at=6)
    optimizer = adaptax.gradient_descent(optax.chain(adaptax.constant(4.0), rate))
    state = optimizer.init(jnp.ones(()))
    update, state = optimizer.update(jnp.ones(()), state, value=1.0)
    assert update == -1
    assert adaptax.learning_rate(state) == 1


def test_the_steps_of_the_phases_can_be_mapped():
    def scales(warm, cool):
        rate = adaptax.phases(RISE, plateau(), FALL, warm, cool)
        state, taken = rate.init(()), []
        for _ in range(8):
            scale, state = rate.update(jnp.ones(()), state, value=1.0)
            taken.append(scale)
        return jnp.stack(taken)

    warm, cool = np.asarray([0, 2, 3]), np.asarray([0, 4, 7])
    together = jax.jit(jax.vmap(scales))(warm, cool)
    for index, pair in enumerate(zip(warm, cool, strict=True)):
        np.testing.assert_allclose(together[index], scales(*pair), rtol=1e-6)


@pytest.mark.parametrize(
    ("error", "says", "arguments"),
    [
        (TypeError, "controller must be a controller", {"controller": RISE}),
        (TypeError, "at least one controller", {"controller": []}),
        (TypeError, "cooldown must be a schedule", {"cooldown": optax.adam(0.1)}),
        (TypeError, "warmup_steps must be an integer", {"warmup_steps": 1.5}),
        (ValueError, "warmup_steps must be >= 0", {"warmup_steps": -1}),
        (ValueError, "warmup_steps must be <= cooldown_at", {"cooldown_at": 2}),
    ],
)
def test_bad_arguments_are_refused_by_name(error, says, arguments):
    usual = {
        "warmup": RISE,
        "controller": plateau(),
        "cooldown": FALL,
        "warmup_steps": 3,
    }
    with pytest.raises(error, match=says):
        adaptax.phases(**{**usual, **arguments})
