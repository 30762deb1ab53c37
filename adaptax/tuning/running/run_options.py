"""Run options: the arguments that every tool has."""

from os import PathLike
from typing import Any, NamedTuple

from jax.sharding import Mesh

from adaptax._core import tool_checks
from adaptax.tuning.running.planning import Strategy, require_strategy
from adaptax.tuning.storage.checkpoints import require_folder


class RunOptions(NamedTuple):
    """The last arguments of every tool, see `sweep`, and the code of the call."""

    key: Any
    strategy: Strategy
    mesh: Mesh | None
    checkpoint: str | PathLike[str] | None
    progress: bool
    call: str = ""

    def checked(self) -> "RunOptions":
        """Check the arguments, and return them with a typed random key."""
        key = tool_checks.key("key", self.key)
        require_mesh(self.mesh)
        require_strategy(self.strategy, None)  # a resumed run has its checkpoint's plan
        progress = tool_checks.flag("progress", self.progress)
        if self.checkpoint is not None:
            require_folder(self.checkpoint)
        return self._replace(key=key, progress=progress)


def require_mesh(mesh: Any) -> None:
    """Check that an argument is a mesh of devices, or `None`."""
    if mesh is not None and not isinstance(mesh, Mesh):
        raise TypeError(
            f"mesh must be a jax.sharding.Mesh or None, got {mesh!r}. Make one with "
            'jax.make_mesh((jax.device_count(),), ("members",)).'
        )
