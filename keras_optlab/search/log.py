"""Where the search says what it does."""

import contextlib
import logging
from collections.abc import Iterator

logger = logging.getLogger("keras_optlab.search")


@contextlib.contextmanager
def lines(verbose) -> Iterator[None]:
    """Shows the line per trial, on the handlers that the user has set up or on stderr."""
    level, handler = logger.level, logging.StreamHandler()
    if verbose:
        logger.setLevel(logging.INFO)
        if not logger.hasHandlers():
            logger.addHandler(handler)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
