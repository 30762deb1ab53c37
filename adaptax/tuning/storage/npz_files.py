"""Archives: arrays with a description in one .npz, which is verified when read.

An archive has the format of `numpy.savez`, so that NumPy can read it. One more array,
`__about__`, has a JSON text: the layout, the kind of archive, the dtypes, and the
caller's facts. An array of a dtype that NumPy's format does not support, such as
bfloat16, is stored as bytes, with one more axis at the end.

Nothing is pickled or compressed. All checksums are verified before an array is read,
and its header is compared with the size of the file before memory is allocated.
"""

import math
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

from adaptax._core.checks import require
from adaptax.tuning.storage import strict_json

SCHEMA = 1
"""The number of the layout, which must be the same in a file that is read."""

_ABOUT = "__about__"
_KINDS = "biufcSUmM"  # of dtypes: numbers, strings and times
_DAMAGE = (
    zipfile.BadZipFile,
    NotImplementedError,  # an unknown version of zip
    RuntimeError,  # encrypted
    EOFError,
    KeyError,
    OverflowError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
)


def write(
    file: BinaryIO, kind: str, arrays: Mapping[str, Any], about: dict[str, Any]
) -> None:
    """Write an archive. The same content gives the same bytes.

    Args:
        file: A file open for writing, in binary.
        kind: The kind of archive.
        arrays: Arrays by name; names are printable and have no backslash.
        about: Facts about them, as plain JSON; see `strict_json.plain`.

    Raises:
        ValueError: If an array has objects or records, or a name is not allowed.
    """
    given = {name: np.asarray(array) for name, array in arrays.items()}
    header = {
        "schema": SCHEMA,
        "kind": kind,
        "dtypes": {name: str(array.dtype) for name, array in given.items()},
        "about": about,
    }
    stored = {name: _storable(name, array) for name, array in given.items()}
    stored[_ABOUT] = np.array(strict_json.encode(header))
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in stored.items():
            # An own ZipInfo, since the default has the present date.
            info = zipfile.ZipInfo(f"{name}.npy")
            with archive.open(info, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, (1, 0), allow_pickle=False)


def read(
    file: BinaryIO, kind: str, source: object
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read an archive.

    Args:
        file: A file open for reading, in binary.
        kind: The required kind of archive.
        source: Its name in messages, such as its path.

    Returns:
        The arrays by name, and the facts about them.

    Raises:
        ValueError: If it is damaged, not an archive, or of another kind or layout.
    """
    with _explained(kind, source):
        archive = zipfile.ZipFile(file)
        members = _members(archive)
        header = strict_json.decode(_array(archive, members.pop(_ABOUT)).item())
        schema, found = header["schema"], header["kind"]
    require_layout(schema, found, kind, source)
    with _explained(kind, source):
        if members.keys() != header["dtypes"].keys():
            raise ValueError("its arrays are not those that it lists")
        arrays = {
            name: _viewed(_array(archive, members[name]), dtype)
            for name, dtype in header["dtypes"].items()
        }
        return arrays, header["about"]


def require_layout(schema: object, found: object, kind: str, source: object) -> None:
    """Check the layout and the kind of a file that was read.

    Raises:
        ValueError: If one is wrong.
    """
    require(
        type(schema) is int and schema == SCHEMA,
        f"{source} has the layout {schema!r}, and this version of adaptax reads "
        f"{SCHEMA}. Read it with the version that wrote it.",
    )
    require(found == kind, f"{source} must be a {kind}, got a {found}.")


@contextmanager
def _explained(kind: str, source: object) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise ValueError(
            f"{source} must be a {kind} that adaptax saved; it is damaged or something "
            f"else: {error}."
        ) from error


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the members of an archive by name, after verifying all checksums."""
    members = {}
    for info in archive.infolist():
        if info.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{info.filename} is compressed")
        name = info.filename.removesuffix(".npy")
        if name in members:
            raise ValueError(f"{info.filename} is there twice")
        members[name] = info
    damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"the checksum of {damaged} is wrong")
    return members


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(info) as member:
        if np.lib.format.read_magic(member) != (1, 0):
            raise ValueError(f"{info.filename} is of another version of NumPy's format")
        shape, _, dtype = np.lib.format.read_array_header_1_0(member)
        if dtype.kind not in _KINDS:
            raise ValueError(f"{info.filename} has the dtype {dtype}")
        if dtype.itemsize == 0 or any(not 0 <= length < 2**48 for length in shape):
            raise ValueError(
                f"{info.filename} declares the dtype {dtype} and the shape {shape}"
            )
        if member.tell() + math.prod(shape) * dtype.itemsize != info.file_size:
            raise ValueError(f"{info.filename} does not have the size that it declares")
    with archive.open(info) as member:
        return np.lib.format.read_array(member, allow_pickle=False)


def _storable(name: str, array: np.ndarray) -> np.ndarray:
    require(
        name.isprintable() and "\\" not in name and name != _ABOUT,
        f"the name of an array must be printable, without a backslash, and not "
        f"{_ABOUT!r}, got {name!r}.",
    )
    if _is_extended(array.dtype):
        return array[..., None].view(np.uint8)
    require(
        array.dtype.kind in _KINDS,
        f"array {name!r} must be of numbers or strings, got the dtype {array.dtype}.",
    )
    return array


def _viewed(array: np.ndarray, name: str) -> np.ndarray:
    """Return the original array of a stored one, which may be its bytes."""
    dtype = np.dtype(name)
    if not _is_extended(dtype):
        return array
    if array.dtype != np.uint8 or array.shape[-1:] != (dtype.itemsize,):
        raise ValueError(f"an array listed as {name} is not stored as its bytes")
    return array.view(dtype)[..., 0]


def _is_extended(dtype: np.dtype) -> bool:
    """Return whether another package added this dtype to NumPy's, such as bfloat16."""
    return dtype.isbuiltin == 2
