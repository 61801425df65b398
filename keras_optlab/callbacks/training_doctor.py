"""Sees what is wrong with a run, names the cause, and is silent while it learns."""

import copy
import math
import os
import time
import warnings
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import keras
import numpy as np

from keras_optlab import report as page
from keras_optlab.callbacks.gradient_monitor import RECENT, GradientMonitor
from keras_optlab.diagnosis import TrainingWarning, examine
from keras_optlab.diagnosis.heads import LEARNED, TRIED, WELL, floor, gained, guess, over, own_loss, spread
from keras_optlab.diagnosis.rules import RULES, STATIC, input_bound, ordered
from keras_optlab.diagnosis.telling import report_of
from keras_optlab.training import data_facts
from keras_optlab.training import keras_seams as seams
from keras_optlab.training.acts import Act, Acts
from keras_optlab.training.diagnose import twin_of
from keras_optlab.training.facts import distributed, has_own_step
from keras_optlab.training.look import is_linear, look, seen_outputs
from keras_optlab.training.memory import memory_facts
from keras_optlab.training.model_facts import model_facts
from keras_optlab.training.optimizer_facts import innermost
from keras_optlab.training.probe import EXAMPLES, TOO_SLOW, kept, penalty, probe, rates

FEWEST = 8  # examples of a batch that are hardly of one class by chance
READ = 2000  # examples of arrays that are read
MOST = 20_000_000  # weights of a model that is tried
NOT_COMPILED = {"what": "the training", "why": "the model is not compiled, so that none of its steps can be measured: call `model.compile(optimizer, loss)`"}
ACTIVATIONS, OUTPUTS, ACTS = "the activations", "the outputs", "what could be done while training"
AT_THE_END = ("slow-convergence", "oscillating-loss", "gradient-spike")
SLOW = 0.01  # seconds of a step from which on it may be the input
WORSE = 1.5  # times the loss of training: a validation that goes badly
LOOKS, FIRST = 0.01, 0.1  # share of the time that goes into looks at activations while a run learns; seconds that the first one is thought to take


class TrainingDoctor(GradientMonitor):
    """A `GradientMonitor` that also knows model, loss and data, and finds out why a run learns nothing.

    What form alone tells, such as class numbers that the last layer does not have, is told before the first step. A run that has brought next to nothing after
    some 50 steps, or at its end, is tried once: some 30 to 120 steps on one batch from the weights it began with, as `keras_optlab.diagnose` does, which takes
    seconds, and after which all is put back bit for bit. It is not tried under a strategy, with a `train_step` of your own, or with more than 20 million
    weights. So a run that learns is not tried, and what only looks odd about it is an "info". At ends of epochs it looks at what the layers make of a fixed
    batch, as often as that takes a hundredth of the time, and once at the end of a run that did not go well.

    `logs["alarms"]` of every epoch is the number of findings so far that are no mere "info".

    With `act=True` it also mends what can be mended while training, at ends of epochs, one thing at a time, five in all, and tells each as a
    `TrainingWarning`. A run that is thrown off goes back to the weights and optimizer state of its best epoch, or to those it began with, at a lower rate or
    with gradients clipped to their usual norm; one that is too slow gets a higher rate. The rate is found by short trials on a few batches. What has not helped
    within two epochs is undone, and tried once or twice weaker or stronger. A run that cannot come to anything, for a head that does not fit the labels or for
    weights that are lost again and again, is stopped. This takes two or three copies of weights and optimizer state in the memory of the host.

    Args:
        every: measure one in this many optimizer steps. Defaults to `100`.
        ignore: codes of findings not to look for; `keras_optlab.diagnosis.rules.RULES` lists them. Defaults to none.
        act: whether to mend what can be mended while training. Defaults to `False`.

    Attributes:
        record: `keras_optlab.diagnosis.Record` of what was measured, over all fits since the model was compiled.
        findings: list of `keras_optlab.diagnosis.Finding`, worst first; where something was done, of what came after it.
        acts: list of what was done, each with `epoch` and `step`, the `code` it is against, `what` was changed, and its `outcome`: "under observation",
            "helped", "undone", or "stopped". `logs["acts"]` of every epoch is how many there were before its end.

    Raises:
        ValueError: if `every` is not a positive integer, `ignore` has an unknown code, or `act` is neither true nor false.

    Example:

        doctor = TrainingDoctor()
        model.fit(x, y, callbacks=[doctor])
        for finding in doctor.findings:
            print(finding.severity, finding)
    """

    reads = tuple(RULES)

    def __init__(self, every: int = 100, ignore=(), act: bool = False):
        super().__init__(every, ignore)
        if not isinstance(act, bool):
            raise ValueError(f"TrainingDoctor(act=...): `act` must be `True` or `False`. Received: act={act!r}")
        self._acts, self._rows = Acts(ignore) if act else None, 32  # examples of a batch
        self._patient, self._batch, self._start, self._tried = None, None, None, False
        self._before = None  # weights that a step of the user's own is to change
        self._targets = None  # the targets, where they are a single array, and what each example counts
        self._classes = Counter()  # measured batches by the class that all their examples are of
        self._alone = False  # in a loop that calls no callback
        self._begun, self._looking, self._one_look = None, 0.0, FIRST  # when the first fit began; seconds of all looks, and of one
        self._epoch, self._steps_of_epoch, self._begins, self._stride = None, 0, True, 1  # times at which its training began

    @property
    def acts(self) -> list[Act]:
        return list(self._acts.made) if self._acts else []

    def get_state(self) -> dict:
        acts = {"acts": self._acts.get_state(self.model), "taken_back": self._taken_back} if self._acts else {}
        return super().get_state() | acts

    def set_state(self, state: dict) -> None:
        super().set_state(state)
        if self._acts and "acts" in state:
            self._acts.set_state(state["acts"])
            self._taken_back = state["taken_back"]

    def watch(self, model: keras.Model) -> "TrainingDoctor":
        """Watches a loop around `model.train_on_batch`, until the `with` block ends. It has no epochs, at whose ends something could be done.

        What `model.compile` begins inside the block is not seen.

        Example:

            with TrainingDoctor().watch(model) as doctor:
                for x, y in batches:
                    model.train_on_batch(x, y)
            print(doctor.findings)
        """
        if not isinstance(model, keras.Model):
            raise ValueError(f"TrainingDoctor.watch(model): `model` must be a keras.Model. Received: {model!r}")
        self.set_model(model)
        self.on_train_begin()
        self._alone = True
        return self

    def report(self, path: str | os.PathLike | None = None) -> str:
        """The findings as a table for a terminal; with a path, the whole run as a page or as JSON besides.

        Args:
            path: file to write, replaced if it exists, whose name ends in ".html" or ".json". Defaults to none.

        Raises:
            ValueError: if the name ends otherwise.

        Example:

            print(doctor.report("run.html"))
        """
        run = report_of(self.record, self.findings, getattr(self.model, "name", None) or "Training")
        if path is not None:
            if Path(path).suffix not in (".html", ".json"):
                raise ValueError(f'TrainingDoctor.report(path=...): `path` must end in ".html" or ".json". Received: {os.fspath(path)!r}')
            page.save(run, path, overwrite=True)
        return page.findings_table(run["findings"], acts=run["acts"])

    def __enter__(self):
        return self

    def __exit__(self, *raised):
        self._alone = False
        if raised == (None, None, None):
            self.on_train_end()
        else:
            self._leave()

    def epoch_logs(self) -> dict[str, float]:
        added = super().epoch_logs()
        self._examine()
        acts = {"acts": len(self._acts.made)} if self._acts else {}
        return {**added, "alarms": sum(finding.severity != "info" for finding in self._findings.values()), **acts}

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self._begun, self._begins = self._begun or time.monotonic(), True
        self._meet()

    def _begins_anew(self) -> bool:
        anew = super()._begins_anew()
        self._patient = None if anew else self._patient
        return anew

    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch, logs)
        if self._acts:
            self._learn(ACTS, lambda: self._acts.go_on(self.model))
            if self._begins and self._so_far() <= LEARNED:
                ends = [finding for finding in self.findings if finding.code == "wrong-head"]  # which no loss that falls makes good
                self._act(lambda: self._acts.stop_for_form(self.model, ends, epoch, self._done()))
        if self._begins:
            facts, known = self._record.facts, len(self._record.logs.get("loss", []))
            facts["epochs"], self._begins = known + (self.params or {}).get("epochs", 0) - epoch, False
        self._epoch, self._steps_of_epoch = (time.monotonic(), time.process_time()), 0
        self._stride = self.model.steps_per_execution  # `self.model` costs a copy of all weights on JAX

    def on_train_batch_begin(self, batch, logs=None):
        if self._patient is None:  # its first batch builds it
            self._meet()
        self._steps_of_epoch = batch + self._stride
        super().on_train_batch_begin(batch, logs)

    def receive(self, call: int, sample):
        if self._batch is None and sample.batch is not None:
            self._learn("the data", lambda: self._read(*keras.utils.unpack_x_y_sample_weight(sample.batch), whole=False))
        if self._acts and sample.batch is not None:
            self._rows = next((len(one) for one in keras.tree.flatten(sample.batch) if getattr(one, "shape", ())), self._rows)
        batch, sample.batch = sample.batch, None  # of which only labels stay in memory until the sample is read
        if isinstance(batch, (tuple, list)) and len(batch) > 1 and getattr(batch[1], "ndim", 0) in (1, 2):
            sample.batch = batch[1]
        super().receive(call, sample)
        if self._alone:
            self._keep_up()

    def _add(self, window):
        super()._add(window)
        for sample in window:
            self._learn("the labels of batches", lambda: self._count(sample.batch))

    def _count(self, labels):
        """How many batches were of one class, and of how many the same one."""
        if labels is None or len(labels) < FEWEST:
            return
        rows = keras.ops.convert_to_numpy(labels)
        self._classes[rows[0].tobytes() if (rows == rows[:1]).all() else None] += 1
        alike = [count for kind, count in self._classes.items() if kind is not None]
        self._record.facts["batches"] = {"seen": self._classes.total(), "alike": sum(alike), "most": max(alike, default=0)}
        if self._classes.total() > 1 and self._targets and self._record.facts.get("guess") and not self._record.facts["data"]["whole"]:
            target, weights = self._targets  # of a stream, whose first batch says little
            if weights is None and len(target) < READ and target.size < data_facts.MOST and rows.shape[1:] == target.shape[1:]:
                self._targets = np.concatenate([target, rows]), None
                self._guess()

    def on_test_begin(self, logs=None):
        self._end_pace()

    def on_epoch_end(self, epoch, logs=None):
        self._end_pace()
        self._weigh()
        self._see_outputs()
        if self._looking + self._one_look <= LOOKS * (time.monotonic() - self._begun):
            self._look()
        super().on_epoch_end(epoch, logs)
        if self._steps() >= TRIED and self._so_far() <= LEARNED and self._stands():
            self._try()
            self._tell()
        if self._acts and "loss" in (logs or {}) and not getattr(self.model, "stop_training", False):
            self._act(lambda: self._mend(epoch))

    def on_train_end(self, logs=None):
        self._drain(whole=False)
        self._weigh()
        self._record.facts["epochs"] = len(self._record.logs.get("loss", []))  # it may have been stopped early
        if not self.model.compiled:
            self._cannot_read(**NOT_COMPILED)
        self._learn("what the step of your own has changed", self._compare)
        self._unseen = True
        so_far, last = self._so_far(), {name: values[-1] for name, values in self._record.logs.items() if values}
        waits = SLOW < input_bound.fastest(self._record)[0] < math.inf
        if so_far <= WELL or waits or own_loss(self._record) or last.get("val_loss", 0) > WORSE * abs(last.get("loss", 0)):
            self._look()
        if so_far <= LEARNED:
            self._try()
        super().on_train_end(logs)

    def _meet(self):
        """Learns what is known of a model, and of arrays that `fit` was given, before the first step."""
        if isinstance(self.model, keras.Sequential) and self.model.compiled and not self.model.built:
            self._learn("the layers", self._preview)
        if not (self.model.built and self.model.compiled) or self.model.optimizer is self._patient:
            return
        facts = self._record.facts
        for name in ("probe", "data", "batches", "validation", "guess", "floor", "penalty", "memory", "batch_size", "accumulates", "unreadable"):
            facts.pop(name, None)
        self._classes = Counter()
        self._patient, self._batch, self._tried, self._targets = self.model.optimizer, None, False, None
        if self._acts:
            self._learn(ACTS, lambda: self._acts.begin(self.model))
        self._learn("the layers", lambda: facts.update(model_facts(self.model)))
        own_step = has_own_step(self.model)
        fits = sum(math.prod(v.shape) for v in self.model.variables) <= MOST
        values = [np.array(keras.ops.convert_to_numpy(v)) for v in self.model.variables] if fits and not distributed(self.model) else None
        self._start, self._before = (None, values) if own_step else (values, None)
        if given := self._arrays():
            self._learn("the data", lambda: self._read(given["x"], given["y"], given["sample_weight"], given["class_weight"]))
            self._see_outputs()
            if "data" in facts:
                facts["batch_size"] = min(given["batch_size"] or 32, facts["data"]["examples"])  # 32: of `fit`
                self._learn("the memory", lambda: facts.update(memory=memory_facts(self.model, facts["batch_size"])))
            held_out = given.get("validation_data")
            if isinstance(held_out, (tuple, list)) and len(held_out) > 1 and not data_facts.is_stream(held_out[0]):
                some = lambda: data_facts.read(*data_facts.some(*held_out[:2], READ))
                self._learn("the validation data", lambda: facts.update(validation=data_facts.data_facts(*some()[:2], whole=False)))
        self._weigh()
        self._unseen = True
        self._tell()  # `fit` may raise at its first step

    def _arrays(self) -> dict | None:
        """What `fit` was given, where it can be read again."""
        given = seams.fit_arguments(self.model) or {}
        readable = given.get("x") is not None and not (data_facts.is_stream(given["x"]) or data_facts.is_spent_by_reading(given["x"]))
        return given if readable else None

    def _preview(self):
        """What form alone tells of a model that its first batch is to build, in which `fit` may raise."""
        if given := self._arrays():
            twin = twin_of(self.model, data_facts.some(given["x"], given["y"], EXAMPLES))
            self._record.facts.update(model_facts(twin))
            self._read(given["x"], given["y"])
            self._unseen = True
            self._tell()
            self._batch = None

    def _see_outputs(self):
        """Those of a model that is no graph of layers, from one pass."""
        facts = self._record.facts
        failed = any(one["what"] == OUTPUTS for one in facts.get("unreadable", []))
        if facts.get("outputs") != [] or self._batch is None or has_own_step(self.model) or failed:
            return

        def see():
            facts["outputs"] = seen_outputs(self.model, self._batch[0])
            facts["linear"] = is_linear(self.model, self._batch[0])
            self._guess()

        self._learn(OUTPUTS, see)
        self._unseen = True

    def _read(self, x, y, sample_weight=None, class_weight=None, whole: bool = True):
        facts = self._record.facts
        self._batch = data_facts.some(x, y, EXAMPLES)
        inputs, targets, _ = data_facts.read(x, y)
        counts = None if sample_weight is None or np.ndim(sample_weight) != 1 else np.asarray(sample_weight) != 0
        if counts is not None and counts.any() and not counts.all():  # what is to be left out may hold anything
            inputs, targets = ({name: array[counts] for name, array in side.items()} for side in (inputs, targets))
            sample_weight = np.asarray(sample_weight)[counts]
        facts["data"] = data_facts.data_facts(inputs, targets, whole)
        if len(targets) == 1:
            (target,) = targets.values()
            weights = data_facts.weights(target, class_weight, sample_weight)
            self._targets = target, weights
            self._guess()
            if weights is not None:
                facts["data"]["y"][0] |= {"heaviest": data_facts.heaviest(target, weights), "weight": float(np.mean(weights))}

    def _guess(self):
        """What guessing the targets would bring, with what is known of the outputs, and what the targets leave."""
        if self._targets:
            sampled = not self._record.facts["data"]["whole"]
            self._record.facts |= {"guess": guess(self._record, *self._targets, sampled), "floor": floor(self._record, *self._targets)}

    def _weigh(self):
        """Penalties on weights, at the beginning and now."""
        facts = self._record.facts

        def weigh():
            if now := penalty(self.model):
                facts["penalty"] = [facts.get("penalty", [now])[0], now]

        self._learn("the penalties on weights", weigh)

    def _compare(self):
        self._record.facts.pop("accumulates", None)
        if self.model.compiled and self._record.pace and not self._done():
            if micro := innermost(self.model.optimizer).gradient_accumulation_steps:
                self._record.facts["accumulates"] = int(micro)
        if self._before is not None and self._record.facts["epochs"]:
            if keras.backend.backend() == "jax":
                self.model.jax_state_sync()
            now = {id(v): keras.ops.convert_to_numpy(v) for v in self.model.trainable_variables}
            began = zip(self.model.variables, self._before, strict=True)
            self._record.facts["moved"] = not now or any(id(v) in now and not np.array_equal(now[id(v)], value) for v, value in began)

    def _end_pace(self):
        if self._epoch is not None and self._steps_of_epoch:
            seconds, busy = time.monotonic() - self._epoch[0], time.process_time() - self._epoch[1]
            weight = self.model.weights[0].value if self.model.weights else None
            on_cpu = "cpu" in str(getattr(weight, "device", "")).lower()  # else the processor idles while another device computes
            self._record.pace.append({"steps": self._steps_of_epoch, "seconds": seconds} | ({"cpu": busy} if on_cpu else {}))
        self._epoch = None

    def _look(self):
        """Looks at the fixed batch, once for each step, unless that has failed before."""
        if self._batch is None or any(one["what"] == ACTIVATIONS for one in self._record.facts.get("unreadable", [])):
            return
        looks, step = self._record.looks, self._done()
        if looks and looks[-1]["step"] == step:
            return
        begun = time.monotonic()
        self._learn(ACTIVATIONS, lambda: self._record.add_look(step, look(self.model, *self._batch)))
        self._one_look = time.monotonic() - begun
        self._looking += self._one_look

    def _done(self) -> int:
        """How many optimizer steps there were, those that were undone as well."""
        return int(keras.ops.convert_to_numpy(self.model.optimizer.iterations)) + self._taken_back

    def _so_far(self) -> float:
        """What the run has brought, or has since something was done to it."""
        return gained(self._record.present()) or 0

    def _steps(self) -> int:
        present = self._record.present()
        return present.steps[-1] - present.steps[0] if len(present) else 0

    def _examine(self):
        trial = self._record.facts.get("probe")
        if trial and self._so_far() > LEARNED:
            trial["learned"] = True  # by the run itself, whatever the trial has shown
        super()._examine()

    def _stands(self) -> bool:
        """Whether the loss does not fall, be it from a height above that of guessing."""
        present = self._record.present()
        losses = [loss for loss in (*present.loss[:1], *present.logs.get("loss", [])[-1:]) if math.isfinite(loss)]
        return len(losses) < 2 or losses[1] > (1 - LEARNED) * losses[0]

    def _act(self, decide):
        """Lets something be done, and tells it. Of two doctors the first one acts."""
        told: list[str] = []
        if self._switch is not None and next((one for one in self._switch.listeners if getattr(one, "_acts", None)), self) is not self:
            return
        self._learn(ACTS, lambda: told.extend(decide()))
        if told:
            self._record.facts["acts"] = [asdict(act) for act in self._acts.present]
        for sentence in told:
            warnings.warn(f"{sentence} Silence with `TrainingDoctor(act=False)`.", TrainingWarning, stacklevel=3)

    def _mend(self, epoch: int) -> list[str]:
        nothing = self._so_far() <= LEARNED and self._stands()
        told = self._acts.stop_for_form(self.model, self.findings, epoch, self._done()) if nothing else []
        if told:
            return told
        present = copy.copy(self._record.present().tail(RECENT))
        present.facts = present.facts | {"epochs": 0}  # what would be found if the run ended here, while there is time
        early = examine(present, [code for code in RULES if code not in AT_THE_END or code in self.ignore])
        left, step, acted = (self.params or {}).get("epochs", 0) - epoch - 1, self._done(), self._record.facts.get("acted")
        told = self._acts.after_epoch(self.model, epoch, left, step, self._record, ordered([*self._findings.values(), *early]), self._rates)
        if self._record.facts.get("acted") is not acted:
            self._findings, self._tried, self._unseen, self._taken_back = {}, False, True, self._taken_back + step - self._done()
            self._first_call = self._switch.calls // self._calls * self._calls if self._switch else 0
        return told

    def _rates(self, factors, values) -> dict[float, float] | None:
        """What a few batches show of other rates; `None` where no trial is possible."""
        found: dict[float, float] = {}
        if self._start is None or self._batch is None:
            return None
        self._learn("other rates", lambda: found.update(rates(self.model, *self._batch, values, factors, self._rows, *self._of_batch())))
        return found or None

    def _of_batch(self) -> tuple[float | None, float | None, float]:
        """Guess, spread and floor of the fixed batch, whose targets may lie closer together than all do."""
        targets = next(iter(keras.tree.flatten(self._batch[1])), None)
        return tuple(of(self._record, targets) for of in (guess, spread, floor))

    def _try(self):
        if self._tried or self._start is None or self._batch is None or any(f.severity == "error" and f.code in STATIC for f in self.findings):
            return
        self._tried = True

        def trial():
            guessed, spread_, least = self._of_batch()
            guessed = guessed or (spread_ if over(self._record) else None)  # numbers are given time to come down from any height
            with kept(self.model):
                for variable, value in zip(self.model.variables, self._start, strict=True):
                    variable.assign(value)
                shown = probe(self.model, *self._batch, guess=guessed, spread=spread_, floor=least)
            if shown["learned"] or shown["verdicts"]:
                self._record.facts["probe"] = shown
            else:
                raise TimeoutError(TOO_SLOW)

        self._learn("a trial training", trial)
        self._unseen = True
