"""One process at a time on a project that is not shared."""

import os
from pathlib import Path

from keras_tuner.errors import FatalRuntimeError

_HELD: dict[str, int] = {}  # the kernel's locks are per process: two tuners of one process would not see each other


class Lock:
    """A claim on a project, until `release`, or until the process ends, however it does.

    Args:
        path: the project's SQLite file.

    Raises:
        FatalRuntimeError: if it is claimed already.
        OSError: if the folder cannot be written.
    """

    def __init__(self, path: Path):
        self.name = str(path.resolve())
        if _HELD.get(self.name) == os.getpid():
            raise FatalRuntimeError(f"The search {path} is running in another tuner of this process. Let it end, or give another `project_name`.")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = open(path.with_suffix(".lock"), "a+")  # noqa: SIM115 (it stays open while the search runs)
        try:
            _claim(self.file)
        except OSError:
            self.file.seek(0)
            owner = self.file.read().strip() or "unknown"
            self.file.close()
            raise FatalRuntimeError(
                f"The search {path} is running in another process (id {owner}). Wait for it or end it, give another `project_name`, or let several "
                "processes work on one search with `storage=`."
            ) from None
        self.file.truncate(0)
        self.file.write(str(os.getpid()))
        self.file.flush()
        _HELD[self.name] = os.getpid()

    def release(self) -> None:
        self.file.close()
        _HELD.pop(self.name, None)


def _claim(file) -> None:
    """Locks a file for this process, or raises OSError; the kernel releases it when the process ends."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        file.seek(1 << 20)  # what is locked cannot be read, and the text at the beginning names the owner
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
