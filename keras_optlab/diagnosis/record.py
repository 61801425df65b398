"""What was measured in a run, as plain numbers."""

import csv
import json
import math
import os
from pathlib import Path

import numpy as np

VERSION = 2
KINDS = dict.fromkeys(("layers", "variables", "layer_of", "steps", "learning_rate", "loss", "skipped", "looks", "pace"), list) | {"logs": dict, "facts": dict}
STATISTICS = ("grad_norm", "weight_norm", "update_norm", "zero_share", "nonfinite_share")
LONGEST, LONGEST_LOOKS = 2000, 200  # samples and looks; beyond, every other one of the older half is dropped


class Record:
    """Sampled training steps of one model: norms of gradients, weights and updates, and shares of zero and non-finite entries, for each weight.

    `record.grad_norm` and its siblings are (samples, weights) arrays, in which NaN means "has no gradient" or "was not there" and infinity "not finite".

    Attributes:
        layers: names of the layers, in order.
        variables: paths of the weights.
        layer_of: index into `layers` for each weight.
        steps: optimizer step of each sample, 0 for the first.
        learning_rate: rate of each sample.
        loss: loss that the logs showed at each sample: the mean since the epoch began. NaN where there was none, infinity where it was not finite.
        skipped: whether the optimizer refused the step, as loss scaling does with a gradient that overflowed.
        logs: {name: [value per epoch]}.
        looks: what the layers made of a fixed batch, one for each time that it was looked at: "step", and what `keras_optlab.training.look` tells.
        pace: of each epoch, {"steps", "seconds"} of its training, without validation.
        facts: "weights", what is known of each weight ("path", "layer", "kind", "shape", "activation"), and other static facts. "acted": where something
            was last done to the run, {"step", "epochs"}; "acts": all that was done.
    """

    def __init__(self):
        self.layers, self.variables, self.layer_of = [], [], []
        self.steps, self.learning_rate, self.loss, self.skipped, self.rows = [], [], [], [], []
        self.logs, self.facts, self.looks, self.pace = {}, {"weights": []}, [], []
        self._columns, self._table, self._layers = {}, None, {}  # column of each path; rows as one array, and by layers

    def __len__(self):
        return len(self.steps)

    def add(self, step, values, weights, learning_rate=math.nan, loss=math.nan, skipped=False):
        """Appends one sample.

        Args:
            step: optimizer step.
            values: (weights, 5) array in the order of `STATISTICS`.
            weights: facts of each row, with "path", "layer", "kind", "shape" and "activation". Weights not seen before become new columns.
            learning_rate: rate of this step.
            loss: loss as shown in the logs.
            skipped: whether the optimizer refused the step.
        """
        columns = [self._column(w) for w in weights]
        row = np.full((len(self.variables), len(STATISTICS)), np.nan)
        row[columns] = values
        self.steps.append(int(step))
        self.learning_rate.append(float(learning_rate))
        self.loss.append(float(loss))
        self.skipped.append(bool(skipped))
        self.rows.append(row)
        self._table, self._layers = None, {}
        if len(self) > LONGEST:
            for name in ("steps", "learning_rate", "loss", "skipped", "rows"):
                setattr(self, name, _thinned(getattr(self, name)))

    def add_look(self, step: int, seen: dict) -> None:
        """Appends what `keras_optlab.training.look` has told after an optimizer step."""
        self.looks.append({"step": int(step), **seen})
        if len(self.looks) > LONGEST_LOOKS:
            self.looks = _thinned(self.looks)

    def _column(self, weight):
        if weight["path"] not in self._columns:
            self._columns[weight["path"]] = len(self.variables)
            if weight["layer"] not in self.layers:
                self.layers.append(weight["layer"])
            self.variables.append(weight["path"])
            self.layer_of.append(self.layers.index(weight["layer"]))
            self.facts["weights"].append(dict(weight))
        return self._columns[weight["path"]]

    def tail(self, samples: int) -> "Record":
        """The first sample and the last ones, and all looks."""
        if len(self) <= samples:
            return self
        short = Record()
        for name in ("layers", "variables", "layer_of", "logs", "facts", "looks", "pace"):
            setattr(short, name, getattr(self, name))
        for name in ("steps", "learning_rate", "loss", "skipped", "rows"):
            values = getattr(self, name)
            setattr(short, name, values[:1] + values[-(samples - 1) :])
        return short

    def present(self) -> "Record":
        """What was measured since something was last done to the run, which is what the rules are to judge; all of it where nothing was."""
        acted = self.facts.get("acted")
        if acted is None:
            return self
        since = Record()
        for name in ("layers", "variables", "layer_of"):
            setattr(since, name, getattr(self, name))
        first = next((i for i, step in enumerate(self.steps) if step >= acted["step"]), len(self))
        for name in ("steps", "learning_rate", "loss", "skipped", "rows"):
            setattr(since, name, getattr(self, name)[first:])
        since.looks = [look for look in self.looks if look["step"] >= acted["step"]]
        since.logs, since.pace = {name: values[acted["epochs"] :] for name, values in self.logs.items()}, self.pace[acted["epochs"] :]
        since.facts = {name: fact for name, fact in self.facts.items() if name != "acted"} | {"begins": acted["step"]}
        if "epochs" in self.facts:
            since.facts["epochs"] = self.facts["epochs"] - acted["epochs"]
        return since

    def table(self) -> np.ndarray:
        """(samples, weights, 5), in the order of `STATISTICS`."""
        if self._table is None or self._table.shape[:2] != (len(self), len(self.variables)):
            self._layers = {}
            self._table = np.full((len(self), len(self.variables), len(STATISTICS)), np.nan)
            for i, row in enumerate(self.rows):  # earlier rows lack the weights that came later
                self._table[i, : len(row)] = row
        return self._table

    def array(self, name: str) -> np.ndarray:
        """(samples, weights)."""
        return self.table()[..., STATISTICS.index(name)].copy()

    grad_norm = property(lambda self: self.array("grad_norm"))
    weight_norm = property(lambda self: self.array("weight_norm"))
    update_norm = property(lambda self: self.array("update_norm"))
    zero_share = property(lambda self: self.array("zero_share"))
    nonfinite_share = property(lambda self: self.array("nonfinite_share"))

    def sizes(self) -> np.ndarray:
        """Number of entries of each weight."""
        return np.array([math.prod(w["shape"]) for w in self.facts["weights"]], "float64")

    def applied(self) -> np.ndarray:
        """Indices of the samples whose step the optimizer did not refuse."""
        return np.flatnonzero(~np.array(self.skipped, bool))

    def matrices(self) -> np.ndarray:
        """Which weights are kernels: more than one axis."""
        return np.array([len(w["shape"]) > 1 for w in self.facts["weights"]], bool)

    def layer_sizes(self, which=None) -> np.ndarray:
        """Entries of each layer's weights, or of those weights `which` is true for."""
        return np.bincount(self.layer_of, self.sizes() if which is None else self.sizes() * which, len(self.layers))

    def per_layer(self, name: str, which=None) -> np.ndarray:
        """(samples, layers): norms as the root of the sum of squares, shares averaged by size. NaN where a layer has no value.

        Args:
            name: one of `STATISTICS`.
            which: boolean for each weight, the ones to count. Defaults to all.
        """
        table, key = self.table(), (name, None if which is None else which.tobytes())  # several rules ask for the same
        if key not in self._layers:
            self._layers[key] = self._by_layer(name, table[..., STATISTICS.index(name)], which)
        return self._layers[key].copy()

    def _by_layer(self, name, values, which):
        there = ~np.isnan(values) if which is None else ~np.isnan(values) & which
        values = np.where(there, values, 0.0)
        layer = np.eye(len(self.layers))[np.array(self.layer_of, int)]
        counts = there @ layer
        if name.endswith("norm"):
            finite = np.isfinite(values)
            result = np.where((~finite) @ layer > 0, np.inf, np.sqrt(np.where(finite, values, 0.0) ** 2 @ layer))
        else:
            sizes = self.sizes()
            result = (values * sizes) @ layer / np.maximum((there * sizes) @ layer, 1)
        return np.where(counts > 0, result, np.nan)

    def total(self, name: str = "grad_norm") -> np.ndarray:
        """(samples,): the norm over all weights. NaN where there is no value at all."""
        values = self.array(name)
        return np.where(np.isnan(values).all(1), np.nan, np.sqrt(np.nansum(values**2, axis=1)))

    def improvement(self) -> float:
        """By which part the loss has fallen from the first sample to the last: 0 where it is not known, -inf where it is not finite any more."""
        if not self.loss or not np.isfinite(self.loss[0]) or np.isnan(self.loss[-1]):
            return 0.0
        return (self.loss[0] - self.loss[-1]) / max(abs(self.loss[0]), 1e-12)

    def to_dict(self) -> dict:
        """JSON-able: None stands for NaN, "inf" for infinity."""
        return {
            "version": VERSION,
            "layers": list(self.layers),
            "variables": list(self.variables),
            "layer_of": list(self.layer_of),
            "steps": list(self.steps),
            "learning_rate": _plain(self.learning_rate),
            "loss": _plain(self.loss),
            "skipped": list(self.skipped),
            **{name: _plain(self.array(name)) for name in STATISTICS},
            "logs": {name: _plain(values) for name, values in self.logs.items()},
            "facts": self.facts,
            "looks": list(self.looks),
            "pace": list(self.pace),
        }

    def save(self, path: str | os.PathLike) -> None:
        """Writes the record as JSON, for `load`; the file appears whole or not at all."""
        aside = Path(f"{os.fspath(path)}.tmp")
        text = json.dumps(self.to_dict())
        aside.write_text(text)
        os.replace(aside, path)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Record":
        """The record that `save` has written.

        Raises:
            ValueError: if the file is none, or of another version.
        """
        try:
            saved = json.loads(Path(path).read_text())
            return cls.from_dict(saved if isinstance(saved, dict) else {})
        except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"`path` must be a file that `Record.save` has written. Received: {path}, which cannot be read: {error}") from error

    @classmethod
    def from_csv(cls, path: str | os.PathLike) -> "Record":
        """What a CSV of logs tells, one row an epoch, as `keras.callbacks.CSVLogger` writes it: `logs`, and nothing of single steps or layers.

        Raises:
            ValueError: if there is no column "loss".
        """
        record = cls()
        try:
            with open(path, newline="", encoding="utf-8-sig") as file:
                sample = file.read(4096)
                file.seek(0)
                rows = list(csv.DictReader(file, delimiter=next((one for one in ";\t" if one in sample.partition("\n")[0]), ",")))
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"`path` must be a CSV of logs in UTF-8. Received: {path}, which cannot be read: {error}") from error
        rows = [row for row in rows if row.get("loss") != "loss"]  # a header for each of several runs
        if not rows or "loss" not in rows[0]:
            found = ", ".join(name for name in rows[0] if name) if rows else "nothing"
            raise ValueError(f'`path` must be a CSV of logs with a column "loss". Received: {path}, with {found}.')
        for name in filter(None, rows[0]):  # a comma at the end of a row is a column without a name
            values = [_number(row[name]) for row in rows]
            if name != "epoch" and any(value is not None for value in values):
                record.logs[name] = [math.nan if value is None else value for value in values]
        if "loss" not in record.logs:
            raise ValueError(f'`path` must be a CSV whose column "loss" holds numbers, with a decimal point. Received: {path}, with {rows[0]["loss"]!r}.')
        return record

    @classmethod
    def from_dict(cls, saved: dict) -> "Record":
        """The record that `to_dict` gave.

        Raises:
            ValueError: if it is of another version.
        """
        if saved.get("version") not in (1, VERSION):  # those of version 1 have no looks and no pace
            raise ValueError(
                f"`saved` must be a record of version 1 to {VERSION}. Received: version={saved.get('version')}. "
                "Make the record again with this version of keras_optlab."
            )
        for name, kind in KINDS.items():
            if not isinstance(saved.get(name, kind()), kind):
                raise ValueError(f"`saved[{name!r}]` must be a {kind.__name__}, as in a record. Received: {saved[name]!r}")
        record = cls()
        for name in ("layers", "variables", "layer_of", "steps", "skipped", "facts"):
            setattr(record, name, saved[name])
        record._columns = {path: i for i, path in enumerate(record.variables)}
        record.learning_rate, record.loss = _numbers(saved["learning_rate"]).tolist(), _numbers(saved["loss"]).tolist()
        shape = (len(record.steps), len(record.variables))
        record.rows = list(np.stack([_numbers(saved[name]).reshape(shape) for name in STATISTICS], axis=-1))
        record.logs = {name: _numbers(values).tolist() for name, values in saved["logs"].items()}
        record.looks, record.pace = saved.get("looks", []), saved.get("pace", [])
        return record


def onset(holds) -> int:
    """Index of the first of the trues at the end."""
    failed = np.flatnonzero(~np.asarray(holds))
    return int(failed[-1]) + 1 if len(failed) else 0


def predictions(look: dict) -> dict[str, dict]:
    """What a look tells of each output, by name; "output" where there is one."""
    told = look["predictions"]
    return {"output": told} if "spread" in told and not isinstance(told["spread"], dict) else told


def _thinned(values: list) -> list:
    half = len(values) // 2
    return values[:half:2] + values[half:]


def _number(text: str | None) -> float | None:
    """A cell of a CSV, `None` for what is no number."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return None


def _plain(x):
    if isinstance(x, (list, tuple, np.ndarray)):
        return [_plain(i) for i in x]
    x = float(x)
    return None if math.isnan(x) else "inf" if x == math.inf else "-inf" if x == -math.inf else x


def _numbers(x) -> np.ndarray:
    return np.array([_numbers(i) if isinstance(i, list) else math.nan if i is None else float(i) for i in x], "float64")
