"""Optimistix's `OptaxMinimiser` runs the whole catalogue.

It passes `value`, `grad` and `value_fn`, so what needs more says so. The catalogue is
traced, twice around the loop, and a few methods are run.
"""

import jax
import jax.numpy as jnp
import pytest
from conformance.cases import Case

import adaptax
from adaptax.catalog import ENTRIES

eqx = pytest.importorskip("equinox")
optimistix = pytest.importorskip("optimistix")

PASSED = {"params", "value", "grad", "value_fn"}
CASES = [Case(entry) for entry in ENTRIES]
START = {"w": jnp.zeros((4, 2)), "b": jnp.zeros(())}


def minimiser(optimizer):
    return optimistix.OptaxMinimiser(optimizer, rtol=1e-6, atol=1e-6)


def loss(params, _):
    return jnp.sum((params["w"] - 1.0) ** 2) + params["b"] ** 2


def twice_around(solver, params):
    """Return parameters and state before the first step and after two."""

    def with_aux(params, args):
        return loss(params, args), None

    found = jax.eval_shape(lambda: with_aux(params, None))
    state = solver.init(with_aux, params, None, {}, *found, frozenset())
    trace = [(params, state)]
    for _ in range(2):
        params, state, _ = solver.step(with_aux, params, None, {}, state, frozenset())
        trace.append((params, state))
    return trace[0], trace[-1]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_takes_the_steps_of_the_catalogue_or_says_what_it_lacks(case):
    solver = minimiser(case.optimizer())
    lacking = case.needs - PASSED
    if lacking:
        with pytest.raises(TypeError, match="|".join(f"`{name}`" for name in lacking)):
            eqx.filter_eval_shape(twice_around, solver, START)
        return
    before, after = eqx.filter_eval_shape(twice_around, solver, START)
    assert jax.tree.structure(before) == jax.tree.structure(after)
    for one, other in zip(*map(jax.tree.leaves, (before, after)), strict=True):
        if eqx.is_array(one) or isinstance(one, jax.ShapeDtypeStruct):
            assert (one.shape, one.dtype) == (other.shape, other.dtype)


RUN = {
    "a list of rates": (
        lambda: adaptax.adam([0.1, adaptax.cosine(1.0, 400), adaptax.constant(1.0)])
    ),
    "a controller": lambda: adaptax.gradient_descent(
        [0.2, adaptax.reduce_on_plateau()]
    ),
    "a line search": lambda: adaptax.gradient_descent(adaptax.line_search()),
    "an inferred rate": lambda: adaptax.momo_adam(0.1),
}


@pytest.mark.parametrize("name", RUN)
def test_it_finds_the_minimum(name):
    solver = minimiser(RUN[name]())
    found = optimistix.minimise(loss, solver, START, max_steps=400, throw=False).value
    assert loss(found, None) < 1e-3
