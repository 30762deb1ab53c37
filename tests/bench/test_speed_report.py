"""The tables of the speed benchmark say what the rows do."""

import pytest

from adaptax.bench.speed import report as speed_report

MANY, FEW, NET = "1000 x (1000,)", "400 x (16,)", "transformer"
ONE = "1 of 1 pairs of tree and method"


def row(tree, way, ratio, method="adam", compile_s=1.0, ours=1.0):
    timed = "torch" not in way
    return {
        "tree": tree,
        "method": method,
        "way": way,
        "ms": 10 * ratio,
        "quartiles": "9 to 11",
        "ratio_to_optax": ratio,
        "ratio_to_adaptax": ours,
        "trace_s": 0.5 if timed else "",
        "compile_s": compile_s if timed else "",
        "moved": 44.0,
        "state": 8.0,
        "scratch": 0.0,
        "bandwidth": 0.5,
    }


ROWS = [
    row(MANY, speed_report.THEIRS, 1.0, compile_s=9.5),
    row(MANY, speed_report.OURS, 1.2),
    row(MANY, speed_report.PACKED_PARAMS, 0.1, compile_s=0.5),
    row(MANY, speed_report.FUSED, 0.3),
    row(MANY, speed_report.THEIRS, 1.0, method="lion"),
    row(MANY, speed_report.OURS, 1.05, method="lion"),
    row(FEW, speed_report.THEIRS, 1.0),
    row(FEW, speed_report.PACKED, 0.25),
    row(NET, speed_report.WATCHED, 3.0, ours=2.5),
]


def test_each_target_is_told_from_its_rows_alone():
    measured = {
        cells["target"]: cells["measured"] for cells in speed_report.target_rows(ROWS)
    }
    assert measured == {
        "`adaptax`: at most 1.05 times Optax's time": (
            "1 of 2 pairs of tree and method; the others up to 1.20"
        ),
        "`adaptax.packed`: at most 1.05 times Optax's time": ONE,
        "`adaptax.pack`: at most 1.05 times Optax's time": ONE,
        "`adaptax.packed`, 400 x (16,): 3 times as fast": "4.00",
        "`adaptax.pack`, 1000 x (1000,): 5 times as fast": "10",
        "`adaptax.pack`, 1000 x (1000,): tracing and compiling at most 0.2": "0.10",
        "`adaptax.pack`, 1000 x (1000,): faster than PyTorch's fused Adam": (
            "3.00 times as fast"
        ),
        "adaptax, controlled and monitored: at most 1.05 times the time of Adam "
        "(transformer)": "2.50",
    }


def test_steps_and_compilations_are_multiples_of_optax():
    steps = speed_report.step_rows(ROWS)
    assert [(cells["tree"], cells["method"]) for cells in steps] == [
        (MANY, "adam"),
        (MANY, "lion"),
        (FEW, "adam"),
    ]
    assert steps[0][speed_report.THEIRS] == "10 ms"
    assert steps[0][speed_report.OURS] == "1.20"
    assert steps[0][speed_report.FOREACH] == ""
    compiled = speed_report.compile_rows(ROWS)
    assert compiled[0][speed_report.THEIRS] == "10 s"
    assert compiled[0][speed_report.PACKED_PARAMS] == "0.10"


def test_rows_without_optax_have_no_place_in_the_tables():
    assert all(cells["tree"] != NET for cells in speed_report.step_rows(ROWS))
    assert all(cells["tree"] != NET for cells in speed_report.form_rows(ROWS))


def test_what_was_not_measured_is_not_in_the_report(tmp_path):
    pytest.importorskip("matplotlib")
    speed_report.write_report(ROWS[4:6], tmp_path)  # Lion alone
    titles = [
        line
        for line in (tmp_path / "speed.md").read_text().splitlines()
        if "##" in line
    ]
    assert titles == [
        "## Targets",
        "## Steps, as a multiple of Optax's",
        "## Tracing and compiling, as a multiple of Optax's",
    ]
    assert (tmp_path / "speed.png").stat().st_size > 5000
