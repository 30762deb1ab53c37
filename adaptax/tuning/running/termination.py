"""Termination: defer a SIGTERM, so that a run can save before it ends."""

import ctypes
import signal
import threading
from typing import Any

EXIT_CODE = 128 + signal.SIGTERM
"""The exit code of a process that was terminated: 143."""


class Termination:
    """A context manager that records the first SIGTERM; the second one ends at once.

    It acts only in the main thread, and leaves a user's handler in place. A handler
    that Python does not know is restored at the end: JAX sets one in a program of
    several processes, for `reached_preemption_sync_point`.
    """

    def __init__(self, enabled: bool):
        """Prepare, without changing the handler."""
        self._enabled, self.asked = enabled, False

    def __enter__(self) -> "Termination":
        """Set the handler."""
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
        """Restore the handler.

        Raises:
            SystemExit: If there was a SIGTERM and the run ended without reacting to it,
                normally or with an error that a caller could catch.
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
    """Return the address of the system's handler of SIGTERM."""
    get = ctypes.pythonapi.PyOS_getsig
    get.argtypes, get.restype = [ctypes.c_int], ctypes.c_void_p
    return get(signal.SIGTERM) or 0


def set_c_handler(address: int) -> None:
    """Set the system's handler of SIGTERM to an address, or 0 for the default."""
    put = ctypes.pythonapi.PyOS_setsig
    put.argtypes, put.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
    put(signal.SIGTERM, address)
