"""Write plateau_traces.json: the scales that other libraries' plateaus give.

    python tests/reference/make_plateau_traces.py torch
    KERAS_BACKEND=jax python tests/reference/make_plateau_traces.py keras
    python tests/reference/make_plateau_traces.py optax

Each needs the library that it names and replaces that library's part of the file; the
tests read the file and need none of them.
"""

import importlib
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

STEPS = 60


def wave(step: int) -> float:
    """Fall, stop and rise again, with no two metrics at a threshold's distance."""
    return math.exp(-step / 12) + 0.3 * math.sin(0.7 * step) ** 2 + 0.01 * (step % 7)


METRICS = {
    "wave": [round(wave(step), 4) for step in range(STEPS)],
    "below zero": [round(wave(step) - 2, 4) for step in range(STEPS)],
    "flat": [1.5] * STEPS,
    "flat below zero": [-1.5] * STEPS,
    "slow": [round(2 - 0.003 * step, 4) for step in range(STEPS)],
    "worse below zero": [round(-2 + 0.001 * step, 4) for step in range(STEPS)],
}
"""The metrics fed, one to an evaluation."""

ARGUMENTS = {
    "by default": {},
    "patience of 2": {"factor": 0.5, "patience": 2, "threshold": 0.01},
    "no patience": {"factor": 0.8, "patience": 0, "threshold": 0.01},
    "cooldown": {"factor": 0.5, "patience": 1, "threshold": 0.01, "cooldown": 3},
    "floor": {"factor": 0.5, "patience": 1, "threshold": 0.01, "min_scale": 0.1},
    "absolute": {
        "factor": 0.5,
        "patience": 3,
        "threshold": 0.05,
        "threshold_mode": "absolute",
    },
    "largest": {"factor": 0.5, "patience": 2, "threshold": 0.01, "mode": "max"},
}
"""Our arguments, by what they are about."""


def torch_scales(metrics, *, threshold_mode="relative", min_scale=0.0, **arguments):
    """Run torch.optim.lr_scheduler.ReduceLROnPlateau from a rate of 1."""
    torch = importlib.import_module("torch")
    weight = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer,
        threshold_mode=threshold_mode[:3],
        min_lr=min_scale,
        eps=0.0,
        **arguments,
    )
    for metric in metrics:
        scheduler.step(metric)
        yield float(optimizer.param_groups[0]["lr"])


def keras_scales(
    metrics, *, threshold=1e-4, threshold_mode="absolute", min_scale=0.0, **arguments
):
    """Run keras.callbacks.ReduceLROnPlateau from a rate of 1."""
    del threshold_mode
    keras = importlib.import_module("keras")
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1.0), "mse")
    callback = keras.callbacks.ReduceLROnPlateau(
        "loss", min_delta=threshold, min_lr=min_scale, **arguments
    )
    callback.set_model(model)
    callback.on_train_begin()
    for epoch, metric in enumerate(metrics):
        callback.on_epoch_end(epoch, {"loss": metric})
        yield float(model.optimizer.learning_rate)


def optax_scales(
    metrics, *, threshold=1e-4, threshold_mode="relative", mode="min", **arguments
):
    """Run optax.contrib.reduce_on_plateau; it minimizes, so "max" negates."""
    jax = importlib.import_module("jax")
    jnp = importlib.import_module("jax.numpy")
    contrib = importlib.import_module("optax.contrib")
    relative = threshold_mode == "relative"
    plateau = contrib.reduce_on_plateau(
        rtol=threshold if relative else 0.0,
        atol=0.0 if relative else threshold,
        **arguments,
    )
    params = jnp.zeros(())
    state = plateau.init(params)
    for metric in metrics:
        value = metric if mode == "min" else -metric
        with jax.disable_jit():  # or each step compiles anew
            update, state = plateau.update(jnp.ones(()), state, params, value=value)
        yield float(update)


SCALES: dict[str, Callable] = {
    "torch": torch_scales,
    "keras": keras_scales,
    "optax": optax_scales,
}


def main() -> None:
    """Replace the part of one library in the file beside this script."""
    (library,) = sys.argv[1:]
    path = Path(__file__).with_name("plateau_traces.json")
    record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    record |= {"metrics": METRICS, "arguments": ARGUMENTS}
    record[library] = {
        "version": importlib.import_module(library).__version__,
        "scales": {
            f"{about}, {metrics}": runs(SCALES[library](METRICS[metrics], **arguments))
            for about, arguments in ARGUMENTS.items()
            for metrics in METRICS
        },
    }
    path.write_text(json.dumps(record) + "\n", encoding="utf-8")


def runs(scales) -> list[list[float]]:
    """Write a sequence as pairs of a scale and the number of steps that it lasts."""
    pairs = []
    for exact in scales:
        scale = float(f"{exact:.7g}")
        if pairs and pairs[-1][0] == scale:
            pairs[-1][1] += 1
        else:
            pairs.append([scale, 1])
    return pairs


if __name__ == "__main__":
    main()
