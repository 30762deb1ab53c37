"""Turns: ways to do one thing, measured side by side in one run.

In every round each way takes its turn, so that a slow moment of the machine meets all
of them. The first round, in which things are compiled and warmed up, does not count.
"""

import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

Seconds = dict[str, list[float]]
"""The seconds that each way took, round by round."""


def in_turns(ways: Mapping[str, Callable[[], float]], rounds: int) -> Seconds:
    """Let every way take its turn in every round.

    Args:
        ways: By name; each does its work and gives the seconds it took.
        rounds: How many count.
    """
    seconds: Seconds = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, work in ways.items():
            taken = work()
            if turn > 0:
                seconds[name].append(taken)
    return seconds


def times_as_long(seconds: Seconds, name: str, other: str) -> float:
    """Return the median over the rounds of one way's time by another's."""
    pairs = zip(seconds[name], seconds[other], strict=True)
    return statistics.median(one / base for one, base in pairs)


class Process:
    """A Python process that works when it is told to, and is idle in between.

    PyTorch and XLA each keep a pool of threads, which would compete in one process.
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
        """Have one line of work done, and give the seconds it took.

        Raises:
            RuntimeError: If it has ended; its message is on the standard error.
        """
        try:
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()
            return float(self._process.stdout.readline())
        except (BrokenPipeError, ValueError) as error:
            message = f"the process of {self._module} ended; its message is above."
            raise RuntimeError(message) from error

    def close(self) -> None:
        """Let it end, and wait until it has."""
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def answer(work: Callable[[str], float]) -> None:
    """Do the work of each line on the standard input, and print the seconds it took."""
    for line in sys.stdin:
        print(work(line.rstrip("\n")), flush=True)
