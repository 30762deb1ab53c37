"""A lock on a folder, so that only one run of a tool uses it at a time."""

import errno
from pathlib import Path
from typing import BinaryIO

from adaptax.tuning.storage.atomic_files import TEMPORARIES

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


def lock(folder: Path) -> BinaryIO:
    """Lock a folder, and remove temporary files that a kill left in it.

    Args:
        folder: The folder, which is created if needed. If the system or the disk does
            not support locks, it is not locked.

    Returns:
        The lock: the folder is unlocked when it is closed, or the process ends.

    Raises:
        OSError: If the folder cannot be written, is not a folder, or is in use.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("ab")
    except OSError as error:
        raise OSError(
            error.errno,
            f"{folder} cannot hold checkpoints: {error.strerror}. Use a folder that "
            "can be created or written.",
        ) from error
    try:
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            lock.close()
            raise OSError(
                error.errno,
                f"{folder} is in use by another run. Wait for its end, or use another "
                "folder.",
            ) from error
    for temporary in folder.glob(TEMPORARIES):
        temporary.unlink(missing_ok=True)
    return lock
