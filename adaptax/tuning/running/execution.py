"""Execution: the members of a population, trained side by side, in turn, or spread out.

A plan says how. `width` members go side by side in one `vmap`; such groups follow each
other in a loop; and several such loops, `lanes`, run at once, on the processor's cores
or on the devices of a mesh. The number of steps is an argument of the program, so that
one compilation serves any number of steps, members that stopped, and members that
were replaced.

A member that has diverged (see `divergence`) has NaN for its losses from then on. A
group that has diverged as a whole is not trained any more; side by side with others, a
member is carried along without effect on them.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from adaptax.tuning.running import divergence
from adaptax.tuning.trials.trials import Shared, Trial

BUFFER = 128
"""The largest number of steps in a call of the compiled program."""

_SECONDS_PER_CALL = 0.5
_STEPS_PER_CALL = 16  # where several processes must agree on it


class Plan(NamedTuple):
    """How to run a population.

    `width` members are side by side in one `vmap`. `lanes` loops over such groups run
    at once: threads without a mesh, devices with one.
    """

    width: int
    lanes: int

    def __str__(self) -> str:
        """Say it in words."""
        how = "one by one" if self.width == 1 else f"{self.width} side by side"
        return how if self.lanes == 1 else f"{how}, {self.lanes} at once"

    def lane_length(self, members: int) -> int:
        """Return the members of a lane, those that fill up its last group included."""
        share = -(-members // self.lanes)
        return -(-share // self.width) * self.width

    def fitted(self, members: int, mesh: Mesh | None) -> "Plan":
        """Return the plan for fewer members: no lane is empty, no group is too wide."""
        lanes = self.lanes if mesh is not None else min(self.lanes, members)
        return Plan(min(self.width, -(-members // lanes)), lanes)


class Compilation(NamedTuple):
    """A program that was compiled, for groups of which width, in how long."""

    name: str
    width: int
    seconds: float


class Programs:
    """The compiled programs of a trial, each compiled once for the shapes it is given.

    `compilations` lists them.
    """

    def __init__(self, trial: Trial, key: jax.Array, mesh: Mesh | None = None):
        """Compile nothing, and move nothing, yet.

        Args:
            trial: What the members run.
            key: The key of all randomness.
            mesh: The devices to spread the members over, those of other processes
                included; `None` for the default device.
        """
        self.trial = trial
        # As an array of devices: what states look like inside is the trial's affair.
        self.mesh = mesh and Mesh(mesh.devices, mesh.axis_names)
        self.key_type = jax.random.key_impl(key)
        self.key_data = np.asarray(jax.random.key_data(key))
        self.compilations: list[Compilation] = []
        self._compiled: dict[Any, Any] = {}

    @cached_property
    def data(self) -> Any:
        """The trial's data, where the members are."""
        return self.placed(self.trial.data, spread=False)

    def get(self, name: str, width: int, *arguments: Any) -> Any:
        """Return the compiled program of that name for arguments of these shapes."""
        leaves, structure = jax.tree.flatten(arguments)
        shapes = tuple((jnp.shape(leaf), str(jnp.result_type(leaf))) for leaf in leaves)
        known = (name, width, structure, shapes)
        if known not in self._compiled:
            start = time.perf_counter()
            lowered = self._jitted(name, width).lower(*arguments)
            program = lowered.compile(compiler_options=self._options(name))
            taken = time.perf_counter() - start
            self._compiled[known] = program
            self.compilations.append(Compilation(name, width, taken))
        return self._compiled[known]

    def _options(self, name: str) -> dict[str, Any]:
        """Return the options of the compiler for a program.

        The keyed draws of an `init` take XLA:CPU longer than the training (measured: 5
        times as long as one level below, with the same bits as fast). What only moves
        states has nothing to be optimized.
        """
        devices = jax.devices() if self.mesh is None else self.mesh.devices.flat
        levels = {"begin": 2, "gather": 0, "pick": 0}
        if name not in levels or next(iter(devices)).platform != "cpu":
            return {}
        return {"xla_backend_optimization_level": levels[name]}

    def placed(self, tree: Any, spread: bool = True) -> Any:
        """Put arrays on the devices: split along their first axis, or whole on each."""
        if self.mesh is None:
            return jax.tree.map(jnp.asarray, tree)
        sharding = NamedSharding(self.mesh, P(self.mesh.axis_names) if spread else P())

        def place(leaf):
            host = np.asarray(leaf)  # every process has the whole of it
            return jax.make_array_from_callback(
                host.shape, sharding, lambda index: host[index]
            )

        return jax.tree.map(place, tree)

    def function(self, name: str, width: int) -> Any:
        """Return the function that is compiled under that name, for one lane."""
        return partial(_FUNCTIONS[name], self, width)

    def _jitted(self, name: str, width: int) -> Any:
        function = self.function(name, width)
        donated = (1,) if name == "train" else ()
        if self.mesh is None:
            return jax.jit(function, donate_argnums=donated)
        each, same = P(self.mesh.axis_names), P()
        if name not in ("gather", "pick"):  # they move states from device to device
            inputs = {
                "begin": (each, each, same, same),
                "train": (each, each, each, same, same, same),
                "judge": (each, each, same, same),
            }[name]
            function = jax.shard_map(
                function,
                mesh=self.mesh,
                in_specs=inputs,
                out_specs=each,
                check_vma=False,
            )
        spread, whole = NamedSharding(self.mesh, each), NamedSharding(self.mesh, same)
        # What the host reads goes to every process.
        outputs = {"train": (spread, whole), "judge": whole, "pick": whole}
        outputs = outputs.get(name, spread)
        return jax.jit(function, out_shardings=outputs, donate_argnums=donated)


class Population:
    """The members of a trial while they are trained: mutable, on the side of the host.

    `alive` tells for each member whether it is trained on, and may be set; `step` is
    how many steps have been taken. What members do to each other happens between calls.
    """

    def __init__(self, programs: Programs, plan: Plan, hparams: Any, seeds: Any):
        """Start the members.

        Args:
            programs: What they run.
            plan: How they are run.
            hparams: A pytree of arrays with a leading axis of members.
            seeds: Whole numbers >= 0 of shape (members,). With equal seeds, members
                start from equal parameters and draw equal batches.
        """
        self.programs = programs
        self.members, self.step = len(seeds), 0
        self.alive = np.ones(self.members, bool)
        self._wanted = plan
        self._lay_out()
        self.hparams = hparams
        seeds = self._lanes(np.asarray(seeds, np.uint32))
        fixed = (programs.key_data, programs.data)
        lanes = zip(self._lane_hparams, seeds, strict=True)
        self._states = self._at_once("begin", [(*lane, *fixed) for lane in lanes])

    @property
    def hparams(self) -> Any:
        """The members' hyperparameters, on the host; they can be set at any time."""
        return self._hparams

    @hparams.setter
    def hparams(self, hparams: Any) -> None:
        self._hparams = jax.tree.map(np.asarray, hparams)
        self._lane_hparams = self._lanes(self._hparams)

    def run(self, num_steps: int) -> Iterator[np.ndarray]:
        """Train the members that are alive, in calls of about half a second.

        Yields:
            The losses of some steps, float32 (members, steps): NaN where a member was
            not alive.
        """
        alone = jax.process_count() == 1  # several must agree on the pace
        pace = 1 if alone else _STEPS_PER_CALL
        while num_steps > 0:
            steps = min(num_steps, pace, BUFFER)
            start = time.perf_counter()
            losses = self.advance(steps)
            taken = time.perf_counter() - start
            if alone:
                pace = max(1, min(8 * steps, int(_SECONDS_PER_CALL * steps / taken)))
            num_steps -= steps
            yield losses

    def advance(self, steps: int) -> np.ndarray:
        """Train the members that are alive for at most `BUFFER` steps; see `run`."""
        arguments = self._to_train(steps)
        self._states = []  # given away
        results = self._at_once("train", arguments)
        self._states = [states for states, _ in results]
        losses = self._joined([losses for _, losses in results])[:, :steps]
        bad = self._joined([watch.bad for _, watch in self._states])
        self.alive = self.alive & (bad < divergence.PATIENCE)
        self.step += steps
        return losses

    def scratch_bytes(self) -> int:
        """Return the memory that a step takes beside the states, in all lanes."""
        arguments = self._to_train(0)
        program = self.programs.get("train", self.plan.width, *arguments[0])
        analysis = program.memory_analysis()
        return analysis.temp_size_in_bytes * len(arguments) if analysis else 0

    def judge(self) -> tuple[np.ndarray | None, dict[str, np.ndarray]]:
        """Judge the members: give scores, if the trial has any, and a dict of metrics.

        They are NaN for members that are not alive.
        """
        if self.programs.trial.evaluate is None:
            return None, {}
        fixed = (self.programs.data, np.int32(self.step))
        lanes = zip(self._lane_hparams, self._states, strict=True)
        results = self._at_once("judge", [(*lane, *fixed) for lane in lanes])
        joined = jax.tree.map(lambda *parts: self._joined(parts), *results)
        return jax.tree.map(lambda found: np.where(self.alive, found, np.nan), joined)

    def replace(self, parents: Any) -> None:
        """Let member i go on from the state and hyperparameters of member parents[i].

        Args:
            parents: Of shape (members,); there may be fewer or more than before.
        """
        parents = np.asarray(parents)
        sources, alive = self._places[parents], self.alive[parents]
        self.resize(len(parents))
        self.alive = alive
        self._move(sources)
        self.hparams = jax.tree.map(lambda leaf: leaf[parents], self._hparams)

    def resize(self, members: int) -> None:
        """Hold another number of members, whose states `restore` has yet to put back.

        Where they follow each other in groups, fewer ones keep the places of all: empty
        groups cost no time, and another number of places would compile anew.
        """
        keeps = members <= len(self._residents) and self.plan.width < self._length
        self.members = members
        self.alive = np.ones(members, bool)
        self._lay_out(keeps)

    def state(self, member: int) -> Any:
        """Return a copy of the state of one member."""
        lane, row = 0, int(self._places[member])
        if self.programs.mesh is None:
            lane, row = divmod(row, self._length)
        arguments = (self._states[lane][0], np.int32(row))
        return self.programs.get("pick", 0, *arguments)(*arguments)

    def saved(self) -> dict[str, np.ndarray]:
        """Return the arrays of the states by name, with a leading axis of members."""
        lanes = [to_arrays(states) for states in self._states]
        return {name: self._joined([lane[name] for lane in lanes]) for name in lanes[0]}

    def restore(self, arrays: dict[str, np.ndarray], step: int) -> None:
        """Put back what `saved` gave, for as many members, after `step` steps."""
        like = self._states[0]
        self._states = [from_arrays(like, lane) for lane in self._lanes(arrays)]
        self.step = step

    def _lay_out(self, keep_places: bool = False) -> None:
        """Return each member a place, lane by lane in turn.

        `_places` has the place of each member; `_residents` the member at each place,
        or −1; `_length` is how many places a lane has.
        """
        if not keep_places:
            self.plan = self._wanted.fitted(self.members, self.programs.mesh)
            self._length = self.plan.lane_length(self.members)
        turn = np.arange(self.members)
        self._places = turn % self.plan.lanes * self._length + turn // self.plan.lanes
        self._residents = np.full(self._length * self.plan.lanes, -1)
        self._residents[self._places] = turn

    def _move(self, sources: np.ndarray) -> None:
        """Fill the places: member i's state comes from the old place sources[i]."""
        froms = np.where(self._residents < 0, 0, sources[self._residents])
        places = self._split(froms.astype(np.int32))
        arguments = (self._states, places)
        self._states = self.programs.get("gather", 0, *arguments)(*arguments)

    def _lanes(self, tree: Any) -> list[Any]:
        """Lay out arrays with an axis of members, lane by lane."""
        return self._split(jax.tree.map(self._spread, tree))

    def _spread(self, leaf: np.ndarray) -> np.ndarray:
        """Return the value at each place; an empty one repeats the first member's."""
        return leaf[np.maximum(self._residents, 0)]

    def _split(self, tree: Any) -> list[Any]:
        """Split arrays with an axis of places into lanes; a mesh takes them whole."""
        if self.programs.mesh is not None:
            return [self.programs.placed(tree)]
        parts = range(self.plan.lanes)
        return [
            jax.tree.map(lambda leaf, i=part: np.split(leaf, len(parts))[i], tree)
            for part in parts
        ]

    def _joined(self, lanes: Any) -> np.ndarray:
        """Return an array with an axis of members, on the host."""
        if jax.process_count() > 1:
            lanes = [multihost_utils.process_allgather(x, tiled=True) for x in lanes]
        return np.concatenate([np.asarray(lane) for lane in lanes])[self._places]

    def _to_train(self, steps: int) -> list[Any]:
        """Return the arguments of the training program, lane by lane."""
        fixed = (self.programs.data, np.int32(self.step), np.int32(steps))
        alive = self._split(self._spread(self.alive) & (self._residents >= 0))
        lanes = zip(self._lane_hparams, self._states, alive, strict=True)
        return [(*lane, *fixed) for lane in lanes]

    def _at_once(self, name: str, arguments: list[Any]) -> list[Any]:
        """Run a program for all lanes at the same time."""
        program = self.programs.get(name, self.plan.width, *arguments[0])

        def run(lane):
            return jax.block_until_ready(program(*lane))

        if len(arguments) == 1:
            return [run(arguments[0])]
        with ThreadPoolExecutor(len(arguments)) as pool:
            return list(pool.map(run, arguments))


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
        """Train members side by side, or a single one, without an axis of members."""
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


def _gather(programs, width, lanes, places):
    del programs, width
    whole = jax.tree.map(lambda *parts: jnp.concatenate(parts), *lanes)
    return [jax.tree.map(lambda leaf, at=at: leaf[at], whole) for at in places]


def _pick(programs, width, states, row):
    del programs, width
    return jax.tree.map(lambda leaf: leaf[row], states)


_FUNCTIONS = {
    "begin": _begin,
    "train": _train,
    "judge": _judge,
    "gather": _gather,
    "pick": _pick,
}


def _in_groups(function, width, members):
    """Apply a function to groups of members, one group after the other.

    A group of one is given without its axis of members.
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
    """Return a trial's function what its members share, if it has data."""
    if data is None:
        return function
    return partial(function, shared=Shared(data, step))


def types_of(tree: Any) -> Any:
    """Return the types of arrays, for tracing, without moving them."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)), tree
    )


def to_arrays(state: Any) -> dict[str, Any]:
    """Return the arrays of a state by the names of their places; keys as their data."""

    def plain(leaf):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jax.random.key_data(leaf) if is_key else leaf

    return {
        jax.tree_util.keystr(path): plain(leaf)
        for path, leaf in jax.tree.leaves_with_path(state)
    }


def from_arrays(like: Any, arrays: dict[str, Any]) -> Any:
    """Undo `to_arrays`, for a state of the same structure and types as another.

    Args:
        like: A state, or its types alone.
        arrays: What `to_arrays` gave.
    """

    def typed(path, like):
        array = arrays[jax.tree_util.keystr(path)]
        if not jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
            placed = isinstance(array, jax.Array)  # maybe over several processes
            return array if placed else jax.device_put(array)  # compiles nothing
        return jax.random.wrap_key_data(array, impl=_key_type(like))

    return jax.tree.map_with_path(typed, like)


def _key_type(like: Any) -> Any:
    """Return the kind of keys, of an array or of its type alone."""
    found = []
    jax.eval_shape(lambda key: found.append(jax.random.key_impl(key)), like)
    return found[0]
