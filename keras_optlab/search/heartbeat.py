"""What tells the other workers that this one is alive."""

import threading

from keras_tuner.errors import FatalRuntimeError

from keras_optlab.search.log import logger
from keras_optlab.search.store import Store


class Heartbeat(threading.Thread):
    """Renews the leases of a store's trials until `end`.

    Args:
        store: the store.
        seconds: time between two beats.

    Attributes:
        lost: ids of the trials that have passed on to other workers.
    """

    def __init__(self, store: Store, seconds: float):
        super().__init__(name="keras_optlab heartbeat", daemon=True)
        self.store, self.seconds, self.lost = store, seconds, set()
        self._over = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._over.wait(self.seconds):
            try:
                self.lost |= set(self.store.renew())
            except FatalRuntimeError as error:  # the next beat may reach it again
                logger.warning("%s", error)

    def end(self) -> None:
        self._over.set()
        self.join()
