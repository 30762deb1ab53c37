"""The rule of a search: its rounds of generations, cosines and finalists.

`search` has the algorithm.
"""

import math
from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adaptax._core import checks, tool_checks
from adaptax._core.checks import require
from adaptax.tuning.analysis.cosine_baselines import cosine_grid, drawn_cosines
from adaptax.tuning.analysis.found_schedules import log_linear
from adaptax.tuning.evolution import Algorithm, Evolution, mirrored
from adaptax.tuning.rounds import Outcome, Round
from adaptax.tuning.running.planning import LOSS_BYTES, require_room
from adaptax.tuning.trials.scheduled_trials import along, require_rates

_LAST = 3  # generations whose best candidates are finalists


class SearchSettings(NamedTuple):
    """The arguments of a search."""

    num_steps: int
    knots: int
    low: float
    high: float
    population: int
    generations: int
    algorithm: Algorithm
    seeds: int
    fresh_seeds: int
    baseline: bool
    name: str

    def checked(self) -> "SearchSettings":
        """Check each argument, and return them with plain integers and booleans."""
        num_steps = checks.length("num_steps", self.num_steps, at_least=2)
        knots = checks.length("knots", self.knots, at_least=2)
        checks.at_most("knots", knots, "num_steps", num_steps)
        population = checks.length("population", self.population, at_least=4)
        generations = checks.length("generations", self.generations, at_least=2)
        seeds = checks.length("seeds", self.seeds)
        fresh_seeds = checks.length("fresh_seeds", self.fresh_seeds, at_least=2)
        checks.one_of("algorithm", self.algorithm, Algorithm)
        require_rates(self.low, self.high)
        return self._replace(
            num_steps=num_steps,
            knots=knots,
            population=population,
            generations=generations,
            seeds=seeds,
            fresh_seeds=fresh_seeds,
            baseline=tool_checks.flag("baseline", self.baseline),
        )

    @property
    def log_bounds(self) -> tuple[float, float]:
        """The logarithms of the bounds."""
        return math.log(self.low), math.log(self.high)

    @property
    def finalists(self) -> int:
        """The number of finalists; as many cosines are finalists."""
        return 2 + min(_LAST, self.generations)

    @property
    def cosines(self) -> tuple[np.ndarray, int]:
        """The cosines to try, and the seeds of each."""
        runs = self.population * self.generations * self.seeds
        return cosine_grid(self.low, self.high, runs)

    @property
    def runs(self) -> int:
        """The number of all runs."""
        fresh = (self.finalists + 1) * self.fresh_seeds
        searched = self.population * self.generations * self.seeds
        grid, seeds = self.cosines
        return searched + fresh + self.baseline * (len(grid) * seeds + fresh)

    def require_room(self) -> None:
        """Refuse arguments that need more memory, or more seeds, than there are."""
        grid, seeds = self.cosines
        together = self.population * self.seeds, self.finalists * self.fresh_seeds
        largest = max(*together, self.baseline * len(grid) * seeds)
        tried = self.generations * self.population
        per_run = (LOSS_BYTES + 8) * self.num_steps  # with two copies of its rates
        searched = 8 * tried * (self.knots + 1) + 16 * self.knots**2
        require_room(
            f"num_steps={self.num_steps}, knots={self.knots}, "
            f"population={self.population}, generations={self.generations}, "
            f"seeds={self.seeds} and fresh_seeds={self.fresh_seeds}",
            largest * per_run + searched,
        )
        used = max(self.seeds * self.generations, self.cosines[1])
        require(
            used + 2 * self.fresh_seeds < 2**32,
            f"seeds must be < 2**32, got seeds={self.seeds} for each of "
            f"generations={self.generations} and twice fresh_seeds={self.fresh_seeds}.",
        )

    def seeds_of(self, generation: int) -> np.ndarray:
        """Return the seeds of a generation's runs."""
        return np.arange(self.seeds, dtype=np.uint32) + generation * self.seeds

    def fresh(self, use: int) -> np.ndarray:
        """Return the seeds that choose (0) or score (1), used for nothing else."""
        used = max(self.seeds * self.generations, self.cosines[1])
        first = used + use * self.fresh_seeds
        return np.arange(first, first + self.fresh_seeds, dtype=np.uint32)


class ScheduleSearch:
    """The rule: the generations, the cosines, the choice, and the final scores.

    `best` is the best score of the generations so far. At the end,
    `chosen` has the indices of the best finalist and of the best cosine, and
    `finalist_cosines` those of the cosines that were finalists.
    """

    def __init__(self, settings: SearchSettings, constants: Any, key: jax.Array):
        """Start with constant rates.

        Args:
            settings: The arguments.
            constants: The other hyperparameters, arrays of shape (1,).
            key: The key of the strategy.
        """
        self.settings, self._constants, self._key = settings, constants, key
        shape = settings.generations, settings.population
        self.history = np.full(shape, np.inf, np.float32)
        self.candidates = np.zeros((*shape, settings.knots), np.float32)
        first = np.linspace(*settings.log_bounds, settings.population)
        self.candidates[0] = first[:, None]
        self.means = np.zeros((settings.generations, settings.knots), np.float32)
        self.best = np.float32(np.inf)
        self._scored = 0  # generations
        self._evolution: Evolution | None = None

    def __call__(self, history: Sequence[Outcome]) -> Round | None:
        """Return the next round.

        Raises:
            FloatingPointError: If every constant rate diverged, or the strategy did.
        """
        settings, done = self.settings, len(history)
        for generation in range(self._scored, min(done, settings.generations)):
            self._tell(generation, _means(history[generation], settings.population))
        if done < settings.generations:
            rates = _drawn(self.candidates[done], settings.num_steps)
            return self._round(rates, settings.seeds_of(done), keep=False)
        stage = done - settings.generations + (not settings.baseline)
        if stage == 0:
            seeds = np.arange(settings.cosines[1], dtype=np.uint32)
            return self._round(self._cosine_rates, seeds, keep=False)
        if stage == 1:
            return self._round(self._choices(history), settings.fresh(0), keep=False)
        if stage == 2:
            self.chosen = self._best_two(history)
            rates = self._choices(history)[self.chosen]
            return self._round(rates, settings.fresh(1))
        return None

    def _round(self, rates: np.ndarray, seeds: np.ndarray, keep: bool = True) -> Round:
        """Return a round in which every schedule is trained with every seed."""
        hparams = along(self._constants, np.repeat(rates, len(seeds), axis=0))
        every_seed = np.tile(seeds, len(rates))
        return Round(self.settings.num_steps, None, hparams, every_seed, keep=keep)

    def _tell(self, generation: int, scores: np.ndarray) -> None:
        """Pass the strategy the scores of a generation, and draw the next one."""
        settings = self.settings
        self.history[generation] = scores
        if self._evolution is None:
            best = int(scores.argmin())
            if not np.isfinite(scores[best]):
                raise FloatingPointError(
                    f"every constant rate from {settings.low:.2g} to "
                    f"{settings.high:.2g} diverged: lower low."
                )
            self.means[0] = first = self.candidates[0, best]
            self._evolution = Evolution(
                settings.algorithm, settings.population, first, self._key
            )
        else:
            self._evolution.tell(scores)
            self.means[generation] = self._evolution.mean
        self._scored = generation + 1
        self.best = self.history.min()
        if self._scored < settings.generations:
            asked = self._evolution.ask()
            self.candidates[self._scored] = mirrored(asked, *settings.log_bounds)

    def _choices(self, history: Sequence[Outcome]) -> np.ndarray:
        """Return the rates, at every step, of the finalists and the best cosines."""
        finalists = _drawn(self.finalist_rates(), self.settings.num_steps)
        if not self.settings.baseline:
            return finalists
        self.finalist_cosines = self._best_cosines(history)
        return np.concatenate([finalists, self._cosine_rates[self.finalist_cosines]])

    def _best_two(self, history: Sequence[Outcome]) -> list[int]:
        """Return the indices of the best finalist and the best cosine."""
        settings = self.settings
        place = settings.generations + settings.baseline
        count = settings.finalists
        scores = _means(history[place], count * (1 + settings.baseline))
        chosen = [int(scores[:count].argmin())]
        if settings.baseline:
            chosen.append(count + int(scores[count:].argmin()))
        return chosen

    def finalist_rates(self) -> np.ndarray:
        """Return the log-rates of the finalists, (finalists, knots)."""
        some = -(-self.settings.generations // 3)
        means = np.stack([self.means[-1], self.means[-some:].mean(axis=0)])
        generations = np.arange(len(self.history))[-_LAST:]
        best = self.history[-_LAST:].argmin(axis=1)
        return np.concatenate(
            [
                mirrored(means, *self.settings.log_bounds),
                self.candidates[generations, best],
            ]
        )

    @cached_property
    def _cosine_rates(self) -> np.ndarray:
        """The rates of all cosines at every step, (cosines, steps)."""
        return drawn_cosines(self.settings.cosines[0], self.settings.num_steps)

    def _best_cosines(self, history: Sequence[Outcome]) -> np.ndarray:
        """Return the indices of the cosines with the lowest mean scores, best first."""
        scores = _means(history[self.settings.generations], len(self._cosine_rates))
        return np.argsort(scores, kind="stable")[: self.settings.finalists]


def _means(outcome: Outcome, schedules: int) -> np.ndarray:
    """Return the mean scores over the seeds, (schedules,)."""
    return outcome.scores.reshape(schedules, -1).mean(axis=1)


def _drawn(log_rates: np.ndarray, num_steps: int) -> np.ndarray:
    """Return the rates at every step, (schedules, steps)."""
    return np.asarray(_draw(np.asarray(log_rates, np.float32), num_steps))


@partial(jax.jit, static_argnums=1)
def _draw(log_rates, num_steps):
    steps = jnp.arange(num_steps)
    return jax.vmap(lambda one: log_linear(one, num_steps)(steps))(log_rates)
