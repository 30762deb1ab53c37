"""Checkpoints come back bit by bit, or not at all, whatever happened to the files."""

import hashlib
import io
import json
import os
import random
import subprocess
import sys
import time
import tracemalloc
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import multihost_utils
from ports import reserved_port

from adaptax.tuning.storage import checkpoints as module
from adaptax.tuning.storage import npz_files
from adaptax.tuning.storage.checkpoints import Checkpoints

HANGS = 1200  # seconds, on any machine
ABOUT = {"tool": "sweep", "num_steps": 100, "versions": {"jax": "1", "numpy": "2"}}

ARRAYS = {
    "": np.float32(1.5),
    ".params['w']/b": np.linspace(0, 1, 7, dtype=np.float64),
    "Größe η \\ \0 \n": np.array([[1, -2], [3, 4]], np.int8),
    "file": jnp.arange(6, dtype=jnp.bfloat16).reshape(2, 3),
    "manifest": jnp.asarray([0.5, -2.0], jnp.float8_e5m2),
    "__about__": np.array(3, jnp.int4),
    "empty": np.zeros((0, 3), jnp.bfloat16),
    "bytes": np.array([True, False]),
    "other order": np.asfortranarray(np.arange(6, dtype=">f4").reshape(2, 3)),
    "other order, half": np.asfortranarray(np.arange(6).reshape(2, 3), jnp.bfloat16),
    "every other, half": np.arange(12).reshape(3, 4).astype(jnp.bfloat16)[::2, ::-2],
    "other order, byte": np.asfortranarray(np.ones((2, 3)), jnp.float8_e4m3fn),
    "special": np.array([np.nan, -0.0, np.inf, 5e-324]),
    "words": np.array(["a", "ωω"]),
}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "deep" / "folder"


def save(folder, *steps, about=ABOUT):
    with Checkpoints(folder, about) as checkpoints:
        for step in steps:
            checkpoints.save(step, {"x": np.full(20, step)}, {"step": step})


def latest(folder, about=ABOUT):
    with Checkpoints(folder, about) as checkpoints:
        return checkpoints.latest()


def files(folder):
    return sorted(path for path in folder.iterdir() if path.name != "lock")


def steps_in(folder):
    return [int(path.name.split("-")[0]) for path in files(folder)]


def put(folder, step, content):
    """Put a file of any content under the name that its digest asks for."""
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(content).hexdigest()[:32]
    (folder / f"{step:012d}-{digest}.npz").write_bytes(content)


def flipped(content, bit):
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def test_every_array_comes_back_with_its_bits_dtype_shape_and_name(folder):
    notes = {"best": 0.1, "lineage": [[0, 1], [1, 1]], "none": None, "ω": float("nan")}
    with Checkpoints(folder, ABOUT) as checkpoints:
        assert checkpoints.latest() is None
        checkpoints.save(7, ARRAYS, notes)
        found = checkpoints.latest()
    assert found is not None
    assert (found.step, found.notes) == (7, notes | {"ω": "nan"})
    assert list(found.arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        there = found.arrays[name]
        assert (there.dtype, there.shape) == (array.dtype, array.shape), name
        assert there.tobytes() == np.asarray(array).tobytes(), name


def test_no_arrays_and_no_notes_are_a_checkpoint_too(folder):
    with Checkpoints(folder, {}) as checkpoints:
        checkpoints.save(0, {}, {})
    assert latest(folder, {}) == (0, {}, {})


def test_the_two_newest_are_kept_and_other_files_are_left_alone(folder):
    save(folder, 1, 20, 300)
    mine = folder / "notes-1.npz"
    mine.write_text("mine")
    save(folder, 4000)
    assert mine.read_text() == "mine"
    mine.unlink()
    assert steps_in(folder) == [300, 4000]


def test_names_have_the_digest_and_the_clock_changes_nothing(
    folder, tmp_path, monkeypatch
):
    save(folder, 5)
    (path,) = files(folder)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.name == f"000000000005-{digest[:32]}.npz"
    monkeypatch.setattr(time, "time", lambda: -1e9)  # before 1980, where zip begins
    save(tmp_path / "later", 5)
    assert [path.name] == [other.name for other in files(tmp_path / "later")]


def test_the_order_is_that_of_the_steps_and_not_of_the_clock(folder):
    save(folder, 9, 10)
    old, new = files(folder)
    os.utime(old, (2e9, 2e9))
    os.utime(new, (1, 1))
    assert latest(folder).step == 10
    save(folder, 11)
    assert steps_in(folder) == [10, 11]


@pytest.mark.parametrize("parts", range(16))
def test_a_truncated_file_is_named_and_the_one_before_it_is_used(folder, parts):
    save(folder, 1, 2)
    _, newest = files(folder)
    whole = newest.read_bytes()
    newest.write_bytes(whole[: len(whole) * parts // 16])
    with pytest.warns(RuntimeWarning, match=f"{newest.name} is damaged"):
        found = latest(folder)
    assert found.step == 1
    np.testing.assert_array_equal(found.arrays["x"], 1)


def test_each_of_200_flipped_bits_is_detected(folder):
    save(folder, 1, 2)
    _, newest = files(folder)
    whole = newest.read_bytes()
    draw = random.Random(0)
    with Checkpoints(folder, ABOUT) as checkpoints:
        for _ in range(200):
            newest.write_bytes(flipped(whole, draw.randrange(8 * len(whole))))
            with pytest.warns(RuntimeWarning, match="damaged"):
                assert checkpoints.latest().step == 1
        newest.write_bytes(whole)
        assert checkpoints.latest().step == 2


def test_a_damaged_file_goes_with_the_next_save_and_the_good_ones_stay(folder):
    save(folder, 10, 20)
    damaged = files(folder)[1]
    damaged.write_bytes(b"")
    with Checkpoints(folder, ABOUT) as checkpoints:
        with pytest.warns(RuntimeWarning, match="damaged"):
            assert checkpoints.latest().step == 10
        checkpoints.save(15, {}, {})
    assert steps_in(folder) == [10, 15]


def test_the_run_begins_anew_where_all_files_are_damaged(folder):
    save(folder, 1, 2)
    for path in files(folder):
        path.write_bytes(b"nothing")
    with pytest.warns(RuntimeWarning) as warned:
        assert latest(folder) is None
    assert len(warned) == 2


def test_a_step_saved_again_replaces_itself_and_an_earlier_one_is_refused(folder):
    save(folder, 1, 2)
    with Checkpoints(folder, ABOUT) as checkpoints:
        checkpoints.save(2, {"x": np.zeros(1)}, {})
        assert steps_in(folder) == [2]
        assert checkpoints.latest().arrays["x"].shape == (1,)
        with pytest.raises(ValueError, match=r"step must be >= 2.*got 1"):
            checkpoints.save(1, {}, {})
        with pytest.raises(TypeError, match="step must be an integer"):
            checkpoints.save(2.5, {}, {})


@pytest.mark.parametrize("method", ["latest", "save"])
def test_another_run_is_refused_with_every_field_that_differs(folder, method):
    save(folder, 1)
    before = files(folder)
    other = {"tool": "sweep", "num_steps": 200, "versions": {"jax": "2", "numpy": "2"}}
    with Checkpoints(folder, other | {"seeds": [1]}) as checkpoints:
        call = {
            "latest": checkpoints.latest,
            "save": lambda: checkpoints.save(2, {}, {}),
        }[method]
        with pytest.raises(ValueError, match="of another run") as raised:
            call()
    message = str(raised.value)
    assert "num_steps = 100 there and 200 here" in message
    assert "versions.jax = '1' there and '2' here" in message
    assert "seeds = None there and [1] here" in message
    assert "tool" not in message
    assert "numpy" not in message
    assert "another folder, or the same arguments" in message
    assert files(folder) == before


def test_another_run_is_refused_again_and_again(folder):
    save(folder, 1)
    before = files(folder)
    with Checkpoints(folder, {}) as checkpoints:
        for call in (checkpoints.latest, lambda: checkpoints.save(2, {}, {})) * 2:
            with pytest.raises(ValueError, match="of another run"):
                call()
    assert files(folder) == before


def test_facts_that_json_changes_are_still_the_same_run(folder):
    about = {"seeds": (0, np.int64(1)), "high": float("inf"), "rates": np.ones(2)}
    save(folder, 1, about=about)
    assert latest(folder, about).step == 1


def test_another_layout_is_refused(folder, monkeypatch):
    with monkeypatch.context() as changed:
        changed.setattr(npz_files, "SCHEMA", 2)
        save(folder, 1)
    with pytest.raises(ValueError, match=r"layout 2, and this version.* reads 1"):
        latest(folder)


def test_a_checkpoint_of_an_earlier_layout_is_refused_by_name(folder, monkeypatch):
    with monkeypatch.context() as changed:
        changed.setattr(module, "_LAYOUT", 1)
        save(folder, 1)
    with pytest.raises(ValueError, match=r"layout 1 of checkpoints.*this one reads 2"):
        latest(folder)


def test_of_many_differences_a_few_are_named(folder):
    save(folder, 1, about={"state": {str(i): i for i in range(9)}})
    with pytest.raises(ValueError, match=r"state\.2 = 2 there.*; 6 more of state"):
        latest(folder, {"state": {}})


def npz(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def npy(array=None, **declared):
    """Return the bytes of an .npy file that declares what is asked for."""
    buffer = io.BytesIO()
    if declared:
        np.lib.format.write_array_header_1_0(
            buffer, {"descr": "<f8", "fortran_order": False, "shape": (2,)} | declared
        )
        return buffer.getvalue() + np.zeros(2).tobytes()
    np.lib.format.write_array(buffer, np.asarray(array), (1, 0))
    return buffer.getvalue()


class Bomb:
    def __reduce__(self):
        return os._exit, (1,)


@pytest.mark.parametrize(
    ("member", "complaint"),
    [
        (npy(np.array([Bomb()])), "dtype object"),
        (npy(shape=(2**40,)), "not have the size that it declares"),
        (npy(shape=(2**62, 2**62)), r"declares .* the shape \(4611686018427387904"),
        (npy(descr="<U99999"), "not have the size that it declares"),
        (npy(descr=[("a", "O")]), "dtype"),
        (b"\x93NUMPY\x02\x00" + b"\xff" * 20, "version of NumPy's format"),
        (b"not an array", "magic string"),
    ],
)
def test_objects_and_sizes_that_are_not_there_are_refused(folder, member, complaint):
    run = {"layout": 2, "run": ABOUT, "names": ["x"], "notes": {}}
    header = {"schema": 1, "kind": "checkpoint", "dtypes": {"0": "float64"}}
    about = npy(json.dumps(header | {"about": run}))
    put(folder, 1, npz(__about__=about, **{"0": npy(np.zeros(2))}))
    assert latest(folder).step == 1  # what the others are but for one member
    put(folder, 2, npz(__about__=about, **{"0": member}))
    with pytest.raises(ValueError, match=complaint):
        latest(folder)


def test_a_bomb_of_zeros_is_refused_before_it_is_unpacked(folder):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("__about__.npy", bytes(10**6))
    put(folder, 1, buffer.getvalue())
    with pytest.raises(ValueError, match="is compressed"):
        latest(folder)


def test_a_size_that_the_whole_file_lies_about_takes_no_memory(folder):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("__about__.npy", npy(shape=(2**27,)))
        info = archive.getinfo("__about__.npy")
        info.file_size = info.compress_size = info.file_size - 16 + 2**30
    put(folder, 1, buffer.getvalue())
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="something else"):
            latest(folder)
        assert tracemalloc.get_traced_memory()[1] < 10**7
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "array", [np.array([None, 1]), np.zeros(2, [("a", "f4")]), np.zeros(2, "V4")]
)
def test_objects_and_records_are_not_saved(folder, array):
    save(folder, 1)
    with (
        Checkpoints(folder, ABOUT) as checkpoints,
        pytest.raises(ValueError, match="must be of numbers"),
    ):
        checkpoints.save(2, {"x": array}, {})
    assert steps_in(folder) == [1]


def test_a_folder_that_cannot_be_one_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing" / "target")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("file", "file/below", "nowhere", "loop"):
        with pytest.raises(OSError, match=f"{name} cannot hold checkpoints.*Use a"):
            Checkpoints(tmp_path / name, ABOUT)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "nowhere", "loop"}


def test_a_folder_with_the_name_of_a_checkpoint_is_left_alone(folder):
    save(folder, 1)
    (folder / files(folder)[0].name.replace("0001-", "0009-")).mkdir()
    assert latest(folder).step == 1
    save(folder, 2)
    assert steps_in(folder) == [1, 2, 9]


def test_a_link_to_a_folder_is_that_folder(folder, tmp_path):
    save(folder, 1)
    (tmp_path / "link").symlink_to(folder)
    assert latest(tmp_path / "link").step == 1


def test_the_lock_ends_with_close_and_an_exception(folder):
    with Checkpoints(folder, ABOUT), pytest.raises(OSError, match="is in use"):
        Checkpoints(folder, ABOUT)
    with pytest.raises(KeyError), Checkpoints(folder, ABOUT):
        raise KeyError
    save(folder, 1)


def test_a_save_is_due_when_it_costs_5_percent_of_the_time(folder, monkeypatch):
    clock = [100.0]
    fill_atomically = module.fill_atomically

    def slow(*arguments):
        clock[0] += 2
        return fill_atomically(*arguments)

    monkeypatch.setattr(module, "fill_atomically", slow)
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    with Checkpoints(folder, ABOUT) as checkpoints:
        assert checkpoints.due()
        clock[0] += 1  # to collect the arrays counts as well
        checkpoints.save(1, {}, {})
        clock[0] += 3 * 20 - 1
        assert not checkpoints.due()
        clock[0] += 1
        assert checkpoints.due()
        clock[0] += 500  # the answer was not followed: it does not count
        assert checkpoints.due()
        checkpoints.save(2, {}, {})
        clock[0] += 2 * 20 - 1
        assert not checkpoints.due()
        clock[0] += 1
        assert checkpoints.due()


def child(code, folder, **options):
    head = (
        "import sys, resource, numpy as np\n"
        "from adaptax.tuning.storage.checkpoints import Checkpoints\n"
        f"checkpoints = Checkpoints(sys.argv[1], {ABOUT!r})\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", head + code, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


def test_a_full_disk_raises_and_the_older_checkpoints_stay(folder):
    code = """
checkpoints.save(1, {"x": np.ones(10)}, {})
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
for size in (1300, 100_000):  # what does not fit at its end, and early on
    try:
        checkpoints.save(2, {"x": np.ones(size)}, {})
    except OSError as error:
        print(error.errno, "another checkpoint: File too large" in str(error))
checkpoints.save(3, {"x": np.ones(10)}, {})
"""
    process = child(code, folder)
    output, _ = process.communicate(timeout=HANGS)
    assert process.returncode == 0
    assert output.split() == ["27", "True"] * 2  # EFBIG
    assert steps_in(folder) == [1, 3]
    assert latest(folder).step == 3


def test_after_a_kill_at_any_moment_the_latest_is_whole(tmp_path):
    code = """
for step in range(1, 10**6):
    checkpoints.save(step, {"x": np.full(100_000, step)}, {"step": step})
    print(step, flush=True)
"""
    draw = random.Random(0)
    saving = {tmp_path / str(i): None for i in range(5)}
    try:
        for folder in saving:
            saving[folder] = child(code, folder)
        for folder, process in saving.items():
            process.stdout.readline()
            with pytest.raises(OSError, match=f"{folder} is in use by another run"):
                Checkpoints(folder, ABOUT)
            time.sleep(draw.uniform(0, 0.1))
            process.kill()
            printed = [1] + [int(step) for step in process.communicate()[0].split()]
            found = latest(folder)
            assert found.step in (printed[-1], printed[-1] + 1)
            assert found.notes == {"step": found.step}
            np.testing.assert_array_equal(found.arrays["x"], found.step)
            assert all(path.suffix == ".npz" for path in files(folder))
    finally:
        for process in filter(None, saving.values()):
            process.kill()
            process.wait()
            process.stdout.close()


@pytest.mark.parametrize("again", [False, True])
def test_ctrl_c_at_any_moment_of_a_save_leaves_a_whole_checkpoint(
    again, tmp_path, monkeypatch
):
    """Once, or twice, the second time while the first one is handled."""
    moments = []

    def interrupting(function):
        def moment():
            moments.append(function)
            if len(moments) == first or (again and len(moments) == first + 1):
                raise KeyboardInterrupt

        def called(*arguments, **options):
            moment()
            result = function(*arguments, **options)
            moment()
            return result

        return called

    for first in range(1, 30):
        folder = tmp_path / str(first)
        save(folder, 1, 2)
        moments.clear()
        with monkeypatch.context() as patched:
            for place, name in ((os, "fsync"), (os, "replace"), (Path, "unlink")):
                patched.setattr(place, name, interrupting(getattr(place, name)))
            try:
                save(folder, 3)
            except KeyboardInterrupt:
                pass
            else:
                break
        found = latest(folder)
        np.testing.assert_array_equal(found.arrays["x"], found.step)
        assert found.step >= 2
        assert len(steps_in(folder)) >= 2  # and no part of a file
    assert 8 <= len(moments) < first


def test_of_several_processes_the_first_one_writes_and_all_read(folder, monkeypatch):
    said = []

    def broadcast(value):
        """Stand for the collective: what the first process says, the other hears."""
        if jax.process_index() == 0:
            said.append(value)
        return said[-1]

    def become(index):
        monkeypatch.setattr(jax, "process_index", lambda: index)

    monkeypatch.setattr(multihost_utils, "broadcast_one_to_all", broadcast)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    become(0)
    first = Checkpoints(folder, ABOUT)
    become(1)
    second = Checkpoints(folder, ABOUT)  # takes no lock
    for step in (1, 2):
        for index, checkpoints in enumerate((first, second)):
            become(index)
            checkpoints.save(step, {"x": np.full(3, step + 10 * index)}, {})
    assert steps_in(folder) == [1, 2]
    for index, checkpoints in enumerate((first, second)):
        become(index)
        found = checkpoints.latest()
        assert found.step == 2
        np.testing.assert_array_equal(found.arrays["x"], 2)
    become(0)
    first.latest()
    become(1)
    files(folder)[1].unlink()
    with pytest.raises(OSError, match="all processes share"):
        second.latest()
    first.close()
    second.close()


def test_two_real_processes_agree_on_what_to_read(tmp_path):
    code = """
import sys, jax, numpy as np
index, port, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3]
jax.config.update("jax_num_cpu_devices", 1)
jax.distributed.initialize(f"127.0.0.1:{port}", 2, index, initialization_timeout=600)
from adaptax.tuning.storage.checkpoints import Checkpoints
with Checkpoints(folder, {}) as checkpoints:
    assert checkpoints.latest() is None
    checkpoints.save(3, {"x": np.full(2, index)}, {"by": index})
    found = checkpoints.latest()
assert (found.step, found.notes) == (3, {"by": 0})
assert (found.arrays["x"] == 0).all()
try:
    Checkpoints(folder, {"other": index}).latest()
except ValueError as error:
    print(error)
jax.distributed.shutdown()
"""
    logs = [tmp_path / f"{index}.log" for index in range(2)]
    processes = []
    with reserved_port() as port:
        arguments = [port, tmp_path / "both"]
        try:
            for index, log in enumerate(logs):
                command = [sys.executable, "-c", code, str(index), *arguments]
                with log.open("w") as output:
                    processes.append(
                        subprocess.Popen(command, stdout=output, stderr=output)
                    )
            codes = [process.wait(HANGS) for process in processes]
        finally:
            for process in processes:
                process.kill()
                process.wait()
    outputs = [log.read_text() for log in logs]
    assert codes == [0, 0], outputs
    assert all("has checkpoints of another run: other" in text for text in outputs), (
        outputs
    )
