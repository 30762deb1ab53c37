"""Plans: how the members of a population are distributed over time and hardware."""

from typing import NamedTuple

from jax.sharding import Mesh


class Plan(NamedTuple):
    """A way to run a population.

    `width` members are vectorized in one `vmap`. Each of the `workers` loops over such
    groups: they are threads without a mesh, devices with one.
    """

    width: int
    workers: int

    def __str__(self) -> str:
        """Return the plan in words."""
        how = "one by one" if self.width == 1 else f"{self.width} side by side"
        return how if self.workers == 1 else f"{how}, {self.workers} at once"

    def worker_length(self, members: int) -> int:
        """Return the number of places of a worker, a multiple of the width."""
        share = -(-members // self.workers)
        return -(-share // self.width) * self.width

    def fitted(self, members: int, mesh: Mesh | None) -> "Plan":
        """Return the plan for fewer members, without idle workers or empty columns."""
        workers = self.workers if mesh is not None else min(self.workers, members)
        return Plan(min(self.width, -(-members // workers)), workers)
