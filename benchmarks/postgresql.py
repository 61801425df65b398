"""A PostgreSQL server of our own, for as long as a test or a benchmark needs it."""

import contextlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path


def program(name: str) -> str | None:
    """On the path, or where Debian keeps it."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(found[-1]) if found else None)


@contextlib.contextmanager
def server() -> Iterator[str]:
    """The address of a new database on a new server, which listens on a socket in a temporary folder only.

    Raises:
        FileNotFoundError: if PostgreSQL or its driver is not installed.
    """
    if not (program("initdb") and program("pg_ctl") and importlib.util.find_spec("psycopg")):
        raise FileNotFoundError("PostgreSQL (initdb, pg_ctl) or its driver psycopg is not installed")
    user = {}
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # it refuses to be run by root
        import pwd

        nobody = pwd.getpwnam("nobody")
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # a short path: a socket's has at most 107 characters
    data = folder / "data"
    run = lambda name, *arguments: subprocess.run(
        [program(name), "-D", data, *arguments], check=True, stdout=subprocess.DEVNULL, cwd=folder, env=os.environ | {"LC_ALL": "C.UTF-8"}, **user
    )
    try:
        if user:
            os.chown(folder, user["user"], user["group"])
        run("initdb", "-U", "tester", "-A", "trust", "-E", "UTF8")
        run("pg_ctl", "-w", "-l", str(folder / "log"), "-o", f"-k {folder} -h '' -c shared_buffers=16MB", "start")
        try:
            yield f"postgresql://tester@/postgres?host={folder}"
        finally:
            run("pg_ctl", "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
