from keras import ops

from keras_optlab.optimizers.adamw import AdamW
from keras_optlab.optimizers.linalg import debias, lerp


class NAdamW(AdamW):
    """AdamW whose mean m looks one step ahead, as Nesterov's momentum does.

    Reference: [Dozat, 2016](https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ) with a constant beta_1; [Loshchilov & Hutter, 2019](https://arxiv.org/abs/1711.05101)
    """

    def direction(self, g, m, v, k):
        ahead = lerp(g / debias(k.beta_1, k.t), m / debias(k.beta_1, k.t + 1), k.beta_1)
        return ahead / (ops.sqrt(v / debias(k.beta_2, k.t)) + k.epsilon)
