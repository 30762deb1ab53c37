"""Termination: a SIGTERM is noted, so that a run can save before it ends."""

import ctypes
import signal
import threading
from typing import Any

EXIT_CODE = 128 + signal.SIGTERM
"""What a process ends with that was asked to: 143."""


class Termination:
    """Notes the first SIGTERM instead of ending at once; the second one ends at once.

    A context manager. It does so in the main thread alone, and leaves a handler of the
    user's as it is. One that Python does not know of is put back at the end: JAX sets
    one in a program of several processes, for `reached_preemption_sync_point`.
    """

    def __init__(self, enabled: bool):
        """Change nothing yet."""
        self._enabled, self.asked = enabled, False

    def __enter__(self) -> "Termination":
        """Begin to listen."""
        main = threading.current_thread() is threading.main_thread()
        self._listens = (
            self._enabled
            and main
            and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        )
        if self._listens:
            self._beneath = c_handler()
            signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: object,
    ) -> None:
        """Put back what was there.

        Raises:
            SystemExit: Where nothing has ended the process after a SIGTERM: the run
                ended before it could, with an error that a caller may catch or without.
        """
        del kind, traceback
        if self._listens:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            set_c_handler(self._beneath)
        if self.asked and (error is None or isinstance(error, Exception)):
            raise SystemExit(EXIT_CODE) from error

    def _note(self, *_: Any) -> None:
        if self.asked:
            raise SystemExit(EXIT_CODE)
        self.asked = True


def c_handler() -> int:
    """Return the address of the function that the system calls at a SIGTERM."""
    get = ctypes.pythonapi.PyOS_getsig
    get.argtypes, get.restype = [ctypes.c_int], ctypes.c_void_p
    return get(signal.SIGTERM) or 0


def set_c_handler(address: int) -> None:
    """Let the system call the function at an address, or 0 for the default."""
    put = ctypes.pythonapi.PyOS_setsig
    put.argtypes, put.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
    put(signal.SIGTERM, address)
