"""A training on disk: weights, optimizer, seeds and callbacks at the end of an epoch, and going on from there."""

import json
import os
import random
import re
import zipfile
import zlib
from pathlib import Path

import keras
import numpy as np


class DamagedState(ValueError):
    """A file of a training's state that cannot be read whole."""


class State:
    """What stands in a file that `save_state` or `save_weights` has written.

    Args:
        path: the file; each of its bytes is checked.

    Attributes:
        epoch: how many epochs were finished.
        facts: what else `save_state` was told, such as `history`.
        keep: names of variables, such as "learning_rate", that `into` leaves as the model has them, or has not; by default none.

    Raises:
        DamagedState: naming the file, if it is truncated or altered.
        FileNotFoundError: if there is none.
    """

    def __init__(self, path: str | os.PathLike):
        self.path, self.keep = Path(path), ()
        try:
            with open(self.path, "rb") as file, np.load(file) as members:
                self._arrays = {name: members[name] for name in members.files}
            self.facts = json.loads(self._arrays.pop("facts").tobytes())
        except FileNotFoundError:
            raise
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise DamagedState(f"{self.path} is damaged: {error}") from error
        self.epoch = self.facts.get("epoch", 0)

    def into(self, model: keras.Model) -> None:
        """Puts weights, and the optimizer's state where it was saved, into a model, which is built first if it is not.

        Raises:
            ValueError: listing the differences, if the model or its optimizer is another one.
        """
        if not model.built and self.facts.get("build"):
            model.build_from_config(self.facts["build"])
        if "optimizer" in self.facts and not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        parts = {part: variables for part, variables in parts_of(model).items() if part in self.facts}
        targets = []
        for part, variables in parts.items():
            stored = [(f"{part}/{i}", one) for i, one in enumerate(self.facts[part]) if one[0] not in self.keep]
            found = [(variable, one) for variable, one in zip(variables, _manifest(variables)) if one[0] not in self.keep]
            was_there, is_there = [one for _, one in stored], [one for _, one in found]
            if was_there != is_there:
                different = [f"{was or 'nothing'} was stored, {now or 'nothing'} is there" for was, now in _pairs(was_there, is_there) if was != now]
                raise ValueError(f"{self.path} does not fit the {part}: {'; '.join(different[:5])}.")
            targets += [(variable, name) for (variable, _), (name, _) in zip(found, stored)]
        for variable, name in targets:
            variable.assign(self._arrays[name])

    def into_callbacks(self, callbacks) -> None:
        """Gives each callback with `set_state` what its `get_state` had returned."""
        for callback, (kind, state) in zip(callbacks, self.facts.get("callbacks", [])):
            if state is not None and kind == type(callback).__name__ and hasattr(callback, "set_state"):
                callback.set_state(self._joined(state))

    def into_generators(self) -> None:
        """Sets the global random numbers of Python, NumPy and PyTorch (where it is the backend)."""
        if "random" in self.facts:
            set_random_state(self._joined(self.facts["random"]))

    def _joined(self, value):
        if isinstance(value, dict):
            return self._arrays[value["array"]] if value.keys() == {"array"} else {key: self._joined(one) for key, one in value.items()}
        return [self._joined(one) for one in value] if isinstance(value, list) else value


def save_state(path: str | os.PathLike, model: keras.Model | None, epoch: int, callbacks=(), **facts) -> None:
    """Writes all that a training needs to go on after an epoch; the file appears whole or not at all.

    That is the model's variables (the seeds of its random layers among them) and its optimizer's (with the schedule's position), the global random numbers of
    Python, NumPy and PyTorch, and what the callbacks with `get_state()` return: a dict with string keys of JSON values and arrays.

    Args:
        path: the file, by custom an `.npz`.
        model: the compiled model; `None` where none is built yet.
        epoch: how many epochs are finished.
        callbacks: those of the training, in the order in which they will be given to `State.into_callbacks`.
        **facts: what else to note: JSON values.

    Example:

        save_state("training.npz", model, epoch=3, callbacks=[stopping])
        epoch = resume(model, "training.npz")
        model.fit(x, y, initial_epoch=epoch, epochs=10)
    """
    arrays: dict[str, np.ndarray] = {}
    facts |= {"epoch": epoch, "random": _split(random_state(), arrays)}
    states = [(type(callback).__name__, callback.get_state() if hasattr(callback, "get_state") else None) for callback in callbacks]
    facts["callbacks"] = _split(states, arrays)
    if model is not None:
        facts |= {"build": model.get_build_config()} | _collect(parts_of(model), arrays)
    _write(Path(path), arrays, facts)


def save_weights(path: str | os.PathLike, model: keras.Model) -> None:
    """Writes a model's variables without its optimizer's, to be read by `State`; the file appears whole or not at all."""
    arrays: dict[str, np.ndarray] = {}
    facts = {"build": model.get_build_config()} | _collect({"model": parts_of(model)["model"]}, arrays)
    _write(Path(path), arrays, facts)


def resume(model: keras.Model, path: str | os.PathLike) -> int:
    """Brings a new model and the random numbers to the state that `save_state` has written.

    What `tf.data` has drawn for itself is not in it: a `shuffle` begins anew. Callbacks need their `on_train_begin` first; give them theirs with
    `State(path).into_callbacks(callbacks)` from a callback.

    Args:
        model: a compiled model like the one that was saved.
        path: the file.

    Returns:
        How many epochs were finished: the `initial_epoch` of `fit`.

    Raises:
        DamagedState: naming the file, if it is truncated or altered.
        ValueError: listing the differences, if the model is another one.
    """
    state = State(path)
    state.into(model)
    state.into_generators()
    return state.epoch


def parts_of(model) -> dict[str, list]:
    """All variables of a training: "model" (weights, statistics, seeds) and "optimizer"."""
    counted = {id(v) for v in model.metrics_variables}  # the metrics' sums, which each epoch begins anew
    optimizer = getattr(model, "optimizer", None)
    return {"model": [v for v in model.variables if id(v) not in counted], "optimizer": list(optimizer.variables) if optimizer is not None else []}


def _manifest(variables) -> list:
    return [[re.sub(r"_\d+", "", v.path.rpartition("/")[2]), list(v.shape)] for v in variables]  # names are numbered anew in each process


def _pairs(stored: list, found: list):
    longest = max(len(stored), len(found))
    return zip(*([*one, *[None] * (longest - len(one))] for one in (stored, found)))


def _collect(parts: dict[str, list], arrays: dict) -> dict:
    for part, variables in parts.items():
        arrays |= {f"{part}/{i}": value for i, value in enumerate(copied(variables))}
    return {part: _manifest(variables) for part, variables in parts.items()}


def copied(variables) -> list[np.ndarray]:
    """The values of variables at this moment; bfloat16 and the like, which NumPy's files do not know, as float32."""
    values = [keras.ops.convert_to_numpy(variable) for variable in variables]
    return [np.array(value, "float32" if value.dtype.kind == "V" else None) for value in values]


def _split(value, arrays: dict):
    """JSON of nested values, whose arrays go to `arrays`."""
    if isinstance(value, dict):
        return {key: _split(one, arrays) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_split(one, arrays) for one in value]
    if isinstance(value, np.ndarray):
        name = f"array/{len(arrays)}"
        arrays[name] = value
        return {"array": name}
    return value.item() if isinstance(value, np.generic) else value


def random_state() -> dict:
    version, numbers, gauss = random.getstate()
    out = {"python": [version, np.array(numbers, "uint32"), gauss], "numpy": list(np.random.get_state())}
    if keras.backend.backend() == "torch":
        import torch

        out["torch"] = torch.get_rng_state().numpy()
    return out


def set_random_state(state: dict) -> None:
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers.tolist()), gauss))
    np.random.set_state(tuple(state["numpy"]))
    if "torch" in state and keras.backend.backend() == "torch":
        import torch

        torch.set_rng_state(torch.from_numpy(state["torch"]))


def _write(path: Path, arrays: dict, facts: dict) -> None:
    aside = path.with_name(f"{path.name}.tmp")
    try:
        with open(aside, "wb") as file:
            np.savez(file, facts=np.frombuffer(json.dumps(facts).encode(), "uint8"), **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
