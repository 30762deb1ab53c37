"""Workers: one process for each core, which returns the results of its work.

A worker is pinned to its core, so that it measures the times of one core. It compiles
with less optimization by LLVM, which halves the time to compile and does not change the
time of a step. It ends when the process that started it ends or is killed.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import wait
from typing import Any

_FLAGS = (
    "--xla_backend_optimization_level=1 --xla_cpu_multi_thread_eigen=false "
    "--xla_cpu_parallel_codegen_split_count=1"
)


def usable_cores() -> list[int]:
    """Return the cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return sorted(affinity(0)) if affinity else list(range(os.cpu_count() or 1))


def map_unordered(
    function: Callable[[Any], Any], items: Iterable[Any], workers: int
) -> Iterator[tuple[Any, Any]]:
    """Yield (item, function(item)) for every item, in the order of completion.

    Args:
        function: A function of a module, so that another process can import it.
        items: Items that can be pickled; they are started in this order.
        workers: The number of processes.

    Raises:
        RuntimeError: A worker ended before its work was done; its message is on the
            standard error.
    """
    context = multiprocessing.get_context("spawn")
    queue, cores = iter(items), usable_cores()
    busy: dict[Any, Any] = {}
    started = []
    try:
        for index, item in zip(range(workers), queue, strict=False):
            here, there = context.Pipe()
            process = context.Process(
                target=_work, args=(there, function, cores[index % len(cores)])
            )
            process.start()
            started.append((process, here))
            there.close()  # so that `recv` raises when the worker ends
            here.send(item)
            busy[here] = item
        while busy:
            for ready in wait(list(busy)):
                connection: Any = ready
                item = busy.pop(connection)
                try:
                    result = connection.recv()
                except EOFError:
                    raise RuntimeError(
                        f"a worker ended while it had {item!r}; its message is above."
                    ) from None
                following = next(queue, None)
                if following is not None:
                    connection.send(following)
                    busy[connection] = following
                yield item, result
    finally:
        for process, connection in started:
            connection.close()
            if connection in busy:
                process.terminate()
            process.join()


def _work(connection: Any, function: Callable[[Any], Any], core: int) -> None:
    set_affinity = getattr(os, "sched_setaffinity", None)
    if set_affinity:  # before JAX makes its threads
        set_affinity(0, {core})
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAGS}"
    try:
        while True:
            connection.send(function(connection.recv()))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return
