"""Golden numbers: what other libraries' losses return for the same arrays.

Computed with segmentation_models_pytorch 0.6.0, MONAI 1.6.1 and PyTorch 2.13.0 in float32. Left out: SMP's treatment
of ignored pixels and of empty masks, and its focal Tversky loss, which takes the power of the mean over classes where
the paper takes that of each class.
"""

import numpy as np
import pytest
from test_losses import number

from segzoo import losses
from segzoo.metrics import SurfaceMetrics

LOGITS = (3 * np.sin(1.7 * np.arange(252) + 0.3)).reshape(2, 6, 7, 3).astype("float32")
LABELS = (np.arange(84) * 7 % 11 % 3).reshape(2, 6, 7)

# Of our loss: name, options, mode; of theirs: call and value; and what theirs has to be multiplied with, and why.
GOLDEN = [
    ("cross_entropy", {}, "multiclass", "torch cross_entropy(x, y)", 2.7588198, 1),
    (
        "cross_entropy",
        {"class_weights": [1, 2, 0.5], "label_smoothing": 0.1},
        "multiclass",
        "torch cross_entropy(x, y, weight=[1, 2, 0.5], label_smoothing=0.1)",
        2.6960907,
        1,
    ),
    ("dice", {}, "multiclass", "smp DiceLoss", 0.7053643, 1),
    ("dice", {}, "multiclass", "monai DiceLoss(softmax, batch)", 0.7053644, 1),
    ("dice", {"per_image": True}, "multiclass", "monai DiceLoss(softmax)", 0.7052858, 1),
    ("jaccard", {}, "multiclass", "smp JaccardLoss", 0.8272207, 1),
    ("jaccard", {}, "multiclass", "monai DiceLoss(softmax, batch, jaccard)", 0.8272207, 1),
    ("tversky", {}, "multiclass", "smp TverskyLoss(alpha=0.3, beta=0.7)", 0.7041971, 1),
    ("tversky", {}, "multiclass", "monai TverskyLoss(softmax, batch, alpha=0.3, beta=0.7)", 0.7041971, 1),
    ("lovasz_softmax", {}, "multiclass", "smp LovaszLoss", 0.8085826, 1),
    ("lovasz_softmax", {"per_image": True}, "multiclass", "smp LovaszLoss(per_image)", 0.8073822, 1),
    # MONAI's mean is over the 3 classes of a pixel too, of which one has a loss.
    ("softmax_focal", {}, "multiclass", "monai FocalLoss(use_softmax)", 0.8531712, 3),
    ("sigmoid_focal", {}, "multiclass", "monai FocalLoss(alpha=0.25)", 0.5147240, 1),
    ("sigmoid_focal", {"alpha": None}, "multiclass", "smp FocalLoss(multiclass)", 0.8944448, 1),
    ("dice", {}, "binary", "smp DiceLoss", 0.5157177, 1),
    ("jaccard", {}, "binary", "smp JaccardLoss", 0.6804931, 1),
    ("tversky", {}, "binary", "smp TverskyLoss(alpha=0.3, beta=0.7)", 0.4822648, 1),
    ("lovasz_hinge", {}, "binary", "smp LovaszLoss", 2.1327474, 1),
    ("sigmoid_focal", {}, "binary", "smp FocalLoss(alpha=0.25)", 0.4018109, 1),
    ("sigmoid_focal", {"alpha": None}, "binary", "smp FocalLoss", 0.6895585, 1),
    ("binary_cross_entropy", {}, "binary", "smp SoftBCEWithLogitsLoss", 0.9767936, 1),
    ("binary_cross_entropy", {"pos_weight": 3}, "binary", "smp SoftBCEWithLogitsLoss(pos_weight=3)", 1.6394552, 1),
    ("mcc", {}, "binary", "smp MCCLoss", 0.8765205, 1),
    ("dice", {}, "multilabel", "smp DiceLoss", 0.6300597, 1),
    ("sigmoid_focal", {}, "multilabel", "smp FocalLoss(alpha=0.25)", 0.5147240, 1),
]


@pytest.mark.parametrize(("name", "options", "mode", "origin", "value", "factor"), GOLDEN)
def test_loss_is_the_peers(name, options, mode, origin, value, factor):
    target = {"multiclass": LABELS, "binary": LABELS == 1, "multilabel": np.eye(3)[LABELS]}[mode]
    logits = LOGITS[..., :1] if mode == "binary" else LOGITS
    loss = losses.LOSSES[name](mode=mode, **options)
    assert number(loss(target, logits)) == pytest.approx(factor * value, rel=1e-5), origin


Y, X = np.mgrid[:20, :24]
RIVER = np.abs(Y - 8 - 2 * np.sin(X / 3)) < 2.2
SCORE = 3 - 1.5 * np.abs(Y - 9 - 2 * np.sin(X / 3.4))


def test_cldice_is_monais():
    # SoftclDiceLoss(iter_=3, smooth=1e-7): by default MONAI also adds a number to the harmonic mean.
    logits = SCORE[None, ..., None].astype("float32")
    loss = losses.ClDice(mode="binary")
    assert number(loss(RIVER[None], logits)) == pytest.approx(0.1115983, rel=1e-5)
    assert number(loss(RIVER[None], np.where(logits > 0, 50, -50))) == pytest.approx(0.0212767, rel=1e-5)


@pytest.mark.parametrize(
    ("spacing", "hausdorff", "average"),
    [((1, 1), [1.4142135, 2.0], [0.3363380, 0.7497897]), ((2, 0.5), [2.0092330, 4.0], [0.3846056, 0.8933107])],
)
def test_surface_distances_are_monais(spacing, hausdorff, average):
    metrics = SurfaceMetrics(2, spacing=spacing)
    metrics.update(RIVER.astype(int), (SCORE > 0).astype(int))
    np.testing.assert_allclose(metrics.hausdorff95(), hausdorff, rtol=1e-5)
    np.testing.assert_allclose(metrics.average_surface_distance(), average, rtol=1e-5)
