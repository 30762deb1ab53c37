"""The loops of the page about ask and tell do what it says, as they stand."""

import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import adaptax

PAGE = Path(__file__).parents[1] / "docs" / "ask_and_tell.md"
VALLEY = adaptax.trial(
    init_params=lambda key: jnp.ones(3),
    loss=lambda w, curvature: 0.5 * jnp.sum(curvature[0] * w**2),
    optimizer=lambda hparams: adaptax.gradient_descent(hparams["learning_rate"]),
    data=jnp.array([[1.0, 0.5, 0.1]]),
)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Run the page from top to bottom, and return what it defines."""
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
    names = {"trial": VALLEY}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("page"))
        for block in blocks:
            exec(compile(block, str(PAGE), "exec"), names)
    return names


def test_a_plain_loop_finds_the_weights_by_halving(page):
    found = page["found"]
    assert np.bincount(found.reached).tolist() == [0, 8, 4, 2, 1, 1]
    assert found.rungs[-1] == 80
    np.testing.assert_allclose(page["best_weights"], [1.0, -2.0, 0.5], atol=1e-3)


def test_a_study_continues_from_its_file(page):
    again, found = page["again"].result(), page["found"]
    np.testing.assert_array_equal(again.losses, found.losses)
    assert again.best == found.best


def test_a_trainer_trains_the_jobs_of_a_trial(page):
    assert page["study"].best.hparams["learning_rate"] == pytest.approx(0.3)
    assert page["best_state"].step == 20


def test_the_page_names_every_study(page):
    text = PAGE.read_text("utf-8")
    studies = adaptax.tuning.studies
    made = [name for name in vars(studies) if hasattr(adaptax.tuning, name)]
    made = [name for name in made if not name.startswith("_") and name != "Study"]
    assert len(made) >= 7
    for name in made:
        assert f"`{name}`" in text
