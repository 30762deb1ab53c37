"""Loading: a thread reads a chunk ahead, and ends with the tool, whatever happens."""

import functools
import signal
import threading
import time

import numpy as np
import pytest
from interruptions import check_resuming
from test_streams import BATCHES, Loader, from_step, swept

import adaptax
from adaptax.tuning.running.loading import Reader


def threads():
    return [one for one in threading.enumerate() if one.name == "adaptax stream"]


def chunks_of(reader, start, stop):
    for chunk, steps in reader.chunks(start, stop, lambda chunk: chunk):
        yield int(chunk.first), steps, chunk.rows[:steps]


def test_chunks_have_the_batches_of_their_steps_one_ahead():
    loader = Loader()
    reader = Reader(adaptax.stream(loader), 3)
    seen = list(chunks_of(reader, 0, 8))
    assert [(first, steps) for first, steps, _ in seen] == [(0, 3), (3, 3), (6, 2)]
    rows = np.concatenate([rows for *_, rows in seen])
    np.testing.assert_array_equal(rows, BATCHES[np.arange(8) % 7])
    assert loader.given == 8  # no batch is read twice, and none beyond the end
    reader.close()
    assert not threads()


def test_at_most_two_chunks_are_in_memory():
    loader = Loader()
    reader = Reader(adaptax.stream(loader), 2)
    for first, steps, _ in chunks_of(reader, 0, 12):
        time.sleep(0.05)  # the thread could read on
        assert loader.given <= first + steps + 2
    reader.close()


def test_a_chunk_has_room_for_one_batch_however_large(monkeypatch):
    monkeypatch.setattr("adaptax.tuning.running.loading._BYTES", 100)
    reader = Reader(adaptax.stream(from_step), 128)
    assert reader.rows == 2  # of 48 bytes each
    monkeypatch.setattr("adaptax.tuning.running.loading._BYTES", 10)
    assert reader.rows == 1
    reader.close()


def test_a_stream_is_opened_again_only_at_a_step_where_it_is_not():
    opened = []

    def batches(start):
        opened.append(start)
        return from_step(start)

    reader = Reader(adaptax.stream(batches), 4)
    for start, stop in [(0, 6), (6, 9), (2, 5), (0, 1)]:
        found = np.concatenate([rows for *_, rows in chunks_of(reader, start, stop)])
        np.testing.assert_array_equal(found, BATCHES[np.arange(start, stop) % 7])
    assert opened == [0, 2, 0]
    reader.close()


class Trouble(RuntimeError):
    pass


def failing(start):
    for step, batch in enumerate(from_step(start), start):
        if step == 5:
            raise Trouble("the disk is full")
        yield batch


def test_an_error_of_the_loader_arrives_with_its_traceback():
    with pytest.raises(Trouble, match="the disk is full") as raised:
        swept(failing)
    names = [entry.name for entry in raised.traceback]
    assert "failing" in names
    assert "sweep" in names
    assert not threads()


def test_ctrl_c_while_a_batch_is_read_ends_the_tool_and_the_thread(monkeypatch):
    monkeypatch.setattr("adaptax.tuning.running.loading._PATIENCE", 0.05)
    go_on, given = threading.Event(), []

    def slow(start):
        yield BATCHES[0]
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        go_on.wait(60)
        given.append(start)

    # The workers of pytest-xdist ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            swept(slow)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not given  # it does not wait for the batch
    assert all(thread.daemon for thread in threads())
    go_on.set()
    for thread in threads():
        thread.join(10)
    assert not threads()


def test_a_reader_that_is_dropped_takes_its_thread_with_it():
    reader = Reader(adaptax.stream(from_step), 4)
    assert reader.first.shape == (4, 3)
    (thread,) = threads()
    del reader
    thread.join(10)
    assert not thread.is_alive()


def test_a_stream_that_is_another_each_time_is_warned_about():
    draws = np.random.default_rng(0)

    def batches(start):
        while True:
            yield draws.uniform(size=(4, 3)).astype(np.float32)

    reader = Reader(adaptax.stream(batches), 4)
    assert len(list(chunks_of(reader, 0, 3))) == 1
    with pytest.warns(RuntimeWarning, match="another first batch"):
        list(chunks_of(reader, 0, 3))
    list(chunks_of(reader, 0, 3))  # only once
    reader.close()


def test_a_resumed_run_opens_the_stream_where_it_was_and_has_the_same_bits(
    monkeypatch, tmp_path
):
    opened = []

    def batches(start):
        opened.append(start)
        return from_step(start)

    whole = swept(batches, steps=20)
    run = functools.partial(swept, batches, steps=20)
    resumed = check_resuming(run, 2, monkeypatch, tmp_path)
    np.testing.assert_array_equal(resumed.losses, whole.losses)
    assert opened == [0, 0, 0, 9]  # the third reads the first batch, to know the run


def test_a_checkpoint_of_another_stream_is_refused_by_its_first_batch(tmp_path):
    swept(from_step, checkpoint=tmp_path)
    assert swept(list(BATCHES), checkpoint=tmp_path).about["resumed"]
    with pytest.raises(ValueError, match=r"another run: data.*float32.*SHA-256"):
        swept(list(BATCHES[1:]), checkpoint=tmp_path)
