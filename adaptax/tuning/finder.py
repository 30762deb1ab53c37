"""The learning-rate finder: a range test, which raises the rate at every step.

    exponential   η_i = low (high/low)^{i/(n−1)}
    linear        η_i = low + (high − low) i/(n−1)          i = 0 … n−1

Step i has the rate η_i, and its loss is the one before the step. `range_tests` defines
how the curves are smoothed and which rates are suggested. All seeds run in one program
and are read separately; a suggestion is the geometric median over them. The trial is
pure, so nothing has to be restored afterwards.

Source: Smith (2017), "Cyclical Learning Rates for Training Neural Networks", WACV,
section 3.3, for the linear test; fastai's `lr_find` for the exponential one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, ClassVar, Literal, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from adaptax._core import checks
from adaptax.tuning.analysis.range_tests import agreement, read
from adaptax.tuning.playing import play
from adaptax.tuning.results import ToolResult
from adaptax.tuning.rounds import Round, once
from adaptax.tuning.running.calls import written
from adaptax.tuning.running.inner_schedules import require_steady
from adaptax.tuning.running.planning import LOSS_BYTES, Strategy, require_room
from adaptax.tuning.running.run_options import RunOptions
from adaptax.tuning.running.seeds import as_seeds
from adaptax.tuning.running.tool_runs import ToolRun
from adaptax.tuning.trials.scheduled_trials import (
    constants_beside,
    require_rates,
    scheduled,
)
from adaptax.tuning.trials.trials import Trial, require_trial

Mode = Literal["exponential", "linear"]

LEAST_STEPS = 10
READING_BYTES = 160  # per step, for the rates and for reading one curve

_MESSAGES = {
    "ok": "The loss fell, and rose again at higher rates: start from {suggestion:.2g}.",
    "never diverged": "The loss fell up to the highest rate, {high:.2g}, and higher "
    "rates may be better: raise high.",
    "flat": "The loss only fluctuated, or was constant: no rate can be read from it. "
    'Raise high, num_steps or the batch size; make sure that "{name}" acts as a rate.',
    "diverged at once": "The loss rose without having fallen before: lower low, or "
    "raise num_steps.",
    "not finite": "No loss is finite: check the data and the initial parameters.",
}


@dataclass(frozen=True, repr=False)
class FinderResult(ToolResult):
    """The result of a range test.

    `learning_rates` is float32 (steps,). `losses` is float32 (seeds, steps), NaN after
    the end of a run that diverged. `smoothed` is (seeds, steps), NaN once the loss has
    diverged. `suggestions` has a rate or `None` for "valley", "slide", "minimum" and
    "steep", and `spread` the lowest and the highest over the seeds. `about` describes
    the run.

    `status` is that of most seeds:

    * "ok": the loss fell, and diverged or rose later;
    * "never diverged": the loss fell, and neither diverged nor rose. "slide" and
      "minimum" are `None`, and so is "steep" if it is among the highest rates;
    * "flat": the loss neither fell nor rose by more than its noise or its other
      fluctuations;
    * "diverged at once": the loss rose without having fallen before;
    * "not finite": no loss was finite.

    With the last three, there is no suggestion.
    """

    HEADLINES: ClassVar[tuple[str, ...]] = ("suggestion",)
    KIND: ClassVar[str] = "adaptax finder"
    AXES: ClassVar[dict[str, str]] = {
        "learning_rates": "steps",
        "losses": "seeds steps",
        "smoothed": "seeds steps",
    }
    ROWS: ClassVar[str] = "seeds steps"
    PLOT: ClassVar[str] = "finder"
    RECOMMENDED: ClassVar[str] = "valley"

    learning_rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    suggestions: dict[str, float | None]
    spread: dict[str, tuple[float, float] | None]
    status: str
    about: dict[str, Any]

    @property
    def suggestion(self) -> float | None:
        """The recommended rate, that of `RECOMMENDED`, or `None`: see `message`."""
        return self.suggestions[self.RECOMMENDED]

    @property
    def message(self) -> str:
        """The outcome in a sentence, with a remedy if there is no suggestion."""
        return _MESSAGES[self.status].format(
            suggestion=self.suggestion,
            high=self.learning_rates[-1],
            name=self.about["name"],
        )

    def _table(self) -> dict[str, Any]:
        """Return the suggestions, with their range over the seeds."""
        ends = [self.spread.get(name) or (None, None) for name in self.suggestions]
        return {
            "suggestion": [*self.suggestions],
            "rate": [*self.suggestions.values()],
            "lowest": [low for low, _ in ends],
            "highest": [high for _, high in ends],
        }

    @classmethod
    def from_contents(
        cls, arrays: dict[str, np.ndarray], about: dict[str, Any]
    ) -> Self:
        """Undo `contents`."""
        ends = about["spread"].items()
        spread = {name: pair and tuple(pair) for name, pair in ends}
        return super().from_contents(arrays, {**about, "spread": spread})


def find_learning_rate(
    trial: Trial,
    low: float = 1e-7,
    high: float = 10.0,
    num_steps: int = 100,
    *,
    seeds: int | Sequence[int] = 1,
    hparams: dict[str, Any] | None = None,
    name: str = "learning_rate",
    mode: Mode = "exponential",
    smoothing: float | None = None,
    divergence: float = 4.0,
    key: Any = 0,
    strategy: Strategy = "auto",
    mesh: Mesh | None = None,
    checkpoint: str | PathLike[str] | None = None,
    progress: bool = True,
) -> FinderResult:
    """Suggest a rate to start from, by a run whose rate grows from step to step.

    Args:
        trial: The trial to train. Its rate must have an effect at every step, as a
            number given to an adaptax optimizer has.
        low: The first rate, > 0.
        high: The last rate, > low.
        num_steps: Steps n >= 10. In fewer than 100 the loss has little time to fall.
        seeds: The number of seeds, from 0, or a list of seeds. More seeds make
            suggestions more reliable.
        hparams: The other hyperparameters, constants.
        name: The hyperparameter to raise.
        mode: "exponential" or "linear".
        smoothing: b in [0, 1), see `range_tests`. By default max(1 − 20/n, 0), an
            average over a 20th of the steps: 0.8 for n = 100. A larger b delays the
            curve more than it reduces the noise: with 0.98, suggestions are 3 times as
            high.
        divergence: d > 1, see `range_tests`.
        key: See `sweep`, as for the arguments below.
        strategy: See `sweep`.
        mesh: See `sweep`.
        checkpoint: See `sweep`.
        progress: See `sweep`.

    Raises:
        ValueError: If an argument is out of range, the rate has no effect, the seeds do
            not fit into memory together, or the folder has a checkpoint of other
            arguments.
        KeyError: If the trial reads a hyperparameter that is missing.
        OSError: If the folder cannot be written, or another process is using it.

    >>> import jax.numpy as jnp
    >>> import adaptax
    >>> bowl = adaptax.trial(
    ...     init_params=lambda key: jnp.ones(3),
    ...     loss=lambda w, curvature: 0.5 * jnp.sum(curvature * w**2),
    ...     optimizer=lambda h: adaptax.gradient_descent(h["learning_rate"]),
    ...     data=jnp.array([[10.0, 5.0, 1.0]]),
    ... )
    >>> found = adaptax.find_learning_rate(bowl, progress=False)
    >>> found.status, 0.02 < found.suggestion < 0.2
    ('ok', True)
    """
    call = written(find_learning_rate, locals())
    require_trial(trial)
    num_steps = checked_steps(low, high, num_steps, mode, smoothing, divergence)
    chosen = as_seeds(seeds)
    each = (LOSS_BYTES + 8) * len(chosen) + READING_BYTES
    require_room(f"{len(chosen)} seeds and num_steps={num_steps}", each * num_steps)
    rates = rates_between(low, high, num_steps, mode)
    middle = {"[0].step": num_steps // 2}  # the first rate may be lost in rounding
    first = {**constants_beside(name, hparams), name: rates[:1]}
    constants = jax.tree.map(lambda leaf: np.repeat(leaf, len(chosen), axis=0), first)
    tool_run = ToolRun(
        "learning rate finder",
        _range_test(trial, name, rates),
        constants,
        RunOptions(key, strategy, mesh, checkpoint, progress, call),
        total=len(chosen) * num_steps,
        about={"hparams": constants, "name": name, "rates": rates, "seeds": chosen},
    )
    with tool_run:
        if done := tool_run.finished(FinderResult):
            return done
        inner = tool_run.require_acting(constants, [name], within_run=True, trial=trial)
        played = play(
            tool_run,
            once(Round(num_steps, None, constants, chosen, evaluate=False)),
            horizon=num_steps,
            together="seeds",
            check=lambda members: require_steady(
                members, inner, name, num_steps - 1, place=".state", others=middle
            ),
            best=lambda losses, _: (
                f"training loss {np.nanmin(losses, initial=np.inf):.4g}"
            ),
        )
        losses = played.history[0].losses
        about = tool_run.about(seeds=chosen.tolist(), name=name, mode=mode)
        smoothing = smoothing_of(num_steps, smoothing)
        return tool_run.finish(result_of(rates, losses, smoothing, divergence, about))


def checked_steps(
    low: float,
    high: float,
    num_steps: int,
    mode: Mode,
    smoothing: float | None,
    divergence: float,
) -> int:
    """Check what defines a range test, and return the number of steps."""
    num_steps = checks.length("num_steps", num_steps, at_least=LEAST_STEPS)
    checks.one_of("mode", mode, Mode)
    require_rates(low, high)
    if smoothing is not None:
        checks.averaging_factor("smoothing", smoothing)
    checks.number("divergence", divergence, above=1)
    return num_steps


def rates_between(low: float, high: float, num_steps: int, mode: Mode) -> np.ndarray:
    """Return the rates of a range test, float32 (steps,)."""
    spaced = np.geomspace if mode == "exponential" else np.linspace
    return spaced(low, high, num_steps).astype(np.float32)


def smoothing_of(num_steps: int, smoothing: float | None) -> float:
    """Return the smoothing, or its default for a number of steps."""
    return max(0.0, 1 - 20 / num_steps) if smoothing is None else smoothing


def result_of(
    rates: np.ndarray,
    losses: np.ndarray,
    smoothing: float,
    divergence: float,
    about: dict[str, Any],
) -> FinderResult:
    """Read the losses of each seed, (seeds, steps), and return the result."""
    readings = [read(rates, curve, smoothing, divergence) for curve in losses]
    found = agreement(readings)
    return FinderResult(
        rates,
        losses,
        np.stack([reading.smoothed for reading in readings]),
        found.suggestions,
        found.spread,
        found.status,
        about,
    )


def _range_test(trial: Trial, name: str, rates: np.ndarray) -> Trial:
    def hparams_at(hparams, step):
        return {**hparams, name: jnp.asarray(rates)[step]}

    return scheduled(trial, hparams_at)
