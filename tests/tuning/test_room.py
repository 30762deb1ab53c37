"""Room: what a tool would make of an argument is estimated before any of it is made."""

import contextlib
import tracemalloc

import jax
import numpy as np
import pytest

import adaptax
from adaptax import spaces
from adaptax._core import memory
from adaptax.spaces import choice, grid, log_grid, log_uniform

KEY = jax.random.key(0)
RANDOM = {"learning_rate": log_uniform(1e-3, 1.0)}
GRID = {"learning_rate": log_grid(1e-3, 1.0, 3)}
FREE = 2**23
HUGE = (4 * 10**6, 10**12, 2**63, 10**400)
"""From what would need tens of MiB, and so could be made by mistake, to absurd."""


class TrainedError(Exception):
    """A tool has begun to train."""


def begin(hparams, key):
    raise TrainedError


TRIAL = adaptax.Trial(begin, begin)


def call(tool, **given):
    def with_size(**size):
        return tool(TRIAL, **{**given, **size}, progress=False)

    return with_size


def swept(tool, space=GRID, **given):
    return call(tool, space=space, **{"num_steps": 10, **given})


SWEEP, HALVING = adaptax.sweep, adaptax.successive_halving
PBT, BRANCH = adaptax.population_based_training, adaptax.branch
FINDER, SEARCH = adaptax.find_learning_rate, adaptax.search_schedule
TWO_GRIDS = {"a": grid(range(2000)), "b": grid(range(2000))}
CASES = {
    "sweep num_steps": ("num_steps", swept(SWEEP)),
    "sweep seeds": ("seeds", swept(SWEEP)),
    "sweep samples": ("samples", swept(SWEEP, RANDOM)),
    "halving num_steps": ("num_steps", swept(HALVING)),
    "halving seeds": ("seeds", swept(HALVING)),
    "halving samples": ("samples", swept(HALVING, RANDOM)),
    "population num_steps": ("num_steps", swept(PBT, RANDOM, interval=5)),
    "population members": ("members", swept(PBT, RANDOM, interval=5)),
    "branch stages": ("stages", call(BRANCH, space=GRID, stage_steps=10)),
    "branch stage_steps": ("stage_steps", call(BRANCH, space=GRID, stages=2)),
    "branch branches": (
        "branches",
        call(BRANCH, space=RANDOM, stages=2, stage_steps=10),
    ),
    "finder num_steps": ("num_steps", call(FINDER)),
    "finder seeds": ("seeds", call(FINDER)),
    "search num_steps": ("num_steps", call(SEARCH)),
    "search knots": ("knots", lambda knots: call(SEARCH)(num_steps=knots, knots=knots)),
    "search population": ("population", call(SEARCH, num_steps=10)),
    "search generations": ("generations", call(SEARCH, num_steps=10)),
    "search seeds": ("seeds", call(SEARCH, num_steps=10)),
    "search fresh_seeds": ("fresh_seeds", call(SEARCH, num_steps=10)),
    "log_grid": ("num", lambda num: log_grid(1e-3, 1.0, num)),
    "grid": ("values", lambda values: grid(range(values))),
    "choice": ("values", lambda values: choice(range(0, -values, -1))),
    "draw": ("count", lambda count: RANDOM["learning_rate"].draw(KEY, count)),
    "samples": ("samples", lambda samples: spaces.members(RANDOM, samples, KEY)),
}
FIXED = {
    "sweep of two grids": ("space", lambda: swept(SWEEP, TWO_GRIDS)()),
    "halving of two grids": ("space", lambda: swept(HALVING, TWO_GRIDS)()),
    "population of two grids": ("space", lambda: swept(PBT, TWO_GRIDS, interval=5)()),
    "members of two grids": ("space", lambda: spaces.members(TWO_GRIDS, None, KEY)),
    "a range of seeds": ("seeds", lambda: swept(SWEEP)(seeds=range(10**9))),
    "a range that len refuses": ("seeds", lambda: call(FINDER)(seeds=range(2**70))),
    "a list in a space": (
        r"space\['a'\]",
        lambda: swept(SWEEP, {"a": range(4 * 10**6)})(),
    ),
}


@pytest.fixture(autouse=True)
def little_memory(monkeypatch):
    monkeypatch.setattr(memory, "host_bytes", lambda: FREE)


def refused_by_name(name, ask):
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=name) as refusal:
            ask()
        assert "of memory, and only 4 MiB may be used" in str(refusal.value)
        assert tracemalloc.get_traced_memory()[1] < FREE
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", HUGE, ids=["4e6", "1e12", "2**63", "1e400"])
@pytest.mark.parametrize("case", CASES)
def test_a_size_that_does_not_fit_is_refused_before_anything_is_made(case, size):
    name, ask = CASES[case]
    refused_by_name(name, lambda: ask(**{name: size}))


@pytest.mark.parametrize("case", FIXED)
def test_what_multiplies_to_too_much_is_refused_before_it_is_made(case):
    refused_by_name(*FIXED[case])


@pytest.mark.parametrize("case", CASES)
def test_a_small_size_has_room(case):
    name, ask = CASES[case]
    with contextlib.suppress(TrainedError):
        ask(**{name: 16})


def test_seeds_of_a_range_are_those_that_it_counts():
    from adaptax.tuning.running.seeds import as_seeds

    for seeds in (range(3), range(7, 1, -2), range(2**32 - 2, 2**32)):
        np.testing.assert_array_equal(as_seeds(seeds), np.uint32(list(seeds)))
    with pytest.raises(ValueError, match=r"seeds must be < 2\*\*32"):
        as_seeds(range(2**32 - 2, 2**32 + 1))


def test_no_product_of_sizes_overflows():
    with pytest.raises(ValueError, match="num_steps=1000000000 need about"):
        swept(SWEEP)(num_steps=np.int32(10**9))
