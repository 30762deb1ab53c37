"""Arguments out of their bounds are refused, with their names."""

import jax
import jax.numpy as jnp
import optax
import pytest

import adaptax

INNER = optax.identity()


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("reps_rel", lambda: adaptax.dog(reps_rel=0.0)),
        ("eps", lambda: adaptax.l_dog(eps=-1.0)),
        ("reps_rel", lambda: adaptax.dowg(reps_rel=float("nan"))),
        ("initial", lambda: adaptax.adgd(initial=0.0)),
        ("initial", lambda: adaptax.adgd2(initial=-1.0)),
        ("sigma", lambda: adaptax.cdat(sigma=0.0)),
        ("decay", lambda: adaptax.cdat(decay=1.0)),
        ("eps", lambda: adaptax.cdat(eps=-1.0)),
        ("gamma", lambda: adaptax.iterate_average(INNER, gamma=-1.0)),
        ("decay", lambda: adaptax.iterate_average(INNER, decay=1.0)),
        ("b1", lambda: adaptax.schedule_free(INNER, b1=1.5)),
        ("weight_power", lambda: adaptax.schedule_free(INNER, weight_power=-1.0)),
        ("step_power", lambda: adaptax.schedule_free(INNER, step_power=-1.0)),
        ("learning_rate", lambda: adaptax.schedule_free_sgd(-1.0)),
        ("weight_decay", lambda: adaptax.schedule_free_sgd(1.0, weight_decay=-1.0)),
        ("b2", lambda: adaptax.schedule_free_adamw(1.0, b2=1.0)),
        ("eps", lambda: adaptax.schedule_free_radam(1.0, eps=-1.0)),
        ("initial_scale", lambda: adaptax.mechanic(INNER, initial_scale=0.0)),
        ("weight_decay", lambda: adaptax.mechanic(INNER, weight_decay=-1.0)),
        ("eps", lambda: adaptax.mechanic(INNER, eps=0.0)),
        ("betas", lambda: adaptax.mechanic(INNER, betas=())),
        ("betas", lambda: adaptax.trac(INNER, betas=(0.9, 1.0))),
        ("initial_scale", lambda: adaptax.trac(INNER, initial_scale=-1.0)),
    ],
)
def test_an_argument_out_of_its_bounds_is_refused(name, make):
    with pytest.raises(ValueError, match=name):
        make()


def test_factors_may_be_traced():
    def first_scale(beta):
        optimizer = adaptax.mechanic(INNER, betas=(beta,))
        return optimizer.init(jnp.ones(2)).tuner.scales

    assert jax.jit(first_scale)(0.9).shape == (1,)
