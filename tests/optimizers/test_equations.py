"""Every optimizer that the project was asked for, against a literal NumPy loop."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptax

A, B, RHO, B1, B2, EPS = 0.125, 0.9, 0.9, 0.9, 0.999, 1e-8


def gradient_descent(w, g, memory, t):
    return w - A * g, memory


def momentum(w, g, v, t):
    v = B * v + (1 - B) * g
    return w - A * v, v


def undamped_momentum(w, g, v, t):
    v = B * v + g
    return w - A * v, v


def adagrad(w, g, total, t):
    total = total + g**2
    return w - A * g / np.sqrt(total + EPS), total


def rmsprop(w, g, s, t):
    s = RHO * s + (1 - RHO) * g**2
    return w - A * g / np.sqrt(s + EPS), s


def rmsprop_with_debiased_momentum(w, g, memory, t):
    m, v = memory
    m, v = RHO * m + (1 - RHO) * g, RHO * v + (1 - RHO) * g**2
    m_hat, v_hat = m / (1 - RHO**t), v / (1 - RHO**t)
    return w - A * m_hat / (np.sqrt(v_hat) + EPS), np.stack([m, v])


def adam_with_eps_inside(w, g, memory, t):
    m, v = memory
    m, v = B1 * m + (1 - B1) * g, B2 * v + (1 - B2) * g**2
    m_hat, v_hat = m / (1 - B1**t), v / (1 - B2**t)
    return w - A * m_hat / np.sqrt(v_hat + EPS), np.stack([m, v])


def adam_with_eps_outside(w, g, memory, t):
    m, v = memory
    m, v = B1 * m + (1 - B1) * g, B2 * v + (1 - B2) * g**2
    m_hat, v_hat = m / (1 - B1**t), v / (1 - B2**t)
    return w - A * m_hat / (np.sqrt(v_hat) + EPS), np.stack([m, v])


class Row(NamedTuple):
    """A step of the equation, the size of its memory, and the public forms."""

    step: object
    size: tuple[int, ...]
    forms: tuple[optax.GradientTransformation, ...]


ROWS = [
    Row(gradient_descent, (5,), (adaptax.gradient_descent(A),)),
    Row(momentum, (5,), (adaptax.momentum(A), adaptax.momentum(A, b=B))),
    Row(undamped_momentum, (5,), (adaptax.momentum(A, b=B, dampening=0.0),)),
    Row(adagrad, (5,), (adaptax.adagrad(A), adaptax.adagrad(A, eps_root=EPS))),
    Row(
        rmsprop,
        (5,),
        (adaptax.rmsprop(A), adaptax.rmsprop(A, decay=RHO, eps_root=EPS)),
    ),
    Row(
        rmsprop_with_debiased_momentum,
        (2, 5),
        (
            adaptax.rmsprop(A, decay=RHO, momentum=RHO, debias=True, eps=EPS),
            adaptax.adam(A, b1=RHO, b2=RHO, eps=EPS),
        ),
    ),
    Row(
        adam_with_eps_inside,
        (2, 5),
        (adaptax.adam(A, B1, B2, eps=0.0, eps_root=EPS),),
    ),
    Row(
        adam_with_eps_outside,
        (2, 5),
        (adaptax.adam(A), adaptax.adam(A, B1, B2, eps=EPS)),
    ),
]


@pytest.mark.parametrize(
    ("row", "form"),
    [(row, form) for row in ROWS for form in range(len(row.forms))],
    ids=lambda x: x.step.__name__ if isinstance(x, Row) else f"form {x}",
)
def test_the_public_form_follows_the_equation(row, form):
    random = np.random.default_rng(0)
    start, gradients = random.normal(size=5), random.normal(size=(30, 5))
    optimizer = row.forms[form]

    def step(carry, g):
        w, state = carry
        updates, state = optimizer.update(g, state, w)
        w = optax.apply_updates(w, updates)
        return (w, state), w

    with jax.enable_x64(True):
        first = jnp.asarray(start)
        path = jax.jit(lambda g: jax.lax.scan(step, (first, optimizer.init(first)), g))(
            gradients
        )[1]

    w, memory = start, np.zeros(row.size)
    for t, g in enumerate(gradients, start=1):
        w, memory = row.step(w, g, memory, t)
        np.testing.assert_allclose(path[t - 1], w, rtol=1e-10)


@pytest.mark.parametrize(
    "misprint",
    ["without the root", "starting anew at every example"],
)
def test_adam_is_neither_of_the_misprinted_variants(misprint):
    gradients = np.float32([1.0, 4.0])
    state = (optimizer := adaptax.adam(1.0)).init(jnp.zeros(()))
    for g in gradients:
        update, state = optimizer.update(g, state)
    m = B1 * (1 - B1) * gradients[0] + (1 - B1) * gradients[1]
    v = B2 * (1 - B2) * gradients[0] ** 2 + (1 - B2) * gradients[1] ** 2
    wrong = {
        "without the root": -(B1 / (1 - B1**2) * m + B2 / (1 - B2**2) * v),
        "starting anew at every example": -1.0,
    }
    right = -(m / (1 - B1**2)) / (np.sqrt(v / (1 - B2**2)) + EPS)
    np.testing.assert_allclose(update, right, rtol=1e-5)
    assert abs(float(update) - wrong[misprint]) > 0.1
