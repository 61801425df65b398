"""Where the search says what it does."""

import logging

logger = logging.getLogger("keras_optlab.search")
