"""A finished sweep takes more points, seeds or steps, and trains only the new ones."""

import re
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from every_tool import QUIET

import adaptax
from adaptax import spaces


def begin(hparams, key):
    """Return w and the key of the noise, which depend on the seed."""
    del hparams
    return jax.random.normal(key), key, jnp.int32(0)


def advance(hparams, state, num_steps):
    def step(state, _):
        w, key, count = state
        noise = jax.random.normal(jax.random.fold_in(key, count))
        w = w - hparams["learning_rate"] * (w + noise)
        return (w, key, count + 1), w**2

    return jax.lax.scan(step, state, length=num_steps)


TRIAL = adaptax.Trial(begin, advance, lambda hparams, state: jnp.cos(state[0]))
FEW, MANY = [0.1, 0.01], [0.3, 0.01, 0.1, 3.0]  # the last one diverges


def swept(rates, trial=TRIAL, num_steps=24, **options):
    space = {"learning_rate": spaces.grid(rates)}
    return adaptax.sweep(trial, space, num_steps=num_steps, **(QUIET | options))


@pytest.fixture(scope="module")
def whole():
    return swept(MANY, seeds=[5, 0, 1], keep_states=True)


@pytest.fixture(scope="module")
def few():
    return swept(FEW, seeds=2, keep_states=True)


def assert_same(found, expected):
    assert found.about["seeds"] == expected.about["seeds"]
    arrays = found.arrays()
    assert arrays.keys() == expected.arrays().keys()
    for name, array in expected.arrays().items():
        np.testing.assert_array_equal(arrays[name], array, name)


def test_more_points_and_seeds_have_the_bits_of_a_sweep_that_had_them(whole, few):
    found = swept(MANY, seeds=[5, 0, 1], keep_states=True, extend=few)
    assert_same(found, whole)
    new = 4 * 3 - 2 * 2
    assert few.about["member_steps"] == 4 * 24
    assert found.about["member_steps"] == new * 24
    assert np.isinf(found.scores[3]).all()


def test_more_steps_points_and_seeds_at_once(few, whole, tmp_path):
    short = swept(MANY[1:], num_steps=9, seeds=2, keep_states=True)
    short.save(tmp_path / "short.npz")  # a file has the states
    loaded = adaptax.SweepResult.load(tmp_path / "short.npz")
    found = swept(MANY, seeds=[5, 0, 1], keep_states=True, extend=loaded)
    assert_same(found, whole)
    assert found.about["member_steps"] == 6 * 15 + 6 * 24


def test_a_sweep_that_has_everything_is_returned_without_training(few):
    found = swept(FEW, seeds=2, extend=few)
    assert_same(replace(found, states={}), replace(few, states={}))
    assert found.about["seconds"] == few.about["seconds"]


def test_side_by_side_runs_agree_up_to_the_rounding_of_sums(whole, few):
    found = swept(MANY, seeds=[5, 0, 1], strategy="vmap", extend=few)
    np.testing.assert_allclose(found.losses[:3], whole.losses[:3], rtol=1e-5)


def test_more_samples_of_a_random_axis_begin_with_the_same():
    space = {"learning_rate": spaces.log_uniform(0.01, 0.1)}

    def drawn(samples, **options):
        return adaptax.sweep(
            TRIAL, space, num_steps=5, samples=samples, **QUIET, **options
        )

    two = drawn(2)
    found = drawn(3, extend=two)
    np.testing.assert_array_equal(found.losses[:2], two.losses)
    assert found.about["member_steps"] == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rates": MANY[1:2]}, "2 of 4 are missing. List its points and seeds"),
        ({"seeds": 1}, "2 of 4 are missing"),
        ({"num_steps": 9}, "num_steps must be >= 24, that of extend, got 9"),
        ({"key": 1}, "extend is of another run: key"),
        (
            {"trial": TRIAL._replace(evaluate=None)},
            "extend is of another run: programs",
        ),
        ({"mode": "max"}, "extend is of another run: mode"),
    ],
)
def test_another_run_is_not_extended(few, changes, message):
    given = {"rates": FEW, "seeds": 2, "extend": few, **changes}
    with pytest.raises(ValueError, match=message):
        swept(**given)


def test_more_steps_need_the_states(few):
    bare = replace(few, states={})
    with pytest.raises(ValueError, match="num_steps=30 needs the states of extend"):
        swept(FEW, seeds=2, num_steps=30, extend=bare)
    with pytest.raises(ValueError, match="keep_states=True needs the states of extend"):
        swept(MANY, seeds=2, keep_states=True, extend=bare)
    with pytest.raises(TypeError, match="extend must be a SweepResult"):
        swept(FEW, seeds=2, extend={})


def test_other_hyperparameters_are_not_extended(few):
    with pytest.raises(ValueError, match="extend must have the hyperparameters"):
        adaptax.sweep(TRIAL, {"rate": FEW}, num_steps=24, extend=few, **QUIET)


def test_an_extension_resumes_from_its_checkpoint(few, whole, tmp_path, monkeypatch):
    from adaptax.tuning.running.tool_runs import ToolRun

    options = {"seeds": [5, 0, 1], "keep_states": True, "checkpoint": tmp_path}
    short = swept(MANY[1:], num_steps=9, seeds=2, keep_states=True)
    save, saved = ToolRun.save, []

    def stop_at_the_third(self, *arguments):
        save(self, *arguments)
        saved.append(arguments)
        if len(saved) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(ToolRun, "save", stop_at_the_third)
    monkeypatch.setattr("adaptax.tuning.running.pacing.Pace.due", lambda self: True)
    with pytest.raises(KeyboardInterrupt):
        swept(MANY, extend=short, **options)
    monkeypatch.setattr(ToolRun, "save", save)
    found = swept(MANY, extend=short, **options)
    assert found.about["resumed"]
    assert_same(found, whole)
    again = swept(MANY, extend=short, **options)
    assert again.about["compilations"] == 0
    assert_same(again, whole)


def test_the_code_of_the_page_runs(tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "tools.md").read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    (extending,) = [block for block in blocks if "extend=first" in block]
    (showing,) = [block for block in blocks if "result.report" in block]
    names = {"adaptax": adaptax, "trial": TRIAL, "pandas": pd}
    exec(extending, names)
    assert names["more"].losses.shape == (4, 2, 200)
    monkeypatch.chdir(tmp_path)
    exec(showing, {**names, "result": names["more"]})
    assert (tmp_path / "report.html").exists()


def test_a_maximized_sweep_keeps_its_scores():
    two = swept(FEW, mode="max")
    found = swept(MANY[1:], mode="max", extend=two)
    np.testing.assert_array_equal(found.scores[[1, 0]], two.scores)
    assert found.scores[2] == -np.inf
