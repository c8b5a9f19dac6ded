"""AdamW with TensorFlow's fused kernel."""

from __future__ import annotations

from typing import Any

import keras

from segzoo.training.clipping import WholeClipping

# Weight decay pulls scales and offsets away from what normalisation needs; He et al. (2019), section 3.1.
_NOT_DECAYED = ("bias", "gamma", "beta")


@keras.saving.register_keras_serializable("segzoo")
class AdamW(WholeClipping, keras.optimizers.AdamW):
    """AdamW (Loshchilov and Hutter, 2019); normalisation parameters and biases are not decayed.

    The same update as `keras.optimizers.AdamW`. On TensorFlow one fused kernel takes the place of some twenty graph
    operations for each variable; the graph of a large model then traces and starts in about half the time.
    """

    def __init__(self, learning_rate: Any = 1e-3, weight_decay: float = 1e-4, **kwargs: Any):
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay, **kwargs)
        self.exclude_from_weight_decay(var_names=list(_NOT_DECAYED))

    def _is_fused(self) -> bool:
        if keras.backend.backend() != "tensorflow" or self.amsgrad:
            return False
        import tensorflow as tf

        return not tf.distribute.has_strategy()

    def _apply_weight_decay(self, variables: Any) -> None:
        if not self._is_fused():
            super()._apply_weight_decay(variables)

    def _backend_update_step(self, grads: Any, trainable_variables: Any, learning_rate: Any) -> None:
        if not self._is_fused():
            super()._backend_update_step(grads, trainable_variables, learning_rate)
            return
        import tensorflow as tf

        # Made once, not once for each of some hundred variables.
        rate = tf.cast(learning_rate, tf.float32)
        step = tf.cast(self.iterations.value + 1, tf.float32)
        kept = 1.0 - rate * float(self.weight_decay or 0.0)
        settings = {
            "beta1_power": tf.pow(self.beta_1, step),
            "beta2_power": tf.pow(self.beta_2, step),
            "lr": rate,
            "beta1": tf.constant(self.beta_1),
            "beta2": tf.constant(self.beta_2),
            "epsilon": tf.constant(self.epsilon),
        }
        for gradient, variable in zip(grads, trainable_variables, strict=True):
            index = self._get_variable_index(variable)
            weights = variable.value
            if self.weight_decay and self._use_weight_decay(variable):
                weights.assign(weights * tf.cast(kept, weights.dtype))
            tf.raw_ops.ResourceApplyAdam(
                var=weights.handle,
                m=self._momentums[index].value.handle,
                v=self._velocities[index].value.handle,
                grad=tf.cast(gradient, weights.dtype),
                **{name: tf.cast(value, weights.dtype) for name, value in settings.items()},
            )
