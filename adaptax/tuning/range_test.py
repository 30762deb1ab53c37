"""The finder in any loop: a range test that receives the losses of the user's steps.

    step i:  train with η_i, then report the loss before the step        i = 0 … n−1

The rates, the reading and the result are those of `find_learning_rate`. The test ends
early when the loss has diverged: as soon as `range_tests` finds that it fell and
diverged, or by the rule of all tools, after 20 consecutive bad losses. That changes no
suggestion, unless the loss would have fallen below its lowest value later.
"""

from collections.abc import Iterator
from typing import Any, Self

import jax
import numpy as np
from jax.core import Tracer

from adaptax._core import memory
from adaptax._core.checks import require
from adaptax._core.extra_args import as_metric
from adaptax.tuning.analysis.range_tests import is_over
from adaptax.tuning.finder import (
    LEAST_STEPS,
    READING_BYTES,
    FinderResult,
    Mode,
    checked_steps,
    rates_between,
    result_of,
    smoothing_of,
)
from adaptax.tuning.running.divergence import PATIENCE, judged

_LOOKS = 100  # at the losses so far, which takes a time that grows with their number


class RangeTest(Iterator[float]):
    """A range test under way; see `range_test`, which makes one."""

    def __init__(
        self, rates: np.ndarray, mode: Mode, smoothing: float, divergence: float
    ):
        """Start with the first rate.

        Args:
            rates: The rates, float32 (steps,).
            mode: See `range_test`, as for the arguments below.
            smoothing: A number.
            divergence: A number.
        """
        self._rates, self._mode = rates, mode
        self._smoothing, self._divergence = smoothing, divergence
        self._losses = np.full(len(rates), np.nan, np.float32)
        self._steps = 0
        self._unread: jax.Array | None = None  # the last loss, maybe not computed yet
        self._waiting = False  # for the loss of the rate that was given last
        self._diverged = False

    def __iter__(self) -> Self:
        """Continue: a rate whose loss was not reported is given again."""
        self._waiting = False
        return self

    def __next__(self) -> float:
        """Return the rate of the next step, a Python float that is exact in float32.

        Raises:
            ValueError: If the loss of the last rate was not reported.
        """
        require(
            not self._waiting,
            f"the loss at the rate {self._rate():.3g} is missing: call tell(loss) once "
            "after each step.",
        )
        if self._diverged or self._steps == len(self._rates):
            raise StopIteration
        self._waiting = True
        return self._rate()

    def tell(self, loss: Any) -> None:
        """Report the loss of the step with the last rate.

        A JAX array is read one call later, so that the device need not wait for the
        host between steps.

        Args:
            loss: The loss before the step, a real scalar; it need not be finite. On
                several hosts it must be the same on all.

        Raises:
            ValueError: If no rate was given since the last loss, or it is not a scalar.
            TypeError: If it is not a real number, or is traced.
        """
        require(
            self._waiting,
            "tell(loss) must be called once after each rate, and no rate was given "
            f"since the {self._steps} losses so far. Call it inside of the loop over "
            "the test.",
        )
        if isinstance(loss, Tracer):
            raise TypeError(
                "loss must have a value, got a traced one: return the loss from the "
                "jitted step, and call tell(loss) outside."
            )
        loss = as_metric("loss", loss)
        self._read()
        self._waiting = False
        if self._ends():
            self._diverged = True  # this loss, of a step begun before, is left out
            return
        self._unread = loss
        self._steps += 1

    def result(self) -> FinderResult:
        """Return what `find_learning_rate` would for these losses.

        Losses after an early end are NaN. If the loop was left by `break`, it is the
        result of a test up to that rate. `about` has no seeds, plan and times.

        Raises:
            ValueError: If there are fewer than 10 losses.
        """
        require(
            self._steps >= LEAST_STEPS,
            f"result() needs at least {LEAST_STEPS} losses, got {self._steps}: take a "
            "step with each rate of the test, and call tell(loss) after it.",
        )
        self._read()
        # A loop is also left where the loss is no longer finite: that is no short test.
        ended = self._diverged or not np.isfinite(self._losses[self._steps - 1])
        steps = len(self._rates) if ended else self._steps
        about = {"name": "learning_rate", "mode": self._mode}
        reading = self._smoothing, self._divergence, about
        return result_of(self._rates[:steps], self._losses[None, :steps], *reading)

    def __repr__(self) -> str:
        """Return the range, and how far the test is."""
        low, high, steps = self._rates[0], self._rates[-1], len(self._rates)
        state = ", diverged" if self._diverged else ""
        return (
            f"<RangeTest {low:.3g} to {high:.3g}: {self._steps}/{steps} steps{state}>"
        )

    def _rate(self) -> float:
        return float(self._rates[min(self._steps, len(self._rates) - 1)])

    def _read(self) -> None:
        """Read the last loss, for which its step must end."""
        if self._unread is None:
            return
        if self._unread.is_deleted():
            raise ValueError(
                f"the loss at the rate {self._rates[self._steps - 1]:.3g} was donated "
                "to the next step before it was read: call tell(float(loss))."
            )
        self._losses[self._steps - 1] = np.asarray(self._unread)
        self._unread = None

    def _ends(self) -> bool:
        """Return whether the losses that were read have diverged."""
        if self._steps == 0 or self._steps % max(1, len(self._rates) // _LOOKS):
            return False
        losses = self._losses[: self._steps]
        if judged(losses[None])[1][0] >= PATIENCE:
            return True
        return is_over(losses, len(self._rates), self._smoothing, self._divergence)


def range_test(
    low: float = 1e-7,
    high: float = 10.0,
    num_steps: int = 100,
    *,
    mode: Mode = "exponential",
    smoothing: float | None = None,
    divergence: float = 4.0,
) -> RangeTest:
    """Start a range test in a training loop of your own.

    Iterate over it for the rates, train one step with each, and report its loss by
    `tell`; `result()` is the result of `find_learning_rate`. The rates are Python
    floats: set them by `set_learning_rate`, or pass them to a jitted step as an
    argument. A step that reads the rate from elsewhere would be compiled with the first
    one.

    The loop ends after `num_steps`, or when the loss has diverged, which shows one step
    later. Another loop over the same test continues where the last one ended.

    Args:
        low: The first rate, > 0.
        high: The last rate, > low.
        num_steps: Steps n >= 10. In fewer than 100 the loss has little time to fall.
        mode: "exponential" or "linear", see `find_learning_rate`.
        smoothing: See `find_learning_rate`.
        divergence: See `find_learning_rate`.

    Raises:
        ValueError: If an argument is out of range.

    >>> import jax.numpy as jnp
    >>> import adaptax
    >>> w, curvature = jnp.ones(3), jnp.array([10.0, 5.0, 1.0])
    >>> test = adaptax.range_test(1e-4, 10.0)
    >>> for rate in test:
    ...     test.tell(0.5 * jnp.sum(curvature * w**2))
    ...     w = w - rate * curvature * w
    >>> test
    <RangeTest 0.0001 to 10: 83/100 steps, diverged>
    >>> test.result().status, 0.02 < test.result().suggestion < 0.2
    ('ok', True)
    """
    num_steps = checked_steps(low, high, num_steps, mode, smoothing, divergence)
    memory.require_room(f"num_steps={num_steps}", READING_BYTES * num_steps)
    rates = rates_between(low, high, num_steps, mode)
    return RangeTest(rates, mode, smoothing_of(num_steps, smoothing), divergence)
