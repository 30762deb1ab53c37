"""The page about Optuna does what it says, as it stands."""

import re
from pathlib import Path

import numpy as np
import pytest

optuna = pytest.importorskip("optuna")

PAGE = Path(__file__).parents[1] / "docs" / "optuna.md"


@pytest.fixture(scope="module")
def page():
    """Run the page from top to bottom, and return what it defines."""
    names = {}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S):
        exec(compile(block, str(PAGE), "exec"), names)
    return names


def test_the_bounds_hold_the_best_rate_and_the_losses_fall(page):
    study = page["study"]
    assert page["low"] < page["best_rate"] < page["high"]
    start = float(page["loss_of"](page["params"], slice(None)))
    assert study.best_value < 0.5 * start


def test_some_trials_are_pruned_and_one_compilation_serves_all(page):
    states = [trial.state.name for trial in page["study"].trials]
    assert set(states) == {"COMPLETE", "PRUNED"}
    assert page["train"]._cache_size() == 1


def test_each_width_has_its_best_rate(page):
    for trial in page["widths"].trials:
        assert np.isfinite(trial.value)
        assert trial.user_attrs["learning_rate"] > 0
