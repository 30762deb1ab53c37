"""Write torch_schedules.json: the rates that PyTorch's own schedulers give.

    python tests/reference/make_torch_schedule_traces.py

It needs torch; the tests read the file and do not.
"""

import json
import warnings
from pathlib import Path

import torch
from torch.optim import lr_scheduler

STEPS = 60
RATE = 0.8

SCHEDULERS = {
    "LinearLR": {"start_factor": 1.0, "end_factor": 0.1, "total_iters": 40},
    "PolynomialLR": {"total_iters": 40, "power": 1.7},
    "StepLR": {"step_size": 7, "gamma": 0.6},
    "MultiStepLR": {"milestones": [5, 11, 30], "gamma": 0.3},
    "ExponentialLR": {"gamma": 0.93},
    "CosineAnnealingLR": {"T_max": 59, "eta_min": 0.05},
    "CosineAnnealingWarmRestarts": {"T_0": 6, "T_mult": 2, "eta_min": 0.05},
    "CyclicLR": {"base_lr": 0.1, "max_lr": 0.8, "step_size_up": 7},
    "CyclicLR triangular2": {
        "base_lr": 0.1,
        "max_lr": 0.8,
        "step_size_up": 7,
        "mode": "triangular2",
    },
    "CyclicLR exp_range": {
        "base_lr": 0.1,
        "max_lr": 0.8,
        "step_size_up": 7,
        "mode": "exp_range",
        "gamma": 0.97,
    },
    "CyclicLR asymmetric": {
        "base_lr": 0.1,
        "max_lr": 0.8,
        "step_size_up": 3,
        "step_size_down": 8,
    },
    "CyclicLR asymmetric triangular2": {
        "base_lr": 0.1,
        "max_lr": 0.8,
        "step_size_up": 8,
        "step_size_down": 3,
        "mode": "triangular2",
    },
    "CyclicLR asymmetric exp_range": {
        "base_lr": 0.1,
        "max_lr": 0.8,
        "step_size_up": 1,
        "step_size_down": 6,
        "mode": "exp_range",
        "gamma": 0.97,
    },
    "OneCycleLR": {"max_lr": 0.8, "total_steps": 60, "pct_start": 0.25},
    "OneCycleLR linear": {
        "max_lr": 0.8,
        "total_steps": 60,
        "pct_start": 0.3,
        "anneal_strategy": "linear",
        "div_factor": 10.0,
        "final_div_factor": 100.0,
    },
    "OneCycleLR of 2": {"max_lr": 0.8, "total_steps": 2},
    "OneCycleLR of 3": {"max_lr": 0.8, "total_steps": 3},
    "OneCycleLR without a rise": {"max_lr": 0.8, "total_steps": 60, "pct_start": 0.0},
    "OneCycleLR of 2 without a rise": {
        "max_lr": 0.8,
        "total_steps": 2,
        "pct_start": 0.0,
    },
    "OneCycleLR of 3 linear": {
        "max_lr": 0.8,
        "total_steps": 3,
        "anneal_strategy": "linear",
    },
}


def rates(name: str, arguments: dict) -> list[float]:
    """Return the rate of each step."""
    weight = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))
    optimizer = torch.optim.SGD([weight], lr=RATE, momentum=0.9)
    scheduler = getattr(lr_scheduler, name.split()[0])(optimizer, **arguments)
    seen = []
    steps = arguments.get("total_steps", STEPS)
    for _ in range(steps):
        seen.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if len(seen) < steps:
                scheduler.step()
    return seen


def main() -> None:
    """Write the file beside this script."""
    traces = {
        name: {"arguments": arguments, "rates": rates(name, arguments)}
        for name, arguments in SCHEDULERS.items()
    }
    record = {"torch": torch.__version__, "initial": RATE, "traces": traces}
    path = Path(__file__).with_name("torch_schedules.json")
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
