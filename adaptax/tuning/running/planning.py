"""Planning: find the fastest plan for a population that fits into memory, by trying.

Vectorizing is fastest for tiny networks and on accelerators, training one by one for
larger networks on a CPU. Plans are timed for a few steps, until trying another one
would take longer than the run itself.
"""

import os
import time
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from adaptax._core import checks, memory
from adaptax._core.checks import require
from adaptax.tuning.running.execution import Population
from adaptax.tuning.running.loading import at_step
from adaptax.tuning.running.plans import Plan
from adaptax.tuning.running.programs import BEGIN, BUFFER, Programs, types_of
from adaptax.tuning.running.tracing import traced
from adaptax.tuning.trials.training import Shared

LOSS_BYTES = 12
"""The memory that a tool needs for each loss, with temporary copies."""

Strategy = Literal["auto", "vmap", "map"] | int | Plan
"""`"auto"`, `"vmap"`, `"map"`, the number of members to vectorize over, or a plan."""

_COPIES = 3  # of the states: before a call, after it, and one being saved or replaced

_TURNS = 6  # at most, to measure plans again
_CLOSE = 2.0  # times the seconds of the best plan: slower ones are not measured again
_WORTH = 0.03  # of the time of the run, for measuring again


class Planned(NamedTuple):
    """A plan, and the seconds per member and step of each plan that was tried.

    `chunk` is the number of members to train together, and `fitting` the number that
    would fit into memory.
    """

    plan: Plan
    chunk: int
    tried: dict[Plan, float]
    fitting: int

    def chunk_of(self, members: int) -> int:
        """Return the number of members to train together, of a round with so many.

        Fewer members than `chunk` use its program, which is compiled.
        """
        if members <= self.chunk:
            return self.chunk
        return _balanced(members, self.fitting)


def usable_workers(mesh: Mesh | None) -> int:
    """Return how many loops can run at once: the devices of a mesh, or the CPU cores.

    Without a mesh, an accelerator runs one.
    """
    if mesh is not None:
        return mesh.size
    if jax.default_backend() != "cpu":
        return 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def require_strategy(strategy: Any, mesh: Mesh | None) -> None:
    """Check that a strategy is valid for the mesh."""
    if isinstance(strategy, Plan):
        checks.length("width", strategy.width)
        checks.length("workers", strategy.workers)
        require(
            mesh is None or strategy.workers == mesh.size,
            "a plan's workers must be the devices of the mesh, "
            f"{usable_workers(mesh)}, got {strategy.workers}.",
        )
    elif isinstance(strategy, int) and not isinstance(strategy, bool):
        require(strategy >= 1, f"strategy must be >= 1 members, got {strategy}.")
    else:
        require(
            isinstance(strategy, str) and strategy in ("auto", "vmap", "map"),
            'strategy must be "auto", "vmap", "map" or a number of members, '
            f"got {strategy!r}.",
        )


def make_plan(
    programs: Programs, strategy: Strategy, hparams: Any, seeds: Any, num_steps: int
) -> Planned:
    """Choose a plan for a population.

    Args:
        programs: The programs of the trial.
        strategy: "vmap" vectorizes over all members, "map" runs them one by one on
            every core, a number vectorizes over so many, "auto" tries.
        hparams: The members' hyperparameters, with a leading axis.
        seeds: The members' seeds, of shape (members,).
        num_steps: The length of the run.

    Raises:
        ValueError: If the strategy is none of these, a plan does not match the mesh, or
            not even one member fits into memory.
    """
    members, mesh = len(seeds), programs.mesh
    require_strategy(strategy, mesh)
    workers = usable_workers(mesh)
    fit = int(_agreed(members_that_fit(programs, hparams, seeds)))
    chunk = _balanced(members, fit)
    share = -(-chunk // workers)
    side_by_side = Plan(chunk, 1) if mesh is None else Plan(share, workers)
    if isinstance(strategy, Plan):
        return Planned(strategy, chunk, {}, fit)
    if isinstance(strategy, int):
        return Planned(Plan(strategy, workers), chunk, {}, fit)
    if strategy == "vmap":
        return Planned(side_by_side, chunk, {}, fit)
    if strategy == "map":
        return Planned(Plan(1, workers), chunk, {}, fit)
    widths = (1, 8, share) if jax.default_backend() == "cpu" else (share, 32, 1)
    candidates = [Plan(min(width, share), workers) for width in widths]
    candidates += [side_by_side, Plan(1, 1)] if mesh is None else []
    candidates = list(dict.fromkeys(candidates))
    hparams = jax.tree.map(lambda leaf: np.asarray(leaf)[:chunk], hparams)
    work = num_steps * members
    tried = _try(programs, candidates, hparams, np.asarray(seeds)[:chunk], work)
    return Planned(min(tried, key=lambda plan: tried[plan]), chunk, tried, fit)


def _balanced(members: int, fitting: int) -> int:
    """Return the size of the fewest chunks of equal size."""
    return -(-members // -(-members // min(members, fitting)))


def members_that_fit(programs: Programs, hparams: Any, seeds: Any) -> int:
    """Estimate how many members fit into the free memory at once."""
    needed = _COPIES * state_bytes(programs, hparams, seeds) + 4 * BUFFER
    free = memory.SHARE * free_bytes()
    if programs.mesh is not None:
        free *= programs.mesh.size if jax.default_backend() != "cpu" else 1
    require(
        needed <= free,
        f"a single member needs about {needed / 2**20:.0f} MiB, and only "
        f"{free / 2**20:.0f} MiB may be used. Train a smaller model.",
    )
    return int(free // needed)


def state_bytes(programs: Programs, hparams: Any, seeds: Any) -> int:
    """Return the size of one member's state in bytes."""
    states = first_state(programs, hparams, seeds)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(states))


def first_state(programs: Programs, hparams: Any, seeds: Any) -> Any:
    """Return the types of the state of the first member, with an axis of members.

    Raises:
        ValueError: If the value of a hyperparameter, or of another traced array, is
            needed.
    """
    hparams, seeds = jax.tree.map(lambda leaf: np.asarray(leaf)[:1], (hparams, seeds))
    data = types_of(programs.host_data)
    begin = programs.function(BEGIN, 1)

    def state_shapes(hparams):
        return jax.eval_shape(begin, hparams, seeds, programs.key_data, data)

    def replay(hparams, data):
        step = jnp.int32(0)
        extra = {} if data is None else {"shared": Shared(at_step(data, step), step)}
        return programs.trial.init(hparams, jax.random.key(0), **extra)

    return traced(state_shapes, hparams, replay, (data,))


def require_room(what: str, needed: int) -> None:
    """Refuse an allocation that the host has no memory for, equally in all processes.

    Args:
        what: The subject of the message, in the plural, with the arguments' names.
        needed: The bytes of a tool's arrays, without the states.

    Raises:
        ValueError: If they do not fit.
    """
    memory.require_room(what, needed, _agreed(memory.host_bytes()))


def fit_together(what: str, members: int, fitting: int) -> None:
    """Check that members which must be in memory together fit.

    Raises:
        ValueError: If they do not fit.
    """
    require(
        members <= fitting,
        f"{members} {what} do not fit into memory together, about {fitting} would. "
        "Use fewer, or distribute them over more devices with mesh=.",
    )


def free_bytes() -> float:
    """Return the free memory of the accelerator, or of the host."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in statistics:
        return statistics["bytes_limit"] - statistics.get("bytes_in_use", 0)
    return memory.host_bytes()


def _try(
    programs: Programs, candidates: list[Plan], hparams: Any, seeds: Any, work: int
) -> dict[Plan, float]:
    """Measure the seconds per member and step of plans, while it is worth the time.

    Other work on the machine comes in bursts, which last longer than a measurement. So
    the plans that are close to the best are measured again in turns.
    """
    tried: dict[Plan, float] = {}
    measuring, start = 0.0, time.perf_counter()

    def measure(plan: Plan) -> None:
        nonlocal measuring
        population = Population(programs, plan, hparams, seeds)
        if plan.width > 1 and population.scratch_bytes() > memory.SHARE * free_bytes():
            return
        if plan.width == 1:  # a few members are enough
            population.alive[4 * plan.workers :] = False
        population.advance(1)
        begin = time.perf_counter()
        seconds = min(_seconds(population) for _ in range(3))
        measuring += _agreed(time.perf_counter() - begin)
        tried[plan] = min(seconds, tried.get(plan, seconds))

    for plan in candidates:
        measure(plan)
        spent = _agreed(time.perf_counter() - start)
        if tried and min(tried.values()) * work < spent / len(tried):
            break
    for _ in range(_TURNS):
        best = min(tried.values())
        close = [plan for plan, seconds in tried.items() if seconds < _CLOSE * best]
        if len(close) == 1 or measuring > _WORTH * best * work:
            break
        for plan in close:
            measure(plan)
    return tried


def _seconds(population: Population) -> float:
    alive = max(1, int(population.alive.sum()))
    steps, taken = 1, 0.0
    while taken < 0.02 and steps < BUFFER:
        steps *= 2
        start = time.perf_counter()
        population.advance(steps)
        taken = _agreed(time.perf_counter() - start)
    return taken / steps / alive


def _agreed(measured: float) -> float:
    """Return the first process's measurement, so that all decide alike."""
    if jax.process_count() == 1:
        return measured
    return float(multihost_utils.broadcast_one_to_all(np.float32(measured)))
