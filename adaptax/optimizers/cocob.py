"""COCOB-Backprop: coin betting in each coordinate, without a learning rate.

    L ← max(L, |g|)                                  from L = ε
    S ← S + |g|,   θ ← θ − g,   R ← max(R − g (x − x₀), 0)
    x ← x₀ + θ (R + L) / (L max(S + L, α L))

L is the largest gradient so far, R the reward of the bets, and x − x₀ the next bet: a
fraction of L + R that grows with θ, the sum of the negative gradients.

Source: Orabona & Tommasi (2017), "Training Deep Networks without Learning Rates Through
Coin Betting", NIPS (arXiv 1705.07795), Alg. 2. α is 100 by default, as in the paper:
about the number of steps during which it limits the bets. The authors' code,
parameterfree 0.0.1, and `optax.contrib.cocob` are the same. In Optax, however, the
state shares the parameters' buffers, which prevents donation, and a coordinate with one
NaN is never trained again.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from adaptax._core import checks, counters, snapshots
from adaptax._core.checks import Scalar
from adaptax._core.coordinates import accumulators, by_coordinate, divide, magnitudes
from adaptax._core.guards import guarded
from adaptax._core.leaves import inner
from adaptax._core.methods import Method
from adaptax._core.words import translating


class CocobState(NamedTuple):
    """The state of `cocob`: the counter `step`, and trees shaped like the parameters.

    `largest` is L, `sum_abs` S, `theta` θ, `reward` R, and `origin` x₀ in the
    parameters' own dtypes.
    """

    step: jax.Array
    largest: optax.Updates
    sum_abs: optax.Updates
    theta: optax.Updates
    reward: optax.Updates
    origin: optax.Params


@translating
def cocob(
    *, alpha: Scalar = 100.0, eps: Scalar = 1e-8, accumulator_dtype: Any = None
) -> optax.GradientTransformationExtraArgs:
    """COCOB, a whole optimizer without a learning rate; needs `params`.

    The method computes the parameters themselves, and each update leads to them. A rate
    after it in the chain takes a fraction of each step.

    Args:
        alpha: α > 0. It limits the early steps: in the first, a coordinate moves by
            1/α, or by 1/2 if α < 2.
        eps: ε >= 0, the first L, in the unit of a gradient. Where L is 0, so is the
            bet.
        accumulator_dtype: The dtype of L, S, θ and R; by default that of the
            parameters, or float32 for half precision.

    Raises:
        ValueError: At `update`, if `params` is missing.

    >>> optimizer = cocob()
    >>> updates, state = optimizer.update(5.0, optimizer.init(3.0), 3.0)
    >>> float(updates)
    -0.01
    """
    checks.number("alpha", alpha, above=0)
    checks.number("eps", eps, at_least=0)

    def rule(g, largest, sum_abs, theta, reward, origin, w, first, alpha):
        origin = jnp.where(first > 0, w, origin)
        size = jnp.abs(g)
        largest = jnp.maximum(largest, size)
        sum_abs, theta = sum_abs + size, theta - g
        reward = jnp.maximum(reward - inner(g, w - origin), 0)
        bound = jnp.maximum(sum_abs + largest, alpha * largest)
        bet = divide(theta, largest) * divide(reward + largest, bound)
        return bet - (w - origin), largest, sum_abs, theta, reward, origin

    def init(params):
        def sizes(fill: Scalar = 0.0):
            return magnitudes(params, fill, accumulator_dtype)

        return CocobState(
            step=counters.zero(),
            largest=sizes(eps),
            sum_abs=sizes(),
            theta=accumulators(params, dtype=accumulator_dtype),
            reward=sizes(),
            origin=snapshots.empty(params),
        )

    def update(updates, state, params=None, **extra_args):
        del extra_args
        params = checks.required_params(params, "cocob")
        updates, *trees = by_coordinate(
            rule,
            updates,
            *state[1:],
            reads=(params,),
            first=state.step == 0,
            alpha=alpha,
        )
        return updates, CocobState(counters.increment(state.step), *trees)

    return guarded(optax.GradientTransformationExtraArgs(init, update))


METHOD = Method(
    {"alpha": 8.0, "eps": 1e-6},
    source="Orabona & Tommasi (2017)",
    needs=frozenset({"params"}),
    usual_rate=1.0,
    rate="none",
)
