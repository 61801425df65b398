"""What can be said of a model and its data before they are trained."""

import re

import keras
import numpy as np

from keras_optlab.diagnosis import Finding, Record, examine
from keras_optlab.diagnosis.heads import floor, guess, spread
from keras_optlab.training import data_facts, instrument
from keras_optlab.training.facts import has_own_step
from keras_optlab.training.look import is_linear, seen_outputs
from keras_optlab.training.memory import memory_facts
from keras_optlab.training.model_facts import model_facts
from keras_optlab.training.probe import EXAMPLES, TOO_SLOW, kept, probe
from keras_optlab.training.resume import random_state, set_random_state


def diagnose(model, x, y=None, validation_data=None) -> list[Finding]:
    """Examines a compiled model with its data before `fit`, in seconds, and leaves both as they were.

    It holds last layer, loss and labels against each other, looks at ranges and types, and trains a moment on one batch; where that brings nothing, once more
    with Adam and with inputs brought into range, which tells a rate from a range and both from a fault of the model. Weights, optimizer and the global random
    numbers are put back bit for bit. A `tf.data.Dataset` that shuffles is read twice, and goes on with its own random numbers from there.

    Args:
        model: a `keras.Model`, compiled. One that is not built yet is examined as a copy, or built for the data where Keras cannot make one.
        x: what `fit` takes: arrays, nested in lists or dicts, a `tf.data.Dataset`, a `keras.utils.PyDataset`, a PyTorch `DataLoader`.
        y: targets, where x does not have them.
        validation_data: (x, y) or a dataset, as for `fit`. Defaults to none.

    Returns:
        `keras_optlab.diagnosis.Finding`s, the worst first, what follows from one of them right behind it. What could not be examined is among them as
        "unreadable". It does not raise, whatever model and data are.

    Example:

        for finding in keras_optlab.diagnose(model, x, y):
            print(finding.severity, finding.code, finding)
    """
    before = random_state()  # reading a dataset may draw from it
    try:
        return examine(_examined(model, x, y, validation_data))
    finally:
        set_random_state(before)


def _examined(model, x, y, validation_data) -> Record:
    """All that is learned of a model and its data."""
    record = Record()
    record.facts["unreadable"] = unreadable = []

    def attempt(what: str, function):
        try:
            return function()
        except data_facts.Unreadable as error:
            unreadable.append({"what": what, "why": str(error)})
        except Exception as error:  # anything may be wrong with what is given: that it could not be examined is what is told
            unreadable.append({"what": what, "why": reason(error)})

    for name, side in (("x", x), ("y", y)):
        if why := attempt(f"`{name}`", lambda: data_facts.refused(name, side)):
            unreadable.append({"what": "what `fit` would do", "why": why})
    given = attempt("the data", lambda: data_facts.read(x, y))
    if given is not None:
        attempt("the data", lambda: record.facts.update(data=data_facts.data_facts(*given)))
    if validation_data is not None:
        pair = validation_data if isinstance(validation_data, (tuple, list)) else (validation_data,)
        attempt("the validation data", lambda: record.facts.update(validation=data_facts.data_facts(*data_facts.read(*pair[:2]))))
    if not isinstance(model, keras.Model):
        unreadable.append({"what": "the model", "why": f"it is no keras.Model but of the type {type(model).__name__}"})
    else:
        batch = None if given is None else attempt("a batch of the data", lambda: data_facts.some(x, y, EXAMPLES))
        twin = model if model.built else attempt("the model", lambda: _built(model, batch))
        if twin is not None:
            attempt("the layers", lambda: record.facts.update(model_facts(twin)))
            if batch is not None and record.facts.get("outputs") == [] and not has_own_step(twin):
                attempt("the outputs", lambda: record.facts.update(outputs=seen_outputs(twin, batch[0]), linear=is_linear(twin, batch[0])))
            if not getattr(twin, "compiled", False) or twin.optimizer is None:
                unreadable.append({"what": "the training", "why": "the model is not compiled: call `model.compile(optimizer, loss)` first"})
            elif batch is not None and not any(f.severity == "error" for f in examine(record)):
                inputs, targets = (next(iter(keras.tree.flatten(side)), None) for side in batch)
                attempt("the memory", lambda: record.facts.update(memory=memory_facts(twin, len(inputs))))
                attempt("the targets", lambda: record.facts.update(guess=guess(record, targets), floor=floor(record, targets)))
                known = record.facts.get("guess"), spread(record, targets), record.facts.get("floor", 0.0)
                trial = lambda: probe(twin, *batch, _Listener(record), *known)
                if record.facts.get("memory") and record.facts["memory"]["needed"] > record.facts["memory"]["free"]:
                    unreadable.append({"what": "the training", "why": "a trial may take more memory than is free"})
                else:
                    attempt("the training", lambda: record.facts.update(probe=trial()))
                    if "probe" in record.facts and not (record.facts["probe"]["learned"] or record.facts["probe"]["verdicts"]):
                        unreadable.append({"what": "the training", "why": TOO_SLOW})
    return record


class _Listener:
    """Takes a sample of every third step."""

    def __init__(self, record: Record):
        self.record = record

    def wants(self, call: int) -> bool:
        return call % 3 == 0

    def receive(self, call: int, sample) -> None:
        values, rate, before, after = sample.read()
        loss = float(np.mean(keras.ops.convert_to_numpy(sample.logs["loss"])))
        self.record.add(before, instrument.cleaned(values), sample.weights, rate, loss if np.isfinite(loss) else np.inf, after == before)

    def epoch_logs(self) -> dict:
        return {}


def twin_of(model, batch) -> keras.Model:
    """An unbuilt model's twin, built for the batch and compiled likewise.

    Raises:
        Exception: where Keras can make none of its config, or whatever the model raises.
    """
    with kept(model):
        twin = type(model).from_config(model.get_config())
        compiled = model.get_compile_config() if model.compiled else None
        if isinstance(twin, keras.Sequential) and isinstance(batch[0], np.ndarray):
            twin.build((None, *batch[0].shape[1:]))  # numbers that a layer cannot take do not matter then
        else:
            twin(keras.tree.map_structure(lambda value: value[:2], batch[0]))
    if compiled:
        twin.compile_from_config(compiled)
    return twin


def _built(model, batch) -> keras.Model:
    """An unbuilt model's twin; where Keras can make none, the model itself, which draws the weights that it would draw in `fit`."""
    if batch is None:
        raise data_facts.Unreadable("it is not built, and there is no batch to build it with")
    try:
        return twin_of(model, batch)
    except (TypeError, ValueError, NotImplementedError):
        with kept(model):
            model(keras.tree.map_structure(lambda value: value[:2], batch[0]))
        return model


def reason(error: Exception) -> str:
    """An error in one line, without what Keras wraps around it."""
    text = re.sub(r"\x1b\[[\d;]*m", "", str(error))
    text = re.sub(r"^Exception encountered when calling [^\n]*\n+", "", text).split("\n\nArguments received by")[0]
    return f"{type(error).__name__}: {' '.join(text.split())[:300]}"
