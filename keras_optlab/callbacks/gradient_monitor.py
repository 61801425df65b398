"""Watches the gradients of a run and warns when they are sick."""
import difflib
import math
import warnings

import keras
import numpy as np

from keras_optlab.diagnosis import Finding, GradientWarning, Record, examine, rules
from keras_optlab.training import instrument

RECENT = 16  # samples that the rules see while training runs, beside the first one


class GradientMonitor(keras.callbacks.Callback):
    """Measures gradients, weights and updates of every layer on sampled steps of `fit`, and warns of sick ones.

    Training is bit for bit what it is without it, and it costs about 1 % of the time or less (`benchmarks/monitor.py`): on a sampled step a second, measuring
    train function runs in place of the plain one. It is compiled once for each compiled model. The first step of every `fit` is measured, then five times as
    many as `every` says during the first `2 * every` steps, so that a sick net is told of within 100 steps at the default.

    `logs["grad_norm"]` of every epoch is the mean over the epoch's measured steps of the gradient norm over all weights, the latest one where the epoch had none.
    It is the gradient that reaches the optimizer, before clipping: without loss scale, summed over replicas, and the mean over the micro-batches where the
    optimizer accumulates gradients (then one window in `every` is measured). Where the optimizer is called several times in one step, the first call is measured.

    Args:
        every: measure one in this many optimizer steps. Defaults to `50`.
        ignore: codes of findings not to look for, such as `["dead-units"]`; `keras_optlab.diagnosis.rules` lists them. Defaults to none.

    Attributes:
        record: `keras_optlab.diagnosis.Record` of what was measured, over all fits.
        findings: list of `keras_optlab.diagnosis.Finding`, worst first.

    Raises:
        ValueError: if `every` is not a positive integer or `ignore` has an unknown code.

    Example:

        monitor = GradientMonitor()
        model.fit(x, y, callbacks=[monitor])
        print(monitor.record.per_layer("grad_norm")[-1], monitor.findings)
    """

    async_safe = True  # it does nothing at the end of a batch

    def __init__(self, every: int = 50, ignore=()):
        super().__init__()
        if isinstance(every, bool) or not isinstance(every, (int, np.integer)) or every < 1:
            raise ValueError(f"GradientMonitor(every=...): `every` must be an integer of at least 1, a number of steps. Received: every={every!r}")
        for code in ignore:
            if code not in rules:
                near = difflib.get_close_matches(str(code), rules, n=1)
                raise ValueError(
                    f"GradientMonitor(ignore=...): `ignore` must list codes of findings: {', '.join(rules)}. Received: {code!r}." + (f" Did you mean {near[0]!r}?" if near else "")
                )
        self.every, self.ignore = int(every), tuple(ignore)
        self._record, self._findings, self._told = Record(), {}, set()
        self._switch, self._pending, self._norms, self._window = None, [], [], 1

    @property
    def record(self) -> Record:
        self._drain()
        return self._record

    @property
    def findings(self) -> list[Finding]:
        self._drain()
        return sorted(self._findings.values(), key=lambda f: (f.cause is not None, ["error", "warning", "info"].index(f.severity), f.first_step))

    def wants(self, call: int) -> bool:
        """Whether to measure this call of the train function, counted from the start of the fit."""
        window, place = divmod(call, self._window)
        return window % (max(1, self._period // 5) if window < 2 * self._period else self._period) == 0

    def receive(self, sample):
        self._pending.append(sample)

    def epoch_logs(self) -> dict[str, float]:
        """What an epoch's logs get."""
        self._drain()
        if self._norms:
            self._norms = [float(np.mean(self._norms))]
        return {"grad_norm": self._norms[0]} if self._norms else {}

    def on_train_begin(self, logs=None):
        self._drain()
        self._listen()

    def on_train_batch_begin(self, batch, logs=None):
        if self._switch is None:  # driven by hand: there was no train function yet
            self._listen()
        if len(self._pending) > self._window:  # all but the last are ready: no waiting for the device
            self._drain(keep=1)
            self._tell()

    def on_epoch_end(self, epoch, logs=None):
        added = self.epoch_logs()
        if logs is not None:
            for name, value in added.items():
                logs.setdefault(name, value)
            for name, value in logs.items():
                if isinstance(value, (int, float)):
                    self._record.logs.setdefault(name, []).append(float(value))
        self._fresh = True
        self._tell()

    def on_train_end(self, logs=None):
        self._drain()
        if self._switch is not None:
            instrument.leave(self._switch, self)
            self._switch = None
        self._tell()
