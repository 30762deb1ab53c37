"""The text of the language models: the sources of Python's standard library.

They are there on every machine that can run the benchmark. Every file belongs wholly to
the training, the validation or the test text, by the checksum of its name. Left out are
tests, the tables of `encodings` and `pydoc_data`, and what a machine's build has made.
The text differs from one version of Python to the next, so that losses are comparable
under one version only.

Bytes are below 128: what is not ASCII is 127.
"""

import functools
import sysconfig
import zlib
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

VOCABULARY = 128
LEAST_BYTES = {"train": 2_000_000, "validation": 100_000, "test": 100_000}

_LEFT_OUT = {
    "dist-packages",
    "encodings",
    "idle_test",
    "pydoc_data",
    "site-packages",
    "test",
    "tests",
}


class Text(NamedTuple):
    """Three texts of bytes below 128, as uint8."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


@functools.cache
def python_text(folder: str | None = None) -> Text:
    """Read the sources in a folder; the default is the running Python's library.

    Raises:
        FileNotFoundError: the folder has too few sources.
    """
    root = Path(folder or sysconfig.get_paths()["stdlib"])
    texts = {split: bytearray() for split in Text._fields}
    for name in sorted(_names(root)):
        # In a checkout of Windows lines may end otherwise.
        content = (root / name).read_bytes().replace(b"\r\n", b"\n")
        texts[_split(name)] += content
    for split, least in LEAST_BYTES.items():
        if len(texts[split]) < least:
            raise FileNotFoundError(
                "the language models are trained on the sources of Python's standard "
                f"library, but {root} has only {len(texts[split])} bytes of .py files "
                f"for {split}, fewer than {least}. Use a Python that was installed "
                "with its sources."
            )
    return Text(
        **{
            split: np.minimum(np.frombuffer(text, np.uint8), VOCABULARY - 1)
            for split, text in texts.items()
        }
    )


def windows(text: np.ndarray, length: int, count: int | None = None) -> np.ndarray:
    """Cut windows (N, length) that do not overlap.

    Args:
        text: The text.
        length: The bytes of a window.
        count: How many, evenly spaced over the text; `None` for all.
    """
    most = len(text) // length
    cut = text[: most * length].reshape(most, length)
    return cut if count is None else cut[np.linspace(0, most - 1, count).astype(int)]


def _names(root: Path) -> list[str]:
    names = (path.relative_to(root).as_posix() for path in root.rglob("*.py"))
    return [name for name in names if not _is_left_out(PurePosixPath(name))]


def _is_left_out(name: PurePosixPath) -> bool:
    made_by_a_build = name.name.startswith("_sysconfig") or name.parts[0].startswith(
        "config-"
    )
    return made_by_a_build or not _LEFT_OUT.isdisjoint(name.parts)


def _split(name: str) -> str:
    return {0: "validation", 1: "test"}.get(zlib.crc32(name.encode()) % 16, "train")
