"""Write keras_schedules.json: the rates that Keras's own schedules give.

    KERAS_BACKEND=jax python tests/reference/make_keras_schedule_traces.py

It needs keras; the tests read the file and do not.
"""

import json
from pathlib import Path

import keras

STEPS = 60
RATE = 0.8

SCHEDULES = {
    "ExponentialDecay": {"decay_steps": 8, "decay_rate": 0.7},
    "ExponentialDecay staircase": {
        "decay_steps": 8,
        "decay_rate": 0.7,
        "staircase": True,
    },
    "InverseTimeDecay": {"decay_steps": 8, "decay_rate": 0.7},
    "InverseTimeDecay staircase": {
        "decay_steps": 8,
        "decay_rate": 0.7,
        "staircase": True,
    },
    "PolynomialDecay": {"decay_steps": 40, "end_learning_rate": 0.05, "power": 1.7},
    "CosineDecay": {"decay_steps": 40, "alpha": 0.1},
    "CosineDecay warm-up": {
        "decay_steps": 40,
        "alpha": 0.1,
        "initial_learning_rate": 0.0,
        "warmup_target": 0.8,
        "warmup_steps": 10,
    },
    "CosineDecayRestarts": {
        "first_decay_steps": 8,
        "t_mul": 2.0,
        "m_mul": 0.5,
    },
    "CosineDecayRestarts to alpha": {
        "first_decay_steps": 8,
        "t_mul": 2.0,
        "m_mul": 1.0,
        "alpha": 0.1,
    },
    "CosineDecayRestarts lower, to alpha": {
        "first_decay_steps": 8,
        "t_mul": 1.0,
        "m_mul": 0.5,
        "alpha": 0.1,
    },
}


def rates(name: str, arguments: dict) -> list[float]:
    """Return the rate of each step."""
    arguments = {"initial_learning_rate": RATE, **arguments}
    schedule = getattr(keras.optimizers.schedules, name.split()[0])(**arguments)
    return [float(schedule(step)) for step in range(STEPS)]


def main() -> None:
    """Write the file beside this script."""
    traces = {
        name: {"arguments": arguments, "rates": rates(name, arguments)}
        for name, arguments in SCHEDULES.items()
    }
    record = {"keras": keras.__version__, "initial": RATE, "traces": traces}
    path = Path(__file__).with_name("keras_schedules.json")
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
