"""The code of a call repeats its arguments, and is in every tool's result."""

import inspect

import jax
import numpy as np
import pytest
from every_tool import ACCURACIES, GRID, TOOLS, better_half, swept

import adaptax
from adaptax import spaces
from adaptax.tuning.running.calls import code, written

VALUES = [
    {"lr": 0.1, "b": (1, 2.5), "c": (1,), "d": [None, True, "a'b"]},
    {"rates": np.float32([0.1, 1 / 3]), "seeds": np.uint32([1, 2]), "one": np.int32(3)},
]


@pytest.mark.parametrize("value", VALUES)
def test_code_makes_a_value_again(value):
    again = eval(code(value), {"adaptax": adaptax, "jax": jax})
    assert again.keys() == value.keys()
    for name in value:
        np.testing.assert_array_equal(
            np.asarray(again[name], np.asarray(value[name]).dtype), value[name]
        )


def test_code_makes_axes_and_keys_again():
    space = {
        "grid": spaces.log_grid(1e-3, 0.3, 5),
        "drawn": spaces.log_uniform(1e-3, 0.3),
        "flat": spaces.uniform(0.1, 0.2),
        "one": spaces.choice([1, 3]),
    }
    again = eval(code(space), {"adaptax": adaptax})
    for name, axis in space.items():
        drawn = axis.draw(jax.random.key(1), 8)
        np.testing.assert_array_equal(again[name].draw(jax.random.key(1), 8), drawn)
    key = eval(code(jax.random.key(7)), {"jax": jax})
    assert jax.random.key_data(key).tolist() == [0, 7]


def test_the_call_in_a_result_repeats_it():
    found = swept(ACCURACIES, mode="max", seeds=[3, 5])
    call = found.about["call"]
    assert "progress" not in call
    again = eval(call, {"adaptax": adaptax, "trial": ACCURACIES})
    np.testing.assert_array_equal(again.losses, found.losses)
    np.testing.assert_array_equal(again.scores, found.scores)
    assert again.about["call"] == call
    assert found.about["versions"]["jax"] == jax.__version__


@pytest.mark.parametrize("tool", TOOLS)
def test_every_tool_writes_its_call(tool, monkeypatch):
    calls = []

    def stop(self):
        calls.append(self.call)
        raise StopIteration

    options = adaptax.tuning.running.run_options.RunOptions
    monkeypatch.setattr(options, "checked", stop)
    with pytest.raises(StopIteration):
        tool(ACCURACIES, mode="max")
    (call,) = calls
    assert call.startswith("adaptax.")
    assert "    mode='max',\n" in call
    given = {"adaptax": adaptax, "trial": ACCURACIES, "rule": better_half}
    with pytest.raises(StopIteration):
        eval(call, given)
    assert calls == [call, call]


def test_default_arguments_are_left_out():
    call = written(adaptax.sweep, {"trial": None, "space": GRID, "num_steps": 3})
    assert call.count("\n") == 4
    names = inspect.signature(adaptax.sweep).parameters
    assert sum(f"{name}=" in call for name in names) == 1
