"""Execution: train the members of a population according to a plan.

`width` members are vectorized in one `vmap`. A loop trains such groups one after
another. Several loops, the `workers`, run at the same time, on CPU cores or on the
devices of a mesh.

After a member has diverged (see `divergence`), its losses are NaN. Training of a group
stops when all of its members have diverged; until then they are still computed, without
effect on the others.
"""

import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from adaptax.tuning.running import divergence
from adaptax.tuning.running.plans import Plan
from adaptax.tuning.running.programs import (
    BEGIN,
    BUFFER,
    GATHER,
    JUDGE,
    PICK,
    TRAIN,
    Program,
    Programs,
)
from adaptax.tuning.storage.named_arrays import from_arrays, to_arrays

_SECONDS_PER_CALL = 0.5
_STEPS_PER_CALL = 16  # with several processes, which must agree on it


class Population:
    """The members of a trial during training: a mutable object of the host.

    `alive` is whether each member is still trained, and may be set; `step` is the
    number of steps so far. Members interact only between calls.
    """

    def __init__(self, programs: Programs, plan: Plan, hparams: Any, seeds: Any):
        """Start the members.

        Args:
            programs: The compiled programs of the trial.
            plan: The plan to run them by.
            hparams: A pytree of arrays with a leading axis of members.
            seeds: Integers >= 0 of shape (members,). Members with the same seed have
                the same initial parameters and batches.
        """
        self.programs = programs
        self.members, self.step = len(seeds), 0
        self.alive = np.ones(self.members, bool)
        self._chunk: Any = None  # of a stream
        self._wanted = plan
        self._lay_out()
        self.hparams = hparams
        seeds = self._workers(np.asarray(seeds, np.uint32))
        fixed = (programs.key_data, programs.data)
        workers = zip(self._worker_hparams, seeds, strict=True)
        self._states = self._at_once(BEGIN, [(*worker, *fixed) for worker in workers])

    @property
    def hparams(self) -> Any:
        """The members' hyperparameters, on the host, which can be set at any time."""
        return self._hparams

    @hparams.setter
    def hparams(self, hparams: Any) -> None:
        self._hparams = jax.tree.map(np.asarray, hparams)
        self._worker_hparams = self._workers(self._hparams)

    def run(self, num_steps: int, pace: int = 1) -> Generator[np.ndarray, None, None]:
        """Train the members that are alive, in calls of about half a second.

        Args:
            num_steps: The number of steps.
            pace: The largest number of steps of the first call.

        Yields:
            The losses of some steps, float32 (members, steps), NaN for members that are
            not alive.
        """
        alone = jax.process_count() == 1  # several must agree on the pace
        pace = pace if alone else _STEPS_PER_CALL
        with closing(self._fed(num_steps)) as lengths:
            for length in lengths:
                while length > 0:
                    steps = min(length, pace, BUFFER)
                    start = time.perf_counter()
                    losses = self.advance(steps)
                    taken = time.perf_counter() - start
                    if alone:
                        longer = int(_SECONDS_PER_CALL * steps / taken)
                        pace = max(1, min(8 * steps, longer))
                    length -= steps
                    yield losses

    def _fed(self, num_steps: int) -> Generator[int, None, None]:
        """Yield numbers of steps for which there is data: with a stream, of a chunk."""
        programs, reader = self.programs, self.programs.reader
        if reader is None:
            yield num_steps
            return
        stop, place = self.step + num_steps, partial(programs.placed, spread=False)
        with closing(reader.chunks(self.step, stop, place)) as chunks:
            for self._chunk, steps in chunks:
                yield steps
                self._chunk = None  # before there is another

    def advance(self, steps: int) -> np.ndarray:
        """Train the members that are alive for at most `BUFFER` steps; see `run`.

        With a stream, each of these steps has the first batch, as a rehearsal.
        """
        arguments = self._to_train(steps)
        self._states = []  # donated
        results = self._at_once(TRAIN, arguments)
        self._states = [states for states, _ in results]
        losses = self._joined([losses for _, losses in results])[:, :steps]
        self.alive = self.alive & self.surviving()
        self.step += steps
        return losses

    def scratch_bytes(self) -> int:
        """Return the temporary memory of a step in all workers, without the states."""
        arguments = self._to_train(0)
        program = self.programs.get(TRAIN, self.plan.width, *arguments[0])
        analysis = program.memory_analysis()
        return analysis.temp_size_in_bytes * len(arguments) if analysis else 0

    def judge(self) -> tuple[np.ndarray | None, dict[str, np.ndarray]]:
        """Return the scores, if the trial has any, and a dict of metrics.

        They are NaN for members that are not alive.
        """
        if self.programs.trial.evaluate is None:
            return None, {}
        programs = self.programs
        reader = programs.readers.get("eval_data")
        if reader is None:
            return self._judged(programs.data)
        total, count = None, 0
        place = partial(programs.placed, spread=False)
        with closing(reader.chunks(0, None, place)) as chunks:
            for chunk, _ in chunks:
                found = self._judged(programs.data_with("eval_data", chunk))
                found = jax.tree.map(lambda leaf: leaf.astype(float), found)
                total = found if total is None else jax.tree.map(np.add, total, found)
                count += 1
        return jax.tree.map(lambda leaf: (leaf / count).astype(np.float32), total)

    def _judged(self, data: Any) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return the scores and metrics on some data."""
        fixed = (data, np.int32(self.step))
        workers = zip(self._worker_hparams, self._states, strict=True)
        results = self._at_once(JUDGE, [(*worker, *fixed) for worker in workers])
        joined = jax.tree.map(lambda *parts: self._joined(parts), *results)
        return jax.tree.map(lambda found: np.where(self.alive, found, np.nan), joined)

    def replace(self, parents: Any) -> None:
        """Give member i the state and hyperparameters of member parents[i].

        Args:
            parents: Indices of shape (members,), which may be fewer or more than now.
        """
        parents = np.asarray(parents)
        sources, alive = self._places[parents], self.alive[parents]
        self.resize(len(parents))
        self.alive = alive
        self._move(sources)
        self.hparams = jax.tree.map(lambda leaf: leaf[parents], self._hparams)

    def resize(self, members: int) -> None:
        """Change the number of members; `restore` must then set their states.

        With several groups per worker, fewer members keep all places: empty groups take
        no time, and another number of places would have to be compiled.
        """
        keeps = members <= len(self._residents) and self.plan.width < self._length
        self.members = members
        self.alive = np.ones(members, bool)
        self._lay_out(keeps)

    def state(self, member: int) -> Any:
        """Return a copy of the state of one member."""
        worker, row = 0, int(self._places[member])
        if self.programs.mesh is None:
            worker, row = divmod(row, self._length)
        arguments = (self._states[worker][0], np.int32(row))
        return self.programs.get(PICK, 0, *arguments)(*arguments)

    def saved(self) -> dict[str, np.ndarray]:
        """Return the arrays of the states by name, with a leading axis of members."""
        workers = [to_arrays(states) for states in self._states]
        return {
            name: self._joined([worker[name] for worker in workers])
            for name in workers[0]
        }

    def surviving(self) -> np.ndarray:
        """Return which members have not diverged, by their states."""
        bad = self._joined([watch.bad for _, watch in self._states])
        return bad < divergence.PATIENCE

    def restore(self, arrays: dict[str, np.ndarray], step: int) -> None:
        """Restore the arrays of `saved`, for as many members, after `step` steps."""
        like = self._states[0]
        self._states = [from_arrays(like, worker) for worker in self._workers(arrays)]
        self.step = step

    def _lay_out(self, keep_places: bool = False) -> None:
        """Assign a place to each member, distributing them evenly over the workers.

        `_places` has the place of each member, `_residents` the member at each place or
        −1, and `_length` is the number of places of a worker.
        """
        if not keep_places:
            self.plan = self._wanted.fitted(self.members, self.programs.mesh)
            self._length = self.plan.worker_length(self.members)
        members = np.arange(self.members)
        row, worker = np.divmod(members, self.plan.workers)
        self._places = worker * self._length + row
        self._residents = np.full(self._length * self.plan.workers, -1)
        self._residents[self._places] = members

    def _move(self, sources: np.ndarray) -> None:
        """Move states: that of member i comes from the old place sources[i]."""
        froms = np.where(self._residents < 0, 0, sources[self._residents])
        places = self._split(froms.astype(np.int32))
        arguments = (self._states, places)
        self._states = self.programs.get(GATHER, 0, *arguments)(*arguments)

    def _workers(self, tree: Any) -> list[Any]:
        """Arrange arrays with an axis of members by worker."""
        return self._split(jax.tree.map(self._spread, tree))

    def _spread(self, leaf: np.ndarray) -> np.ndarray:
        """Return the value at each place; empty places repeat that of member 0."""
        return leaf[np.maximum(self._residents, 0)]

    def _split(self, tree: Any) -> list[Any]:
        """Split arrays with an axis of places by worker; a mesh shards them instead."""
        if self.programs.mesh is not None:
            return [self.programs.placed(tree)]
        parts = range(self.plan.workers)
        return [
            jax.tree.map(lambda leaf, i=part: np.split(leaf, len(parts))[i], tree)
            for part in parts
        ]

    def _joined(self, workers: Any) -> np.ndarray:
        """Return an array with an axis of members, on the host."""
        if jax.process_count() > 1:
            workers = [
                multihost_utils.process_allgather(x, tiled=True) for x in workers
            ]
        return np.concatenate([np.asarray(worker) for worker in workers])[self._places]

    def _to_train(self, steps: int) -> list[Any]:
        """Return the arguments of the training program for each worker."""
        programs, reader = self.programs, self.programs.reader
        if reader is not None and self._chunk is None:
            self._chunk = programs.placed(reader.only_first(reader.rows), spread=False)
        data = programs.data_with("data", self._chunk)
        fixed = (data, np.int32(self.step), np.int32(steps))
        alive = self._split(self._spread(self.alive) & (self._residents >= 0))
        workers = zip(self._worker_hparams, self._states, alive, strict=True)
        return [(*worker, *fixed) for worker in workers]

    def _at_once(self, program: Program, arguments: list[Any]) -> list[Any]:
        """Run a program for all workers at the same time."""
        compiled = self.programs.get(program, self.plan.width, *arguments[0])

        def run(worker):
            return jax.block_until_ready(compiled(*worker))

        if len(arguments) == 1:
            return [run(arguments[0])]
        with ThreadPoolExecutor(len(arguments)) as pool:
            return list(pool.map(run, arguments))
