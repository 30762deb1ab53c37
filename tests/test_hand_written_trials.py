"""The trials of the page about hand-written ones are what they say, as they stand."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

PAGE = Path(__file__).parents[1] / "docs" / "hand_written_trials.md"


@pytest.fixture(scope="module")
def page():
    """Return the names that all code of the page makes, run from top to bottom."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    names = {}
    with jax.numpy_dtype_promotion("standard"):  # NumPyro promotes
        exec("\n".join(blocks), names)
        yield names


def test_the_trial_of_svi_takes_its_updates_and_can_be_swept(page):
    key, hparams, trial = jax.random.key(0), {"learning_rate": 0.1}, page["svi_trial"]
    with jax.numpy_dtype_promotion("standard"):
        svi, state = page["make"](hparams, key)
        update, expected = jax.jit(svi.update), []
        for _ in range(200):
            state, loss = update(state, page["observed"])
            expected.append(loss)
        end, losses = trial.advance(hparams, trial.init(hparams, key), 200)
        mean = svi.get_params(end)["mean_auto_loc"]
    np.testing.assert_allclose(losses, np.array(expected), rtol=1e-4)
    assert float(mean) == pytest.approx(float(page["observed"].mean()), abs=0.3)
    swept = page["swept"]
    assert swept.losses.shape == (4, 2, 200)
    assert swept.ranking[-1] == 0, "the smallest rate learns least"


@pytest.mark.parametrize("name", ["svi_trial", "driver_trial"])
def test_some_steps_and_then_some_are_all_of_them(page, name):
    trial, hparams = page[name], {"learning_rate": 0.01}
    with jax.numpy_dtype_promotion("standard"):
        start = trial.init(hparams, jax.random.key(1))
        end, losses = trial.advance(hparams, start, 5)
        middle, first = trial.advance(hparams, start, 2)
        last, second = trial.advance(hparams, middle, 3)
    np.testing.assert_allclose(losses, np.concatenate([first, second]), rtol=1e-6)
    for one, other in zip(jax.tree.leaves(end), jax.tree.leaves(last), strict=True):
        if not jax.numpy.issubdtype(one.dtype, jax.dtypes.prng_key):
            np.testing.assert_allclose(one, other, rtol=1e-6)


def test_the_trial_of_a_driver_takes_the_drivers_steps(page):
    hparams, key = {"learning_rate": 0.05}, jax.random.key(2)
    driver = page["make_driver"](hparams, key)
    expected = [driver.advance() for _ in range(20)]
    trial = page["driver_trial"]
    state, energies = trial.advance(hparams, trial.init(hparams, key), 20)
    np.testing.assert_allclose(energies, np.array(expected), rtol=1e-5)
    np.testing.assert_allclose(
        state["parameters"]["width"], driver.parameters["width"], rtol=1e-5
    )
    assert page["found"].suggestion is not None
