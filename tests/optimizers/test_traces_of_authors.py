"""The authors' own code goes where ours goes; `tests/reference` has the script."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conformance.contracts import reference_of

import adaptax

FILE = Path(__file__).parents[1] / "reference" / "learning_rate_free.json"
RECORD = json.loads(FILE.read_text(encoding="utf-8"))
CURVATURES, MINIMUM, START = (
    np.asarray(RECORD[name]) for name in ("curvatures", "minimum", "start")
)
AT = np.asarray(RECORD["recorded"]) - 1


class Ours(NamedTuple):
    """Our method and its NumPy reference, and the arguments that both take."""

    factory: Any
    reference: Any
    arguments: dict[str, Any]
    warmed_up: bool = False

    @classmethod
    def of(cls, name, arguments, warmed_up=False):
        factory = getattr(adaptax, name)
        return cls(factory, reference_of(name, "optimizer"), arguments, warmed_up)


def prodigy(warmed_up=False, **arguments):
    arguments = {"bias_correction": False, **arguments}  # the authors' default
    return Ours.of("prodigy", arguments, warmed_up)


def cocob(**arguments):
    return Ours.of("cocob", arguments)


def dadapt_adam(warmed_up=False, **arguments):
    return Ours.of("dadapt_adam", arguments, warmed_up)


def dadapt_sgd(**arguments):
    return Ours.of("dadapt_sgd", arguments)


def dadapt_lion(**arguments):
    return Ours.of("dadapt_lion", arguments)


def momo(**arguments):
    return Ours.of("momo", arguments)


def momo_adam(**arguments):
    return Ours.of("momo_adam", arguments)


OURS = {
    "prodigy": prodigy(d0=1e-3),
    "prodigy, bias correction and weight decay": prodigy(
        d0=1e-3, bias_correction=True, weight_decay=0.1, d_coef=0.5
    ),
    "prodigy, sliced": prodigy(d0=1e-3, b3=0.9, slice_p=4),
    "prodigy, warmed up from a rate of 0": prodigy(warmed_up=True, d0=1e-3),
    "prodigy, warmed up and safeguarded": prodigy(
        warmed_up=True, d0=1e-3, safeguard_warmup=True
    ),
    "cocob": cocob(),
    "cocob, bold": cocob(alpha=3.0, eps=1e-3),
    "dadapt_adam": dadapt_adam(d0=1e-3),
    "dadapt_adam, bias correction and weight decay": dadapt_adam(
        warmed_up=True, d0=1e-3, bias_correction=True, weight_decay=0.1
    ),
    "dadapt_adam, capped growth": dadapt_adam(
        b1=0.8, b2=0.99, d0=1e-2, growth=1.1, eps=1e-3
    ),
    "dadapt_sgd": dadapt_sgd(d0=1e-3),
    "dadapt_sgd, momentum": dadapt_sgd(d0=1e-3, b=0.9, growth=1.5),
    "dadapt_lion": dadapt_lion(d0=1e-2, b2=0.9, weight_decay=0.1),
    "momo": momo(learning_rate=0.3),
    "momo, bias correction and weight decay": momo(
        learning_rate=0.3, bias_correction=True, weight_decay=0.1, b=0.8
    ),
    "momo, estimated bound": momo(learning_rate=0.3, use_fstar=True, lower_bound=-1.0),
    "momo, estimated bound and weight decay": momo(
        learning_rate=0.3, use_fstar=True, bias_correction=True, weight_decay=0.1
    ),
    "momo_adam": momo_adam(learning_rate=0.3),
    "momo_adam, weight decay": momo_adam(
        learning_rate=0.3, b1=0.8, b2=0.99, weight_decay=0.1, lower_bound=-0.5
    ),
    "momo_adam, estimated bound": momo_adam(learning_rate=0.3, use_fstar=True),
}


def run(optimizer):
    """Return the points and the distances of the recorded steps."""

    def step(carry, _):
        x, state = carry
        gradient = CURVATURES * (x - MINIMUM)
        value = jnp.sum(gradient * (x - MINIMUM)) / 2
        updates, state = optimizer.update(gradient, state, x, value=value)
        x = optax.apply_updates(x, updates)
        return (x, state), (x, getattr(state, "distance", jnp.zeros(())))

    carry = jnp.asarray(START), optimizer.init(START)
    _, (points, distances) = jax.lax.scan(step, carry, length=RECORD["steps"])
    return points[AT], distances[AT]


def warm_up(step):
    return jnp.asarray(RECORD["warm_up"]).astype(jnp.float32)[step]


@pytest.mark.parametrize("name", OURS)
def test_it_goes_where_the_authors_code_goes(name):
    trace, ours = RECORD["traces"][name], OURS[name]
    rate = {"learning_rate": warm_up} if ours.warmed_up else {}
    with jax.enable_x64(True):
        optimizer = ours.factory(**rate, **ours.arguments)
        points, distances = jax.jit(lambda: run(optimizer))()
    np.testing.assert_allclose(points, trace["points"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(distances, trace["distances"], rtol=1e-5)


class Along:
    """The gradients, or the losses, at the points of a path that is being made."""

    def __init__(self, path, at):
        self.path, self.at = path, at

    def __len__(self):
        return RECORD["steps"]

    def __iter__(self):
        return (self.at(self.path[-1] - MINIMUM) for _ in range(len(self)))


@pytest.mark.parametrize("name", OURS)
def test_the_references_go_where_the_authors_code_goes(name):
    ours, path = OURS[name], [START]
    rate = {"learning_rate": RECORD["warm_up"]} if ours.warmed_up else {}
    gradients = Along(path, lambda x: CURVATURES * x)
    losses = Along(path, lambda x: np.sum(CURVATURES * x**2) / 2)
    for step in ours.reference(START, gradients, losses, **rate, **ours.arguments):
        path.append(step[0] if isinstance(step, tuple) else step)
    points = np.stack(path[1:])[AT]
    np.testing.assert_allclose(points, RECORD["traces"][name]["points"], rtol=1e-11)


def test_every_trace_is_compared():
    assert set(RECORD["traces"]) == set(OURS)
