"""Tool runs: planning, progress, saving and resuming, for every tool."""

import dataclasses
import time
from collections.abc import Callable, Iterable
from os import PathLike
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from adaptax.tuning.results import ToolResult
from adaptax.tuning.running.acting import require_acting
from adaptax.tuning.running.inner_schedules import InnerSchedules
from adaptax.tuning.running.planning import (
    Planned,
    Strategy,
    first_state,
    make_plan,
    usable_workers,
)
from adaptax.tuning.running.plans import Plan
from adaptax.tuning.running.processes import failing_alike, from_each, require_alike
from adaptax.tuning.running.programs import TRAIN, Programs
from adaptax.tuning.running.progress import Progress
from adaptax.tuning.running.rescue import Rescue
from adaptax.tuning.running.run_options import RunOptions
from adaptax.tuning.running.termination import EXIT_CODE, Termination
from adaptax.tuning.scores import Mode, require_mode
from adaptax.tuning.storage import digests
from adaptax.tuning.storage.checkpoints import Checkpoint, Checkpoints
from adaptax.tuning.storage.named_arrays import (
    flatten_names,
    from_arrays,
    group,
    named_like,
    prefixed,
    to_arrays,
)
from adaptax.tuning.trials.trials import Trial

AnyResult = TypeVar("AnyResult", bound=ToolResult)


class ToolRun:
    """One run of a tool, from its first step or from a checkpoint.

    It is a context manager. `resumed` is the checkpoint to resume from, or `None`;
    `hparams` are those of some members.
    """

    def __init__(
        self,
        tool: str,
        trial: Trial,
        hparams: Any,
        options: RunOptions,
        *,
        total: int,
        about: dict[str, Any],
        mode: Mode = "min",
    ):
        """Look for a checkpoint, without compiling anything.

        Args:
            tool: The name of the tool.
            trial: The trial of the members.
            hparams: The hyperparameters of some or all members, with a leading axis.
            options: The common arguments of all tools.
            total: The steps of all members together.
            about: The arguments that determine the results: arrays, numbers and text.
            mode: Whether evaluations are minimized or maximized.
        """
        require_mode(mode, trial)
        about = {"mode": mode, **about}
        self.mode: Mode = mode
        key, strategy, mesh, checkpoint, progress, self._call = options.checked()
        self.programs = Programs(trial, key, mesh)
        self._strategy: Strategy = strategy
        self.started, self._rescue = time.perf_counter(), None
        self.checkpoints: Checkpoints | None = None
        self.resumed: Checkpoint | None = None
        try:
            self._find(checkpoint, {"tool": tool, **about}, hparams)
        except BaseException:
            self.programs.close()
            raise
        self._progress = Progress(progress, tool, total)
        self._termination = Termination(enabled=checkpoint is not None)
        self.hparams, self._total, self._done = hparams, total, 0
        self._step = 0 if self.resumed is None else self.resumed.step

    def _find(
        self, checkpoint: str | PathLike[str] | None, facts: Any, hparams: Any
    ) -> None:
        """Look for a checkpoint of this run, which all processes must have alike."""
        several, saves = jax.process_count() > 1, checkpoint is not None
        if not (several or saves):
            return
        with failing_alike():
            run = digests.of_run(self.programs, hparams, facts)
        if several:
            mesh = self.programs.mesh
            devices = mesh and [device.id for device in mesh.devices.flat]
            how = {"strategy": str(self._strategy), "mesh": devices, "saves": saves}
            require_alike({**run, **how})
        if checkpoint is not None:
            self._open(checkpoint, run)

    def _open(self, folder: str | PathLike[str], run: dict[str, Any]) -> None:
        self.checkpoints = checkpoints = Checkpoints(folder, run)
        try:
            self.resumed = checkpoints.latest()
        except BaseException:
            checkpoints.close()
            raise
        if (reader := self.programs.reader) is not None:
            reader.keep_marks(self.resumed and self.resumed.notes.get("stream"))
        if jax.process_count() > 1:
            self._rescue = Rescue(checkpoints)

    def __enter__(self) -> "ToolRun":
        """Start to handle SIGTERM and to show progress."""
        self._termination.__enter__()
        self._progress.__enter__()
        return self

    def __exit__(self, *reason: Any) -> None:
        """Save a rescue's copies if an error ends the run; unlock the folder.

        Raises:
            SystemExit: If there was a SIGTERM after the last save.
        """
        try:
            self._progress.__exit__(*reason)
            if self._rescue is not None:
                self._rescue.close(reason[1])
            if self.checkpoints is not None:
                self.checkpoints.close()
        finally:
            self.programs.close()
            self._termination.__exit__(*reason)

    def plan(self, hparams: Any, seeds: Any, num_steps: int) -> Planned:
        """Choose a plan, or use that of the checkpoint.

        Its number of workers is adapted to the present devices or cores.
        """
        if self.resumed is not None:
            (width, workers), chunk, fitting = (
                self.resumed.notes[name] for name in ("plan", "chunk", "fitting")
            )
            usable = usable_workers(self.programs.mesh)
            workers = min(workers, usable) if self.programs.mesh is None else usable
            self.planned = Planned(Plan(width, workers), chunk, {}, fitting)
        else:
            self.planned = make_plan(
                self.programs, self._strategy, hparams, seeds, num_steps
            )
        return self.planned

    def require_acting(
        self,
        hparams: Any,
        varied: Iterable[str],
        *,
        within_run: bool = False,
        trial: Trial | None = None,
    ) -> InnerSchedules | None:
        """Check in a new run that varied hyperparameters have an effect, see `acting`.

        Args:
            hparams: The hyperparameters of the members.
            varied: The names of the varied ones.
            within_run: Whether they are varied within a run.
            trial: The trial that reads them, if it is not that of the members.

        Returns:
            The schedules inside the trial; `None` for a resumed run.
        """
        if self.resumed is not None:
            return None
        programs = self.programs
        data = jnp.asarray(programs.key_data)
        key = jax.random.wrap_key_data(data, impl=programs.key_type)
        trial = trial or programs.trial
        return require_acting(
            trial,
            hparams,
            varied,
            key,
            within_run=within_run,
            data=programs.host_data,
        )

    def report(self, steps: int, best: str = "") -> None:
        """Report that the members together have taken this many more steps."""
        self._done += steps
        self._progress.update(self._done, best)

    def save(
        self,
        step: int,
        make: Callable[[], dict[str, np.ndarray]],
        notes: dict[str, Any],
    ) -> None:
        """Save the arrays of `make`, if it is time to.

        Raises:
            SystemExit: After saving, if there was a SIGTERM.
        """
        if self.checkpoints is None:
            return
        keeps = self._rescue is not None and self._rescue.due()
        due = self.checkpoints.due()
        asked, due, keeps = from_each(self._termination.asked, due, keeps).T
        ends = asked.any()
        if not (ends or due[0] or keeps[0]):
            return
        (width, workers), chunk, _, fitting = self.planned
        kept = {"plan": [width, workers], "chunk": chunk, "fitting": fitting}
        if (reader := self.programs.reader) is not None:
            kept["stream"] = reader.mark
        arrays, notes = make(), {**kept, **notes}
        if self._rescue is not None:
            self._rescue.keep(step, arrays, notes)
        self._step = step
        if ends or due[0]:
            self.checkpoints.save(step, arrays, notes)
            if self._rescue is not None:
                self._rescue.drop()
        if ends:
            raise SystemExit(EXIT_CODE)

    def finish(self, result: AnyResult) -> AnyResult:
        """Save the result, so that the same call returns it at once; return it.

        Raises:
            SystemExit: After saving, if there was a SIGTERM.
        """
        if self.checkpoints is not None:
            arrays, facts = result.contents()
            arrays = prefixed("result", arrays)
            arrays |= prefixed("state", to_arrays(getattr(result, "state", None)))
            self.checkpoints.save(self._step + 1, arrays, {"finished": facts})
            if from_each(self._termination.asked).any():
                raise SystemExit(EXIT_CODE)
        return result

    def finished(self, kind: type[AnyResult]) -> AnyResult | None:
        """Return the result in the folder, without compiling; `None` if not finished.

        Hyperparameters and state have their original structures.
        """
        if self.resumed is None or "finished" not in self.resumed.notes:
            return None
        arrays = self.resumed.arrays
        found = kind.from_contents(
            group(arrays, "result"), self.resumed.notes["finished"]
        )
        self.report(self._total)
        about = {
            **vars(found)["about"],
            "seconds": time.perf_counter() - self.started,
            "compilations": 0,
            "compile_seconds": 0.0,
            "resumed": True,
        }
        changes: dict[str, Any] = {"about": about}
        fields = vars(found)
        if "hparams" in fields:
            named = flatten_names(fields["hparams"])
            changes["hparams"] = named_like(self.hparams, named)
        if "state" in fields and (kept := group(arrays, "state")):
            changes["state"] = self.state_of(kept)
        return dataclasses.replace(found, **changes)

    def state_of(self, arrays: dict[str, np.ndarray]) -> Any:
        """Return one member's state from its named arrays."""
        like, _ = first_state(self.programs, self.hparams, np.zeros(1, np.uint32))
        return from_arrays(like, arrays)

    def about(self, **facts: Any) -> dict[str, Any]:
        """Return the field `about` of a result."""
        trained = [c for c in self.programs.compilations if c.program is TRAIN]
        return {
            "mode": self.mode,
            **facts,
            "plan": str(self.planned.plan),
            "tried": {str(plan): time for plan, time in self.planned.tried.items()},
            "seconds": time.perf_counter() - self.started,
            "compilations": len(trained),
            "compile_seconds": sum(c.seconds for c in self.programs.compilations),
            "member_steps": self._done,
            "resumed": self.resumed is not None,
            "call": self._call,
            "versions": digests.versions(),
        }
