"""Checks of any network: logits of the image's size, a gradient in every weight, saving and reading back."""

from __future__ import annotations

import re
from pathlib import Path

import keras
import numpy as np


def check_network(model: keras.Model, folder: Path, pixels, loaded_elsewhere=None, side: int = 64) -> None:
    """Call, train a step on images of `side`, save, and load in a process that needs no package of backbones.

    Without such a process nothing is saved: that no layer is one of a package shows in the model's description.
    """
    even, odd = pixels(side, side, batch=2), pixels(33, 47)
    trained = _every_weight_has_a_gradient(model, even)
    expected = np.asarray(model(odd, training=False))
    for images, logits in ((even, trained), (odd, expected)):
        assert logits.shape == (*images.shape[:3], 3)
        assert np.isfinite(logits).all()
        assert logits.std() > 0

    paths = [weight.path for weight in model.weights]
    names = [layer.name for layer in model.layers]
    assert len(set(paths)) == len(paths)
    assert len(set(names)) == len(names)
    description = model.to_json()
    modules = set(re.findall(r'"module": "(\w+)', description))
    assert modules <= {"keras", "segzoo", "builtins"}, modules

    if loaded_elsewhere is None:
        return
    model.save(folder / "model.keras")
    again = loaded_elsewhere(folder / "model.keras", odd)
    np.testing.assert_allclose(again.output, expected, atol=1e-5 * max(1.0, np.abs(expected).max()))
    assert again.json == description
    assert not {"keras_cv", "keras_hub"} & set(again.modules)
    assert again.weights == [weight.path for weight in model.trainable_weights]


def _every_weight_has_a_gradient(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """SMP leaves 4.5 % of U-Net/EfficientNet-B3 without one; here networks are cut where nothing reads.

    Returns the logits of the step.
    """
    import tensorflow as tf

    labels = np.random.default_rng(2).integers(0, 3, images.shape[:3])
    with tf.GradientTape() as tape:
        logits = model(images, training=True)
        loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True))
    found = tape.gradient(loss, [weight.value for weight in model.trainable_weights])
    assert np.isfinite(float(loss))
    for weight, gradient in zip(model.trainable_weights, found, strict=True):
        assert gradient is not None, weight.path
        assert bool(tf.reduce_all(tf.math.is_finite(gradient))), weight.path
        assert float(tf.reduce_max(tf.abs(gradient))) > 0, weight.path
    return np.asarray(logits)
