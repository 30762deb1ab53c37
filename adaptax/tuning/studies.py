"""Studies of the tools, by ask and tell, for any training loop.

Each function has the name of a tool, takes its arguments without the trial and without
those about how it runs, and returns a `Study` with the same decisions and the same
result. The finder needs no study: see `adaptax.range_test`.
"""

import functools
from collections.abc import Callable
from typing import ParamSpec

from adaptax.tuning.branching import branch_design
from adaptax.tuning.designs import AnyResult, Design
from adaptax.tuning.halving import halving_design
from adaptax.tuning.population import population_design
from adaptax.tuning.rules import rule_design
from adaptax.tuning.search import search_design
from adaptax.tuning.stopping import stopping_design
from adaptax.tuning.study import Study
from adaptax.tuning.sweep import sweep_design

Arguments = ParamSpec("Arguments")


def _study_of(
    name: str, design: Callable[Arguments, Design[AnyResult]]
) -> Callable[Arguments, Study[AnyResult]]:
    """Return the function that makes studies of a tool."""

    @functools.wraps(design)
    def make(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Study[AnyResult]:
        return Study(design(*args, **kwargs))

    make.__module__, make.__name__, make.__qualname__ = __name__, name, name
    make.__doc__ = f"Return a study that decides as `{name}` does; see there."
    return make


sweep = _study_of("sweep", sweep_design)
successive_halving = _study_of("successive_halving", halving_design)
median_stopping = _study_of("median_stopping", stopping_design)
population_based_training = _study_of("population_based_training", population_design)
branch = _study_of("branch", branch_design)
search_schedule = _study_of("search_schedule", search_design)
play_rule = _study_of("play_rule", rule_design)
