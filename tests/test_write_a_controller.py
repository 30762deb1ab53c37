"""The page on writing one's own controller: its code runs, and does what it says."""

import functools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptax

PAGE = Path(__file__).parents[1] / "docs" / "write_a_controller.md"
X = np.linspace(-1, 1, 24, dtype=np.float32).reshape(8, 3)


def loss_of(params):
    return jnp.sum((params["w"] - 3) ** 2)


@pytest.fixture(scope="module")
def page():
    """Run the page from top to bottom, and return what it defines."""
    names = {
        "params": {"w": jnp.ones(3)},
        "loss_of": loss_of,
        "x": X,
        "y": X @ np.float32([1, -2, 3]),
    }
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
    sweep = functools.partial(adaptax.sweep, strategy="map", progress=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adaptax, "sweep", sweep)
        for block in blocks:
            exec(compile(block, str(PAGE), "exec"), names)
    return names


def trained(tx, steps=40):
    """Train in a scan under jit; return the states, and the rate at each step."""
    params = {"w": jnp.ones(3)}

    def step(carry, _):
        params, state = carry
        loss, grads = jax.value_and_grad(loss_of)(params)
        updates, state = tx.update(grads, state, params, value=loss)
        moved = optax.apply_updates(params, updates)
        return (moved, state), (loss, adaptax.learning_rate(state))

    run = jax.jit(lambda carry: jax.lax.scan(step, carry, length=steps))
    (_, state), (losses, rates) = run((params, tx.init(params)))
    return state, np.asarray(losses), np.asarray(rates)


def test_the_rate_falls_after_losses_above_the_average_in_a_row(page):
    patient = page["patient"](factor=0.5, patience=2, decay=0.5)
    state, scales = patient.init(None), []
    for loss in (1.0, 2.0, np.nan, 3.0, 4.0, 0.0):
        scale, state = patient.update(1.0, state, value=loss)
        scales.append(float(scale))
    assert scales == [1, 1, 1, 0.5, 0.5, 0.5]
    assert int(state.skipped) == 1
    assert int(state.changed_at) == 3


def test_the_state_says_the_rate_that_was_applied(page):
    assert float(adaptax.learning_rate(page["state"])) == np.float32(1e-2)
    tx = adaptax.gradient_descent([1.05, page["patient"](patience=1)])
    state, losses, rates = trained(tx)
    scale = adaptax.telemetry(state)["patient/learning_rate"]
    assert rates[-1] == np.float32(1.05) * scale < rates[0]
    assert losses[-1] < losses[0]


def test_observe_reaches_its_state_in_an_optimizer(page):
    validation = page["patient"](patience=1, monitor=None)
    tx = adaptax.adam([1e-2, validation])
    state = tx.init({"w": jnp.ones(3)})
    for metric in (0.3, 0.4):
        state = validation.observe(state, metric)
    assert float(adaptax.learning_rate(state)) == np.float32(0.5e-2)


def test_a_tool_varies_its_numbers(page):
    assert page["found"].losses.shape[0] == 2
    assert np.isfinite(page["found"].losses).all()


def test_a_rate_with_a_unit_stands_alone_and_a_multiple_does_not(page):
    _, losses, rates = trained(adaptax.gradient_descent(page["gap"](0.5)))
    assert losses[-1] < 1e-3 * losses[0]
    np.testing.assert_allclose(rates[0], 0.25, rtol=1e-6)  # f / ‖∇f‖² of a square
    with pytest.raises(ValueError, match="only multiplies"):
        adaptax.gradient_descent(page["patient"]())


def test_a_transformation_of_optax_is_read_and_may_stand_in_a_seat(page):
    slower = page["slower"](0.5)
    state, _, rates = trained(adaptax.gradient_descent([0.1, slower]), steps=3)
    np.testing.assert_allclose(rates, [0.05, 0.025, 0.0125], rtol=1e-6)
    assert float(adaptax.telemetry(state)["slower/learning_rate"]) == 0.125
