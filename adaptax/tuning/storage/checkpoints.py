"""Checkpoints: what a tool had done, in files that a kill at any moment leaves whole.

A checkpoint is one file, `STEP-DIGEST.npz`. It gets its name when all of it is on the
disk, and only then older ones go; two are kept. The digest is of the whole content, and
nothing in a file is looked at before it agrees: if it does not, the one before is used.
Their order is that of their steps; no clock matters.

In a run of several processes, the first one writes, and all read: the folder must be on
a file system that they share.
"""

import errno
import hashlib
import os
import re
import threading
import warnings
from io import BufferedRandom, BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from adaptax._core import checks
from adaptax._core.checks import require
from adaptax.tuning.running.pacing import Pace
from adaptax.tuning.running.processes import failing_together, said_by_the_first
from adaptax.tuning.storage import npz_files
from adaptax.tuning.storage.atomic_files import fill_atomically
from adaptax.tuning.storage.folder_lock import lock
from adaptax.tuning.storage.strict_json import brief_differences, plain

_KIND = "checkpoint"
_LAYOUT = 2  # 1 did not say of what program it is
_NAME = re.compile(r"(\d{12,})-([0-9a-f]{32})\.npz")


def require_folder(folder: Any) -> str:
    """Return the path of a folder as text; refuse what cannot be one, such as ""."""
    return checks.path("checkpoint", folder, "a folder", " None saves nothing.")


class Checkpoint(NamedTuple):
    """What was saved after `step` steps: arrays by name, and notes as JSON has them."""

    step: int
    arrays: dict[str, np.ndarray]
    notes: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run, in a folder that no other run uses meanwhile.

    Every process of a run calls the same methods in the same order.
    """

    def __init__(self, folder: str | os.PathLike, about: dict[str, Any]):
        """Take a folder.

        Args:
            folder: Made if need be.
            about: What the run computes, as JSON has it: whatever a checkpoint must
                have in common with the run that goes on from it.

        Raises:
            OSError: If the folder cannot be written, is none, or is in use.
            TypeError: If JSON has no such fact.
            ValueError: If the folder is "", which would be the one of the process.
        """
        self.folder = Path(require_folder(folder))
        self._about = plain(about)
        self._writes = jax.process_index() == 0
        self._last, self._last_is_ours = "", False
        self._pace = Pace()
        self._writing = threading.Lock()
        self._lock = None
        with failing_together():
            if self._writes:
                self._lock = lock(self.folder)

    def latest(self) -> Checkpoint | None:
        """Read the newest checkpoint that is whole; warn of damaged ones.

        Raises:
            OSError: If a process does not see what the first one sees.
            ValueError: If it is of another run, or another version of adaptax.
        """
        return self._go_on_from(
            said_by_the_first(self._search() if self._writes else "")
        )

    def save(
        self, step: int, arrays: dict[str, np.ndarray], notes: dict[str, Any]
    ) -> None:
        """Write a checkpoint, and remove all but this one and the one before it.

        Args:
            step: How many steps were taken; not fewer than the last time.
            arrays: By any names; of numbers or strings, bfloat16 and its like included.
            notes: As JSON has them. Numbers that are not finite come back as the
                strings "nan", "inf" and "-inf".

        Raises:
            OSError: If it cannot be written; the older ones are still there.
            ValueError: If an array is of objects, or the folder has checkpoints of
                another run.
        """
        with failing_together():
            if self._writes:
                with self._writing:
                    self._write(step, arrays, notes)
                    self._pace.done()

    def rescue(
        self, step: int, arrays: dict[str, np.ndarray], notes: dict[str, Any]
    ) -> None:
        """Save as the first process alone, if it is newer; the others may be gone.

        Any thread may call it.
        """
        with self._writing:
            if self._writes and not (self._last and step <= _step(self._last)):
                self._write(step, arrays, notes)

    def _write(
        self, step: int, arrays: dict[str, np.ndarray], notes: dict[str, Any]
    ) -> None:
        checks.count("step", step)
        if not self._last_is_ours:
            self._go_on_from(self._search())
        before = _step(self._last) if self._last else -1
        require(
            step >= before,
            f"step must be >= {before}, that of the newest checkpoint, got {step}.",
        )

        def fill(file):
            about = {
                "layout": _LAYOUT,
                "run": self._about,
                "names": list(arrays),
                "notes": plain(notes, "notes"),
            }
            numbered = {str(i): array for i, array in enumerate(arrays.values())}
            npz_files.write(file, _KIND, numbered, about)
            return f"{int(step):012d}-{_digest(file)}.npz"

        try:
            name = fill_atomically(self.folder, fill).name
        except OSError as error:
            raise OSError(
                error.errno,
                f"{self.folder} cannot take another checkpoint: {error.strerror}. Make "
                "room there, and call the tool again; it goes on from the one before.",
            ) from error
        self._keep(name, self._last if before < step else name)
        self._last = name

    def due(self) -> bool:
        """Return whether saving now takes at most 5 % of the time since the last save.

        The cost is that of the last save, from the question on: what it takes to
        collect the arrays counts. The first is due at once. Each process answers for
        itself; the answer of the first one must decide for all.
        """
        return self._pace.due()

    def close(self) -> None:
        """Let others use the folder."""
        with self._writing:
            self._writes = False
            if self._lock is not None:
                self._lock.close()

    def __enter__(self) -> "Checkpoints":
        """Return itself; leaving closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _search(self) -> str:
        """Find the name of the newest whole checkpoint, or give ""."""
        self._last = ""
        for path in sorted(self._paths(), key=lambda path: _step(path.name))[::-1]:
            if _is_whole(path):
                self._last = path.name
                break
            warnings.warn(
                f"checkpoint {path} is damaged and not used.", RuntimeWarning, 3
            )
        return self._last

    def _go_on_from(self, name: str) -> Checkpoint | None:
        self._last_is_ours = False
        found = self._read(name) if name else None
        self._last_is_ours = True
        return found

    def _read(self, name: str) -> Checkpoint:
        path = self.folder / name
        if not self._writes and not (path.exists() and _is_whole(path)):
            raise OSError(
                errno.ENOENT,
                f"{path} is not what the first process sees. Give a folder that all "
                "processes share.",
            )
        with path.open("rb") as file:
            numbered, about = npz_files.read(file, _KIND, path)
        layout = about.get("layout", 1)
        require(
            layout == _LAYOUT,
            f"{path} is of another version of adaptax, with the layout {layout} of "
            f"checkpoints; this one reads {_LAYOUT}. Finish the run with that version, "
            "or give another folder.",
        )
        differing = brief_differences(about["run"], self._about)
        require(
            not differing,
            f"{self.folder} has checkpoints of another run: {'; '.join(differing)}. "
            "Give another folder, or the same arguments; or delete the folder, to "
            "begin anew.",
        )
        arrays = {name: numbered[str(i)] for i, name in enumerate(about["names"])}
        return Checkpoint(_step(name), arrays, about["notes"])

    def _keep(self, *names: str) -> None:
        for path in self._paths():
            if path.name not in names:
                path.unlink(missing_ok=True)

    def _paths(self) -> list[Path]:
        return [
            path
            for path in self.folder.iterdir()
            if _NAME.fullmatch(path.name) and path.is_file()
        ]


def _step(name: str) -> int:
    return int(name.split("-")[0])


def _digest(file: BufferedRandom | BufferedReader) -> str:
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()[:32]


def _is_whole(path: Path) -> bool:
    """Return whether a file is what its name says."""
    with path.open("rb") as file:
        return path.stem.endswith(_digest(file))
