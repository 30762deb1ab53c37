"""Records come back as they were saved, are plain to NumPy, or are refused by name."""

import io
import json
import os
import random
import tracemalloc
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adaptax.tuning.storage import json_results, npz_files
from adaptax.tuning.storage.named_arrays import flatten_names, unflatten_names
from adaptax.tuning.storage.result_files import load_arrays, save_arrays

ARRAYS = {
    "losses": np.array([[0.5, np.nan], [np.inf, -0.0]], np.float32),
    "hparams/learning_rate": np.array([1e-3, 1e-2]),
    "half": np.asarray(jnp.ones((2, 2), jnp.bfloat16)),
    "names": np.array(["a", "η"]),
}
ABOUT = {"num_steps": 10, "best": 0.1, "plan": [1, 2], "note": "η", "none": None}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "made" / "sweep.npz"
    save_arrays(path, "sweep", ARRAYS, ABOUT)
    return path


def edited(path, change):
    """Write the record again, its JSON text changed."""
    with np.load(path) as found:
        arrays = dict(found)
    text = change(arrays.pop("__about__").item())
    np.savez(path, __about__=np.array(text), **arrays)


def test_arrays_and_facts_come_back(path):
    arrays, about = load_arrays(str(path), "sweep")
    assert about == ABOUT
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert (arrays[name].dtype, arrays[name].shape) == (array.dtype, array.shape)
        assert arrays[name].tobytes() == array.tobytes()


def test_a_name_in_json_is_written_as_one_json_text(tmp_path):
    path = tmp_path / "sweep.json"
    save_arrays(path, "sweep", ARRAYS, ABOUT)
    arrays, about = load_arrays(path, "sweep")
    assert about == ABOUT
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert (arrays[name].dtype, arrays[name].shape) == (array.dtype, array.shape)
        assert arrays[name].tobytes() == array.tobytes()
    written = json.loads(path.read_text())["arrays"]["losses"]
    assert written["values"] == [0.5, "nan", "inf", -0.0]
    with pytest.raises(ValueError, match="must be a finder, got a sweep"):
        load_arrays(path, "finder")
    with pytest.raises(ValueError, match="real numbers"):
        save_arrays(path, "sweep", {"z": np.ones(2, complex)}, {})
    assert load_arrays(path, "sweep")[1] == ABOUT  # what was there has stayed


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('{"schema": 1', '{"schema": 2', "layout 2"),
        ('"shape": [2, 2]', '"shape": [2, 3]', "damaged array"),
        ('"float32"', '"object"', "damaged array"),
        ("0.5", '"half"', "damaged array"),
        ("0.5", "NaN", "in JSON"),
        ('"arrays"', '"array"', "in JSON"),
        ('"schema"', "schema", "in JSON"),
    ],
)
def test_a_damaged_json_text_is_refused(tmp_path, old, new, complaint):
    path = tmp_path / "sweep.json"
    save_arrays(path, "sweep", ARRAYS, ABOUT)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match=complaint):
        load_arrays(path, "sweep")


def test_numpy_alone_opens_a_record(path):
    with np.load(path, allow_pickle=False) as found:
        for name in ("losses", "hparams/learning_rate", "names"):
            np.testing.assert_array_equal(found[name], ARRAYS[name])
        header = json.loads(found["__about__"].item())
    assert header["kind"] == "sweep"
    assert header["about"] == ABOUT


def test_a_record_that_numpy_wrote_again_is_still_one(path):
    edited(path, lambda text: text)
    assert load_arrays(path, "sweep")[1] == ABOUT


def test_facts_that_are_not_finite_become_strings(path):
    given = {"best": float("nan"), "high": np.float32(np.inf), "rates": [-np.inf, 1]}
    save_arrays(path, "sweep", {}, given)
    expected = {"best": "nan", "high": "inf", "rates": ["-inf", 1]}
    assert load_arrays(path, "sweep")[1] == expected


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('"best": 0.1', '"best": NaN', "NaN, which is not a finite number"),
        ('"best": 0.1', '"best": -Infinity', "-Infinity, which is not"),
        ('"best": 0.1', '"best": 1e400', "1e400, which is not"),
        ('"best": 0.1', '"best": 0.1, "best": 1', "key 'best' twice"),
        ('"best": 0.1', '"best": ' + "[" * 99999, "nested too deeply"),
        ('"best": 0.1', '"best": ', "something else"),
        ('"float32"', '"bfloat16"', "not stored as its bytes"),
        ('"half"', '"holf"', "not those that it lists"),
        ('"bfloat16"', '"bfloat61"', "bfloat61"),
        ('"bfloat16"', '"int4"', "not stored as its bytes"),
        ('"schema": 1', '"schema": 2', "layout 2, and this version"),
        ('"kind": "sweep"', '"kind": "finder"', "must be a sweep, got a finder"),
        ('"schema": 1, ', "", "'schema'"),
    ],
)
def test_a_text_that_could_be_misread_is_refused(path, old, new, complaint):
    def change(text):
        assert old in text
        return text.replace(old, new)

    edited(path, change)
    with pytest.raises(ValueError, match=complaint) as raised:
        load_arrays(path, "sweep")
    assert str(path) in str(raised.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.npz"):
        load_arrays(tmp_path / "nothing.npz", "sweep")


def test_what_is_no_record_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", x=np.zeros(2))
    np.save(tmp_path / "other.npy", np.zeros(2))
    (tmp_path / "other.txt").write_text("losses: 0.1")
    (tmp_path / "empty.npz").write_bytes(b"")
    for path in tmp_path.iterdir():
        expected = f"{path.name} must be a sweep that adaptax saved"
        with pytest.raises(ValueError, match=expected):
            load_arrays(path, "sweep")


def test_a_record_cut_short_anywhere_is_refused(path):
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="damaged"):
            load_arrays(path, "sweep")


def test_no_flipped_bit_changes_what_is_read():
    file = io.BytesIO()
    npz_files.write(file, "sweep", ARRAYS, ABOUT)
    whole = file.getvalue()
    expected = [array.tobytes() for array in ARRAYS.values()]
    refused, draw = 0, random.Random(0)
    for _ in range(500):
        damaged = bytearray(whole)
        damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        try:
            arrays, about = npz_files.read(io.BytesIO(damaged), "sweep", "record")
        except ValueError:
            refused += 1
            continue
        assert [array.tobytes() for array in arrays.values()] == expected
        assert about == ABOUT
    assert refused > 300  # the rest are dates, rights and the like


@pytest.mark.parametrize(
    "given",
    [
        {"arrays": {"x": np.array([{}])}},
        {"arrays": {"__about__": np.zeros(1)}},
        {"arrays": {"a\0b": np.zeros(1)}},
        {"arrays": {"a\\b": np.zeros(1)}},
        {"about": {"x": object()}},
        {"about": {"x": b"bytes"}},
        {"about": {"x": 1j}},
        {"about": {1: "one"}},
    ],
)
def test_what_cannot_be_saved_leaves_the_old_record_alone(path, given):
    before = path.read_bytes()
    with pytest.raises((TypeError, ValueError), match=r"must be|JSON"):
        save_arrays(path, "sweep", **({"arrays": {}, "about": {}} | given))
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_record_may_not_take_the_place_of_a_folder(path):
    with pytest.raises(OSError, match="made"):
        save_arrays(path.parent, "sweep", {}, {})
    with pytest.raises(OSError, match=r"sweep\.npz"):
        save_arrays(path / "below.npz", "sweep", {}, {})
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_record_alone(path, step, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    before = path.read_bytes()
    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space left"):
        save_arrays(path, "sweep", {}, {})
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_the_content_is_on_the_disk_before_its_name_and_the_name_after(
    path, monkeypatch
):
    calls = []

    def note(name):
        original = getattr(os, name)

        def noted(*arguments):
            calls.append(name)
            return original(*arguments)

        monkeypatch.setattr(os, name, noted)

    note("fsync")
    note("replace")
    save_arrays(path, "sweep", {}, {})
    assert calls == ["fsync", "replace", "fsync"]


def test_a_link_stays_one(path, tmp_path):
    link = tmp_path / "link.npz"
    link.symlink_to(path)
    save_arrays(link, "finder", {}, {"new": True})
    assert link.is_symlink()
    assert load_arrays(path, "finder") == ({}, {"new": True})


def test_the_same_record_gives_the_same_bytes(path, tmp_path):
    save_arrays(tmp_path / "again.npz", "sweep", ARRAYS, ABOUT)
    assert (tmp_path / "again.npz").read_bytes() == path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        assert {info.date_time[0] for info in archive.infolist()} == {1980}


def test_nested_hyperparameters_come_back_by_name():
    tree = {"adam": {"b1": jnp.ones(3), "b2": 0.9}, "η": {"a": {"b": 1}}, "c": 2}
    named = flatten_names(tree)
    assert sorted(named) == ["adam/b1", "adam/b2", "c", "η/a/b"]
    back = unflatten_names(named)
    assert jax.tree.structure(back) == jax.tree.structure(tree)
    assert jax.tree.all(jax.tree.map(np.array_equal, back, tree))


@pytest.mark.parametrize("tree", [{}, np.float32(0.1), {"a": np.ones(2)}])
def test_the_simplest_hyperparameters_come_back_too(tree):
    back = unflatten_names(flatten_names(tree))
    assert jax.tree.structure(back) == jax.tree.structure(tree)
    assert jax.tree.all(jax.tree.map(np.array_equal, back, tree))


@pytest.mark.parametrize("key", ["a/b", "/", ""])
def test_keys_that_would_be_mistaken_for_paths_are_refused(key):
    with pytest.raises(ValueError, match=r'must not be empty or have a "/"'):
        flatten_names({"outer": {key: 1.0}})


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a"), ("a/b/c", "a/b")])
def test_names_that_contradict_each_other_are_refused(names):
    with pytest.raises(ValueError, match="is a prefix"):
        unflatten_names(dict.fromkeys(names, 1.0))


@pytest.mark.parametrize(
    ("array", "complaint"),
    [
        ({"dtype": "<U250000000", "shape": [1], "values": ["a"]}, "no string is as"),
        ({"dtype": "V250000000", "shape": [1], "values": [1]}, "dtype V25"),
        ({"dtype": "float32", "shape": [0, 2**64], "values": []}, "damaged"),
        ({"dtype": "float32", "shape": [-1, -1], "values": [1]}, "shape"),
        ({"dtype": "float32", "shape": [True], "values": [1]}, "shape"),
        (
            {"dtype": "int32", "shape": [1], "values": [1.5]},
            "1.5 is not a value",
        ),
        ({"dtype": "int32", "shape": [1], "values": [True]}, "True is not a value"),
        ({"dtype": "int8", "shape": [1], "values": [300]}, "300"),
        (
            {"dtype": "bool", "shape": [1], "values": ["false"]},
            "'false' is not a value",
        ),
        ({"dtype": "float32", "shape": [1], "values": [1e300]}, "too large for"),
        ({"dtype": "float32", "shape": [1], "values": ["1"]}, "'1' is not a value"),
    ],
)
def test_an_array_in_json_that_is_not_what_it_declares_is_refused(array, complaint):
    text = json.dumps(
        {"schema": 1, "kind": "k", "about": {}, "arrays": {"losses": array}}
    )
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=complaint) as raised:
            json_results.decode(text, "k", "file.json")
        assert tracemalloc.get_traced_memory()[1] < 10**7
    finally:
        tracemalloc.stop()
    assert "'losses'" in str(raised.value)


def test_a_layout_that_is_no_number_is_refused():
    text = json.dumps({"schema": True, "kind": "k", "about": {}, "arrays": {}})
    with pytest.raises(ValueError, match="layout True"):
        json_results.decode(text, "k", "file.json")


@pytest.mark.parametrize(
    ("descr", "shape"), [("|S0", (2**60,)), ("<U0", (2**60,)), ("<f4", (0, 2**64))]
)
def test_a_header_of_no_bytes_and_a_huge_shape_is_refused(descr, shape, path):
    save_arrays(path, "k", {"x": np.zeros(0, np.float32)}, {})
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": descr, "fortran_order": False, "shape": shape}
    )
    with zipfile.ZipFile(path) as archive:
        about = archive.read("__about__.npy")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", header.getvalue())
        archive.writestr("__about__.npy", about)
    with pytest.raises(ValueError, match=r"x\.npy declares the dtype"):
        load_arrays(path, "k")
