"""Watches the gradients of a run and warns when they are sick."""

import difflib
import math
import warnings
from collections.abc import Iterable
from dataclasses import replace

import keras
import numpy as np

from keras_optlab.diagnosis import Finding, Record, examine
from keras_optlab.diagnosis.heads import WELL, gained
from keras_optlab.diagnosis.rules import EVENTS, OF_GRADIENTS, RULES, category, joined, ordered
from keras_optlab.training import instrument
from keras_optlab.training.diagnose import reason
from keras_optlab.training.optimizer_facts import innermost

RECENT = 20  # samples that the rules see while training runs, the first one of all included


class GradientMonitor(keras.callbacks.Callback):
    """Measures gradients, weights and updates of every layer on sampled steps of `fit`, and warns of sick ones.

    Training is bit for bit what it is without it. On a sampled step a second, measuring train function runs in place of the plain one, on JAX before it; it is
    compiled once for each compiled model. Expect 1 % of the time or less on TensorFlow where a step takes 4 ms or more, 3 % on JAX (`benchmarks/monitor.py`).
    It warns of what gradients tell, `TrainingDoctor` of the rest, too.

    The first step of every `fit` is measured, then ten times as many as `every` says during the first `every` steps, so that a sick net is told of within
    100 steps at the default. Where XLA compiles the step on TensorFlow (`jit_compile`, Keras' choice on a GPU), it may round the measured steps in another
    way, in the last bit.

    `logs["grad_norm"]` of every epoch is the mean over the epoch's measured steps of the gradient norm over all weights, the latest one where the epoch had
    none. It is the gradient that reaches the optimizer, before clipping: without loss scale, summed over replicas, and the mean over the micro-batches where
    the optimizer accumulates gradients (then one update in `every` is measured). With `steps_per_execution` the last step of an execution is measured, and
    where the optimizer is called several times in one step, the first call. A `train_step` that calls it inside a `tf.function`, `jax.jit` or condition of its
    own is not measured, which the finding `unreadable` says.

    Args:
        every: measure one in this many optimizer steps. Defaults to `100`.
        ignore: codes of findings not to look for, such as `["dead-units"]`; `keras_optlab.diagnosis.rules.RULES` lists them. Defaults to none.

    Attributes:
        record: `keras_optlab.diagnosis.Record` of what was measured, over all fits since the model was compiled.
        findings: list of `keras_optlab.diagnosis.Finding`, worst first.

    Raises:
        ValueError: if `every` is not a positive integer or `ignore` has an unknown code.

    Example:

        monitor = GradientMonitor()
        model.fit(x, y, callbacks=[monitor])
        print(monitor.record.per_layer("grad_norm")[-1], monitor.findings)
    """

    async_safe = True  # it does nothing at the end of a batch
    reads = (*(rule.CODE for rule in OF_GRADIENTS), "unreadable")

    def __init__(self, every: int = 100, ignore=()):
        super().__init__()
        if isinstance(every, bool) or not isinstance(every, (int, np.integer)) or every < 1:
            raise ValueError(f"{type(self).__name__}(every=...): `every` must be an integer of at least 1, a number of steps. Received: every={every!r}")
        if isinstance(ignore, str) or not isinstance(ignore, Iterable):
            raise ValueError(f"{type(self).__name__}(ignore=...): `ignore` must be a list of codes of findings, such as ['overfitting']. Received: {ignore!r}")
        for code in ignore:
            if code not in RULES:
                near = difflib.get_close_matches(str(code), RULES, n=1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise ValueError(f"{type(self).__name__}(ignore=...): `ignore` must list codes of findings: {', '.join(RULES)}. Received: {code!r}.{hint}")
        self.every, self.ignore = int(every), tuple(ignore)
        self._record, self._findings, self._told, self._unseen = Record(), {}, set(), False
        self._switch, self._windows, self._norms, self._norm = None, [], [], None
        self._calls, self._period = 1, self.every  # train function calls in a window (the micro-steps of one update), and windows from sample to sample
        self._optimizer = None  # which one it is that the record is of
        self._first_call, self._taken_back = 0, 0  # call from which on the first ones are measured more often; steps that were undone

    @property
    def record(self) -> Record:
        self._drain()
        return self._record

    @property
    def findings(self) -> list[Finding]:
        self._drain()
        self._examine()
        return ordered(list(self._findings.values()))

    def get_state(self) -> dict:
        """What a training that goes on later needs, for `set_state`."""
        return {"record": self.record.to_dict(), "findings": [f.to_dict() for f in self._findings.values()], "told": list(self._told), "norm": self._norm}

    def set_state(self, state: dict) -> None:
        """Goes on from what `get_state` has returned."""
        self._record, self._norm = Record.from_dict(state["record"]), state["norm"]
        self._findings = {_key(f): f for f in (Finding(**f) for f in state["findings"])}
        self._told, self._unseen, self._optimizer = {tuple(key) for key in state["told"]}, False, None

    def wants(self, call: int) -> bool:
        """Whether to measure this call of the train function, counted from the start of the fit."""
        window = (call - self._first_call) // self._calls
        return window % (max(1, self._period // 10) if window < self._period else self._period) == 0

    def receive(self, call: int, sample):
        """Takes one measured call."""
        if (call - self._first_call) % self._calls == 0 or not self._windows:
            self._windows.append([])
        self._windows[-1].append(sample)

    def epoch_logs(self) -> dict[str, float]:
        """What the logs of the epoch that just ended get."""
        self._drain()
        if self._norms:
            self._norm = float(np.mean(self._norms))
        return {} if self._norm is None else {"grad_norm": self._norm}

    def on_train_begin(self, logs=None):
        self._drain(whole=False)
        if self._begins_anew():
            self._record, self._findings, self._told, self._norm, self._taken_back = Record(), {}, set(), None, 0
        self._first_call = 0
        self._listen()

    def on_train_batch_begin(self, batch, logs=None):
        if self._switch is None:  # driven by hand: there was no train function yet
            self._listen()
        self._keep_up()

    def on_epoch_begin(self, epoch, logs=None):
        self._norms = []

    def on_epoch_end(self, epoch, logs=None):
        added = self.epoch_logs()
        if logs is not None:
            for name, value in added.items():
                logs.setdefault(name, value)
            for name, value in logs.items():
                if isinstance(value, (int, float)):
                    self._record.logs.setdefault(name, []).append(float(value))
            self._unseen = True
        self._tell()

    def on_train_end(self, logs=None):
        self._drain(whole=False)
        self._leave()
        self._tell()

    def _begins_anew(self) -> bool:
        """Whether this is another model than that of the record, or one that was compiled again."""
        optimizer, before = getattr(self.model, "optimizer", None), self._optimizer
        if optimizer is None:
            return False
        self._optimizer = id(optimizer)  # which another one may get when it is gone
        steps, last = int(keras.ops.convert_to_numpy(optimizer.iterations)), self._record.steps[-1] if len(self._record) else -1
        if before not in (None, self._optimizer) or steps == 0 < last:
            return True
        self._taken_back += max(0, last - steps - self._taken_back)  # the best weights, say, have come back with the optimizer's state
        return False

    def _keep_up(self):
        if len(self._windows) > 1:  # all but the last are ready: no waiting for the device
            self._drain(keep=1)
            self._tell()

    def _leave(self):
        if self._switch is not None:
            if why := self._switch.measuring.failure:
                self._cannot_read("the gradients", why)
            instrument.leave(self._switch, self)
            self._switch = None

    def _learn(self, what: str, look):
        """A training must not end for something that is only to be looked at."""
        try:
            look()
        except Exception as error:
            self._cannot_read(what, reason(error))

    def _cannot_read(self, what: str, why: str):
        unreadable = self._record.facts.setdefault("unreadable", [])
        if what not in [one["what"] for one in unreadable]:
            unreadable.append({"what": what, "why": why})
            self._unseen = True

    def _listen(self):
        self._switch = instrument.listen(self.model, self)
        if self._switch is None:
            return
        optimizer = innermost(self.model.optimizer)
        micro, steps = optimizer.gradient_accumulation_steps or 1, self.model.steps_per_execution
        self._calls = micro // math.gcd(micro, steps)
        self._period = max(1, self.every * micro // (steps * self._calls))

    def _drain(self, keep=0, whole=True):
        """Reads the samples from the device. `whole`: a window that goes on is left for later."""
        if whole and self._windows and len(self._windows[-1]) < self._calls:
            keep = 1
        while len(self._windows) > keep:
            window = self._windows.pop(0)
            self._learn("a measured step", lambda: self._add(window))

    def _add(self, window):
        readings = [(sample, *sample.read()) for sample in window]
        updates = [r for r in readings if r[4] > r[3]]
        if not updates and len(window) < self._calls:
            return
        sample, values, rate, before, after = (updates or readings)[-1]
        values = instrument.cleaned(values)
        skipped = after == before
        if skipped and self._calls > 1 and np.isfinite(np.nansum(values[:, 0])):
            skipped, values[:, 2] = False, np.nan  # the update of this window fell between two samples
        self._record.add(before + self._taken_back, values, sample.weights, rate, _loss(sample.logs), skipped)
        norm = float(np.sqrt(np.nansum(values[:, 0] ** 2)))
        if skipped:
            self._norm = norm if self._norm is None else self._norm
        else:
            self._norms.append(norm)
        self._unseen = True

    def _examine(self):
        if self._unseen:
            self._unseen = False
            known, healthy = self._findings, (gained(self._record.present()) or 0) > WELL
            events = [replace(f, severity="info") if healthy else f for f in known.values() if f.code in EVENTS]
            found = examine(self._record.present().tail(RECENT), [code for code in RULES if code in self.ignore or code not in self.reads])
            self._findings = {_key(f): f for f in joined(events, found)}
            for key in self._findings.keys() & known.keys():
                self._findings[key] = replace(self._findings[key], first_step=min(known[key].first_step, self._findings[key].first_step))

    def _tell(self):
        self._examine()
        for finding in ordered(list(self._findings.values())):
            key = finding.code, None if finding.code in EVENTS else finding.layer  # in which layer it shows most changes
            if finding.severity != "info" and key not in self._told:
                self._told.add(key)
                warnings.warn(
                    f'{finding} Silence with `{type(self).__name__}(ignore=["{finding.code}"])` or '
                    f'`warnings.filterwarnings("ignore", category=keras_optlab.diagnosis.{category(finding.code).__name__})`.',
                    category(finding.code),
                    stacklevel=2,
                )


def _key(finding: Finding) -> tuple:
    """What makes two findings the same one."""
    return finding.code, finding.message if finding.code == "unreadable" else finding.layer


def _loss(logs) -> float:
    shown = logs.get("loss") if isinstance(logs, dict) else None
    if shown is None or keras.tree.is_nested(shown):
        return math.nan
    loss = float(np.mean(keras.ops.convert_to_numpy(shown)))
    return loss if math.isfinite(loss) else math.inf
