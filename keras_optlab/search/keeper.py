"""What is kept of the trials of a search: of which ones the weights, and where they are."""

import json
from pathlib import Path

from keras_tuner.engine.trial import TrialStatus

from keras_optlab.search.checkpoints import Checkpoints, record_of, writing
from keras_optlab.search.oracle import Oracle


class Keeper:
    """Chooses which checkpoints of a search are kept, and finds them again.

    Args:
        keep: "best", "all", or how many of the best trials, as in `Tuner`.
        oracle: the oracle, which knows the best trials.
        checkpoints: the files.
    """

    def __init__(self, keep: str | int, oracle: Oracle, checkpoints: Checkpoints):
        self.keep, self.oracle, self.checkpoints = keep, oracle, checkpoints

    def score_to_beat(self) -> float | None:
        """The score that a trial needs for its weights to be kept; `None`: any will do, as with several objectives, of which it is only one."""
        if self.keep == "all" or len(self.oracle.goals) > 1:
            return None
        number = 1 if self.keep == "best" else self.keep
        best = self.oracle.get_best_trials(number)
        return best[-1].score if len(best) == number else None

    def clear(self, continued: set[str]) -> None:
        """Deletes what is kept of trials no longer worth it.

        Args:
            continued: ids of finished trials from whose states others may still go on.
        """
        records, number = self.oracle.records, self.keep
        if self.keep == "best":
            number = 1 if len(self.oracle.goals) == 1 else None
        trials = self.oracle.completed() if self.keep == "all" else self.oracle.get_best_trials(number)
        running = [trial_id for trial_id, record in records.items() if record["status"] == TrialStatus.RUNNING]
        wanted = {trial.trial_id for trial in trials} | continued
        kept = {trial_id: records[trial_id].get("checkpoint") for trial_id in wanted & records.keys()}
        kept["refit"] = self.oracle.store.facts.get("refit", {}).get("checkpoint")
        self.checkpoints.clear(running, kept, continued, records if self.oracle.store.shared else None)

    def file(self, trial_id: str) -> Path | None:
        """Where the weights of a finished trial are, if they are there."""
        file = self.checkpoints.folder / (self.oracle.records[trial_id].get("checkpoint") or "none")
        return file if file.exists() else None

    def weights(self, trial_id: str) -> Path:
        """Where the weights of a finished trial are.

        Raises:
            ValueError: if they are not kept.
        """
        file = self.file(trial_id)
        if file is None:
            there = [other.trial_id for other in self.oracle.completed() if self.file(other.trial_id)]
            raise ValueError(
                f"The weights of trial {trial_id} are not there: with `keep={self.keep!r}` there are those of {', '.join(there) or 'no trial'}. Ask for "
                "fewer, train again with `get_best_hyperparameters(n)`, or search with a larger `keep=`; a `run_trial` of your own must call "
                "`self.save_model(trial.trial_id, model)`."
            )
        return file

    def keep_record(self, trial_id: str, callbacks: list) -> None:
        """Writes what a `GradientMonitor` among the callbacks of a running trial has recorded."""
        monitor = next((c for c in callbacks if hasattr(getattr(c, "record", None), "to_dict") and hasattr(c, "findings")), None)
        if monitor is not None:
            text = json.dumps({"record": monitor.record.to_dict(), "findings": [finding.to_dict() for finding in monitor.findings]})
            with writing(record_of(self.checkpoints.best(trial_id, self.oracle.token(trial_id)))) as file:
                file.write_text(text)

    def record(self, trial_id: str) -> dict | None:
        """What `keep_record` has written with the weights of a finished trial."""
        file = self.file(trial_id)
        file = record_of(file) if file is not None else None
        return json.loads(file.read_text()) if file is not None and file.exists() else None
