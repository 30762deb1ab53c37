"""Checkpoints: the state of a tool, in files that survive a kill at any moment.

A checkpoint is one file, `STEP-DIGEST.npz`. It gets its name when all of it is on the
disk, and only then older ones are removed; two are kept. The digest covers the whole
content, and is verified before anything in the file is read: if it is wrong, the
previous checkpoint is used. Checkpoints are ordered by their steps, not by a clock.

In a run of several processes, the first one writes, and all read: the folder must be on
a shared file system.
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

from adaptax._core import checks, tool_checks
from adaptax._core.checks import require
from adaptax.tuning.running.pacing import Pace
from adaptax.tuning.running.processes import failing_together, from_first
from adaptax.tuning.storage import npz_files
from adaptax.tuning.storage.atomic_files import fill_atomically
from adaptax.tuning.storage.folder_lock import lock
from adaptax.tuning.storage.strict_json import brief_differences, plain

_KIND = "checkpoint"
_LAYOUT = 2  # 1 did not identify its program
_NAME = re.compile(r"(\d{12,})-([0-9a-f]{32})\.npz")


def require_folder(folder: Any) -> str:
    """Return the path of a folder as a `str`; refuse invalid ones, such as ""."""
    return tool_checks.path("checkpoint", folder, "a folder", " None saves nothing.")


class Checkpoint(NamedTuple):
    """The state after `step` steps: arrays by name, and notes as plain JSON."""

    step: int
    arrays: dict[str, np.ndarray]
    notes: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run, in a folder that no other run may use.

    Every process of a run calls the same methods in the same order.
    """

    def __init__(self, folder: str | os.PathLike, about: dict[str, Any]):
        """Open and lock a folder.

        Args:
            folder: The folder, which is created if needed.
            about: A description of the run, as plain JSON, which must be the same for a
                run that resumes.

        Raises:
            OSError: If the folder cannot be written, is not a folder, or is in use.
            TypeError: If the description is not plain JSON.
            ValueError: If the folder is "".
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
        """Read the newest complete checkpoint; warn about damaged ones.

        Raises:
            OSError: If a process does not see the file that the first one sees.
            ValueError: If it belongs to another run, or another version of adaptax.
        """
        return self._go_on_from(from_first(self._search() if self._writes else ""))

    def save(
        self, step: int, arrays: dict[str, np.ndarray], notes: dict[str, Any]
    ) -> None:
        """Write a checkpoint, and remove all but this one and the previous one.

        Args:
            step: The number of steps taken, not fewer than at the last save.
            arrays: Arrays by name, of numbers or strings, including bfloat16.
            notes: Plain JSON. Numbers that are not finite are read back as the strings
                "nan", "inf" and "-inf".

        Raises:
            OSError: If it cannot be written; older ones are not removed then.
            ValueError: If an array has objects, or the folder has checkpoints of
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
        """Save a newer state from the first process, without the others.

        It may be called from any thread.
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
                "room there, and call the tool again: it resumes from the last one.",
            ) from error
        self._keep(name, self._last if before < step else name)
        self._last = name

    def due(self) -> bool:
        """Return whether saving now takes at most 5 % of the time since the last save.

        The cost is that of the last save, from the call of `due` on, so it includes
        collecting the arrays. The first save is due at once. Processes may disagree;
        the first one decides for all.
        """
        return self._pace.due()

    def close(self) -> None:
        """Unlock the folder."""
        with self._writing:
            self._writes = False
            if self._lock is not None:
                self._lock.close()

    def __enter__(self) -> "Checkpoints":
        """Return the checkpoints, which are closed on exit."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the checkpoints."""
        self.close()

    def _search(self) -> str:
        """Return the name of the newest complete checkpoint, or ""."""
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
                f"{path} is not what the first process sees. Use a folder that all "
                "processes share.",
            )
        with path.open("rb") as file:
            numbered, about = npz_files.read(file, _KIND, path)
        layout = about.get("layout", 1)
        require(
            layout == _LAYOUT,
            f"{path} is from another version of adaptax, with the layout {layout} of "
            f"checkpoints; this one reads {_LAYOUT}. Finish the run with that version, "
            "or use another folder.",
        )
        differing = brief_differences(about["run"], self._about)
        require(
            not differing,
            f"{self.folder} has checkpoints of another run: {'; '.join(differing)}. "
            "Use another folder, or the same arguments; or delete the folder to start "
            "anew.",
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
    """Return whether a file has the digest in its name."""
    with path.open("rb") as file:
        return path.stem.endswith(_digest(file))
