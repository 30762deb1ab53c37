"""Write learning_rate_free.json: where the authors' own optimizers go.

    python tests/reference/make_learning_rate_free_traces.py

It needs the packages named in `PACKAGES`; the tests read the file and do not. The
problem is the least of ½ Σ c (x − a)², in float64.
"""

import contextlib
import io
import json
import math
from importlib import metadata
from pathlib import Path

import dadaptation
import momo
import parameterfree
import prodigyopt
import torch

PACKAGES = ("torch", "prodigyopt", "dadaptation", "momo-opt", "parameterfree")
SIZE, STEPS = 6, 30
RECORDED = (1, 2, 3, 5, 8, 13, 21, 30)
CURVATURES = [0.1 + 0.4 * i for i in range(SIZE)]
MINIMUM = [3 * math.sin(1 + i) for i in range(SIZE)]
START = [math.cos(2 * i) for i in range(SIZE)]
WARM_UP = [min(step / 10, 1.0) for step in range(20)] + [0.0] + [0.5] * 9

CASES = {
    "prodigy": (prodigyopt.Prodigy, {"d0": 1e-3}),
    "prodigy, bias correction and weight decay": (
        prodigyopt.Prodigy,
        {"d0": 1e-3, "use_bias_correction": True, "weight_decay": 0.1, "d_coef": 0.5},
    ),
    "prodigy, sliced": (prodigyopt.Prodigy, {"d0": 1e-3, "slice_p": 4, "beta3": 0.9}),
    "prodigy, warmed up from a rate of 0": (
        prodigyopt.Prodigy,
        {"d0": 1e-3, "rates": WARM_UP},
    ),
    "cocob": (parameterfree.COCOB, {}),
    "cocob, bold": (parameterfree.COCOB, {"alpha": 3.0, "eps": 1e-3}),
    "dadapt_adam": (dadaptation.DAdaptAdam, {"d0": 1e-3}),
    "dadapt_adam, bias correction and weight decay": (
        dadaptation.DAdaptAdam,
        {
            "d0": 1e-3,
            "use_bias_correction": True,
            "weight_decay": 0.1,
            "decouple": True,
            "rates": WARM_UP,
        },
    ),
    "dadapt_adam, capped growth": (
        dadaptation.DAdaptAdam,
        {"d0": 1e-2, "growth_rate": 1.1, "betas": (0.8, 0.99), "eps": 1e-3},
    ),
    "dadapt_sgd": (dadaptation.DAdaptSGD, {"d0": 1e-3}),
    "dadapt_sgd, momentum": (
        dadaptation.DAdaptSGD,
        {"d0": 1e-3, "momentum": 0.9, "growth_rate": 1.5},
    ),
    "dadapt_lion": (
        dadaptation.DAdaptLion,
        {"d0": 1e-2, "betas": (0.9, 0.9), "weight_decay": 0.1},
    ),
    "momo": (momo.Momo, {"lr": 0.3}),
    "momo, bias correction and weight decay": (
        momo.Momo,
        {"lr": 0.3, "bias_correction": True, "weight_decay": 0.1, "beta": 0.8},
    ),
    "momo, estimated bound": (momo.Momo, {"lr": 0.3, "use_fstar": True, "lb": -1.0}),
    "momo, estimated bound and weight decay": (
        momo.Momo,
        {"lr": 0.3, "use_fstar": True, "bias_correction": True, "weight_decay": 0.1},
    ),
    "momo_adam": (momo.MomoAdam, {"lr": 0.3}),
    "momo_adam, weight decay": (
        momo.MomoAdam,
        {"lr": 0.3, "betas": (0.8, 0.99), "weight_decay": 0.1, "lb": -0.5},
    ),
    "momo_adam, estimated bound": (momo.MomoAdam, {"lr": 0.3, "use_fstar": True}),
    "prodigy, warmed up and safeguarded": (
        prodigyopt.Prodigy,
        {"d0": 1e-3, "rates": WARM_UP, "safeguard_warmup": True},
    ),
}
"""The cases by name: a class and its arguments; `rates` are set step by step."""


def trace(kind, arguments: dict) -> dict:
    """Return the point and d after each recorded step."""
    arguments = dict(arguments)
    rates = arguments.pop("rates", None)
    curvatures, minimum = map(torch.tensor, (CURVATURES, MINIMUM))
    x = torch.nn.Parameter(torch.tensor(START))
    optimizer = kind([x], **arguments)
    group, points, distances = optimizer.param_groups[0], [], []
    for step in range(STEPS):
        if rates:
            group["lr"] = rates[step]
        optimizer.zero_grad()
        loss = (curvatures * (x - minimum) ** 2).sum() / 2
        loss.backward()
        optimizer.step(**({"loss": loss} if "Momo" in kind.__name__ else {}))
        if step + 1 in RECORDED:
            points.append(x.tolist())
            distances.append(float(group.get("d", 0)))
    return {"points": points, "distances": distances}


def main() -> None:
    """Write the file beside this script."""
    torch.set_default_dtype(torch.float64)
    with contextlib.redirect_stdout(io.StringIO()):  # some print what they do
        traces = {
            name: {"arguments": arguments, **trace(kind, arguments)}
            for name, (kind, arguments) in CASES.items()
        }
    record = {
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "curvatures": CURVATURES,
        "minimum": MINIMUM,
        "start": START,
        "warm_up": WARM_UP,
        "steps": STEPS,
        "recorded": RECORDED,
        "traces": traces,
    }
    path = Path(__file__).with_name("learning_rate_free.json")
    path.write_text(json.dumps(record) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
