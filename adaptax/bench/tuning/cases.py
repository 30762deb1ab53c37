"""The cases of the tuning benchmark: a task, its data, and the length of a run.

The small stage has the eight small tasks, each with a variant that changes its data or
its batch. The large stage has the large tasks, each at its horizon T and at 4 T. Half
of these are for design: a method may be changed by its results on them. The other half
is judged once, after the design is frozen.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

from adaptax.bench.shared.tasks import TASKS, Problem, Task
from adaptax.bench.tuning.large_tasks import LARGE_TASKS
from adaptax.bench.tuning.protocol import LOOKS

LONG = 4
"""The longer horizon, and the longest run of a method without one, in T."""

Stage = Literal["small", "design", "frozen"]


class Effort(NamedTuple):
    """How many runs are made.

    `rates` is the number of rates of the grid, in steps of half a decade around the
    recipe's centre, and `finer` whether two rates beside the best one, a quarter of a
    decade away, are tried as well. `choosing`, `target` and `scoring` are the numbers
    of seeds to choose a rate, to set the target, and to judge.
    """

    rates: int
    finer: bool
    choosing: int
    target: int
    scoring: int


EFFORTS = {
    "small": Effort(rates=13, finer=False, choosing=5, target=20, scoring=10),
    "large": Effort(rates=6, finer=True, choosing=2, target=5, scoring=5),
    "long": Effort(rates=4, finer=False, choosing=1, target=3, scoring=3),
}


class Case(NamedTuple):
    """A problem at one horizon.

    `problem()` returns the data; `steps` is T, a multiple of the number of looks.
    `width` is the number of runs to vectorize.
    """

    name: str
    stage: Stage
    task: Task
    problem: Callable[[], Problem]
    steps: int
    effort: Effort
    width: int

    @property
    def every(self) -> int:
        """Steps from one look to the next."""
        return self.steps // LOOKS

    @property
    def long(self) -> bool:
        """Whether this is the longer horizon of a large task."""
        return self.effort is EFFORTS["long"]


def _small() -> list[Case]:
    cases = []
    for task in TASKS.values():
        for variant in filter(None, ("plain", task.variant)):
            cases.append(
                Case(
                    f"{task.name}, {variant}",
                    "small",
                    task,
                    lambda task=task, variant=variant: task.variants()[variant],
                    task.steps,
                    EFFORTS["small"],
                    width=5,
                )
            )
    return cases


def _large() -> list[Case]:
    cases = []
    for task in LARGE_TASKS.values():
        assert task.half is not None
        for name, times, effort in (
            (task.name, 1, EFFORTS["large"]),
            (f"{task.name}, {LONG} T", LONG, EFFORTS["long"]),
        ):
            steps = times * task.steps
            cases.append(
                Case(name, task.half, task, task.problem, steps, effort, width=1)
            )
    return cases


CASES = {case.name: case for case in (*_small(), *_large())}
