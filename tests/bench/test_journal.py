"""The journal keeps whole units and nothing else, wherever a kill cut it short."""

import pytest

from adaptax.bench.shared.journal import Journal

CONDITIONS = {"seeds": 5, "versions": {"jax": "1"}}


def written(path):
    journal = Journal(path, CONDITIONS)
    journal.add("a", [{"loss": 1.0}, {"loss": None}])
    journal.add("b", [{"loss": 2.0}])
    return path.read_bytes()


def test_journal_gives_back_what_was_added(tmp_path):
    path = tmp_path / "deep" / "journal.jsonl"
    written(path)
    units = Journal(path, CONDITIONS).units
    assert units == {"a": [{"loss": 1.0}, {"loss": None}], "b": [{"loss": 2.0}]}


def test_journal_cut_at_any_byte_has_its_whole_units_and_goes_on(tmp_path):
    path = tmp_path / "journal.jsonl"
    whole = written(path)
    first = whole.index(b'{"unit": "a"}\n') + len(b'{"unit": "a"}\n')
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        journal = Journal(path, CONDITIONS)
        expected = ["a"] * (length >= first) + ["b"] * (length == len(whole))
        assert list(journal.units) == expected, length
        for name, records in {
            "a": [{"loss": 1.0}, {"loss": None}],
            "b": [{"loss": 2.0}],
        }.items():
            if name not in journal.units:
                journal.add(name, records)
        assert path.read_bytes() == whole, length


def test_a_dropped_unit_can_be_added_again(tmp_path):
    path = tmp_path / "journal.jsonl"
    whole = written(path)
    journal = Journal(path, CONDITIONS)
    journal.drop(["a"])
    assert Journal(path, CONDITIONS).units == {"b": [{"loss": 2.0}]}
    journal.add("a", [{"loss": 1.0}, {"loss": None}])
    assert sorted(path.read_bytes().splitlines()) == sorted(whole.splitlines())
    assert Journal(path, CONDITIONS).units == journal.units


def test_journal_of_other_conditions_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "journal.jsonl"
    whole = written(path)
    with pytest.raises(ValueError, match=r"seeds = 5 there and 3 here.*--out"):
        Journal(path, CONDITIONS | {"seeds": 3})
    assert path.read_bytes() == whole


def test_file_that_is_no_journal_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_text('{"something": "else"}\n')
    with pytest.raises(ValueError, match="not a journal"):
        Journal(path, CONDITIONS)
    assert path.read_text() == '{"something": "else"}\n'
