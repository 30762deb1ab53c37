"""The compiled programs that train the members of a population.

    BEGIN    seeds -> initial states
    TRAIN    states -> states after some steps, and the losses
    JUDGE    states -> scores and metrics
    GATHER   states -> states in other places
    PICK     states -> the state of one member

The number of steps is an argument: one compilation serves any number of steps, members
that stopped, and members that were replaced.
"""

import time
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from adaptax.tuning.running import divergence
from adaptax.tuning.running.loading import Reader, at_step, filled, readers_of
from adaptax.tuning.trials.training import Shared
from adaptax.tuning.trials.trials import Trial

BUFFER = 128
"""The largest number of steps in a call of the compiled program."""


class Program(NamedTuple):
    """A function to compile for a trial, with options.

    Attributes:
        name: Its name.
        function: `function(programs, width, *arguments)`, for one worker.
        spread: For each argument whether it has an axis of members, which a mesh
            shards. `None` for a program with the members of all workers.
        gathered: For each result whether it is replicated in every process, for the
            host to read.
        donated: The indices of donated arguments.
        level: XLA's optimization level on a CPU; `None` for its default.
    """

    name: str
    function: Callable[..., Any]
    spread: tuple[bool, ...] | None
    gathered: tuple[bool, ...] | bool
    donated: tuple[int, ...] = ()
    level: int | None = None


class Compilation(NamedTuple):
    """A compilation: the program, the width of its groups, and the seconds."""

    program: Program
    width: int
    seconds: float


class Programs:
    """The programs of a trial, each compiled once for each shape of its arguments.

    `compilations` lists them. `readers` has what reads the streams in the trial's data.
    """

    def __init__(self, trial: Trial, key: jax.Array, mesh: Mesh | None = None):
        """Store the arguments, without compiling or moving anything.

        Args:
            trial: The trial of the members.
            key: The key of all randomness.
            mesh: The devices to distribute the members over, including those of other
                processes; `None` for the default device.
        """
        self.trial = trial
        # With axes of the default type: shardings inside a trial are its own business.
        self.mesh = mesh and Mesh(mesh.devices, mesh.axis_names)
        self.key_type = jax.random.key_impl(key)
        self.key_data = np.asarray(jax.random.key_data(key))
        self.readers = readers_of(trial.data, BUFFER)
        self.compilations: list[Compilation] = []
        self._compiled: dict[Any, Any] = {}

    @property
    def reader(self) -> Reader | None:
        """What reads the batches to train on, if they are a stream."""
        return self.readers.get("data")

    @cached_property
    def host_data(self) -> Any:
        """The trial's data, with a chunk of the first batch in place of a stream."""
        chunks = {name: reader.only_first() for name, reader in self.readers.items()}
        return filled(self.trial.data, self.trial.data, chunks)

    @cached_property
    def data(self) -> Any:
        """The same, on the devices of the members."""
        return self.placed(self.host_data, spread=False)

    def data_with(self, name: str, chunk: Any) -> Any:
        """Return `data` with another chunk of a stream, which is on the devices."""
        return filled(self.trial.data, self.data, {name: chunk})

    def close(self) -> None:
        """End the threads that read streams."""
        for reader in self.readers.values():
            reader.close()

    def get(self, program: Program, width: int, *arguments: Any) -> Any:
        """Return a program, compiled for arguments of these shapes."""
        leaves, structure = jax.tree.flatten(arguments)
        shapes = tuple((jnp.shape(leaf), str(jnp.result_type(leaf))) for leaf in leaves)
        signature = (program.name, width, structure, shapes)
        if signature not in self._compiled:
            start = time.perf_counter()
            lowered = self._jitted(program, width).lower(*arguments)
            compiled = lowered.compile(compiler_options=self._options(program))
            taken = time.perf_counter() - start
            self._compiled[signature] = compiled
            self.compilations.append(Compilation(program, width, taken))
        return self._compiled[signature]

    def placed(self, tree: Any, spread: bool = True) -> Any:
        """Put arrays on the devices: sharded along their first axis, or replicated."""
        if self.mesh is None:
            return jax.tree.map(jnp.asarray, tree)
        sharding = NamedSharding(self.mesh, P(self.mesh.axis_names) if spread else P())

        def place(leaf):
            host = np.asarray(leaf)  # every process has the whole of it
            return jax.make_array_from_callback(
                host.shape, sharding, lambda index: host[index]
            )

        return jax.tree.map(place, tree)

    def function(self, program: Program, width: int) -> Any:
        """Return the function to compile, for one worker."""
        return partial(program.function, self, width)

    def _options(self, program: Program) -> dict[str, Any]:
        devices = jax.devices() if self.mesh is None else self.mesh.devices.flat
        if program.level is None or next(iter(devices)).platform != "cpu":
            return {}
        return {"xla_backend_optimization_level": program.level}

    def _jitted(self, program: Program, width: int) -> Any:
        function, donated = self.function(program, width), program.donated
        if (mesh := self.mesh) is None:
            return jax.jit(function, donate_argnums=donated)
        each, whole = P(mesh.axis_names), P()
        if program.spread is not None:
            function = jax.shard_map(
                function,
                mesh=mesh,
                in_specs=tuple(each if spread else whole for spread in program.spread),
                out_specs=each,
                check_vma=False,
            )

        def sharding(gathered):
            return NamedSharding(mesh, whole if gathered else each)

        results = jax.tree.map(sharding, program.gathered)
        return jax.jit(function, out_shardings=results, donate_argnums=donated)


def _begin(programs, width, hparams, seeds, key_data, data):
    del width
    key = jax.random.wrap_key_data(key_data, impl=programs.key_type)
    init = _with_shared(programs.trial.init, data, jnp.int32(0))

    def one(hparams, seed):
        state = init(hparams, jax.random.fold_in(key, seed))
        return state, divergence.begin()

    return jax.vmap(one)(hparams, seeds)


def _train(programs, width, hparams, states, alive, data, step, num_steps):
    advance = programs.trial.advance

    def take_step(index, hparams, state):
        now = _with_shared(advance, data, step + index)
        state, watch = state
        state, losses = now(hparams, state, 1)
        loss = losses[0].astype(jnp.float32)
        return (state, divergence.watched(watch, loss)), loss

    def train(group):
        """Train a group of members, or a single one without an axis of members."""
        hparams, states, alive = group

        def unfinished(carry):
            index, _, alive, _ = carry
            return (index < num_steps) & jnp.any(alive)

        def body(carry):
            index, states, alive, losses = carry
            one = partial(take_step, index)
            states, loss = (jax.vmap(one) if alive.ndim else one)(hparams, states)
            loss = jnp.where(alive, loss, jnp.nan)
            losses = jax.lax.dynamic_update_index_in_dim(losses, loss, index, -1)
            alive &= states[1].bad < divergence.PATIENCE
            return index + 1, states, alive, losses

        losses = jnp.full((*alive.shape, BUFFER), jnp.nan, jnp.float32)
        carry = (jnp.int32(0), states, alive, losses)
        _, states, _, losses = jax.lax.while_loop(unfinished, body, carry)
        return states, losses

    return _in_groups(train, width, (hparams, states, alive))


def _judge(programs, width, hparams, states, data, step):
    evaluate = _with_shared(programs.trial.evaluate, data, step)

    def one(hparams, state):
        found = evaluate(hparams, state[0])
        score, metrics = found if isinstance(found, tuple) else (found, {})
        return jax.tree.map(
            lambda x: jnp.asarray(x).astype(jnp.float32), (score, metrics)
        )

    def judge(group):
        hparams, states = group
        return (one if width == 1 else jax.vmap(one))(hparams, states)

    return _in_groups(judge, width, (hparams, states))


def _gather(programs, width, workers, places):
    del programs, width
    whole = jax.tree.map(lambda *parts: jnp.concatenate(parts), *workers)
    return [jax.tree.map(lambda leaf, at=at: leaf[at], whole) for at in places]


def _pick(programs, width, states, row):
    del programs, width
    return jax.tree.map(lambda leaf: leaf[row], states)


BEGIN = Program(
    "begin",
    _begin,
    spread=(True, True, False, False),
    gathered=False,
    # XLA:CPU compiles the random draws of an `init` longer than the training. One level
    # below its default, that takes a fifth of the time, with the same bits and speed.
    level=2,
)
TRAIN = Program(
    "train",
    _train,
    spread=(True, True, True, False, False, False),
    gathered=(False, True),
    donated=(1,),
)
JUDGE = Program("judge", _judge, spread=(True, True, False, False), gathered=True)
# These only move states, so there is nothing to optimize.
GATHER = Program("gather", _gather, spread=None, gathered=False, level=0)
PICK = Program("pick", _pick, spread=None, gathered=True, level=0)


def _in_groups(function, width, members):
    """Apply a function to groups of members, one after another.

    A group of one is passed without its axis of members.
    """
    length = len(jax.tree.leaves(members)[0])
    if width == 1:
        return jax.lax.map(function, members)
    if width == length:
        return function(members)
    grouped = jax.tree.map(
        lambda leaf: leaf.reshape(-1, width, *leaf.shape[1:]), members
    )
    results = jax.lax.map(function, grouped)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), results)


def _with_shared(function, data, step):
    """Bind the shared argument of a trial's function, if the trial has data."""
    if data is None:
        return function
    return partial(function, shared=Shared(at_step(data, step), step))


def types_of(tree: Any) -> Any:
    """Return the shapes and dtypes of arrays, for tracing, without moving them."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)), tree
    )
