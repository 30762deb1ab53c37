"""States are asked what they know by methods of their own, and by no other names."""

import functools
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
import pytest
from conformance.cases import CASES
from flax import struct
from refusals import or_refusal

import adaptax
from adaptax._core import states

PARAMS = {"w": jnp.asarray([1.0, -2.0]), "b": jnp.asarray(0.5)}


@functools.cache
def state_of(case):
    """Return the shapes of a state, and what is refused by it alone."""
    state = jax.eval_shape(case.optimizer().init, PARAMS)
    return state, refused(state)


def states_in(state, parts):
    """List the classes of the states that are found by way of some parts."""

    def kinds(node, below):
        own = [type(node)] if "learning_rate" in states.fields_of(node) else []
        return sum(below.values(), own)

    return states.folded(state, parts, kinds)


def test_every_state_that_is_in_use_is_found():
    def all_but_saved(node):
        return {k: v for k, v in states.parts_of(node).items() if k != states.SAVED}

    for case in CASES:
        state, _ = state_of(case)
        expected = states_in(state, all_but_saved)
        assert states_in(state, states.parts_in_use) == expected, case


class Strange(NamedTuple):
    """A state of somebody else, with fields named as what adaptax asks for."""

    evaluated: Any = 1.0
    unpacked: Any = 1.0
    has_unit: Any = 1.0
    get_metadata: Any = 1.0
    opt_state: Any = 1.0
    hyperparams: Any = 1.0
    inner_state: Any = 1.0
    inner_states: Any = 1.0
    saved_inner_state: Any = 1.0
    learning_rate: Any = None
    best: Any = 1.0
    start: Any = 1.0
    array: Any = 1.0


@struct.dataclass
class StrangeDataclass:
    """Likewise, with a function as the default of a field."""

    evaluated: Any = struct.field(pytree_node=False, default=len)
    unpacked: Any = struct.field(pytree_node=False, default=len)
    has_unit: Any = struct.field(pytree_node=False, default=len)
    get_metadata: Any = struct.field(pytree_node=False, default=len)
    hyperparams: Any = 1.0


STRANGE = [
    Strange(),
    Strange(learning_rate={"w": 0.5}, hyperparams={"learning_rate": 0.5}),
    Strange(learning_rate="0.5", inner_states=[{}], has_unit=len, evaluated=len),
    Strange(learning_rate=jnp.arange(2), unpacked=print, saved_inner_state=()),
    StrangeDataclass(),
]


def asked_of(state):
    """Ask a state everything; what is refused is the message."""
    found: dict[str, Any] = {
        "eval_params": adaptax.eval_params(state, PARAMS),
        "telemetry": adaptax.telemetry(state),
        "unquantized": adaptax.unquantize_state(state),
        "unpacked": adaptax.unpack_state(state, PARAMS),
    }
    asks = {
        "rate": adaptax.learning_rate,
        "converged": adaptax.converged,
        "set": lambda state: adaptax.set_learning_rate(state, 0.5),
    }
    return found | {name: or_refusal(ask, state) for name, ask in asks.items()}


def refused(state):
    """Ask a state of shapes everything, and list what is refused."""
    refusals = []

    def ask(state):
        found = asked_of(state)
        refusals.extend(key for key, one in found.items() if isinstance(one, str))
        return found["eval_params"]

    evaluated = jax.eval_shape(ask, state)
    chex.assert_trees_all_equal_shapes_and_dtypes(evaluated, PARAMS)
    return refusals


def test_what_is_refused_depends_on_what_a_state_keeps():
    found = {str(case): state_of(case)[1] for case in CASES if not case.variant}
    assert found["adam"] == ["converged"]
    assert found["cosine"] == ["converged", "set"]
    assert found["early_stop"] == []
    assert found["cocob"] == ["rate", "converged", "set"]


def test_a_state_with_other_parameters_may_stand_beside_every_other_state():
    found = [state_of(case)[0] for case in CASES]
    asking = [state for state in found if states.asked(state, "evaluated")]
    others = tuple(state for state in found if not states.asked(state, "evaluated"))
    assert asking
    for state in asking:
        assert refused((*others[::2], state, *others[1::2])) == ["set"]


AROUND = {
    "chain": lambda tx: optax.chain(optax.clip(1.0), tx),
    "masked": lambda tx: optax.masked(tx, {"w": True, "b": False}),
    "partition": lambda tx: optax.partition(
        {"x": tx, "y": optax.identity()}, {"w": "x", "b": "y"}
    ),
    "MultiSteps": lambda tx: optax.MultiSteps(tx, 2),
    "inject_hyperparams": lambda tx: optax.inject_hyperparams(
        lambda beta: optax.chain(optax.trace(beta), tx)
    )(beta=0.5),
    "lookahead": lambda tx: optax.lookahead(tx, 2, 0.5),
    "apply_if_finite": lambda tx: optax.apply_if_finite(tx, 2),
}


@pytest.mark.parametrize(("place", "around"), list(enumerate(AROUND)))
def test_a_state_in_a_container_of_optax_answers_as_it_does_alone(place, around):
    params = PARAMS
    if around == "lookahead":
        params = optax.LookaheadParams.init_synced(PARAMS)
    for case in CASES[place % 3 :: 3]:  # each case in two or three of them
        with jax.numpy_dtype_promotion("standard"):
            state = jax.eval_shape(AROUND[around](case.optimizer()).init, params)
        assert refused(state) == state_of(case)[1], case


@pytest.mark.parametrize("strange", STRANGE, ids=range(len(STRANGE)))
def test_fields_of_other_states_are_no_answers(strange):
    stop = adaptax.early_stop()
    tx = adaptax.iterate_average(adaptax.gradient_descent([0.25, stop]))
    state = tx.init(PARAMS)
    found = asked_of((strange, state, strange))
    assert float(found["rate"]) == 0.25
    assert float(adaptax.learning_rate(found["set"])) == 0.5
    assert not found["converged"]
    assert adaptax.telemetry(state).items() <= found["telemetry"].items()
    assert adaptax._core.rates.as_rate(
        optax.GradientTransformation(
            lambda params: strange, lambda updates, state, params=None: (updates, state)
        )
    )


def test_a_field_of_parameters_called_learning_rate_is_no_rate():
    class Learned(NamedTuple):
        learning_rate: Any
        weights: Any

    def read_in(state):
        return len(jax.make_jaxpr(adaptax.learning_rate)(state).eqns)

    params = Learned(jnp.asarray(3.0), jnp.ones(2))
    for case in CASES:
        usual, refusals = state_of(case)
        if "rate" not in refusals and not case.variant:
            state = jax.eval_shape(case.optimizer().init, params)
            assert read_in(state) == read_in(usual), case


LEVELS = 1000


def nested(kind):
    """Nest a state as deeply as nobody would."""
    state = adaptax.iterate_average(adaptax.gradient_descent(0.25)).init(PARAMS)
    for _ in range(LEVELS):
        state = kind(state)
    return state


@pytest.mark.parametrize(
    "kind",
    [
        lambda state: (optax.EmptyState(), state),
        lambda state: {"inner": state},
        optax.MaskedState,
    ],
    ids=["chains", "dicts", "masks"],
)
def test_a_state_of_a_thousand_levels_can_be_asked_everything(kind):
    found = asked_of(nested(kind))
    assert float(found["rate"]) == 0.25
    assert float(adaptax.learning_rate(found["set"])) == 0.5
    assert len(found["telemetry"]) == len(adaptax.telemetry(nested(lambda one: one)))


def test_parameters_of_a_thousand_levels_can_be_asked_for():
    params = jnp.ones(2)
    for _ in range(LEVELS):
        params = {"inner": params}
    tx = adaptax.iterate_average(adaptax.momentum(0.25))
    state = tx.update(params, tx.init(params), params)[1]
    chex.assert_trees_all_close(
        jax.tree.leaves(adaptax.eval_params(state, params))[0], 1 - 0.025
    )
    assert float(adaptax.learning_rate(state)) == 0.25
