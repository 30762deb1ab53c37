"""The benchmark of training steps: every method trains, and is compared with AdamW."""

import json

import jax
import numpy as np

from adaptax.bench.__main__ import main
from adaptax.bench.step import benchmark as step


def test_every_method_is_timed_beside_adamw(tmp_path, monkeypatch):
    few = ("optax.adamw", "self_tuning")
    monkeypatch.setattr(step, "METHODS", {name: step.METHODS[name] for name in few})
    with jax.numpy_dtype_promotion("standard"):  # for Optax
        main(["step", "--smoke", "--out", str(tmp_path), "--methods", "self_tuning"])
    rows = json.loads((tmp_path / "step.json").read_text())
    assert [row["method"] for row in rows] == ["optax.adamw", "self_tuning"]
    assert rows[0]["x_adamw"] == 1
    for row in rows:
        assert row["lower_quartile"] <= row["x_adamw"] <= row["upper_quartile"]
        assert row["ms"] > 0


def test_the_models_have_the_parameters_that_they_are_called_by():
    for name, (shape, batch_size) in step.MODELS.items():
        task = step.bytes_task(name, shape, steps=1, batch_size=batch_size)
        params = jax.eval_shape(task.init, jax.random.key(0))
        count = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))
        assert name.startswith(f"{count / 1e6:.1f} M, {batch_size} x {shape.context} ")
