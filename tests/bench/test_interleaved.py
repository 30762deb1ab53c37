"""Ways to do one thing are timed in rounds, also in a process of their own."""

import pytest

from adaptax.bench.shared.interleaved import Process, median_ratio, time_in_rounds

WORKER = """
import sys
from adaptax.bench.shared.interleaved import answer

def work(line):
    if line == "end":
        sys.exit(1)
    return float(line) * float(sys.argv[1])

answer(work)
"""


@pytest.fixture
def process(tmp_path, monkeypatch):
    (tmp_path / "worker_of_a_test.py").write_text(WORKER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    process = Process("worker_of_a_test", "10")
    yield process
    process.close()


def test_each_is_timed_in_every_round_and_the_first_does_not_count():
    called = []

    def way(name, seconds):
        remaining = iter(seconds)

        def work():
            called.append(name)
            return next(remaining)

        return work

    seconds = time_in_rounds({"a": way("a", [9, 1, 3]), "b": way("b", [9, 2, 2])}, 2)
    assert called == ["a", "b"] * 3
    assert seconds == {"a": [1, 3], "b": [2, 2]}
    assert median_ratio(seconds, "a", "b") == 1.0


def test_the_ratio_is_the_median_of_those_of_the_rounds():
    seconds = {"one": [1.0, 2.0, 300.0], "other": [1.0, 1.0, 100.0]}
    assert median_ratio(seconds, "one", "other") == 2


def test_a_process_works_on_request(process):
    assert process.work("1.5") == 15
    assert process.work("2") == 20


def test_a_process_that_ended_is_an_error_that_names_it(process):
    with pytest.raises(RuntimeError, match="the process of worker_of_a_test ended"):
        process.work("end")
