"""`cdat`: its equations as a NumPy loop, and what is asked of it."""

from conformance.contracts import Contract, Goal


def reference(w, gradients, values, *, sigma, decay, eps, curvatures=0.0):
    """Divide the average slope along the gradient by the average curvature."""
    slope = curvature = 0.0
    for g in gradients:
        slope = decay * slope + (1 - decay) * max(g @ g, 0)
        curvature = decay * curvature + (1 - decay) * (abs(g @ (curvatures * g)) + eps)
        w = w - sigma * slope / curvature * g
        yield w


CONTRACT = Contract(
    reference,
    goals={"quadratic": Goal(200, 1e-2, {"eps": 1e-12})},
)
