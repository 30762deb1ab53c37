"""The benchmark of narrow moments: every way is trained, and takes what it says."""

import json

import pytest

from adaptax.bench.__main__ import main
from adaptax.bench.memory import benchmark as memory


def test_one_seed_has_no_standard_error(capsys):
    with pytest.raises(SystemExit):
        main(["memory", "--smoke", "--seeds", "1"])
    assert "--seeds: must be a whole number >= 2, got '1'" in capsys.readouterr().err


def test_every_way_is_trained_and_compared_with_float32(tmp_path):
    main(["memory", "--smoke", "--out", str(tmp_path)])
    rows = {
        row["moments"]: row
        for row in json.loads((tmp_path / "memory.json").read_text())
    }
    assert rows.keys() == memory.WAYS.keys()
    for way, expected in {"float32": 8, "bfloat16": 4, "8 bits": 2.03}.items():
        assert rows[way]["bytes_a_parameter"] == pytest.approx(expected, abs=0.05)
        assert 0 <= rows[way]["accuracy"] <= 100
    assert rows["float32"]["gained"] == 0
