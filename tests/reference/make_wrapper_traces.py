"""Write wrapper_traces.json: where the authors' own packages lead.

    python tests/reference/make_wrapper_traces.py

It needs torch, dog-optimizer, schedulefree and mechanic-pytorch; the tests read the
file and need none of them. All runs are in float64, on the gradients

    g_t = curvature · (w − target) + noise_t

which no method can tell from those of a real problem.
"""

import importlib
import json
import math
from importlib import metadata
from pathlib import Path

STEPS = 16
SHAPES = {"matrix": (3, 2), "vector": (2,)}
SIZE = 8
PROBLEM = {
    "start": [round(math.sin(3 * i + 1), 4) for i in range(SIZE)],
    "target": [round(2 * math.cos(2 * i), 4) for i in range(SIZE)],
    "curvature": [round(0.2 + 0.3 * i, 4) for i in range(SIZE)],
    "noise": [
        [round(0.3 * math.sin(7 * t + 5 * i * i), 4) for i in range(SIZE)]
        for t in range(STEPS)
    ],
}

ARGUMENTS = {
    "dog": {"reps_rel": 0.02, "eps": 1e-8},
    "l_dog": {"reps_rel": 0.02, "eps": 1e-8},
    "iterate_average": {"gamma": 8.0},
    "schedule_free_sgd": {"learning_rate": 0.5, "b1": 0.8, "weight_decay": 0.1},
    "schedule_free_adamw": {
        "learning_rate": 0.25,
        "b1": 0.8,
        "b2": 0.95,
        "weight_decay": 0.1,
        "step_power": 1.0,
    },
    "schedule_free_radam": {"learning_rate": 0.25, "b1": 0.8, "b2": 0.95},
    "mechanic": {"initial_scale": 0.01, "weight_decay": 0.0},
}
"""Our arguments, which are exact in float32 where the library keeps them so."""


def leaves(torch):
    """Make the two parameters."""
    flat = torch.tensor(PROBLEM["start"], dtype=torch.float64)
    return [
        torch.nn.Parameter(flat[:6].reshape(SHAPES["matrix"]).clone()),
        torch.nn.Parameter(flat[6:].clone()),
    ]


def run(torch, params, step, *, points=None):
    """Return the points after each step, or what `points` makes of the parameters."""
    target, curvature, noise = (
        torch.tensor(PROBLEM[name], dtype=torch.float64)
        for name in ("target", "curvature", "noise")
    )
    for one in noise:
        flat = torch.cat([param.detach().reshape(-1) for param in params])
        gradient = curvature * (flat - target) + one
        params[0].grad = gradient[:6].reshape(SHAPES["matrix"]).clone()
        params[1].grad = gradient[6:].clone()
        step()
        reached = points() if points else params
        yield [float(x) for param in reached for x in param.detach().reshape(-1)]


def dog(torch, kind, *, reps_rel, eps):
    """Run dog.DoG or dog.LDoG."""
    params = leaves(torch)
    optimizer = getattr(importlib.import_module("dog"), kind)(
        params, reps_rel=reps_rel, eps=eps
    )
    return {"points": list(run(torch, params, optimizer.step))}


def iterate_average(torch, *, gamma):
    """Run dog.PolynomialDecayAverager along gradient descent of the rate 0.25."""
    model = torch.nn.Module()
    model.params = torch.nn.ParameterList(leaves(torch))
    descent = torch.optim.SGD(model.parameters(), lr=0.25)
    averager = importlib.import_module("dog").PolynomialDecayAverager(model, gamma)

    def step():
        descent.step()
        averager.step()

    params = list(model.params)
    points = run(torch, params, step, points=lambda: averager.averaged_model.params)
    return {"evaluated": list(points)}


def schedule_free(
    torch, kind, *, learning_rate, b1, b2=None, weight_decay=0.0, step_power=0.0
):
    """Run one of schedulefree's optimizers, at the points where it is evaluated too."""
    params, evaluated = leaves(torch), []
    betas = {"momentum": b1} if b2 is None else {"betas": (b1, b2)}
    optimizer = getattr(importlib.import_module("schedulefree"), kind)(
        params,
        lr=learning_rate,
        weight_decay=weight_decay,
        r=step_power,
        foreach=False,
        **betas,
    )
    optimizer.train()

    def step():
        optimizer.step()
        optimizer.eval()
        evaluated.append([float(x) for p in params for x in p.detach().reshape(-1)])
        optimizer.train()

    return {"points": list(run(torch, params, step)), "evaluated": evaluated}


def mechanic(torch, *, initial_scale, weight_decay):
    """Run mechanize around gradient descent of the rate 0.25.

    The package starts its largest product m at 10⁻⁶, the paper at 0, as is done here.
    """
    module = importlib.import_module("mechanic_pytorch.mechanic")
    init_state, torch_full = module._init_state, torch.full

    def init_at_zero(*arguments, **named):
        torch.full = lambda shape, _: torch.zeros(shape)
        try:
            return init_state(*arguments, **named)
        finally:
            torch.full = torch_full

    module._init_state = init_at_zero
    torch.set_default_dtype(torch.float64)
    params = leaves(torch)
    optimizer = module.mechanize(
        torch.optim.SGD, s_init=initial_scale, s_decay=weight_decay, store_delta=True
    )(params, lr=0.25)
    try:
        return {"points": list(run(torch, params, optimizer.step))}
    finally:
        torch.set_default_dtype(torch.float32)


def main() -> None:
    """Write the file beside this script."""
    torch = importlib.import_module("torch")
    make = {
        "dog": lambda **a: dog(torch, "DoG", **a),
        "l_dog": lambda **a: dog(torch, "LDoG", **a),
        "iterate_average": lambda **a: iterate_average(torch, **a),
        "schedule_free_sgd": lambda **a: schedule_free(torch, "SGDScheduleFree", **a),
        "schedule_free_adamw": lambda **a: schedule_free(
            torch, "AdamWScheduleFree", **a
        ),
        "schedule_free_radam": lambda **a: schedule_free(
            torch, "RAdamScheduleFree", **a
        ),
        "mechanic": lambda **a: mechanic(torch, **a),
    }
    packages = ("dog-optimizer", "schedulefree", "mechanic-pytorch")
    record = {
        "versions": {name: metadata.version(name) for name in packages},
        "problem": PROBLEM,
        "arguments": ARGUMENTS,
        "traces": {
            name: {
                kind: [[float(f"{x:.12g}") for x in point] for point in points]
                for kind, points in make[name](**ARGUMENTS[name]).items()
            }
            for name in ARGUMENTS
        },
    }
    path = Path(__file__).with_name("wrapper_traces.json")
    path.write_text(json.dumps(record) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
