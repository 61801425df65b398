"""What a rule says, and the warnings that say it to the user."""

from dataclasses import asdict, dataclass, field

SEVERITIES = ("info", "warning", "error")


class TrainingWarning(UserWarning):
    """Something is wrong with a training run. Silence with `warnings.filterwarnings("ignore", category=TrainingWarning)`."""


class DataWarning(TrainingWarning):
    """Something is wrong with the data of a training run, or with how model and loss fit them."""


class ModelWarning(TrainingWarning):
    """Something is wrong with the model of a training run."""


class GradientWarning(TrainingWarning):
    """Something is wrong with the gradients of a training run."""


@dataclass(frozen=True)
class Finding:
    """One thing that a rule found in a record.

    Args:
        code: what is wrong, such as "vanishing-gradient". Never renamed.
        severity: "info", "warning" or "error".
        layer: name of the layer, or `None` for the whole model.
        first_step: first measured step that shows it.
        last_step: last measured step that shows it.
        evidence: {name: number}, the thresholds included.
        message: one sentence.
        advice: what to try, with a line of code.
        cause: code of the finding it follows from, or `None`.
        remedy: for what is a matter of form, what would fit: of "units" and "activation" of the last layer, "loss", "flatten" (true: before the last layer)
            those that must change. Else empty.
    """

    code: str
    severity: str
    layer: str | None
    first_step: int
    last_step: int
    evidence: dict[str, float] = field(default_factory=dict)
    message: str = ""
    advice: str = ""
    cause: str | None = None
    remedy: dict = field(default_factory=dict)

    def to_dict(self) -> dict:
        return asdict(self)

    def __str__(self):
        return f"{self.message} {self.advice}"
