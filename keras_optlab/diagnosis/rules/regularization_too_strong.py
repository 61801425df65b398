"""The penalty on the weights outweighs what there is to learn.

Needs: the first loss of a trial training, and how much of it are penalties.
Threshold: penalties TIMES the rest (l2 of .1 on a layer of 512 units: 26 times; of 1e-3: a quarter).
Not to be confused with: usual penalties; losses a model adds for other reasons are counted as penalties too, but seldom start so large.
"""

from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.record import Record

CODE = "regularization-too-strong"
TIMES = 10.0


def find(record: Record) -> list[Finding]:
    probe = record.facts.get("probe")
    if not probe or not probe["penalty"] > TIMES * max(probe["loss"][0] - probe["penalty"], 1e-7):
        return []
    rest = max(probe["loss"][0] - probe["penalty"], 1e-7)
    message = f"Of a first loss of {probe['loss'][0]:.3g}, {probe['penalty']:.3g} are penalties on the weights: {probe['penalty'] / rest:.0f} times the rest."
    advice = "Take a hundredth: `kernel_regularizer=keras.regularizers.L2(1e-4)`."
    return [Finding(CODE, "warning", None, 0, 0, {"times": probe["penalty"] / rest, "threshold": TIMES}, message, advice)]
