"""What the methods refuse, and that they can be differentiated through."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptax

REFUSED = {
    "d0 must be > 0, got 0.0": lambda: adaptax.prodigy(d0=0.0),
    "d_coef must be > 0, got -1": lambda: adaptax.prodigy(d_coef=-1),
    "growth must be >= 1, got 0.9": lambda: adaptax.prodigy(growth=0.9),
    "b3 must be >= 0 and < 1, got 1.0": lambda: adaptax.prodigy(b3=1.0),
    "freeze_after must be >= 0, got -1": lambda: adaptax.prodigy(freeze_after=-1),
    "slice_p must be >= 1, got 0": lambda: adaptax.prodigy(slice_p=0),
    "b2 must be >= 0 and < 1, got 1": lambda: adaptax.dadapt_adam(b2=jnp.bfloat16(1)),
    "d0 must be > 0, got nan": lambda: adaptax.dadapt_sgd(d0=np.nan),
    "weight_decay must be >= 0": lambda: adaptax.dadapt_lion(weight_decay=-0.1),
    "lower_bound must be finite": lambda: adaptax.momo(lower_bound=-np.inf),
    "eps must be >= 0": lambda: adaptax.momo_adam(eps=-1e-8),
    "alpha must be > 0, got 0.0": lambda: adaptax.cocob(alpha=0.0),
    "q must be > 0, got 0.0": lambda: adaptax.adamg(q=0.0),
}


@pytest.mark.parametrize("message", REFUSED)
def test_it_is_refused_by_name(message):
    with pytest.raises(ValueError, match=message):
        REFUSED[message]()


METHODS = {
    "adamg": lambda rate: adaptax.adamg(0.3 * rate),
    "dadapt_adam": lambda rate: adaptax.dadapt_adam(rate, d0=0.1),
    "dadapt_sgd": lambda rate: adaptax.dadapt_sgd(rate, d0=0.1),
    "momo": lambda rate: adaptax.momo(0.1 * rate),
    "momo_adam": lambda rate: adaptax.momo_adam(0.1 * rate),
    "prodigy": lambda rate: adaptax.prodigy(rate, d0=0.1),
}


@pytest.mark.parametrize("name", METHODS)
def test_the_loss_after_some_steps_has_a_derivative_by_the_rate(name):
    def loss_after(rate):
        optimizer = optax.with_extra_args_support(METHODS[name](rate))

        def step(carry, _):
            params, state = carry
            updates, state = optimizer.update(
                params, state, params, value=jnp.sum(params**2) / 2
            )
            return (optax.apply_updates(params, updates), state), None

        params = jnp.asarray([3.0, -1.0])
        carry = params, optimizer.init(params)
        (params, _), _ = jax.lax.scan(step, carry, length=3)
        return jnp.sum(params**2) / 2

    derivative = jax.jit(jax.value_and_grad(loss_after))
    (_, slope), (more, _), (less, _) = map(derivative, (1.0, 1.02, 0.98))
    assert slope != 0
    np.testing.assert_allclose(slope, (more - less) / 0.04, rtol=0.05)
