"""The files of a search's trainings: the weights of the trials worth keeping, and the states of those that are not finished."""

import contextlib
import os
import re
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

import keras
from keras_tuner.errors import FatalRuntimeError

from keras_optlab.search.log import logger
from keras_optlab.training.resume import DamagedState, State, save_state, save_weights

OURS = re.compile(r"(checkpoint|record|state)_\d{4,}\.\w+(\.\d+)?\.(npz|json)(\.tmp)?")  # other files in the folder are somebody else's
STATE = re.compile(r"state_\d{4,}\.\d+\.\d+\.npz")  # a program that synchronizes folders may have put copies beside them
GENERATIONS = 2  # states of a running trial: should the last one be damaged, the one before serves


class Checkpoints:
    """Reads and writes them in one folder, which several workers may share.

    A name carries the trial and a token, a number that grows each time a trial is taken up. Only the holder of the token writes or deletes these files, and
    none is written twice, so that a worker that was thought dead cannot disturb the one which has taken over.

    Args:
        folder: where they are.
        search: identity of the search: the states of another one that was here before are not used.
    """

    def __init__(self, folder: str | os.PathLike, search: str | None = None):
        self.folder, self.search = Path(folder), search

    def best(self, trial_id: str, token: int) -> Path:
        """Where a trial's weights at its best epoch are."""
        return self.folder / f"checkpoint_{trial_id}.{token}.npz"

    def save_best(self, trial_id: str, token: int, model: keras.Model) -> None:
        for *_, old in self._states(trial_id)[: 1 - GENERATIONS]:  # makes room, as in `save_state`, which follows
            old.unlink(missing_ok=True)
        with writing(self.best(trial_id, token)) as file:
            save_weights(file, model)

    def save_state(self, trial_id: str, token: int, model: keras.Model | None, epoch: int, callbacks=(), **facts) -> None:
        """Writes the state of a running trial after an epoch; with the one before, `GENERATIONS` remain."""
        states = self._states(trial_id)
        serial = states[-1][1] + 1 if states and states[-1][0] == token else 0
        with writing(self.folder / f"state_{trial_id}.{token}.{serial}.npz") as file:
            for *_, old in states[: max(0, len(states) + 1 - GENERATIONS)]:
                old.unlink(missing_ok=True)  # before: there is not room for one more on every disk
            save_state(file, model, epoch, callbacks, search=self.search, **facts)

    def state(self, trial_id: str, epoch: int | None = None) -> State | None:
        """The state from which a trial goes on, or another one that is promoted from it: the newest that can be read.

        Args:
            trial_id: the trial that has written it.
            epoch: how many epochs it must have finished. By default as many as there are, unless that was the end of the training: what is taken up again
                after an interruption must come to its end once more.
        """
        for *_, file in reversed(self._states(trial_id)):
            try:
                state = State(file)
            except DamagedState as error:
                logger.warning("%s. The state before it is used, if there is one.", error)
                continue
            except FileNotFoundError:
                continue
            if state.facts.get("search") == self.search and (not state.facts.get("ended") if epoch is None else state.epoch == epoch):
                return state
        return None

    def take_over(self, name: str, trial_id: str, token: int) -> bool:
        """Makes what an earlier holder of a trial, or the trial from which it is promoted, has kept as its best weights those of this token.

        Args:
            name: the file that a state names; a holder that was interrupted may have taken it over already.
            trial_id: the trial that goes on.
            token: its token.

        Returns:
            Whether the weights can be read.
        """
        source, new = name.split(".")[0], self.best(trial_id, token)
        files = [file for file in self.folder.glob(f"{source}.*.npz") if file.name.split(".")[1].isdecimal()]
        files.sort(key=lambda file: int(file.name.split(".")[1]))
        try:
            old = files[-1] if files else self.folder / name
            State(old)
        except (DamagedState, FileNotFoundError) as error:
            logger.warning("The weights of trial %s at its best epoch are lost: %s", trial_id, error)
            return False
        if old != new:
            new.unlink(missing_ok=True)
            try:
                os.link(old, new)
            except OSError:  # a file system without links
                shutil.copyfile(old, new)
        if new.name.startswith(f"{source}."):
            for file in files:
                if file != new:
                    file.unlink(missing_ok=True)
        return True

    def with_state(self) -> set[str]:
        """Ids of the trials of which there is a state."""
        return {file.name.removeprefix("state_").partition(".")[0] for file in self.folder.glob("state_*.npz")}

    def drop_states(self, trial_id: str, kept: State | None = None, but: int = 0) -> None:
        """Deletes the states of a trial, but for the newest ones; if one of them is `kept`, those that come after it."""
        files = [file for *_, file in self._states(trial_id)]
        for file in files[files.index(kept.path) + 1 if kept is not None and kept.path in files else 0 : len(files) - but]:
            file.unlink(missing_ok=True)

    def clear(self, running: Collection[str], kept: dict[str, str | None], continued: Collection[str] = (), known: Collection[str] | None = None) -> None:
        """Deletes what belongs to no trial that runs or is kept.

        Args:
            running: ids of trials that are not finished: nothing of theirs is touched.
            kept: ids of the finished trials worth keeping, each with the name of its checkpoint.
            continued: ids of finished trials whose states are still needed.
            known: ids of all trials; what belongs to others is left alone. By default it is deleted.
        """
        files = [self.folder / name for name in kept.values() if name]
        needed = {*files, *map(record_of, files)}
        for file in filter(lambda file: OURS.fullmatch(file.name) and file.is_file(), list(self.folder.iterdir()) if self.folder.exists() else ()):
            kind, _, rest = file.name.partition("_")
            trial_id = rest.partition(".")[0]
            wanted = trial_id in continued if kind == "state" else file in needed
            if not wanted and trial_id not in running and (known is None or trial_id in known):
                file.unlink(missing_ok=True)

    def _states(self, trial_id: str) -> list[tuple[int, int, Path]]:
        """(token, serial, file), the newest last."""
        numbered = [(file.name.split("."), file) for file in self.folder.glob(f"state_{trial_id}.*.npz") if STATE.fullmatch(file.name)]
        return sorted((int(parts[1]), int(parts[2]), file) for parts, file in numbered)


def record_of(checkpoint: Path) -> Path:
    """The record of gradients that belongs to a checkpoint."""
    return checkpoint.with_name(checkpoint.name.replace("checkpoint_", "record_").replace(".npz", ".json"))


@contextlib.contextmanager
def writing(file: Path) -> Iterator[Path]:
    try:
        yield file
    except OSError as error:
        raise FatalRuntimeError(f"{file} could not be written: {error}. Every finished trial is kept: make room, then run the same command again.") from error
