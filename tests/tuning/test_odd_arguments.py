"""Odd arguments: what each argument of each tool, space, result and plot makes of them.

Every argument is given everything in `ODD`. `TAKEN` has what an argument takes; all the
rest is refused, by its name, before anything is trained. An argument that is missing in
`TAKEN` fails its test.
"""

import errno
import inspect
import os
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adaptax
from adaptax import plots, spaces, tuning
from adaptax._core import memory
from adaptax.spaces import log_uniform

ODD = {
    "None": lambda: None,
    "()": tuple,
    "[]": list,
    "{}": dict,
    "''": str,
    "'1'": lambda: "1",
    "b'1'": lambda: b"1",
    "a null character": lambda: "a\0b",
    "NaN": lambda: np.nan,
    "inf": lambda: np.inf,
    "-1": lambda: -1,
    "0": lambda: 0,
    "1.5": lambda: 1.5,
    "True": lambda: True,
    "2**40": lambda: 2**40,
    "2**63": lambda: 2**63,
    "1e400": lambda: 10**400,
    "1j": lambda: 1j,
    "a matrix": lambda: np.ones((2, 2)),
    "whole numbers": lambda: np.ones((2, 2), np.uint32),
    "text": lambda: np.array(["a", "b"]),
    "objects": lambda: np.array([None, {}]),
    "a generator": lambda: (number for number in (1, 2)),
    "an object": object,
}
HUGE = {"2**40", "2**63", "1e400"}
FLAG = {"True", "0"}
NOTHING: set[str] = set()
ARRAYS = {
    *("None", "()", "[]", "{}", "NaN", "inf", "-1", "0", "1.5", "True", *HUGE, "1j"),
    *("a matrix", "whole numbers"),
}


class TrainedError(Exception):
    """A tool has begun to train."""


def begin(*_, **__):
    raise TrainedError


TRIAL = adaptax.Trial(begin, begin)
RANDOM = {"learning_rate": log_uniform(1e-3, 1.0)}
KEY = jax.random.key(0)
RATES = {"learning_rate": np.float32([0.1, 0.2])}
LOSSES = np.ones((2, 1, 4), np.float32)
SWEPT = adaptax.SweepResult(RATES, LOSSES, LOSSES[..., 0], {}, {"seeds": [0]})
HALVED = adaptax.HalvingResult(
    RATES, LOSSES, LOSSES[..., 0], {}, {"seeds": [0]}, np.array([4]), np.array([1, 1])
)
STAGES = jax.tree.map(lambda leaf: leaf[None], RATES)
EVOLVED = adaptax.PopulationResult(
    STAGES, LOSSES[:, 0], np.ones((1, 2)), np.array([[0, 1]]), {}, 4, {}
)
BRANCHED = adaptax.BranchResult(
    STAGES, np.ones((1, 2, 4)), np.ones((1, 2)), np.array([0]), np.ones(4), 4, {}
)
SUGGESTED = dict.fromkeys(("valley", "steep", "minimum", "slide"))
NAMED = {"name": "learning_rate", "mode": "exponential"}
TESTED = adaptax.FinderResult(
    np.ones(4), np.ones((1, 4)), LOSSES[0], SUGGESTED, {}, "flat", NAMED
)
SEARCHED = adaptax.SearchResult(
    *(np.zeros(2), np.ones((2, 4)), np.ones(2), {}, np.ones((2, 4))),
    *(np.zeros((2, 4, 2)), None, NAMED),
)
PLAYED = tuning.RuleResult(
    np.zeros(2, int), np.full(2, -1), RATES, LOSSES[:, 0], np.ones(2), {}, {}
)
RESULTS = (SWEPT, HALVED, EVOLVED, BRANCHED, TESTED, SEARCHED, PLAYED)
# Checked by `load`, internal, or the `hparams`.
OF_OTHERS = ("from_contents", "fields_of", "of_history", "constants", "minimized")

RUN = {"progress": FLAG, "strategy": HUGE, "mesh": {"None"}, "key": {"0"}}
RUN |= {"checkpoint": {"None", "'1'"}, "trial": NOTHING}
SWEPT_RUN = {
    **RUN,
    "mode": NOTHING,
    "num_steps": NOTHING,
    "space": NOTHING,
    "seeds": NOTHING,
    "samples": NOTHING,
}
NAMED_RUN = {**RUN, "num_steps": NOTHING, "hparams": {"None", "{}"}, "low": NOTHING}
NAMED_RUN |= {"name": {"'1'", "a null character"}}
MADE = {"loss": NOTHING, "optimizer": NOTHING, "data": {"a matrix", "whole numbers"}}
MADE |= {"batch_size": {"None"}, "evaluate": {"None"}, "eval_data": ARRAYS}
MADE |= {"batches": NOTHING, "has_aux": FLAG}
BOUNDS = {"low": {"-1", "0"}, "high": {"1.5", *HUGE - {"1e400"}}}
LOG_BOUNDS = {"low": NOTHING, "high": BOUNDS["high"]}
RANGE = {
    "low": {"1.5"},
    "high": LOG_BOUNDS["high"],
    "num_steps": NOTHING,
    "mode": NOTHING,
    "smoothing": {"None", "0"},
    "divergence": {"1.5", "2**40", "2**63"},
}
PLOTS = ("sweep", "halving", "population", "branches", "finder", "search", "rule")
TAKEN = {
    "find_learning_rate": {**NAMED_RUN, **RANGE, "seeds": NOTHING},
    "range_test": RANGE,
    "sweep": {**SWEPT_RUN, "extend": {"None"}, "keep_states": FLAG},
    "successive_halving": {**SWEPT_RUN, "eta": HUGE, "first_rung": {"None"}},
    "median_stopping": {**SWEPT_RUN, "interval": NOTHING, "grace_steps": HUGE | {"0"}},
    "play_rule": {
        **RUN,
        "num_steps": NOTHING,
        "rule": NOTHING,
        "settings": {"None", "{}"},
        "keep_state": FLAG,
        "mode": NOTHING,
    },
    "population_based_training": {
        **RUN,
        "num_steps": NOTHING,
        "space": NOTHING,
        "interval": HUGE,
        "members": NOTHING,
        "exploit": NOTHING,
        "fraction": NOTHING,
        "factors": NOTHING,
        "resample": {"0"},
        "mode": NOTHING,
    },
    "branch": {
        **RUN,
        "space": NOTHING,
        "stages": NOTHING,
        "stage_steps": NOTHING,
        "explore_steps": {"None"},
        "branches": NOTHING,
        "forecast": FLAG,
        "mode": NOTHING,
    },
    "search_schedule": {
        **NAMED_RUN,
        "knots": NOTHING,
        "high": LOG_BOUNDS["high"],
        "population": NOTHING,
        "generations": NOTHING,
        "algorithm": NOTHING,
        "seeds": NOTHING,
        "fresh_seeds": NOTHING,
        "baseline": FLAG,
        "mode": NOTHING,
    },
    "trial": {**MADE, "init_params": NOTHING, "has_state": FLAG, "has_key": FLAG},
    "nnx_trial": {**MADE, "make_model": NOTHING},
    # Of an array, each row is a batch, which is checked when it is read.
    "stream": {"batches": {"()", "[]", "a matrix", "whole numbers", "text", "objects"}},
    "grid": {"values": NOTHING},
    "choice": {"values": NOTHING},
    "uniform": BOUNDS,
    "log_uniform": LOG_BOUNDS,
    "log_grid": {**LOG_BOUNDS, "num": NOTHING},
    "members": {"space": NOTHING, "samples": NOTHING, "key": {"0"}},
    "count_members": {"space": NOTHING, "samples": HUGE},
    "is_random": {"space": NOTHING},
    "entries": {"space": NOTHING},
    "is_axis": {"entry": {*ODD}},
    "draw": {"key": {"0"}, "count": {"0"}},
    "save": {"path": {"'1'"}},
    "load": {"path": NOTHING},
    "curves": {"low": {"0"}, "high": NOTHING},
    "good_region": {"name": NOTHING, "within": {"0", "1.5", "2**40", "2**63"}},
    "table": {"rows": {"0", *HUGE}},
    "report": {"path": {"'1'"}, "rows": {"0", *HUGE}},
    "plot": {"options": NOTHING},
    "ancestry": {"member": {"None", "0"}},
    "lived": {"member": {"None", "0"}},
    "curve": {"member": {"None", "0"}},
    "schedule": {"name": NOTHING, "member": {"None", "0"}},
    "plots.schedule": {"schedules": NOTHING, "total_steps": NOTHING},
    "plots.history": {"history": NOTHING},
    **{f"plots.{name}": {"result": NOTHING, "name": NOTHING} for name in PLOTS},
}
GIVEN = {
    "trial": TRIAL,
    "space": RANDOM,
    "samples": 2,
    "rule": lambda history: tuning.Round(9, None, RATES, np.arange(2)),
    "interval": 5,
    "stages": 2,
    "stage_steps": 10,
    "init_params": lambda key: jnp.ones(2),
    "make_model": begin,
    "loss": begin,
    "optimizer": begin,
    "data": np.ones((2, 3)),
    "values": [1.0, 2.0],
    "low": 1e-3,
    "high": 1.0,
    "num": 3,
    "key": KEY,
    "count": 2,
    "entry": 1.0,
    "path": "1",
    "total_steps": 4,
    "schedules": adaptax.constant(0.1),
    "history": {"loss": np.ones(4)},
    "options": None,
    "batches": [],
}
OF_PLOTS = dict(zip(PLOTS, RESULTS, strict=True))


def functions_of(holder, module):
    return {
        name: function
        for name, function in inspect.getmembers(holder, inspect.isfunction)
        if f"{function.__module__}.".startswith(f"{module}.") and is_public(name)
    }


def is_public(name):
    return not name.startswith("_") and name not in OF_OTHERS


FUNCTIONS = {
    **{name: f for name, f in vars(tuning).items() if inspect.isfunction(f)},
    **functions_of(spaces, "adaptax.spaces"),
    "draw": RANDOM["learning_rate"].draw,
    **{f"plots.{name}": f for name, f in functions_of(plots, "adaptax.plots").items()},
    **{
        f"{type(result).__name__}.{name}": getattr(result, name)
        for result in RESULTS
        for name in dir(type(result))
        if is_public(name) and callable(getattr(type(result), name))
    },
}
ARGUMENTS = [
    (name, argument)
    for name, function in FUNCTIONS.items()
    for argument in inspect.signature(function).parameters
]


def row_of(name):
    return TAKEN[name if name.startswith("plots.") else name.rpartition(".")[2]]


def ask(name, argument, value):
    """Call a function with one odd argument, and with what it needs besides."""
    function = FUNCTIONS[name]
    given, several = {}, ()
    for other, parameter in inspect.signature(function).parameters.items():
        if other == "num_steps":
            default = 20
        elif other == "result":
            default = OF_PLOTS[name.removeprefix("plots.")]
        elif other == "progress":
            default = False
        elif parameter.default is parameter.empty or other == "samples":
            default = GIVEN[other]
        else:
            default = parameter.default
        chosen = value if other == argument else default
        if parameter.kind is parameter.VAR_POSITIONAL:
            several = (chosen,)
        else:
            given[other] = chosen
    return function(*several, **given)


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    """Work in an empty folder, with little memory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(memory, "host_bytes", lambda: 2**23)


@pytest.mark.parametrize(("name", "argument"), ARGUMENTS, ids=map(" ".join, ARGUMENTS))
def test_what_is_odd_is_taken_as_declared_or_refused_by_name(name, argument):
    taken = row_of(name)[argument]
    assert taken <= ODD.keys()
    wrong = {}
    for odd, make in ODD.items():
        try:
            ask(name, argument, make())
            found = "taken"
        except TrainedError:
            found = "taken"
        except (ValueError, TypeError, OSError) as refusal:
            named = re.search(rf"\b{argument.removesuffix('s')}", str(refusal))
            found = "refused" if named else repr(refusal)
        except Exception as error:
            found = repr(error)
        if found != ("taken" if odd in taken else "refused"):
            wrong[odd] = found
    assert not wrong


def test_every_row_is_of_an_argument_that_there_is():
    rows = {
        (name if name.startswith("plots.") else name.rpartition(".")[2], argument)
        for name, argument in ARGUMENTS
    }
    listed = {(name, argument) for name, row in TAKEN.items() for argument in row}
    no_name = {("plots.finder", "name"), ("plots.search", "name")}
    assert listed - no_name == rows


def test_a_file_that_cannot_be_written_or_read_is_named(tmp_path, monkeypatch):
    with pytest.raises(IsADirectoryError, match=f"path '{tmp_path}' cannot be written"):
        SWEPT.save(tmp_path)
    with pytest.raises(IsADirectoryError, match=f"path '{tmp_path}' cannot be read"):
        adaptax.SweepResult.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="path 'none' cannot be read"):
        adaptax.SweepResult.load("none")

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"path .found\.npz. cannot be written: No space"):
        SWEPT.save("found.npz")
    assert not list(tmp_path.iterdir())
