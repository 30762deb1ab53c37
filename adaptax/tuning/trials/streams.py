"""Streams: batches that are read while the members train, in the place of arrays.

    batches(start)    an iterator of the batches of steps start, start + 1, …
    an iterable       its batches, again and again: step i of the second pass follows
                      the last one of the first

Batch i is that of step i for all members of a tool. A member that starts later, in
another round or after others, makes the tool open the stream again at its first step.
"""

import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from adaptax._core.checks import require
from adaptax.tuning.trials.batches import as_arrays, require_like

_REMEDY = (
    "Pass a function of the first step that returns a new iterator, or what can be "
    "iterated again: a list, a DataLoader, a dataset."
)


class Stream:
    """A stream of batches, which `stream` makes.

    `name` is that of the argument of `trial` that it was given as.
    """

    def __init__(self, source: Any, name: str = "data"):
        """Store a function of the first step, or an iterable."""
        self.source, self.name = source, name

    def named(self, name: str) -> "Stream":
        """Return the same stream as another argument."""
        return Stream(self.source, name)

    @property
    def is_function(self) -> bool:
        """Whether the source is a function of the first step."""
        return not isinstance(self.source, Iterable)

    def read(self, start: int, count: int) -> list[Any]:
        """Return the batches of some steps."""
        cursor = Cursor(self, start)
        try:
            return [cursor.next(start + count) for _ in range(count)]
        finally:
            cursor.close()

    def pass_through(self) -> Iterator[Any]:
        """Yield the batches of a single pass.

        Raises:
            ValueError: If there are none.
        """
        cursor = Cursor(self, 0)
        try:
            while (batch := cursor.next(None)) is not None:
                yield batch
        finally:
            cursor.close()

    def __repr__(self) -> str:
        """Return the type of the source."""
        return f"<stream of {type(self.source).__name__}>"


def stream(batches: Callable[[int], Iterable[Any]] | Iterable[Any]) -> Stream:
    """Let a tool read its batches while it trains, in the place of `data`.

    All members have the same batches. While the device trains, a thread of the host
    reads those of the next steps; at most two chunks are in memory, each of up to 128
    batches or 32 MiB, or of one batch.

    Args:
        batches: `batches(start)` returns an iterator of the batches from the step
            `start` on, which must not end before the run does. Or an iterable, such as
            a list, a torch `DataLoader`, or a Grain loader or dataset: it is iterated
            again when it ends, and to start at a later step, its first batches are
            skipped. Not an iterator, which can be read only once.

            A batch is a pytree of arrays or numbers, including CPU tensors of torch,
            with the same structure, shapes and dtypes at every step: let a loader drop
            a smaller last one (`drop_last=True`, `drop_remainder=True`).

    A tool opens the stream at step 0 for members that are trained after others, and at
    any step to resume. Results are the same to the last bit if the batches are: a
    function should depend only on `start`, and an iterable have the same batches in
    each iteration. A tool warns if the first batch differs. A checkpoint keeps the
    state of an iterator with `get_state` and `set_state`, as Grain's, or of a loader
    with `state_dict` and `load_state_dict`, as torchdata's `StatefulDataLoader`, so
    that a resumed run skips nothing.

    As `eval_data`, a stream is read once from its beginning to its end for each
    evaluation, and the score and the metrics are the means over its batches. As `data`
    of a `Trial` of your own, it makes `shared.data` the batch of the step.

    Raises:
        TypeError: If it is neither a function of a step nor can be iterated again.

    >>> import itertools
    >>> import jax.numpy as jnp
    >>> import numpy as np
    >>> import adaptax
    >>> x = np.linspace(-1, 1, 64, dtype=np.float32).reshape(4, 16)
    >>> def batches(start):
    ...     for step in itertools.count(start):
    ...         yield {"x": x[step % 4], "y": 3 * x[step % 4]}
    >>> line = adaptax.trial(
    ...     init_params=lambda key: jnp.zeros(()),
    ...     loss=lambda w, batch: jnp.mean((w * batch["x"] - batch["y"]) ** 2),
    ...     optimizer=lambda hparams: adaptax.adam(hparams["learning_rate"]),
    ...     data=adaptax.stream(batches),
    ... )
    >>> rates = {"learning_rate": [0.01, 0.1]}
    >>> found = adaptax.sweep(line, rates, num_steps=100, progress=False)
    >>> found.best["learning_rate"], bool(found.scores.min() < 1e-2)
    (0.1, True)
    """
    if isinstance(batches, Iterator):
        raise TypeError(
            f"batches must not be an iterator, got {type(batches).__name__}, which can "
            f"be read only once. {_REMEDY}"
        )
    if isinstance(batches, str | bytes | Mapping):
        raise TypeError(
            f"batches must be a function or an iterable of batches, got a "
            f"{type(batches).__name__}. A pytree of arrays with all examples is `data` "
            "itself, without adaptax.stream."
        )
    if isinstance(batches, Iterable):
        return Stream(batches)
    if not callable(batches):
        raise TypeError(
            "batches must be a function of the first step or an iterable, got "
            f"{type(batches).__name__}. {_REMEDY}"
        )
    try:
        inspect.signature(batches).bind(0)
    except ValueError:
        pass  # a built-in function without a signature
    except TypeError as error:
        raise TypeError(
            "batches must be a function of the first step, which is its only argument: "
            f"{error}."
        ) from error
    return Stream(batches)


class Cursor:
    """A place in a stream: `step` is that of the next batch."""

    def __init__(self, stream: Stream, start: int, like: Any = None, mark: Any = None):
        """Open the stream at a step.

        Args:
            stream: The stream.
            start: The step of the first batch to read.
            like: A batch that all must be like; by default the first one read.
            mark: A step <= `start` and the state of the iterable there, see `state`.
        """
        self._stream, self._like = stream, like
        self.step = start
        self._ready: list[Any] = []  # a batch that was put back
        self._passes = 0  # with at least a batch
        self._iterator: Any = iter(())
        if stream.is_function:
            made = stream.source(start)
            if not isinstance(made, Iterable):
                raise TypeError(
                    f"{stream.name}: the function of the stream must return an "
                    f"iterator, got {type(made).__name__}."
                )
            self._iterator = iter(made)
            return
        self.step = 0
        if mark is None or not self._go_to(*mark):
            self._begin(start)
        while self.step < start:
            self._take(start)
            self.step += 1

    def next(self, needed: int | None) -> Any:
        """Return the next batch, a pytree of NumPy arrays.

        Args:
            needed: The steps of the run, for which the stream goes on; `None` for
                those of a single pass, after which the result is `None`.
        """
        if self._ready:
            self.step += 1
            return self._ready.pop()
        found = self._take(needed)
        if found is None:
            return None
        batch = self._checked(found[0])
        self.step += 1
        return batch

    def put_back(self, batch: Any) -> None:
        """Let the next batch be this one, which was the last."""
        self._ready.append(batch)
        self.step -= 1

    def state(self) -> Any:
        """Return the state of the iterable here; `None` if it has none."""
        source = self._stream.source
        if self._stream.is_function or self._ready:
            return None
        if _has(self._iterator, "get_state", "set_state"):
            return self._iterator.get_state()
        if _has(source, "state_dict", "load_state_dict"):
            return source.state_dict()
        return None

    def close(self) -> None:
        """Let the iterator release what it holds."""
        close = getattr(self._iterator, "close", None)
        self._iterator = iter(())
        if callable(close):
            close()

    def _go_to(self, step: int, state: Any) -> bool:
        """Go to a state of the iterable; return whether it has one."""
        source, iterator = self._stream.source, None
        try:
            if _has(source, "state_dict", "load_state_dict"):
                source.load_state_dict(state)
                iterator = iter(source)
            elif _has(iterator := iter(source), "get_state", "set_state"):
                iterator.set_state(state)
            else:
                return False
        except Exception as error:
            warnings.warn(
                f"{self._stream.name}: the stream did not accept its state in the "
                f"checkpoint, so the batches before step {step} are read again: "
                f"{error}",
                RuntimeWarning,
                stacklevel=2,
            )
            return False
        self._iterator, self.step, self._passes = iterator, step, 1
        return True

    def _begin(self, start: int = 0) -> None:
        """Iterate from the beginning, or close to a step if that costs nothing."""
        source = self._stream.source
        if isinstance(source, Sequence) and len(source) and start > self.step:
            self.step, self._passes = start, 1
            rest = range(start % len(source), len(source))
            self._iterator = (source[index] for index in rest)
        else:
            self._iterator = iter(source)

    def _take(self, needed: int | None) -> tuple[Any] | None:
        """Return what the iterator returns next, or `None` at the end of a pass."""
        sentinel = self  # nothing that it returns
        found = next(self._iterator, sentinel)
        if found is not sentinel:
            self._passes = max(self._passes, 1)
            return (found,)
        name, kind = self._stream.name, type(self._stream.source).__name__
        require(
            self.step > 0 or self._passes > 0,
            f"{name}: the stream is empty: iterating over the {kind} gives no batch.",
        )
        if needed is None:
            return None
        require(
            not self._stream.is_function,
            f"{name}: the stream's iterator ended before step {self.step}, and the run "
            f"needs the batches of {needed} steps. Let batches(start) go on for ever, "
            "as with itertools.cycle, pass an iterable that can be iterated again, or "
            "train for fewer steps.",
        )
        self._begin()
        found = next(self._iterator, sentinel)
        require(
            found is not sentinel,
            f"{name}: the stream ended at step {self.step}, and iterating over the "
            f"{kind} again gives no batch. {_REMEDY}",
        )
        return (found,)

    def _checked(self, batch: Any) -> Any:
        """Return a batch as NumPy arrays, if it is like the others."""
        where = f"{self._stream.name}: the batch of step {self.step}"
        arrays = as_arrays(batch, where)
        if self._like is None:
            self._like = arrays
        require_like(arrays, self._like, where)
        return arrays


def _has(value: Any, *methods: str) -> bool:
    return all(callable(getattr(value, method, None)) for method in methods)
