"""Time an optimizer step of adaptax, Optax and PyTorch.

A step is `update` and `apply_updates` in one jitted call, with parameters and state
donated and the gradients as a tree of arguments. If the parameters are packed, the call
also packs the gradients with `adaptax.pack`. For a tree and a method, all ways are
timed once in every round. The table has, for each way,

* the median time of a step, its quartiles, and the medians of the ratios to Optax's
  time and to that of the plain adaptax optimizer;
* the seconds to trace and to compile;
* the bytes per parameter that the compiled program moves, and the share of the memory
  bandwidth that the necessary bytes use: parameters, gradients and state read once,
  parameters and state written once. The bandwidth is measured by adding arrays, in the
  same rounds;
* the bytes per parameter of the state and of scratch memory.

PyTorch needs the extra `peers`; without it, the other ways are measured.
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
from adaptax.bench.shared.arguments import at_least
from adaptax.bench.shared.interleaved import (
    Process,
    Seconds,
    median_ratio,
    time_in_rounds,
)
from adaptax.bench.shared.records import report
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
_SECONDS = 0.1  # of a measurement
_MOST_LEAVES_TO_FLATTEN = 500  # more take minutes to compile


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument(
        "--rounds", type=at_least(1), default=9, help="measurements of each"
    )
    parser.add_argument("--trees", nargs="+", choices=TREES, default=list(TREES))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--smoke", action="store_true", help="a run of seconds")


def run(arguments: argparse.Namespace) -> None:
    """Measure every way in every round, and report."""
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
    """Return a function that measures the seconds to read or write a byte of memory."""
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

    `work()` takes some steps and returns the seconds per step. `facts` has the times to
    trace and compile and the bytes, if known.
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
    """Measure all ways to take a step with a tree and a method.

    Args:
        tree: The name of the tree.
        shapes: The shapes of its leaves.
        name: The name of the method.
        rounds: The number of measurements of each way.
        memory: Returns the seconds for a byte; see `memory_way`.
        torch: The process of PyTorch.

    Returns:
        A row for each way.
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
    seconds = time_in_rounds({**work, _MEMORY: memory}, rounds)
    size = sum(map(prod, shapes))
    return [
        {
            "tree": tree,
            "method": name,
            "way": label,
            **_times(label, seconds),
            **_shares(way.facts, median_ratio(seconds, _MEMORY, label), size),
        }
        for label, way in ways.items()
    ]


def _times(label: str, seconds: Seconds) -> dict[str, Any]:
    low, middle, high = np.quantile(1000 * np.array(seconds[label]), (0.25, 0.5, 0.75))
    ratio = median_ratio(seconds, label, THEIRS) if THEIRS in seconds else ""
    return {
        "ms": float(middle),
        "quartiles": f"{low:.3g} to {high:.3g}",
        "ratio_to_optax": ratio,
        "ratio_to_adaptax": median_ratio(seconds, label, OURS),
    }


def _shares(facts: dict[str, Any], byte: float, size: int) -> dict[str, Any]:
    """Return bytes per parameter; `byte` is the time of a byte by that of the step."""
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
    """Take steps of an ordinary tree of parameters."""
    return _way(optimizer, _zeros(shapes), shapes, lambda gradients: gradients)


def _packed_way(optimizer: optax.GradientTransformation, shapes: Shapes) -> Way:
    """Take steps of packed parameters; a step includes packing the gradients."""
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

    return Way(_for_equal_times(take), facts)


def _gradients(shapes: Shapes) -> list[jax.Array]:
    generator = np.random.default_rng(0)
    return [
        jnp.asarray(0.01 * generator.standard_normal(shape, np.float32))
        for shape in shapes
    ]


def _torch_way(torch: Process, shapes: Shapes, name: str, kind: str) -> Way:
    def take(steps):
        return torch.work(json.dumps([shapes, name, kind, steps])) / steps

    return Way(_for_equal_times(take), {})


def _for_equal_times(take: Callable[[int], float]) -> Callable[[], float]:
    """Return a function that takes steps for about `_SECONDS`, and times them.

    Before them it takes a fifth as many steps, untimed: the first steps after another
    way are slower, because that has filled the caches.
    """
    steps: list[int] = []

    def work():
        if not steps:
            take(1)
            steps.append(max(1, min(1000, round(_SECONDS / take(3)))))
        take(max(1, steps[0] // 5))
        return take(steps[0])

    return work
