"""The sweep benchmark: every way trains, and the ratios are those of one round."""

import argparse
import inspect
import json

import jax
import pytest

import adaptax
from adaptax.bench.sweep import benchmark as sweep
from adaptax.bench.sweep import compiling, models


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    arguments = argparse.Namespace(
        worker=None, rounds=1, smoke=True, out=folder, part="speed"
    )
    few = {"MLP, 16 units": lambda: models.mlp(16, members=3)}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sweep, "MODELS", few)
        sweep.run(arguments)
    return json.loads((folder / "sweep.json").read_text())


def test_every_way_that_is_installed_was_timed(rows):
    ways = {row["way"] for row in rows}
    loops = {sweep.LOOP, sweep.USUAL_LOOP}
    assert {sweep.OURS, sweep.STREAM, *loops, *sweep.BY_HAND, sweep.ONE_CORE} <= ways


def test_the_ratios_belong_to_the_times(rows):
    loop = next(row for row in rows if row["way"] == sweep.LOOP)
    assert loop["x_best_loop"] == 1
    for row in rows:
        expected = row["steps_per_s"] / loop["steps_per_s"]
        assert row["x_best_loop"] == pytest.approx(expected)


@pytest.mark.parametrize("way", [sweep.OURS, sweep.STREAM])
def test_the_whole_sweep_is_one_compilation(way, rows):
    ours = next(row for row in rows if row["way"] == way)
    assert ours["compilations"] == 1


def test_compiling_is_measured_beside_a_scan_by_hand(tmp_path, monkeypatch):
    monkeypatch.setattr(compiling, "NETWORKS", ("logistic",))
    some = {"sweep": compiling.TOOLS["sweep"]}
    monkeypatch.setattr(compiling, "TOOLS", some)
    arguments = argparse.Namespace(
        worker=None, rounds=1, smoke=True, out=tmp_path, part="compiling"
    )
    with jax.numpy_dtype_promotion("standard"):  # for Optax's Adam
        sweep.run(arguments)
    assert not (tmp_path / "sweep.json").exists()
    rows = json.loads((tmp_path / "sweep_compiling.json").read_text())
    assert [row["way"] for row in rows] == [compiling.BY_HAND, compiling.MAPPED, *some]
    assert rows[0]["x_by_hand"] == 1
    assert all(row["compile_s"] > 0.01 for row in rows)
    for row in rows:
        assert row["within"] == (row["compile_s"] <= 1.5 * rows[0]["compile_s"] + 2)


def test_every_tool_has_its_compiling_measured():
    tools = {
        name
        for name in vars(adaptax)
        if callable(getattr(adaptax, name))
        and "checkpoint" in inspect.signature(getattr(adaptax, name)).parameters
    }
    assert set(compiling.TOOLS) == tools
