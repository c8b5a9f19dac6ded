"""Counts of several replicas add up to those of one."""

from __future__ import annotations

import keras
import pytest

# In a process of its own: TensorFlow splits the processor into devices only before its first use.
SCRIPT = """
import numpy as np
import tensorflow as tf
cpus = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
from segzoo.losses import CrossEntropy
from segzoo.metrics import ConfusionMatrix, MeanIoU

rng = np.random.default_rng(0)
images = rng.normal(size=(8, 12, 10, 3)).astype("float32")
labels = rng.integers(0, 4, (8, 12, 10)).astype("int32")
labels[:, :3] = 255
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    image = keras.Input((12, 10, 3))
    model = keras.Model(image, keras.layers.Conv2D(4, 1)(image))
    metric = MeanIoU(4, 255)
    model.compile("sgd", CrossEntropy(255), metrics=[metric], jit_compile=False)
loss, score = model.evaluate(images, labels, batch_size=4, verbose=0)
matrix = ConfusionMatrix(4, 255)
predictions = model(images).numpy()
matrix.update(labels, predictions.argmax(-1))
assert abs(score - matrix.mean_iou()) < 1e-6, (score, matrix.mean_iou())
np.testing.assert_array_equal(metric.exact().counts, matrix.counts)
"""


def test_two_replicas_count_what_one_would(forked):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("tf.distribute")
    forked(SCRIPT)
