"""Write the parameters that PyTorch's and Keras's own optimizers give.

    python tests/reference/make_optimizer_traces.py torch
    KERAS_BACKEND=jax python tests/reference/make_optimizer_traces.py keras

It makes the calls of docs/migration.md and writes torch_optimizers.json or
keras_optimizers.json. It needs the library; the tests read the files and do not.
"""

import importlib
import json
import re
import sys
from pathlib import Path

import numpy as np

PAGE = Path(__file__).parents[2] / "docs" / "migration.md"
START = [[0.5, -0.25, 2.0], [1.0, -1.5, 0.75]]
STEPS = 5
NUMBERS = {"lr": 0.1, "b": 0.8, "r": 0.7, "d": 0.02}


def gradient(params, step):
    """Twice the distance from a target that moves."""
    return 2 * (params - np.sin(step + np.arange(6.0).reshape(2, 3)))


def calls(library: str) -> list[str]:
    """List the calls of the first column that have an equal one in the second."""
    name = {"torch": "PyTorch", "keras": "Keras"}[library]
    _, _, rest = PAGE.read_text("utf-8").partition(f"### Optimizers of {name}")
    table, _, _ = rest.partition("###")
    return re.findall(r"^\| `([^`]+)` \| `", table, re.MULTILINE)


def torch_path(call: str) -> list:
    """Return the parameters after each step."""
    torch = importlib.import_module("torch")
    weight = torch.nn.Parameter(torch.tensor(START, dtype=torch.float64))
    optimizer = eval(call, {**vars(torch.optim), **NUMBERS, "w": [weight]})
    seen = []
    for step in range(STEPS):
        weight.grad = torch.tensor(gradient(weight.detach().numpy(), step))
        optimizer.step()
        seen.append(weight.detach().tolist())
    return seen


def keras_path(call: str) -> list:
    """Return the parameters after each step."""
    keras = importlib.import_module("keras")
    weight = keras.Variable(np.asarray(START), dtype="float32")
    optimizer = eval(call, {**vars(keras.optimizers), **NUMBERS})
    optimizer.build([weight])
    seen = []
    for step in range(STEPS):
        grads = np.float32(gradient(np.asarray(weight), step))
        optimizer.apply([keras.ops.convert_to_tensor(grads)])
        seen.append(np.asarray(weight).tolist())
    return seen


def main() -> None:
    """Write the file of one library beside this script."""
    (library,) = sys.argv[1:]
    path = {"torch": torch_path, "keras": keras_path}[library]
    record = {
        library: importlib.import_module(library).__version__,
        "numbers": NUMBERS,
        "start": START,
        "traces": {call: path(call) for call in calls(library)},
    }
    file = Path(__file__).with_name(f"{library}_optimizers.json")
    file.write_text(json.dumps(record) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
