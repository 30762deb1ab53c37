"""Designs: what a tool does, besides training.

    design   =  the rule, the arguments that determine the results, and the result that
                is made of the outcomes of all rounds

A tool trains the rounds of its design in one program; a study hands out the same rounds
as jobs, for any training loop.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from adaptax._core import checks
from adaptax.tuning.results import ToolResult
from adaptax.tuning.rounds import Played, Rule
from adaptax.tuning.running.run_options import RunOptions
from adaptax.tuning.running.tool_runs import ToolRun
from adaptax.tuning.scores import Mode
from adaptax.tuning.trials.trials import Trial

AnyResult = TypeVar("AnyResult", bound=ToolResult, covariant=True)


@dataclass(frozen=True)
class Design(Generic[AnyResult]):
    """The design of a tool.

    `hparams` are those of the first runs, with a leading axis. `arguments` determine
    the results, together with `key`: numbers, text and arrays by name. `about` are the
    facts for the result's `about`. `total` is the number of steps of all runs if none
    ends early. `mode` is whether scores are maximized, see `scores`. `result(played,
    about)` makes the result. `as_given(hparams)` returns
    the hyperparameters of a run as a training loop takes them.
    """

    tool: str
    hparams: Any
    rule: Rule
    arguments: dict[str, Any]
    result: Callable[[Played, dict[str, Any]], AnyResult]
    total: int
    mode: Mode = "min"
    key: Any = 0
    about: dict[str, Any] = field(default_factory=dict)
    as_given: Callable[[Any], Any] = lambda hparams: hparams

    def __post_init__(self):
        """Check the mode."""
        checks.one_of("mode", self.mode, Mode)

    def begin(self, trial: Trial, options: RunOptions) -> ToolRun:
        """Return the run of the tool for a trial."""
        return ToolRun(
            self.tool,
            trial,
            self.hparams,
            options,
            total=self.total,
            about=self.arguments,
            mode=self.mode,
        )
