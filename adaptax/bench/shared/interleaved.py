"""Interleaved timing: several ways to do one thing, measured in one run.

Every round times each way once, so that a temporary slowdown of the machine affects all
of them. The first round compiles and warms up, and does not count.
"""

import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

Seconds = dict[str, list[float]]
"""The seconds of each way in every round."""


def time_in_rounds(ways: Mapping[str, Callable[[], float]], rounds: int) -> Seconds:
    """Time every way once in every round.

    Args:
        ways: Functions by name; each does its work and returns the seconds it took.
        rounds: The number of rounds that count.
    """
    seconds: Seconds = {name: [] for name in ways}
    for index in range(rounds + 1):
        for name, work in ways.items():
            taken = work()
            if index > 0:
                seconds[name].append(taken)
    return seconds


def median_ratio(seconds: Seconds, name: str, other: str) -> float:
    """Return the median over the rounds of the time of `name` by that of `other`."""
    pairs = zip(seconds[name], seconds[other], strict=True)
    return statistics.median(one / base for one, base in pairs)


class Process:
    """A Python process that works on request, and is idle in between.

    PyTorch and XLA each have a pool of threads, which would compete in one process.
    """

    def __init__(self, module: str, *arguments: str):
        """Start `python -m module arguments`, which calls `answer`."""
        self._module = module
        self._process: Any = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def work(self, line: str) -> float:
        """Have the process do the work of one line, and return the seconds it took.

        Raises:
            RuntimeError: The process ended; its message is on the standard error.
        """
        try:
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()
            return float(self._process.stdout.readline())
        except (BrokenPipeError, ValueError) as error:
            message = f"the process of {self._module} ended; its message is above."
            raise RuntimeError(message) from error

    def close(self) -> None:
        """End the process, and wait for it."""
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def answer(work: Callable[[str], float]) -> None:
    """Do the work of each line on the standard input, and print the seconds it took."""
    for line in sys.stdin:
        print(work(line.rstrip("\n")), flush=True)
