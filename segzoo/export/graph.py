"""Frozen TensorFlow graph of a Keras model, the input of every export format."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import keras

from segzoo import files
from segzoo.errors import SegzooError
from segzoo.export.formats import INPUT
from segzoo.export.memory import release
from segzoo.export.stand_ins import StandIns, frozen
from segzoo.levels import LARGEST_SIDE, SMALLEST_SIDE
from segzoo.task import Mode, class_logits, cuts_of

# Protobuf's limit, which a SavedModel and an ONNX file have, less what the operations take.
_MOST_BYTES = 2**31 - 2**25

Output = Literal["logits", "classes"]


@dataclass(frozen=True)
class Graph:
    """A traced model.

    Attributes:
        nodes: its GraphDef, whose large weights are stand-ins.
        weights: the weights.
        ends: names of its input and output tensor.
        output: "logits" or "classes".
        input_shape: `(None, None, None, C)`, or `(1, H, W, C)` for a fixed size.
        folder: an empty folder for files that go when tracing ends.
        mode: in "multilabel" mode the output "classes" is 0 and 1 for each class.
        thresholds: probabilities above which the output "classes" has a class, one for each logit; None: 0.5.
    """

    nodes: Any
    weights: StandIns
    ends: tuple[str, str]
    output: Output
    input_shape: tuple[int | None, int | None, int | None, int]
    folder: Path
    mode: Mode = "multiclass"
    thresholds: tuple[float, ...] | None = None

    def served(self, inside: Collection[float] = ()) -> Any:
        """Return a tf.Module with a tf.function `serve` from `image` to {output: tensor}.

        Args:
            inside: numbers of weights to put in; others are stand-ins.
        """
        import tensorflow as tf

        nodes = tf.compat.v1.GraphDef()
        nodes.CopyFrom(self.nodes)
        self.weights.fill(nodes.node, inside)
        # A function of its own, called from `serve` and the signature: in both their bodies it would be stored twice.
        imported = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(nodes, name=""), [])
        constant = imported.prune(*self.ends)
        signature = [tf.TensorSpec(self.input_shape, tf.float32, name=INPUT)]
        output = self.output

        class Served(tf.Module):
            @tf.function(input_signature=signature, autograph=False, jit_compile=False)
            def serve(self, image: Any) -> dict[str, Any]:
                return {output: tf.identity(constant(image), name=output)}

        return Served()

    @property
    def serve(self) -> Any:
        """tf.function from `image` to {output: tensor} with all weights in it, for formats from outside segzoo."""
        return self._whole.serve

    @cached_property
    def _whole(self) -> Any:
        return self.served(self.weights.numbers)  # the function alone does not keep its module alive

    @cached_property
    def outline(self) -> Path:
        """Folder with the graph as a SavedModel that has stand-ins, written when it is first asked for."""
        import tensorflow as tf

        served = self.served()
        with self._whole_folder("outline") as folder:
            tf.saved_model.save(
                served, str(folder), signatures={"serving_default": served.serve.get_concrete_function()}
            )
        return self.folder / "outline"

    @cached_property
    def saved_model(self) -> Path:
        """Folder with the graph as a SavedModel, written when it is first asked for."""
        from tensorflow.core.protobuf import saved_model_pb2
        from tensorflow.python.saved_model import fingerprinting_utils

        outline = self.outline
        with self._whole_folder("saved_model") as folder:
            shutil.copytree(outline, folder)
            file = folder / "saved_model.pb"
            stored = saved_model_pb2.SavedModel.FromString(file.read_bytes())
            for function in stored.meta_graphs[0].graph_def.library.function:
                self.weights.fill(function.node_def)
            file.write_bytes(stored.SerializeToString(deterministic=True))
            del stored
            release(self.weights.size)
            fingerprinting_utils.write_fingerprint(str(folder))  # over that of the outline
        return self.folder / "saved_model"

    @contextmanager
    def _whole_folder(self, name: str) -> Iterator[Path]:
        """Give a folder its name when the block ends; one that failed half-way, on a full disk, can be tried again."""
        draft = self.folder / f"{name}-draft"
        shutil.rmtree(draft, ignore_errors=True)
        with files.operation("write", draft):
            yield draft
            draft.rename(self.folder / name)


@contextmanager
def traced(
    model: keras.Model,
    output: Output,
    image_size: tuple[int, int] | None,
    mode: Mode = "multiclass",
    thresholds: tuple[float, ...] | None = None,
) -> Iterator[Graph]:
    """Trace a float32 model and fold its weights into the graph; its files go when the block ends.

    Constants rather than variables, because converters then fuse batch normalisation into convolutions, and the
    LiteRT converter leaves weights that are variables out of the file. Without XLA, whose operations no other
    runtime has.

    Args:
        model: from images `(B, H, W, C)` to logits, all in float32.
        output: "logits" or "classes".
        image_size: height and width to fix together with a batch of one; None: all free.
        mode: "multiclass", "binary" or "multilabel".
        thresholds: probabilities above which a class is predicted; None: 0.5.
    """
    import tensorflow as tf

    channels = model.input_shape[3]
    shape = (1, *image_size, channels) if image_size else (None, None, None, channels)
    signature = [tf.TensorSpec(shape, tf.float32, name=INPUT)]

    @tf.function(input_signature=signature, autograph=False, jit_compile=False)
    def forward(image: Any) -> Any:
        logits = model(image, training=False)
        if output == "logits":
            return logits
        if thresholds is not None:
            logits = logits - cuts_of(thresholds)
        if mode == "multilabel":
            return tf.cast(logits > 0, tf.int32)
        # Not keras.ops.argmax: it compares bits, which LiteRT and ONNX have no operations for.
        return tf.argmax(class_logits(logits), axis=-1, output_type=tf.int32)

    function = forward.get_concrete_function()
    nodes, weights = frozen(function)
    for node in nodes.node:
        # Gradients of an inference graph are of no use. Those of swish take longer to save than all the rest, and
        # without them every load would warn.
        node.attr.pop("_gradient_op_type", None)
    ends = function.inputs[0].name, function.outputs[0].name
    with tempfile.TemporaryDirectory() as folder:
        yield Graph(nodes, weights, ends, output, shape, Path(folder), mode, thresholds)


def check_model(model: Any, image_size: tuple[int, int] | None) -> None:
    """Raise SegzooError unless the model can be exported with this size."""
    if keras.backend.backend() != "tensorflow":
        raise SegzooError(
            f"Export needs Keras on TensorFlow, not on {keras.backend.backend()}: set KERAS_BACKEND=tensorflow, build "
            "the model and load its weights there."
        )
    if not isinstance(model, keras.Model):
        raise SegzooError(f"Only a keras.Model, or a function that builds one, can be exported, not {model!r}.")
    shape = model.output_shape
    if not isinstance(shape, tuple) or len(shape) != 4 or len(model.inputs) != 1 or model.input_shape[3] is None:
        raise SegzooError(
            f"The model must take one batch of images and return logits (B, H, W, classes); it takes "
            f"{model.input_shape} and returns {shape}."
        )
    parameters = sum(math.prod(weight.shape) for weight in model.weights)
    if 4 * parameters > _MOST_BYTES:
        raise SegzooError(
            f"The network has {parameters / 1e6:,.0f} million parameters, {4 * parameters / 1e9:.2f} GB in float32, "
            f"and exports hold at most {_MOST_BYTES / 4e6:,.0f} million, {_MOST_BYTES / 1e9:.2f} GB: train one on a "
            "smaller backbone, or use this one in Keras, as segzoo predict RUN does."
        )
    if image_size and not (min(image_size) >= SMALLEST_SIDE and max(image_size) <= LARGEST_SIDE):
        raise SegzooError(
            f"image_size must be at least {SMALLEST_SIDE} x {SMALLEST_SIDE} and at most "
            f"{LARGEST_SIDE} x {LARGEST_SIDE}, got {image_size[0]} x {image_size[1]}."
        )
