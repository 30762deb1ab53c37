"""Loading: read the batches of the next steps while these are trained.

    chunk    the batches of some steps, stacked: an argument of the training program

One thread for each stream reads it, a chunk ahead. It ends with the tool, or with its
reader.
"""

import threading
import warnings
import weakref
from collections.abc import Callable, Generator
from concurrent.futures import Future, wait
from functools import cached_property
from queue import SimpleQueue
from typing import Any, NamedTuple

import jax
import numpy as np

from adaptax._core.checks import require
from adaptax.tuning.storage import loader_states
from adaptax.tuning.trials.streams import Cursor, Stream

_BYTES = 2**25  # of a chunk
_PATIENCE = 5  # seconds, for a batch that is being read when a tool ends


class Chunk(NamedTuple):
    """Batches, stacked along the first axis of each array; row 0 is of step `first`."""

    rows: Any
    first: Any


def at_step(data: Any, step: jax.Array) -> Any:
    """Return data in which each chunk is replaced by the batch of a step."""

    def batch_of(node):
        if not isinstance(node, Chunk):
            return node
        return jax.tree.map(
            lambda rows: jax.lax.dynamic_index_in_dim(
                rows, step - node.first, keepdims=False
            ),
            node.rows,
        )

    return jax.tree.map(batch_of, data, is_leaf=lambda node: isinstance(node, Chunk))


def filled(streams: Any, data: Any, parts: dict[str, Any]) -> Any:
    """Return data with other parts in the places of the streams.

    Args:
        streams: The data of a trial.
        data: A tree of the same structure above the streams.
        parts: What to fill in, by the name of the stream; others are kept.
    """

    def part(leaf, now):
        return parts.get(leaf.name, now) if isinstance(leaf, Stream) else now

    return jax.tree.map(part, streams, data)


def readers_of(data: Any, rows: int) -> "dict[str, Reader]":
    """Return a reader for each stream in the data of a trial, by name.

    Args:
        data: The data.
        rows: The largest number of batches in a chunk for training.

    Raises:
        ValueError: If there are two streams to train on.
    """
    found: dict[str, Reader] = {}
    for leaf in jax.tree.leaves(data):
        if isinstance(leaf, Stream):
            require(
                leaf.name not in found,
                "the data of a trial may have one stream, got two. Read both in one "
                "function, whose batches have the arrays of both.",
            )
            found[leaf.name] = Reader(leaf, 1 if leaf.name == "eval_data" else rows)
    return found


class Reader:
    """What reads a stream for a tool, in a thread of its own.

    `mark` is the step of the present chunk with the iterable's state there, if it has
    any and marks are kept.
    """

    def __init__(self, stream: Stream, most: int):
        """Read nothing yet.

        Args:
            stream: The stream.
            most: The largest number of batches in a chunk.
        """
        self.stream, self._most = stream, most
        self._keeps_marks = False
        self.mark: tuple[int, Any] | None = None
        self._resumed: tuple[int, Any] | None = None
        self._thread: _Thread | None = None
        self._cursor: Cursor | None = None
        self._varies = self._warned = False

    @cached_property
    def first(self) -> Any:
        """The batch of step 0, on the host."""
        return _result(self._submit(self._read_first))

    @property
    def rows(self) -> int:
        """The number of batches that a chunk has room for."""
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(self.first))
        return max(1, min(self._most, _BYTES // max(1, size)))

    def only_first(self, rows: int = 1) -> Chunk:
        """Return a chunk with copies of the first batch, on the host."""
        stacked = jax.tree.map(
            lambda leaf: np.broadcast_to(leaf, (rows, *leaf.shape)), self.first
        )
        return Chunk(stacked, np.int32(0))

    def keep_marks(self, mark: tuple[int, Any] | None) -> None:
        """Keep marks from now on, and start at one of an earlier run, if there is."""
        self._keeps_marks, self._resumed = True, mark

    def chunks(
        self, start: int, stop: int | None, place: Callable[[Chunk], Any]
    ) -> Generator[tuple[Any, int], None, None]:
        """Yield chunks of the steps from `start` to `stop`, or of one whole pass.

        The next one is being read while the caller has the last one.

        Args:
            start: The first step.
            stop: The step after the last one; `None` for a pass.
            place: Moves a chunk to the devices.

        Yields:
            The chunk, as placed, and the number of its steps.
        """
        rows, cancelled = self.rows, threading.Event()

        def ask(first):
            count = rows if stop is None else min(rows, stop - first)
            return self._submit(self._load, first, count, stop, cancelled)

        try:
            pending = ask(start)
            while True:
                stacked, count, self.mark = _result(pending)
                del pending  # or a third chunk would stay in memory
                self._warn()
                if count == 0:
                    return
                chunk = place(Chunk(stacked, np.int32(start)))
                del stacked
                start += count
                if start == stop:
                    yield chunk, count
                    return
                pending = ask(start)
                yield chunk, count
                del chunk
        finally:
            cancelled.set()

    def close(self) -> None:
        """End the thread; a batch that is being read is waited for, some seconds."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.submit(self._close)
            thread.close()

    def _submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        if self._thread is None:
            self._thread = _Thread()
        return self._thread.submit(function, *arguments)

    def _warn(self) -> None:
        """Warn once if the stream is not the same each time it is opened."""
        if self._varies and not self._warned:
            self._warned = True
            warnings.warn(
                f"{self.stream.name}: the stream had another first batch when it was "
                "opened again. So members that are trained one after another have "
                "different batches, and a run that is interrupted may not resume to "
                "the same result. Seed its shuffling in a function of the first step; "
                "see adaptax.stream.",
                RuntimeWarning,
                stacklevel=2,
            )

    # The following are called in the thread.

    def _read_first(self) -> Any:
        self._cursor = Cursor(self.stream, 0)
        batch = jax.tree.map(np.array, self._cursor.next(1))  # it may be overwritten
        self._cursor.put_back(batch)
        return batch

    def _load(
        self, start: int, count: int, stop: int | None, cancelled: threading.Event
    ) -> tuple[Any, int, tuple[int, Any] | None]:
        """Return the stacked batches of some steps, their number, and the mark."""
        try:
            return self._loaded(start, count, stop, cancelled)
        except BaseException:
            self._close()  # its iterator may be of no use any more
            raise

    def _loaded(self, start, count, stop, cancelled):
        cursor = self._cursor
        reopened = False
        if cursor is None or cursor.step != start:
            reopened, cursor = True, self._open(start)
        state = loader_states.encode(cursor.state()) if self._keeps_marks else None
        mark = None if state is None else (start, state)
        stacked = jax.tree.map(
            lambda leaf: np.empty((self.rows, *leaf.shape), leaf.dtype), self.first
        )
        for index in range(count):
            batch = None if cancelled.is_set() else cursor.next(stop)
            if batch is None:
                self._close() if stop is None else None
                return stacked, index, mark
            if reopened and start == index == 0 and stop is not None:
                self._varies |= not _same(batch, self.first)
            for rows, leaf in zip(
                jax.tree.leaves(stacked), jax.tree.leaves(batch), strict=True
            ):
                rows[index] = leaf
        return stacked, count, mark

    def _open(self, start: int) -> Cursor:
        self._close()
        resumed, self._resumed = self._resumed, None
        mark = None
        if resumed is not None and resumed[0] <= start:
            mark = resumed[0], loader_states.decode(resumed[1])
        self._cursor = Cursor(self.stream, start, self.first, mark)
        return self._cursor

    def _close(self) -> None:
        cursor, self._cursor = self._cursor, None
        if cursor is not None:
            cursor.close()


class _Thread:
    """A thread that calls functions one after another, until its owner is gone."""

    def __init__(self):
        work: SimpleQueue[Any] = SimpleQueue()
        self._work = work
        self._thread = threading.Thread(
            target=_serve, args=(work,), name="adaptax stream", daemon=True
        )
        self._thread.start()
        weakref.finalize(self, work.put, None)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Return the future result of a call."""
        future: Future[Any] = Future()
        self._work.put((future, function, arguments))
        return future

    def close(self) -> None:
        """End after the calls so far; do not wait for ever for a slow one."""
        self._work.put(None)
        self._thread.join(_PATIENCE)


def _serve(work: SimpleQueue[Any]) -> None:
    while (task := work.get()) is not None:
        future, function, arguments = task
        try:
            future.set_result(function(*arguments))
        except BaseException as error:  # it is raised in the caller
            future.set_exception(error)
        del task, future, function, arguments  # while waiting for the next


def _result(future: Future[Any]) -> Any:
    """Wait in turns: a Ctrl-C just before a wait would be noticed only after it."""
    while not future.done():
        wait([future], timeout=1)
    return future.result()


def _same(batch: Any, other: Any) -> bool:
    """Return whether two batches have the same bytes."""
    pairs = zip(jax.tree.leaves(batch), jax.tree.leaves(other), strict=True)
    return all(here.tobytes() == there.tobytes() for here, there in pairs)
