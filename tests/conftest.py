"""Fixtures for all tests. It imports no framework itself, so that tests without one start at once."""

from __future__ import annotations

import functools
import gc
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# With oneDNN TensorFlow keeps a copy of every kernel that a process ever ran: 19 GiB after a hundred networks.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
# What XLA compiles here runs a few times at most: it need not be fast, and compiling it well takes three times as long.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")
# Nor is it kept between runs, in the user's folder; test_compile_cache.py is about that.
os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "false")
# Two workers share two cores: threads that wait for work on a small image would take the time of the other worker.
for variable in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
# The collector would go over half a million objects of the frameworks again and again while these are imported.
gc.disable()
CAMVID = Path(__file__).parents[2] / "shared" / "data" / "camvid"


def pytest_collection_finish() -> None:
    """Let the collector work from here on, on what the tests make alone, and Keras save without waste."""
    if saving := sys.modules.get("keras.src.saving.saving_lib"):
        # It means to remember these sets, under a name that it never looks up: it built a layer for each one saved.
        saving.get_attr_skipset = functools.cache(saving.get_attr_skipset)
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files with slow tests first, so that at the end no worker waits for one of them."""
    slow = {item.location[0] for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.location[0] not in slow)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give a file's tests to one worker, which then builds their fixtures once, and those of the zoo by backbone.

    The tests of backbones go to one worker, too, which builds each reference network once for all of them.
    (xdist's own loadgroup, up to 3.8.0, does nothing under pytest 9.2, where node ids cannot be changed.)
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file, _, test = nodeid.partition("::")
            if "backbones/" in file:
                return "backbones"
            return f"{file}::{test.partition('-')[0]}" if file.endswith("test_zoo.py") else file

    return ByFile(config, log)


@pytest.fixture(scope="session", autouse=True)
def commands_once() -> Iterator[None]:
    """Build the commands of an application once: typer reads the signature of each again at every call."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", functools.cache(typer.main.get_command))
        yield


@pytest.fixture(scope="session")
def camvid() -> Path:
    """The CamVid folder beside the repository; tests on real photographs need it."""
    if not CAMVID.is_dir():
        pytest.skip("no ../shared/data/camvid beside the repository")
    return CAMVID


@pytest.fixture(scope="session")
def smooth() -> Callable[[str], dict[str, str]]:
    """Options with which every weight of a decoder has a gradient whatever the initial values: none for most."""
    options = {"pan": {"pyramid_activation": "swish"}, "manet": {"squeeze_activation": "swish"}}
    return lambda decoder: options.get(decoder, {})


@pytest.fixture(scope="session")
def model_of(smooth: Callable[[str], dict[str, str]]) -> Callable[..., Any]:
    """Build a model of three classes with random weights, once for all tests of a process: do not change its weights.

    Without stochastic depth, which would take the gradient from a block's weights in some steps, and without ReLU where
    one or two channels, silent by chance, would take it from all below (`smooth`).
    """
    from segzoo.models.build import build_model

    @functools.cache
    def model_of(decoder: str, backbone: str = "resnet18") -> Any:
        return build_model(decoder, backbone, 3, weights="none", drop_path=0.0, **smooth(decoder))

    return model_of


@dataclass(frozen=True)
class Loaded:
    """Result of loading a saved model in another process."""

    outputs: dict[str, np.ndarray]
    type: str
    json: str
    weights: list[str]  # names of the trainable ones
    modules: list[str]  # that the other process has imported

    @property
    def output(self) -> np.ndarray:
        """The output of a model that has one."""
        (output,) = self.outputs.values()
        return output


@pytest.fixture(scope="session")
def forked_for(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Any]]:
    """Get a process that runs "code" or loads "models", a fork of one server for all workers; see `forked.py`."""
    import forked

    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    servers = []

    @functools.cache
    def forked_for(purpose: str) -> Any:
        connection, owned = forked.connect(folder)
        servers.extend([owned] if owned else [])
        connection.send(purpose)
        return connection

    yield forked_for
    for server in servers:
        server.communicate()


@pytest.fixture(scope="session")
def loaded_elsewhere(
    tmp_path_factory: pytest.TempPathFactory, forked_for: Callable[[str], Any]
) -> Callable[..., Loaded]:
    """Load a .keras file in a process that knows no more than `import segzoo`, and run it there on images.

    (Or on any structure of inputs that the model takes.) The process is started once, at the first call.
    """
    inputs = tmp_path_factory.mktemp("elsewhere") / "inputs.npz"

    def loaded_elsewhere(model: Path, images: Any) -> Loaded:
        import keras

        np.savez(inputs, *map(np.asarray, keras.tree.flatten(images)))
        process = forked_for("models")
        process.send({"model": str(model), "inputs": str(inputs)})
        answer = process.recv()
        error = answer.pop("error")
        assert error is None, error
        with np.load(f"{inputs}.out.npz") as outputs:
            return Loaded(outputs=dict(outputs), **answer)

    return loaded_elsewhere


@pytest.fixture(scope="session")
def forked(
    tmp_path_factory: pytest.TempPathFactory, forked_for: Callable[[str], Any]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run code as `python -c` does, with TensorFlow's processor as yet unused, in a process that knows Keras alone.

    Its arguments follow; `folder` is where it runs, and `path` what comes first in its sys.path. It must end well, or
    with the exit code `status`.
    """
    output = tmp_path_factory.mktemp("forked")

    def forked(
        code: str, *arguments: object, folder: Path | None = None, path: tuple[object, ...] = (), status: int = 0
    ) -> subprocess.CompletedProcess[str]:
        files = {"out": output / "out.txt", "errors": output / "errors.txt"}
        request = {"code": code, "arguments": [*map(str, arguments)], "path": [*map(str, path)]}
        request |= {"folder": str(folder or output), **{name: str(file) for name, file in files.items()}}
        process = forked_for("code")
        process.send(request)
        found = process.recv()
        out, errors = (file.read_text(errors="replace") for file in files.values())
        assert found == status, errors[-3000:]
        return subprocess.CompletedProcess(code, found, out, errors)

    return forked


@pytest.fixture(scope="session")
def pixels() -> Callable[..., np.ndarray]:
    """Random images `(B, H, W, 3)`, float32, pixels 0..255; the same for the same arguments."""

    def pixels(height: int, width: int, batch: int = 1, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        return rng.uniform(0, 255, (batch, height, width, 3)).astype("float32")

    return pixels


@pytest.fixture(scope="session")
def installed() -> Callable[[str], None]:
    """Skip a test of a backbone whose package is not installed."""
    from segzoo.backbones import BACKBONES

    def installed(name: str) -> None:
        if package := BACKBONES[name].package:
            pytest.importorskip(package.replace("-", "_"), reason=f'needs pip install "keras-segzoo[{package}]"')

    return installed


@pytest.fixture
def dtype_policy() -> Iterator[Callable[[str], None]]:
    """Set Keras's global dtype policy, and float32 again after the test."""
    import keras

    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="session")
def shake(pixels: Callable[..., np.ndarray]) -> Callable[..., Any]:
    """Give every tensor of a model random values, so that equal outputs mean equal weights.

    The moving statistics are those of one batch: with any others activations grow from block to block, and with them
    the rounding that a comparison has to allow for.
    """
    import keras

    def shake(model: Any) -> Any:
        rng = np.random.default_rng(0)
        norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
        for weight in model.trainable_weights:
            if len(weight.shape) > 1:
                weight.assign(rng.standard_normal(weight.shape) / np.sqrt(np.prod(weight.shape[:-1])))
            elif weight.name == "gamma":
                # Small residual branches: a deep network of random ones is chaotic, and magnifies rounding.
                size = 0.3 if "project_bn" in weight.path else 1.0
                weight.assign(rng.uniform(0.8 * size, 1.2 * size, weight.shape))
            else:
                weight.assign(rng.normal(0, 0.2, weight.shape))
        momenta = [layer.momentum for layer in norms]
        for layer in norms:
            layer.momentum = 0.0
        model(pixels(128, 128, batch=2, seed=1), training=True)
        for layer, momentum in zip(norms, momenta, strict=True):
            layer.momentum = momentum
        return model

    return shake


@pytest.fixture
def signals_arrive() -> Iterator[None]:
    """Undo what a shell does to processes that it starts in the background: they, and theirs, ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def one_structure() -> Iterator[None]:
    """Build a reference network without variables once for many tests; backbones copy it and leave it as it is."""
    from segzoo.backbones import BACKBONES, reference
    from segzoo.backbones.packages import import_package

    structure = reference.structure

    @functools.lru_cache(maxsize=40)
    def by_name(name: str, **options: Any) -> Any:
        state = random.getstate()
        try:
            return structure(BACKBONES[name], **options)
        finally:
            random.setstate(state)  # or what is built next would draw other weights the first time than later

    def remembered(variant: Any, **options: Any) -> Any:
        if variant.package:
            import_package(variant.package.replace("-", "_"))  # a test may take it away
        return by_name(variant.name, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "structure", remembered)
        yield


@pytest.fixture
def zero_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start kernels at zero: drawing random numbers is much of a large network's build, and shapes do not need them."""
    import keras

    def zeros(self, shape, dtype=None):
        return keras.ops.zeros(shape, dtype)

    monkeypatch.setattr(keras.initializers.VarianceScaling, "__call__", zeros)


def build_small_network(config: Any, weights: str | None = None) -> Any:
    """Build a network of four layers for a configuration, with random weights."""
    import keras

    from segzoo.decoders import SegmentationHead
    from segzoo.layers import ConvBlock, PixelNormalization
    from segzoo.weights import WeightsReport

    channels = config.model.input_channels
    inputs = keras.Input((None, None, channels), name="image")
    x = PixelNormalization(1 / 255, [0.5] * channels, [0.25] * channels, name="preprocessing")(inputs)
    x = keras.layers.Dropout(0.1, name="dropout")(ConvBlock(8, name="conv")(x))
    channels = config.task.channels
    model = keras.Model(inputs, SegmentationHead(channels, name="head")(x, inputs), name="small")
    model.weights_report = WeightsReport("none", note="random initial values")
    return model


@pytest.fixture
def small_network(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A network of four layers in place of a backbone and decoder: training and the command line cost seconds less.

    It is the function that builds one for a configuration.
    """
    from segzoo.engine import builders

    monkeypatch.setattr(builders, "build_network", build_small_network)
    return build_small_network


@pytest.fixture
def eager() -> Iterator[None]:
    """Steps without a graph, which takes longer to trace than a few steps take to run."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs whose charts are files of the numbers that they show; see `quick_runs.lighten`."""
    from quick_runs import lighten

    lighten(monkeypatch.setattr)


@pytest.fixture
def no_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read weights files without a process that tries them out before: half a second each; test_hdf5.py is about it."""
    from segzoo import hdf5

    monkeypatch.setattr(hdf5, "try_out", lambda path, wanted: None)


@pytest.fixture
def quick(small_network: Callable[..., Any], light: None, eager: None) -> Callable[..., Any]:
    """Light runs of `small_network`, which is returned, without a graph."""
    return small_network


@pytest.fixture
def five_convolutions(eager: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Configured decoders and heads stand on `small_backbone`, whatever their backbone, and train without a graph."""
    from networks import small_backbone

    from segzoo.engine.builders import network

    build_model = network.build_model

    def build(decoder: Any, backbone: Any, *arguments: Any, backbone_options: Any, **options: Any):
        return build_model(decoder, small_backbone(), *arguments, **options)  # which takes no options of a backbone

    monkeypatch.setattr(network, "build_model", build)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of `small_network` on six classes of drawn shapes, 8 and 5 samples; not to be changed."""
    from rich.console import Console

    from segzoo.config import Config
    from segzoo.engine import builders, train

    shapes = {"source": "generated", "size": [32, 32], "train_count": 8, "val_count": 5}
    config = Config.model_validate(
        {
            "name": "tiny",
            "model": {"decoder": "fpn", "backbone": "resnet18", "weights": "none"},
            "data": {**shapes, "batch_size": 4, "eval_batch_size": 4},
            "training": {"epochs": 2, "schedule": {"name": "poly", "warmup_steps": 1}},
            "output": {"root": str(tmp_path_factory.mktemp("runs"))},
        }
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builders, "build_network", build_small_network)
        train(config, console=Console(quiet=True))
    return Path(config.output.root) / "tiny"
