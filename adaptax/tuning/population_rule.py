"""The rule of population based training; `population` has the algorithm."""

from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from adaptax import spaces
from adaptax._core import checks
from adaptax._core.checks import require
from adaptax.tuning.rounds import Round, Rule
from adaptax.tuning.running.planning import LOSS_BYTES, require_room
from adaptax.tuning.storage.named_arrays import flatten_names

Exploit = Literal["truncation", "tournament"]


def _interval(steps: int, *given: Any) -> Round:
    """Return a round whose runs are scored by all of its steps."""
    return Round(steps, *given, part=steps, window=steps)


def require_rules(
    exploit: Exploit, fraction: float, factors: Any, resample: float
) -> None:
    """Check the arguments by which members copy each other and vary the copies."""
    checks.one_of("exploit", exploit, Exploit)
    checks.number("fraction", fraction, above=0, at_most=0.5)
    checks.number("resample", resample, at_least=0, at_most=1)
    require(
        isinstance(factors, tuple | list | np.ndarray) and len(factors) == 2,
        f"factors must be two numbers, such as (0.8, 1.2), got {factors!r}.",
    )
    for factor in factors:
        checks.number("factors", factor, above=0)


def count_members(space: Any, members: int, num_steps: int, interval: int) -> int:
    """Count the members of a space; refuse more than fit into the host's memory."""
    count = spaces.count_members(space, members if spaces.is_random(space) else None)
    exchanges = -(-num_steps // interval)
    each = LOSS_BYTES * num_steps + exchanges * (8 * len(spaces.entries(space)) + 32)
    require_room(
        f"{count} members of space (members={members}) with num_steps={num_steps} and "
        f"interval={interval}",
        count * each,
    )
    return count


def changing(space: dict[str, Any], hparams: Any) -> list[str]:
    """Return the names of the hyperparameters that can change in copies."""

    def changes(axis, values):
        points = axis.options if isinstance(axis, spaces.Choice) else axis.values
        several = points is None or len(np.unique(points)) > 1
        return several and len(values) > 1

    entries = zip(flatten_names(hparams).items(), spaces.entries(space), strict=True)
    return [
        name
        for (name, values), entry in entries
        if spaces.is_axis(entry) and changes(entry, values)
    ]


class PopulationRule(NamedTuple):
    """The arguments by which members copy each other and vary the copies."""

    space: Any
    exploit: Exploit
    fraction: float
    factors: tuple[float, float]
    resample: float
    key: jax.Array

    def rule(self, hparams: Any, num_steps: int, interval: int) -> Rule:
        """Return the rule for the initial hyperparameters; a round is an interval."""
        members = len(jax.tree.leaves(hparams)[0])

        def rule(history):
            steps = min(interval, num_steps - len(history) * interval)
            if not history:
                return _interval(steps, None, hparams, np.arange(members))
            scores = history[-1].scores
            if steps <= 0 or not np.isfinite(scores).any():
                return None
            parents = self.parents(scores, len(history))
            copied = parents != np.arange(members)
            kept = jax.tree.map(lambda leaf: leaf[parents], history[-1].hparams)
            varied = self.explored(kept, copied, len(history))
            return _interval(steps, parents, varied)

        return rule

    def parents(self, scores: np.ndarray, interval: int) -> np.ndarray:
        """Choose the parent of each member; at least one score must be finite."""
        generator = self._generator(interval)
        members, finite = np.arange(len(scores)), np.isfinite(scores)
        if self.exploit == "tournament":
            offsets = generator.integers(1, max(2, len(scores)), len(scores))
            others = (members + offsets) % len(scores)
            parents = np.where(scores[others] < scores, others, members)
            best = members[finite]
        else:
            order = np.argsort(scores, kind="stable")
            few = max(1, int(self.fraction * len(scores)))
            best = order[:few][finite[order[:few]]]
            parents = members.copy()
            if len(scores) > 1:
                parents[order[-few:]] = generator.choice(best, few)
        diverged = ~np.isfinite(scores[parents])
        parents[diverged] = generator.choice(best, int(diverged.sum()))
        return parents

    def explored(self, hparams: Any, copied: np.ndarray, interval: int) -> Any:
        """Vary the hyperparameters of the members that were copied."""
        generator = self._generator(interval + 2**31)
        axes = spaces.entries(self.space)
        values, structure = jax.tree.flatten(hparams)
        varied = []
        for index, (axis, now) in enumerate(zip(axes, values, strict=True)):
            factors = generator.choice(np.asarray(self.factors, np.float32), len(now))
            anew = generator.random(len(now)) < self.resample
            if not spaces.is_axis(axis):
                varied.append(now)
                continue
            key = jax.random.fold_in(jax.random.fold_in(self.key, interval), index)
            drawn = axis.draw(key, len(now))
            moved = np.where(anew, drawn, axis.perturbed(now, factors, key))
            varied.append(np.where(copied, moved, now).astype(now.dtype))
        return jax.tree.unflatten(structure, varied)

    def _generator(self, number: int) -> np.random.Generator:
        words = np.asarray(jax.random.key_data(self.key)).tolist()
        return np.random.default_rng([*words, number])
