"""The `repr` of every result is a few lines without arrays."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adaptax
from adaptax.tuning.results import Result
from adaptax.tuning.trials.training import TrialState

RESULTS = [
    kind
    for kind in vars(adaptax.tuning).values()
    if isinstance(kind, type) and issubclass(kind, Result)
]


def filled(kind, steps):
    """Make a result in which every array has the given number of steps."""
    losses = np.linspace(2.0, 1.0, 3 * 2 * steps, dtype=np.float32).reshape(3, 2, steps)
    scores = losses[..., -1]
    values = {
        "hparams": {"learning_rate": np.geomspace(0.1, 1.0, 3).astype(np.float32)},
        "losses": losses,
        "scores": scores,
        "metrics": {"accuracy": scores},
        "about": {"tried": {f"plan {i}": 0.1 for i in range(steps)}, "seeds": [0, 1]},
        "suggestions": {"valley": 0.01, "steep": None},
        "spread": {"valley": (0.01, 0.02), "steep": None},
        "status": "ok",
        "baseline": None,
        "interval": 5,
        "stage_steps": 5,
        "peak": 0.1,
        "warmup_share": 0.05,
        "rungs": np.array([1, 3]),
        "reached": np.array([1, 2, 1]),
        "state": TrialState(jnp.ones(steps), (), (), (), jax.random.key(0), 0),
    }
    names = [field.name for field in dataclasses.fields(kind)]
    if "rounds" in names:
        values |= {"rounds": np.array([0, 0, 1]), "scores": scores[:, 0]}
    return kind(**{name: values.get(name, losses) for name in names})


def test_there_are_results_of_every_tool():
    assert {kind.__name__ for kind in RESULTS} >= {
        "BranchResult",
        "CosineBaseline",
        "FinderResult",
        "HalvingResult",
        "PopulationResult",
        "RuleResult",
        "SearchResult",
        "StoppingResult",
        "SweepResult",
    }
    public = vars(adaptax.tuning)
    assert {name for name in public if name.endswith("Result")} <= {
        kind.__name__ for kind in RESULTS
    }


@pytest.mark.parametrize("kind", RESULTS, ids=lambda kind: kind.__name__)
def test_a_repr_is_a_line_a_field_however_long_the_run(kind):
    short, long = (repr(filled(kind, steps)) for steps in (4, 10_000))
    names = [field.name for field in dataclasses.fields(kind)]
    for shown in (short, long):
        lines = shown.splitlines()
        assert lines[0] == f"{kind.__name__}("
        assert lines[-1] == ")"
        assert len(lines) == len(names) + len(kind.HEADLINES) + 2
        assert max(map(len, lines)) <= 88
        for name in (*kind.HEADLINES, *names):
            assert f"  {name}=" in shown
    if "losses" in names:
        assert "losses=float32[3,2,10000]," in long
    if "state" in names:
        assert "state=TrialState(3 arrays)," in long


def test_rows_have_the_arrays_along_their_axes_and_a_table_shows_them():
    rates = {"learning_rate": np.float32([[0.1, 0.2], [0.3, 0.4]])}
    forecasts = np.float32([[1, 2], [3, 4]])
    found = adaptax.BranchResult(
        rates, np.ones((2, 2, 3)), forecasts, np.array([1, 0]), np.ones(8), 4, {}
    )
    rows = found.to_records()
    assert rows[2] == {
        "stage": 1,
        "branch": 0,
        "learning_rate": pytest.approx(0.3),
        "forecast": 3.0,
        "chosen": 0,
    }
    assert len(rows) == 4
    assert "forecast" in found.table()


def test_a_result_without_rows_has_a_table_without_rows():
    nothing = np.zeros((0, 3), np.float32)
    found = adaptax.FinderResult(
        np.ones(3, np.float32), nothing, nothing, {}, {}, "flat", {}
    )
    assert found.to_records() == []
    assert "rate" in found.table()
