"""Conventions of plateau schedulers: what improves, what is ignored, when to cut.

`reduce_on_plateau` lists how they differ. Evaluations are as minimized here. Faults are
reproduced: if the best is negative, (1 − θ) best is above it, so that an evaluation may
improve on it by being worse.
"""

from dataclasses import dataclass
from typing import Literal

import jax

from adaptax._core import checks, metrics
from adaptax._core.checks import Scalar, require
from adaptax._core.metrics import UNSEEN, Mode, ThresholdMode, bounded, whole
from adaptax._core.scalars import real

Convention = Literal["adaptax", "torch", "keras", "optax"]


@dataclass(frozen=True)
class Conventions:
    """The decisions in which the libraries differ, as one of them makes them."""

    name: Convention
    mode: Mode
    threshold_mode: ThresholdMode

    def improves(
        self, mean: jax.Array, best: jax.Array, threshold: Scalar
    ) -> jax.Array:
        """Return whether an evaluation is better than the best by enough."""
        if self.threshold_mode == "absolute" or self.name == "adaptax":
            return metrics.improves(mean, best, threshold, self.threshold_mode)
        upward = self.name == "torch" and self.mode == "max"
        margin = real(threshold) * (-best if upward else best)
        return (best == UNSEEN) | (mean < bounded(best - margin))

    def cools(self, cooling: jax.Array, left: jax.Array) -> jax.Array:
        """Return whether an evaluation is ignored.

        Args:
            cooling: The evaluations to ignore, this one included.
            left: Those after this one.
        """
        return (left if self.name == "keras" else cooling) > 0

    def fires(self, bad: jax.Array, patience: Scalar, cooling: jax.Array) -> jax.Array:
        """Return whether so many evaluations without improvement cause a cut."""
        if self.name == "keras":
            return (bad > 0) & (bad >= whole(patience))
        if self.name == "optax":
            return ~cooling & (bad == whole(patience))
        return bad > whole(patience)


def conventions(
    convention: Convention, mode: Mode, threshold_mode: ThresholdMode | None
) -> Conventions:
    """Check the arguments of `reduce_on_plateau` that choose them, and return them.

    Without a `threshold_mode`, Keras has absolute thresholds and the others relative
    ones.
    """
    if threshold_mode is None:
        threshold_mode = "absolute" if convention == "keras" else "relative"
    checks.one_of("threshold_mode", threshold_mode, ThresholdMode)
    checks.one_of("mode", mode, Mode)
    checks.one_of("convention", convention, Convention)
    require(
        (convention, threshold_mode) != ("keras", "relative"),
        "threshold_mode must be 'absolute' where convention is 'keras': Keras has no "
        "relative threshold.",
    )
    return Conventions(convention, mode, threshold_mode)
