"""The speed benchmark: every way is timed in every round, and the report adds up."""

import argparse
import json

import pytest

from adaptax.bench.__main__ import main
from adaptax.bench.speed import benchmark as speed
from adaptax.bench.speed import report as speed_report

SHAPES = [(8, 4), (4,), (64, 64)]
SIZE = 32 + 4 + 4096


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("speed")


@pytest.fixture(scope="module")
def rows(folder):
    """Measure a tiny tree in this process alone, in short measurements."""
    arguments = argparse.Namespace(
        rounds=3, trees=["tiny"], methods=["adam"], smoke=False, out=folder
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(speed, "TREES", {"tiny": lambda: SHAPES})
        patched.setattr(speed, "_SECONDS", 1e-3)
        patched.setattr(speed, "memory_way", lambda: lambda: 1e-10)
        patched.setattr(speed.importlib.util, "find_spec", lambda name: name != "torch")
        speed.run(arguments)
    rows = json.loads((folder / "speed.json").read_text())
    return {row["way"]: row for row in rows}


def test_every_way_was_timed(rows):
    ours = {speed.OURS, speed.PACKED, speed.PACKED_PARAMS}
    more = {
        speed_report.CONTROLLED,
        speed_report.WATCHED,
        speed_report.HALVES,
        speed_report.BYTES,
    }
    assert rows.keys() == ours | more | {speed.THEIRS, speed.FLAT}


def test_times_are_ratios_to_those_they_are_named_for(rows):
    assert rows[speed.THEIRS]["ratio_to_optax"] == 1
    assert rows[speed.OURS]["ratio_to_adaptax"] == 1
    for row in rows.values():
        assert row["ms"] > 0
        assert row["trace_s"] > 0
        assert row["compile_s"] > 0


def test_the_bytes_of_the_state_are_those_of_the_formula(rows):
    """Beside the moments there are a few counters and rates."""
    for way, expected in {
        speed.OURS: 8,
        speed.THEIRS: 8,
        speed_report.HALVES: 4,
        speed_report.BYTES: (2 * (1 + 4 / 256) * 4096 + 8 * 36) / SIZE,
    }.items():
        assert rows[way]["state"] == pytest.approx(expected, abs=40 / SIZE)


def test_the_bandwidth_used_counts_what_must_be_moved(rows):
    for row in rows.values():
        needed = (12 + 2 * row["state"]) * SIZE
        used = needed / (row["ms"] / 1000) * 1e-10
        assert row["bandwidth"] == pytest.approx(used, rel=1e-3)


def test_the_memory_is_timed(monkeypatch):
    """Ten sums of 20 million numbers: two are read and one is written for each."""
    clock = iter([5.0, 7.4])
    work = speed.memory_way()
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(clock))
    assert work() == pytest.approx(1e-9)


def test_the_report_is_there(rows, folder):
    report = (folder / "speed.md").read_text()
    assert all(f"| tiny | {way} |" in report for way in speed_report.FORMS)
    assert "| `adaptax`: at most 1.05 times Optax's time | " in report
    assert (folder / "speed.png").stat().st_size > 5000


def test_no_rounds_are_refused(capsys):
    with pytest.raises(SystemExit):
        main(["speed", "--smoke", "--rounds", "0"])
    assert "--rounds: must be a whole number >= 1, got '0'" in capsys.readouterr().err
