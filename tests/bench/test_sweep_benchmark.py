"""The sweep benchmark: every way trains, and the ratios are those of one round."""

import argparse
import json

import pytest

from adaptax.bench import sweep


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    arguments = argparse.Namespace(worker=None, rounds=1, smoke=True, out=folder)
    few = {"MLP, 16 units": lambda: sweep._mlp(16, members=3)}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sweep, "MODELS", few)
        sweep.run(arguments)
    return json.loads((folder / "sweep.json").read_text())


def test_every_way_that_is_installed_took_its_turn(rows):
    ways = {row["way"] for row in rows}
    loops = {sweep.LOOP, sweep.USUAL_LOOP}
    assert {sweep.OURS, *loops, *sweep.BY_HAND, sweep.ONE_CORE} <= ways


def test_the_ratios_belong_to_the_times(rows):
    loop = next(row for row in rows if row["way"] == sweep.LOOP)
    assert loop["x_best_loop"] == 1
    for row in rows:
        expected = row["steps_per_s"] / loop["steps_per_s"]
        assert row["x_best_loop"] == pytest.approx(expected)


def test_the_whole_sweep_is_one_compilation(rows):
    ours = next(row for row in rows if row["way"] == sweep.OURS)
    assert ours["compilations"] == 1
