"""Time an optimizer step, adaptax beside Optax and PyTorch.

A step is `update` and `apply_updates` in one jitted call that is given parameters and
state to reuse their memory, and gradients as a tree of arguments: `adaptax.pack`, where
the parameters are packed, packs the gradients in it. All ways of a tree and a method
take turns. Reported are, for each,

* the median time of a step, its quartiles, and the median of the ratios to Optax's and
  to that of adaptax without anything around it;
* the seconds to trace and to compile;
* the bytes a parameter that the compiled program moves, and the share of the memory's
  bandwidth that is used if only the bytes that must be moved are counted: parameters,
  gradients and state read once, parameters and state written once. The bandwidth is
  that of sums of arrays, which take their turn as well;
* the bytes a parameter of the state, and of scratch memory.

PyTorch comes with the extra `peers`; without it the rest is measured.
"""

import argparse
import importlib.util
import json
import time
from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib

import adaptax
from adaptax._core import checks
from adaptax.bench.shared.records import report
from adaptax.bench.shared.turns import Process, Seconds, in_turns, times_as_long
from adaptax.bench.speed.methods import METHODS
from adaptax.bench.speed.report import (
    FLAT,
    OURS,
    PACKED,
    PACKED_PARAMS,
    THEIRS,
    write_report,
)
from adaptax.bench.speed.torch import PEERS
from adaptax.bench.speed.trees import TREES, Shapes

_MEMORY = "memory"
_TURN = 0.1  # seconds
_MOST_LEAVES_TO_FLATTEN = 500  # more take minutes to compile


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--rounds", type=int, default=9, help="turns that each takes")
    parser.add_argument("--trees", nargs="+", choices=TREES, default=list(TREES))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--smoke", action="store_true", help="a run of seconds")


def run(arguments: argparse.Namespace) -> None:
    """Measure every way in turns, and report."""
    checks.length("rounds", arguments.rounds)
    rounds, trees, methods = arguments.rounds, arguments.trees, arguments.methods
    if arguments.smoke:
        rounds, trees, methods = 1, ["400 x (16,)"], ["adam"]
    torch = None
    if importlib.util.find_spec("torch"):
        torch = Process("adaptax.bench.speed.torch")
    memory, rows = memory_way(), []
    for tree in trees:
        for method in methods:
            rows += measure(tree, TREES[tree](), method, rounds, memory, torch)
            print(f"{tree}, {method}: measured", flush=True)
    if torch is not None:
        torch.close()
    report("speed", rows, arguments.out)
    if arguments.out is not None:
        write_report(rows, arguments.out)


def memory_way() -> Callable[[], float]:
    """Make the turn of the memory, which gives the seconds that it takes for a byte."""
    parts, length = 10, 2_000_000

    @partial(jax.jit, donate_argnums=0)
    def add(totals, others):
        return jax.tree.map(jnp.add, totals, others)

    others = [jnp.ones(length) for _ in range(parts)]
    totals = [jnp.zeros(length) for _ in range(parts)]

    def work():
        start = time.perf_counter()
        for _ in range(10):
            totals[:] = add(totals, others)
        jax.block_until_ready(totals)
        return (time.perf_counter() - start) / (10 * 3 * 4 * parts * length)

    return work


class Way(NamedTuple):
    """A way to take a step.

    `work()` takes some steps and gives the seconds that one took; `facts` are what is
    known of it beside the time.
    """

    work: Callable[[], float]
    facts: dict[str, Any]


def measure(
    tree: str,
    shapes: Shapes,
    name: str,
    rounds: int,
    memory: Callable[[], float],
    torch: Process | None,
) -> list[dict[str, Any]]:
    """Measure all ways of a tree and a method.

    Args:
        tree: Its name.
        shapes: Those of its leaves.
        name: The method's.
        rounds: How many turns each way takes.
        memory: A turn that gives the seconds for a byte; see `memory_way`.
        torch: The process of PyTorch.

    Returns:
        A row for each.
    """
    method = METHODS[name]
    forms = {OURS: method.ours, **method.more}
    ways = {label: _tree_way(make(), shapes) for label, make in forms.items()}
    if len(shapes) > 1:
        ways[PACKED] = _tree_way(adaptax.packed(method.ours()), shapes)
        ways[PACKED_PARAMS] = _packed_way(method.ours(), shapes)
    if method.theirs is not None:
        ways[THEIRS] = _tree_way(method.theirs(), shapes)
        if len(shapes) <= _MOST_LEAVES_TO_FLATTEN and name == "adam":
            ways[FLAT] = _tree_way(optax.flatten(method.theirs()), shapes)
    if torch is not None:
        for kind in PEERS.get(name, ()):
            ways[f"torch, {kind}"] = _torch_way(torch, shapes, name, kind)
    work = {label: way.work for label, way in ways.items()}
    seconds = in_turns({**work, _MEMORY: memory}, rounds)
    size = sum(map(prod, shapes))
    return [
        {
            "tree": tree,
            "method": name,
            "way": label,
            **_times(label, seconds),
            **_shares(way.facts, times_as_long(seconds, _MEMORY, label), size),
        }
        for label, way in ways.items()
    ]


def _times(label: str, seconds: Seconds) -> dict[str, Any]:
    low, middle, high = np.quantile(1000 * np.array(seconds[label]), (0.25, 0.5, 0.75))
    ratio = times_as_long(seconds, label, THEIRS) if THEIRS in seconds else ""
    return {
        "ms": float(middle),
        "quartiles": f"{low:.3g} to {high:.3g}",
        "ratio_to_optax": ratio,
        "ratio_to_adaptax": times_as_long(seconds, label, OURS),
    }


def _shares(facts: dict[str, Any], byte: float, size: int) -> dict[str, Any]:
    """Count bytes a parameter; `byte` is the time of one as a part of the step's."""
    if not facts:
        return dict.fromkeys(
            ("trace_s", "compile_s", "moved", "state", "scratch", "bandwidth"), ""
        )
    needed = 12 * size + 2 * facts["state_bytes"]
    return {
        "trace_s": facts["trace_s"],
        "compile_s": facts["compile_s"],
        "moved": facts["moved_bytes"] / size,
        "state": facts["state_bytes"] / size,
        "scratch": facts["scratch_bytes"] / size,
        "bandwidth": needed * byte,
    }


def _tree_way(optimizer: optax.GradientTransformation, shapes: Shapes) -> Way:
    """Take steps of a tree of parameters, as everyone does."""
    return _way(optimizer, _zeros(shapes), shapes, lambda gradients: gradients)


def _packed_way(optimizer: optax.GradientTransformation, shapes: Shapes) -> Way:
    """Take steps of packed parameters; packing the gradients is a part of it."""
    params = adaptax.pack(_zeros(shapes))
    return _way(optimizer, params, shapes, partial(adaptax.pack, like=params))


def _zeros(shapes: Shapes) -> list[jax.Array]:
    return [jnp.zeros(shape) for shape in shapes]


def _way(
    optimizer: optax.GradientTransformation,
    params: Any,
    shapes: Shapes,
    gather: Callable[[Any], Any],
) -> Way:
    tx = optax.with_extra_args_support(optimizer)

    def step(params, state, gradients, loss):
        gradients = gather(gradients)
        updates, state = tx.update(gradients, state, params, value=loss)
        return optax.apply_updates(params, updates), state

    gradients, loss = _gradients(shapes), jnp.float32(1)
    carried = [params, jax.jit(tx.init)(params)]
    start = time.perf_counter()
    lowered = jax.jit(step, donate_argnums=(0, 1)).lower(*carried, gradients, loss)
    traced = time.perf_counter()
    compiled = lowered.compile()
    done = time.perf_counter()
    analysis: Any = compiled.cost_analysis()
    state_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(carried[1]))
    memory = compiled.memory_analysis()
    facts = {
        "trace_s": traced - start,
        "compile_s": done - traced,
        "moved_bytes": analysis["bytes accessed"],
        "state_bytes": state_bytes,
        "scratch_bytes": memory.temp_size_in_bytes if memory else float("nan"),
    }

    def take(steps):
        start = time.perf_counter()
        for _ in range(steps):
            carried[:] = compiled(*carried, gradients, loss)
        jax.block_until_ready(carried)
        return (time.perf_counter() - start) / steps

    return Way(_in_turns_of_equal_length(take), facts)


def _gradients(shapes: Shapes) -> list[jax.Array]:
    generator = np.random.default_rng(0)
    return [
        jnp.asarray(0.01 * generator.standard_normal(shape, np.float32))
        for shape in shapes
    ]


def _torch_way(torch: Process, shapes: Shapes, name: str, kind: str) -> Way:
    def take(steps):
        return torch.work(json.dumps([shapes, name, kind, steps])) / steps

    return Way(_in_turns_of_equal_length(take), {})


def _in_turns_of_equal_length(take: Callable[[int], float]) -> Callable[[], float]:
    """Choose the steps of a turn by the time that a few take.

    A fifth more come first and do not count: the steps after another way's turn are
    slower, the more memory that took.
    """
    steps: list[int] = []

    def work():
        if not steps:
            take(1)
            steps.append(max(1, min(1000, round(_TURN / take(3)))))
        take(max(1, steps[0] // 5))
        return take(steps[0])

    return work
