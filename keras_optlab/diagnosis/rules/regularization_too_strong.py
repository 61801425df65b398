"""The penalty on the weights outweighs what there is to learn.

Needs: the first loss of a trial training, and how much of it are penalties.
Thresholds: penalties TIMES the rest (l2 of .1 on a layer of 512 units: 26 times; of 1e-3: a quarter), or as large as the rest where no trial learned the batch
or the run stands.
Not to be confused with: usual penalties; losses that a model adds for other reasons, such as those of a variational autoencoder.
"""

from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.heads import stands
from keras_optlab.diagnosis.record import Record

CODE = "regularization-too-strong"
TIMES = 10.0


def find(record: Record) -> list[Finding]:
    probe = record.facts.get("probe")
    if not probe:
        return []
    rest = max(1e-7, *map(abs, probe["loss"]))  # a cosine begins at about 0
    threshold = TIMES if (probe["learned"] or any(probe["verdicts"].values())) and not stands(record) else 1.0
    if not probe["penalty"] > threshold * rest:
        return []
    message = f"Beside a loss of {rest:.3g}, the penalties on the weights are {probe['penalty']:.3g}: {probe['penalty'] / rest:.2g} times as much."
    advice = "Take a hundredth: `kernel_regularizer=keras.regularizers.L2(1e-4)`."
    return [Finding(CODE, "warning", None, 0, 0, {"times": probe["penalty"] / rest, "threshold": threshold}, message, advice)]
