"""How a search reaches its database, and what is said when it cannot. No password is ever in it."""

import contextlib
import sqlite3
import time
from collections.abc import Iterator

import optuna
from keras_tuner.errors import FatalRuntimeError

from keras_optlab.search.tables import NOW


def parsed(url):
    """SQLAlchemy's form of a URL, with the driver that we name to be installed."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
        hidden = "@" not in (parsed.host or "") and not any(name.endswith(("password", "passwd")) for name in parsed.query)  # else it would be told
        known = hidden and parsed.get_backend_name() in NOW and parsed.get_dialect()
    except (ArgumentError, ImportError, ValueError):
        known = None
    if not known:
        raise ValueError(
            '`storage` must be an address such as "postgresql://user:password@host/name", of PostgreSQL, MySQL or SQLite. Received: '
            f"storage='{url.partition('://')[0]}://...'. Write @, / and : in a password as %40, %2F and %3A. `None` keeps the search in its folder."
        )
    return parsed.set(drivername="postgresql+psycopg") if parsed.drivername == "postgresql" else parsed


def connect(address, new: bool):
    """Optuna's storage.

    Args:
        address: path of an SQLite file, `None` for the memory, or what `parsed` has returned.
        new: whether to make the tables that are missing.
    """
    from sqlalchemy import URL
    from sqlalchemy.exc import IntegrityError, ProgrammingError
    from sqlalchemy.pool import NullPool, StaticPool

    shared = isinstance(address, URL)
    url = address if shared else URL.create("sqlite", database=None if address is None else str(address))
    timeout = {"sqlite": {"timeout": 30}, "postgresql": {"connect_timeout": 10}}.get(url.get_backend_name(), {})
    kwargs = {"poolclass": NullPool, "connect_args": timeout}  # a connection per transaction: nothing to be left open by a fork or an exception
    if address is None:
        kwargs = {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}
    text = url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")  # Optuna expands braces
    for attempt in range(10):
        try:
            return optuna.storages.RDBStorage(text, engine_kwargs=kwargs, skip_table_creation=not new)
        except (IntegrityError, ProgrammingError, optuna.exceptions.StorageInternalError) as error:
            raced = isinstance(error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error, IntegrityError | ProgrammingError)
            if not (shared and raced) or attempt == 9:
                raise
            time.sleep(0.2)  # another worker is making the tables


@contextlib.contextmanager
def errors(name: str, url, what: str, advice: str = "") -> Iterator[None]:
    """Says in one sentence what could not be done.

    Args:
        name: what to call the search.
        url: its address, if it has one: its password is taken out of the message.
        what: "read" or "written".
        advice: the way out. By default what helps against a full disk or a lost connection.
    """
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except ImportError as error:
        if url is None:
            raise
        missing = error.__cause__ or error
        raise FatalRuntimeError(f"{name} needs a driver that is not installed: {missing}. For PostgreSQL: pip install 'psycopg[binary]'.") from None
    except RuntimeError as error:
        if "compatible" not in str(error) or isinstance(error, FatalRuntimeError):
            raise
        raise FatalRuntimeError(f"The search {name} was written by another version of Optuna: {error}") from error
    except (optuna.exceptions.StorageInternalError, SQLAlchemyError, sqlite3.Error, OSError) as error:
        cause = error.__cause__ or error
        cause = (str(getattr(cause, "orig", None) or cause).splitlines() or [type(cause).__name__])[0]
        usual = "Free the disk or the folder" if url is None else "See that the database can be reached"
        if url is not None and url.password:
            cause = cause.replace(str(url.password), "***")
        text = f"The search {name} could not be {what}: {cause}. {advice or f'Every finished trial is kept. {usual}, then run the same command again.'}"
        if url is None or not url.password:
            raise FatalRuntimeError(text) from error
        raise FatalRuntimeError(text) from None
