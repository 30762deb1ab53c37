"""The page on loss scaling runs, and bad steps are counted over the whole catalogue."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conformance.cases import CASES, start

import adaptax

PAGE = Path(__file__).parent.parent / "docs" / "loss_scaling.md"


def test_the_page_skips_whole_steps_and_counts_them():
    page, names = PAGE.read_text(), {}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
            exec(compile(code, str(PAGE), "exec"), names)
    assert names["skipped"] > 3  # the loss scale is too large at first
    assert names["taken"] == 40 - names["skipped"]
    guard = names["guard_state"]
    assert int(guard.skipped) > 3
    assert int(guard.inner_state[-1][0].step) == 40 - int(guard.skipped)
    assert names["factor"] < 2.0**20
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(names["params"]))
    assert names["stalled"] == 3


@pytest.mark.parametrize("case", CASES, ids=str)
def test_steps_on_which_nothing_could_move_are_counted(case):
    optimizer, params = adaptax.monitor(case.optimizer()), start()
    gradients = {
        "nan": jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), params),
        "inf": jax.tree.map(lambda x: jnp.full_like(x, -jnp.inf), params),
        "part": {**params, "scalar": jnp.asarray(jnp.nan)},
        "good": params,
        "zero": jax.tree.map(jnp.zeros_like, params),
    }

    def run(params):
        state = optimizer.init(params)
        for name in ("nan", "good", "inf", "part", "nan", "zero"):
            _, state = case.update(optimizer, gradients[name], state, params, 1.0)
        return state

    # Only what counts is compiled: XLA leaves out the rest.
    count = jax.jit(lambda params: run(params).stalled)(params)
    assert int(count) == 3
