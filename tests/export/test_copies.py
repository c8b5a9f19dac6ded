"""Weights of a network that is exported: places and copies of them, and files as if they had been in every graph."""

import errno
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from segzoo.errors import SegzooError
from segzoo.export import export_model, folding, graph, litert, memory, onnx_conversion, stand_ins
from segzoo.export.exporter import exporter
from segzoo.export.graph import traced


@pytest.fixture
def tiny(monkeypatch):
    """Have stand-ins for small weights, too."""
    monkeypatch.setattr(stand_ins, "SMALLEST", 64)


@pytest.fixture(scope="module")
def wide():
    """A network of a single large weight, of which a layer computes another."""

    class Turned(keras.layers.Layer):
        def build(self, shape):
            self.kernel = self.add_weight(shape=(64, 128), name="kernel")

        def call(self, x):
            return keras.ops.matmul(x, keras.ops.transpose(self.kernel) * 2)[..., :3]

        def compute_output_shape(self, shape):
            return (*shape[:-1], 3)

    keras.utils.set_random_seed(0)
    image = keras.Input((None, None, 3), name="image")
    x = keras.layers.Conv2D(128, 5, padding="same", name="large")(
        keras.layers.Rescaling(1 / 64, -2, name="scale")(image)
    )
    return keras.Model(image, Turned(name="turned")(x))


def large(model):
    return model.get_layer("large").kernel, model.get_layer("turned").kernel


def test_a_traced_graph_holds_no_large_weight_and_a_saved_model_each_one_once(wide):
    weights = [np.asarray(weight).tobytes() for weight in large(wide)]
    with traced(wide, "logits", None) as found:
        assert len(found.weights) == 2
        assert found.nodes.ByteSize() < sum(map(len, weights)) / 4
        assert not (found.folder / "saved_model").exists()  # until somebody wants it
        stored = (found.saved_model / "saved_model.pb").read_bytes()
    assert [stored.count(weight) for weight in weights] == [1, 1]


def test_litert_loads_the_weights_in_its_last_step_alone(model, tiny, monkeypatch):
    import tensorflow as tf
    from tensorflow.lite.python import lite

    loaded, load = [], lite._load
    monkeypatch.setattr(lite, "_load", lambda folder, tags: loaded.append(folder) or load(folder, tags))
    with traced(model, "logits", None) as found:
        file = litert._converter(found, "TFLITE_BUILTINS").convert()
        assert loaded == [str(found.outline)] * 2
        expected = tf.lite.TFLiteConverter.from_saved_model(str(found.saved_model)).convert()
    assert file == expected


def test_tf2onnx_is_given_the_weights_that_it_reads_alone(wide, tmp_path, require, monkeypatch):
    require("tf2onnx", "onnx", "onnxruntime")
    pytest.importorskip("tf2onnx.convert")  # which would keep the spy if it were imported later
    from tf2onnx import tfonnx

    convert, seen = tfonnx.process_tf_graph, []

    def spy(tf_graph, **arguments):
        values = arguments["const_node_values"]
        seen.append((tf_graph.as_graph_def().SerializeToString(), sorted(len(values[name]) for name in values)))
        return convert(tf_graph, **arguments)

    monkeypatch.setattr(tfonnx, "process_tf_graph", spy)
    kernel, turned = (np.asarray(weight) for weight in large(wide))
    path = export_model(wide, tmp_path, "onnx").path
    ((graph_def, sizes),) = seen
    # Beside the graph: as it is, and what TensorFlow's optimizer made of the other.
    assert len(graph_def) < 2**15 and sizes == sorted([kernel.nbytes, turned.nbytes])
    stored = path.read_bytes()
    assert stored.count(kernel.transpose(3, 2, 0, 1).tobytes()) == 1
    assert stored.count(np.ascontiguousarray(turned.T * 2).tobytes()) == 1


def test_copies_of_a_graph_of_tf2onnx_share_its_large_constants(wide, require, monkeypatch):
    require("tf2onnx", "onnx")
    from tf2onnx import optimizer

    seen = []
    monkeypatch.setattr(optimizer, "optimize_graph", lambda graph, *_, **__: seen.append(graph) or graph)
    with traced(wide, "logits", None) as found:
        onnx_conversion.convert(found, 18, {})
    (before,) = seen
    after = onnx_conversion._copied(before, lambda value: value)
    constants = onnx_conversion._large(before)
    assert len(constants) == 2
    for node in constants:
        copied = after.get_node_by_name(node.name)
        assert copied is not node and copied.attr["value"] is node.attr["value"] and not copied.op.attribute
    assert after.get_nodes()[0].graph is after


def test_a_step_that_fails_leaves_the_graph_as_it_was():
    class Fails:
        graph_been_opt = True

        def optimize(self, graph, iteration):
            graph.nodes.clear()
            raise ValueError("a step of tf2onnx")

    class Nodes:
        def __init__(self):
            self.nodes = [1]

        def get_nodes(self):
            return []

    given = Nodes()
    step = onnx_conversion._Step(Fails(), 0)
    assert step.optimize(given, 0) is given and given.nodes == [1] and not step.graph_been_opt


@pytest.mark.parametrize("size", [None, (45, 64)])
def test_onnx_is_what_tf2onnx_makes_of_a_graph_with_all_weights_in_it(model, tiny, require, size):
    require("tf2onnx", "onnx")
    import tensorflow as tf
    import tf2onnx

    with traced(model, "logits", size) as found:
        assert len(found.weights) > 2
        made, values = onnx_conversion.convert(found, 18, {})
        assert values
        onnx_conversion.put_values(made, values)
        signature = [tf.TensorSpec(found.input_shape, tf.float32, name="image")]
        expected, _ = tf2onnx.convert.from_function(found.serve, signature, opset=18)
    assert canonical(made) == canonical(expected)


def canonical(model):
    """Nodes with numbers for the names of tensors, which tf2onnx counts for the whole process, and constants' bytes."""
    from onnx import numpy_helper

    constants = {constant.name: numpy_helper.to_array(constant) for constant in model.graph.initializer}
    numbers = {}

    def tensor(name):
        array = constants.get(name)
        return numbers.setdefault(name, len(numbers)), array is not None and (
            str(array.dtype),
            array.shape,
            array.tobytes(),
        )

    return len(constants), [
        (
            node.op_type,
            [tensor(name) for name in node.input],
            [tensor(name) for name in node.output],
            sorted(attribute.SerializeToString(deterministic=True) for attribute in node.attribute),
        )
        for node in model.graph.node
    ]


def graph_of(compute, *weights):
    """Return the frozen graph of a function of variables, and its stand-ins."""
    import tensorflow as tf

    variables = [tf.Variable(weight) for weight in weights]
    signature = [tf.TensorSpec((None, 4), tf.float32)]
    function = tf.function(lambda x: compute(x, *variables), input_signature=signature, autograph=False)
    return stand_ins.frozen(function.get_concrete_function())


def test_weights_that_fold_into_a_constant(tiny):
    import tensorflow as tf

    one, other = np.eye(4, dtype=np.float32) + 1, np.eye(4, dtype=np.float32)
    nodes, weights = graph_of(lambda x, a, b: x @ a @ tf.transpose(b), one, other)
    ((_, first), (_, second)) = sorted(
        weights.found(nodes.node), key=lambda found: weights.value(found[1])[0, 1], reverse=True
    )
    assert folding.folded(nodes.node, weights) == {second}
    np.testing.assert_array_equal(weights.value(first), one)
    weights.fill(nodes.node, {second})
    assert [number for _, number in weights.found(nodes.node)] == [first]


def test_zeros_ones_and_small_weights_are_no_stand_ins(tiny):
    weights = [np.zeros((4, 4), np.float32), np.ones((4, 4), np.float32), np.arange(4, dtype=np.float32)]
    nodes, found = graph_of(lambda x, a, b, c: x @ a @ b + c, *weights)
    assert len(found) == 0 and not list(found.found(nodes.node))


def test_a_constant_that_looks_like_a_stand_in_is_none(tiny):
    import tensorflow as tf

    first, second = np.eye(4, dtype=np.float32), np.eye(4, dtype=np.float32) + 2
    alike = np.full((4, 4), 1 + 1e-6, np.float32)  # which is 1 + 2^-20
    nodes, weights = graph_of(lambda x, a, b: x @ a @ b @ tf.constant(alike), first, second)
    assert len(weights) == len(list(weights.found(nodes.node))) == 2
    assert alike[0, 0] not in weights.numbers


def test_a_saved_model_is_written_anew_after_a_full_disk(model, tmp_path, monkeypatch):
    from tensorflow.python.saved_model import fingerprinting_utils

    def full(path, content=b""):
        if "outline" not in str(path):
            raise OSError(errno.ENOSPC, "No space left on device")

    with exporter(model) as exports:
        with monkeypatch.context() as patch:
            patch.setattr(fingerprinting_utils, "write_fingerprint", full)
            with pytest.raises(SegzooError, match=r"saved_model-draft cannot be written: No space left"):
                exports.write("saved_model", tmp_path)
        exports.write("saved_model", tmp_path)
        monkeypatch.setattr(Path, "write_bytes", full)
        with pytest.raises(SegzooError, match=rf"{re.escape(str(tmp_path))} cannot be written: No space left"):
            exports.write("litert", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["saved_model"]


def test_stand_ins_that_an_optimizer_used_up(tiny):
    one, other = np.eye(4, dtype=np.float32) + 1, np.eye(4, dtype=np.float32)
    nodes, weights = graph_of(lambda x, a, b: x @ a @ b, one, other)
    before = nodes.node
    both = {number for _, number in weights.found(before)}
    assert folding.lost(before, before, weights) == set()

    def changed(change):
        after = type(nodes)()
        after.CopyFrom(nodes)
        node, number = next(weights.found(after.node))
        change(after, node)
        return folding.lost(before, after.node, weights), number

    def inlined(after, node):
        node.name = f"PartitionedCall/{node.name}"

    def used(after, node):
        after.node.remove(node)

    def other_node(after, node):
        node.name = "MatMul/Transpose"

    def scaled(after, node):
        added = after.node.add()
        added.CopyFrom(node)
        added.name = "Mul"
        added.attr["value"].tensor.float_val[0] *= 2

    assert changed(inlined)[0] == set()
    lost, number = changed(used)
    assert lost == {number}
    assert changed(other_node)[0] == changed(scaled)[0] == both


def test_a_network_that_no_file_holds_is_refused_before_it_is_traced(model, tmp_path, monkeypatch):
    monkeypatch.setattr(graph, "_MOST_BYTES", 4000)
    monkeypatch.setattr(graph, "traced", None)
    with pytest.raises(SegzooError, match=r"parameters, .* GB in float32.*smaller backbone"):
        export_model(model, tmp_path / "out", "onnx")
    assert not (tmp_path / "out").exists()


MEASURE = """
import resource, sys
import numpy as np
import segzoo
from segzoo.export import export_model

model = segzoo.build_model("unet", "resnet50", 3, weights="none")
model(np.zeros((1, 64, 64, 3), "float32"))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
export_model(model, sys.argv[1], "onnx")
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) * 1024 / sum(4 * np.prod(weight.shape) for weight in model.weights))
"""


@pytest.mark.nightly
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ru_maxrss is in KiB on Linux alone")
def test_onnx_takes_few_times_the_memory_of_the_weights(tmp_path, require):
    require("tf2onnx", "onnx", "onnxruntime")
    done = subprocess.run([sys.executable, "-c", MEASURE, str(tmp_path)], capture_output=True, text=True, check=True)
    assert float(done.stdout.split()[-1]) < 12  # about 6 are seen; with copies it was 80


@pytest.mark.parametrize(("weights", "collections"), [(2**24, 0), (2**26, 1)])
def test_memory_is_collected_for_large_networks_only(weights, collections, monkeypatch):
    """A collection walks all objects of a process, and small networks leave little to collect."""
    done = []
    monkeypatch.setattr(memory.gc, "collect", lambda: done.append(1))
    memory.release(weights)
    assert len(done) == collections
