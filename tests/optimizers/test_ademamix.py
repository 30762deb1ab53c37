import chex
import jax
import numpy as np
import optax
from conformance.contracts import Contract, Goal
from steps import assert_same_steps, gradients, updates_of

import adaptax


def reference(
    w,
    gradients,
    values,
    *,
    learning_rate,
    b1,
    b2,
    b3,
    alpha,
    eps,
    eps_root,
    weight_decay,
    warmup_steps,
):
    """w ← w − α ((m̂ + a k) / (√(v̂ + ε₀) + ε) + λ w)."""
    m, k, v = np.zeros_like(w), np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, start=1):
        a, b = alpha, b3
        if t < warmup_steps:
            r = t / warmup_steps
            a = alpha * r
            start, end = np.log(b1), np.log(b3)
            b = np.exp(start * end / ((1 - r) * end + r * start))
        m = b1 * m + (1 - b1) * g
        k = b * k + (1 - b) * g
        v = b2 * v + (1 - b2) * g**2
        divisor = np.sqrt(v / (1 - b2**t) + eps_root) + eps
        step = (m / (1 - b1**t) + a * k) / divisor
        w = w - learning_rate * (step + weight_decay * w)
        yield w


CONTRACT = Contract(
    reference,
    elementwise=True,
    breaks={"zero_gradients": "the weights decay"},
    optax_forms=("optax.contrib.ademamix",),
    optax_twin=lambda: optax.contrib.ademamix(
        0.05, 0.8, 0.99, 0.95, 2.0, 1e-6, 1e-7, weight_decay=0.01
    ),
    goals={
        "quadratic": Goal(300, 1e-2, {"weight_decay": 1e-4}),
        "complex_parabola": Goal(
            500, 1e-2, {"learning_rate": 0.03, "weight_decay": 0.0}
        ),
        "complex_rosenbrock": Goal(
            1000, 0.01, {"learning_rate": 0.003, "weight_decay": 0.0}
        ),
    },
)


def test_without_the_slow_average_it_is_adamw():
    assert_same_steps(
        adaptax.ademamix(0.1, alpha=0.0, weight_decay=0.01),
        adaptax.adamw(0.1, weight_decay=0.01),
        rtol=1e-6,
    )


def test_a_slow_average_as_fast_as_the_fast_one_only_lengthens_the_steps_of_adam():
    ours = updates_of(adaptax.scale_by_ademamix(b1=0.8, b3=0.8, alpha=2.0))
    adams = updates_of(adaptax.scale_by_adam(b1=0.8))
    for t, (our, adam) in enumerate(zip(ours, adams, strict=True), start=1):
        longer = jax.tree.map(lambda u, t=t: u * (1 + 2 * (1 - 0.8**t)), adam)
        chex.assert_trees_all_close(our, longer, rtol=2e-5)


def test_the_warm_up_starts_with_the_fast_average_and_ends_with_the_slow_one():
    def slow_averages(**arguments):
        direction = adaptax.scale_by_ademamix(b1=0.5, b3=0.99, **arguments)
        states = [direction.init(gradients(1)[0])]
        for gradient in gradients(3):
            states.append(direction.update(gradient, states[-1])[1])
        return [state.slow_mean["scalar"] for state in states]

    size = gradients(1)[0]["scalar"]
    long = slow_averages(warmup_steps=10**7)
    short = slow_averages(warmup_steps=2)
    chex.assert_trees_all_close(long[1], 0.5 * size, rtol=1e-4)
    newest = gradients(3)[2]["scalar"]
    chex.assert_trees_all_close(short[3], 0.99 * short[2] + 0.01 * newest, rtol=1e-5)
