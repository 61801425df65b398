"""What can be done against a finding while a model trains: one remedy at a time, which is watched, and undone where it does not help."""

import math
from dataclasses import asdict, dataclass, replace

import numpy as np

from keras_optlab.diagnosis.curves import begun, curve, pieces
from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.heads import LEARNED, share_gained, spread
from keras_optlab.diagnosis.record import Record
from keras_optlab.diagnosis.rules import STATIC
from keras_optlab.diagnosis.rules.slow_convergence import NEAR
from keras_optlab.training import steering
from keras_optlab.training.probe import STEPS
from keras_optlab.training.resume import parts_of

WATCHED, HELPED, UNDONE, STOPPED = "under observation", "helped", "undone", "stopped"
TOO_SLOW = ("learning-rate-too-low", "slow-convergence")
BLOWN_UP = ("exploding-gradient", "non-finite", "gradient-spike")
TOO_FAST = (*BLOWN_UP, "learning-rate-too-high", "clipped-loss", "oscillating-loss", "dead-units", "bad-input-range")
HOPELESS = tuple(code for code in STATIC if code != "train-validation-mismatch")  # where they are errors; one of the validation does not spoil the training
OBSERVED, MOST, LEVELS = 2, 5, 3  # epochs in which a remedy has to help, which hold a trial's steps at least; acts of a run; strengths of a remedy
DOWN, UP = tuple(10 ** (-k / 2) for k in range(-1, 12)), tuple(10 ** (k / 2) for k in range(12))  # factors of the rate that are tried
FALLING = 0.99  # of the loss of the epoch before; a net that is dead stays where guessing is
GOOD, MARGIN = 0.9, 10**0.5  # of the best gain; a rate that is right for a few batches is too high for a whole run
CODE = "keras_optlab.training.repair(model, doctor.findings)"


@dataclass(frozen=True)
class Act:
    """One thing that was done to a training.

    Args:
        epoch: after which it was done, counted from 0.
        step: how many optimizer steps were done by then.
        code: of the finding that it is against.
        what: what was changed.
        outcome: "under observation", "helped", "undone", or "stopped" where it is the end of the run.
    """

    epoch: int
    step: int
    code: str
    what: str
    outcome: str = WATCHED


class Acts:
    """Decides at each end of an epoch what to do, does it, and says so.

    Attributes:
        made: list of all `Act`.
    """

    def __init__(self, ignore=()):
        self.made: list[Act] = []
        self._ignore = tuple(ignore)
        self._given = None  # settings of a run that goes on
        self._forget()

    def _forget(self):
        self._start, self._good, self._watched, self._given_up, self._before = None, None, None, [], len(self.made)

    @property
    def present(self) -> list[Act]:
        """Those of the training that goes on."""
        return self.made[self._before :]

    def begin(self, model) -> None:
        """Keeps what a training begins with."""
        if self._given is None:
            self._forget()
            if not model.optimizer.built:
                model.optimizer.build(model.trainable_variables)
            self._start = {"values": steering.state(model), "epoch": None, "loss": None}

    def go_on(self, model) -> None:
        """Brings a new model to the clipping and the schedule of the state that was given."""
        if self._given is not None:
            steering.set_to(model, self._given)
            self._given = None

    def get_state(self, model) -> dict:
        constants = {name: value for name, value in steering.settings(model).items() if name != "rate"}  # the rate is a variable
        kept = {"start": self._start, "good": self._good, "watched": self._watched, "given_up": self._given_up, "before": self._before}
        return kept | {"made": [asdict(act) for act in self.made], "settings": constants}

    def set_state(self, state: dict) -> None:
        self._start, self._good, self._watched, self._given_up = state["start"], state["good"], state["watched"], list(state["given_up"])
        self.made, self._given, self._before = [Act(**act) for act in state["made"]], state["settings"], state["before"]

    def stop_for_form(self, model, findings: list[Finding], epoch: int, step: int) -> list[str]:
        """Stops a run that cannot come to anything as it is."""
        error = next((f for f in findings if f.severity == "error" and f.code in HOPELESS and f.cause is None), None)
        return [] if error is None else self._stop(model, error, epoch, step)

    def after_epoch(self, model, epoch: int, left: int, step: int, record: Record, findings: list[Finding], try_rates) -> list[str]:
        """Judges the remedy that is watched, and applies another one where there is need.

        Args:
            epoch: the one that is over, counted from 0.
            left: how many are to come; less than 0 where that is not known.
            step: how many optimizer steps were done, those that were undone as well.
            record: all that was measured; "acted" among its facts is written.
            findings: what is the matter now, worst first.
            try_rates: gives `probe.rates` of factors, from values of a state; `None` where no trial is possible.

        Returns:
            Sentences to tell.
        """
        loss = _typical(record)
        first, least = (record.loss or record.logs["loss"])[0], record.facts.get("floor", 0.0)
        learned = share_gained(first - least, loss - least, record.facts.get("guess"), spread(record)) > LEARNED
        lost = not (math.isfinite(loss) and steering.finite(model))
        told, watched, level = [], self._watched, 0
        if watched:
            if not lost and loss < watched["loss"] and (learned or watched["slow"]):
                told, self._watched = [self._close(HELPED, f"it has helped: the loss is {loss:.3g}")], None
            elif lost or not left or epoch - watched["epoch"] >= OBSERVED and step - watched["step"] >= STEPS and not _falls(record):
                told, level = [self._undo(model, loss, record, step)], watched["level"] + 1
            else:
                return []
        if not lost and learned and loss < (self._good or {"loss": math.inf})["loss"]:
            self._good = {"values": steering.state(model), "epoch": epoch, "loss": loss}
        improves = self._good is not None and self._good["epoch"] == epoch
        can_be = TOO_SLOW if improves else (*TOO_SLOW, "gradient-spike") if learned and not lost else (*TOO_SLOW, *TOO_FAST)
        finding = self._chosen(findings, record, can_be) if not level else Finding(watched["code"], "warning", None, watched["step"], watched["step"])
        if finding is None and lost and "non-finite" not in self._ignore and not steering.finite(model):
            finding = Finding("non-finite", "error", None, step, step, message="Weights are not finite.")
        remedy = None
        if finding is not None and left:
            remedy = self._remedy(model, finding, record, try_rates, level, watched) if len(self.made) - self._before < MOST else None
            if remedy is None:
                self._given_up.append(finding.code)
            else:
                told.append(self._apply(model, finding, remedy, epoch, step, record, loss))
        if finding is not None and finding.code == "non-finite" and remedy is None:
            told += self._stop(model, finding, epoch, step)
        return told

    def _chosen(self, findings, record, can_be) -> Finding | None:
        """The worst of what can be mended."""
        for finding in findings:
            in_time = finding.code == "slow-convergence" and _in_time(record.present())
            if finding.severity != "info" and finding.code in can_be and finding.code not in self._given_up and not in_time:
                return finding
        return None

    def _remedy(self, model, finding, record, try_rates, level, before) -> dict | None:
        """{"factor" of the rate, "clip", "slow", "level"}, or `None` where nothing is left to be done."""
        slow, blown_up, can_steer = finding.code in TOO_SLOW, finding.code in BLOWN_UP, len(steering.settings(model)) > 1
        if level >= LEVELS or (slow or level) and not can_steer:
            return None
        clip = None
        if blown_up:
            clip = before["clip"] if level else _usual_norm(record, finding)
            clip = clip if clip and steering.can_clip(model, clip) else None
        if level:
            factor = before["factor"] / 10
        elif not can_steer or self._good is not None and not slow:  # it has learned at this rate
            factor = 1.0 if clip or not can_steer else 0.1
        else:
            factors = UP if slow else DOWN
            gains = try_rates(factors, None if slow else self._start["values"][: len(parts_of(model)["model"])])
            factor = (10.0 if slow else 0.1) if gains is None else _best(gains, factors)
            if factor == 1 and blown_up and not clip:
                factor = 0.1
        factor = factor or 1.0  # where no rate is right for a batch, it may have an outlier in it
        useless = slow and factor < 2 or factor == 1 and not clip
        return None if useless else {"factor": factor, "clip": clip, "slow": slow, "level": level}

    def _apply(self, model, finding, remedy, epoch, step, record, loss) -> str:
        before, wanted, what = steering.settings(model), {}, []
        if not remedy["slow"]:
            to = self._good or self._start
            what.append(f"back to {_called(to)}")
        if remedy["factor"] != 1:
            name = "rate" if "rate" in before else "scale"
            wanted[name] = float(np.float32(before[name] * remedy["factor"]))
            what.append(f"learning rate {before[name]:.3g} -> {wanted[name]:.3g}" if name == "rate" else f"rates of the schedule times {remedy['factor']:.3g}")
        if remedy["clip"]:
            wanted["clip"] = remedy["clip"]
            what.append(f"gradients clipped to a global norm of {remedy['clip']:.3g}")
        here = None if not remedy["slow"] else {"values": steering.state(model), "epoch": epoch, "loss": loss}
        steering.set_to(model, wanted)
        if not remedy["slow"]:
            steering.put_back(model, to["values"])
        reference = min(one for one in (loss, (self._good or {"loss": math.inf})["loss"], begun(record)) if not math.isnan(one))
        self._watched = remedy | {"epoch": epoch, "step": step, "code": finding.code, "loss": reference, "here": here, "before": before, "after": wanted}
        self.made.append(Act(epoch, step, finding.code, ", ".join(what)))
        _begin_anew(record, step)
        message = f"{finding.message} " if finding.message else ""
        return f"{message}Done after epoch {epoch + 1}: {self.made[-1].what}. Within {OBSERVED} epochs it shows whether this helps."

    def _undo(self, model, loss, record, step) -> str:
        watched, self._watched = self._watched, None
        to, now = watched["here"] or self._good or self._start, steering.settings(model)
        back = {name: _taken_back(now[name], watched["before"][name], value) for name, value in watched["after"].items()}
        steering.set_to(model, back)
        steering.put_back(model, to["values"])
        _begin_anew(record, step)
        return self._close(UNDONE, f"the loss is {loss:.3g}, which is no better, and so it is undone, with {_called(to)}")

    def _close(self, outcome: str, why: str) -> str:
        """Settles the act that was watched."""
        self.made[-1] = replace(self.made[-1], outcome=outcome)
        return f"What was done after epoch {self.made[-1].epoch + 1} for {self.made[-1].code} ({self.made[-1].what}): {why}."

    def _stop(self, model, finding, epoch, step) -> list[str]:
        what = "stopped"
        if finding.code not in HOPELESS:
            to = self._good or self._start
            steering.put_back(model, to["values"])
            what += f", back to {_called(to)}"
        model.stop_training = True
        self.made.append(Act(epoch, step, finding.code, what, STOPPED))
        return [f"{finding.message} {finding.advice} The run is {what}: nothing that can be done while it goes on helps. Make a mended model: `{CODE}`."]


def _best(gains: dict[float, float], factors) -> float | None:
    """The least factor with which nearly as much is learned as with any, less a margin; where none learns, the first that there was no time for, or `None`."""
    best = max(gains.values(), default=-1.0)
    if best <= LEARNED:
        return factors[len(gains)] if len(gains) < len(factors) else None
    factor = min(factor for factor, gain in gains.items() if gain >= GOOD * best) / MARGIN
    return 1.0 if 0.5 < factor < 2 else factor


def _typical(record: Record) -> float:
    """The loss of the last epoch: the median of its stretches between measured steps, for a single example of thousands may make up all of the mean."""
    steps, losses = pieces(record.present())
    within = losses[steps > steps[-1] - record.pace[-1]["steps"]] if len(steps) and record.pace else losses[:0]
    return float(np.median(within)) if len(within) and math.isfinite(record.logs["loss"][-1]) else record.logs["loss"][-1]


def _falls(record: Record) -> bool:
    """Whether the loss is still on its way down from a height."""
    since = record.present().logs["loss"]
    return len(since) > 1 and since[-1] < FALLING * since[-2]


def _in_time(record: Record) -> bool:
    """Whether a loss that falls slowly will be low enough by the end that was planned."""
    losses, left = curve(record, "loss"), record.facts.get("epochs", 0) - len(record.logs["loss"])
    half = len(losses) // 2
    return len(losses) > 1 and losses[-1] - left * (losses[half - 1] - losses[-1]) / (len(losses) - half) <= NEAR * begun(record)


def _usual_norm(record: Record, finding: Finding) -> float | None:
    """The median of the gradient norms before a finding; where it was there from the beginning, that of the first step."""
    present = record.present()
    norms, before = present.total(), np.array(present.steps) < finding.first_step
    norms = [norm for norm in (norms[before] if before.any() else record.total()[:1]) if 0 < norm < np.inf]
    return float(np.median(norms)) if norms else None


def _called(kept: dict) -> str:
    return "the weights that it began with" if kept["epoch"] is None else f"the weights of epoch {kept['epoch'] + 1}"


def _taken_back(now, before, after):
    """A number before it was changed; where others have changed it since, the change is divided out."""
    return before if now == after or not (now and before and after) else now * before / after


def _begin_anew(record: Record, step: int) -> None:
    """What was measured so far is not judged again."""
    record.facts["acted"] = {"step": step, "epochs": len(record.logs["loss"])}
    record.facts.pop("probe", None)
