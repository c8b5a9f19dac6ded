"""Registered objects are treated like built-in ones: checked, listed, built, trained, saved."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from segzoo import registry as registries
from segzoo.errors import RegistrationError, UnknownNameError
from segzoo.registry import Registry


@pytest.fixture
def registry() -> Registry:
    return Registry("thing", {"first": "fractions:Fraction"}, absent={"third": "there are two."}, base="numbers:Number")


def test_a_registered_thing_is_found_listed_and_removed(registry: Registry) -> None:
    assert registry.register("second", 2) == 2
    assert registry["second"] == 2 and "second" in registry and list(registry) == ["first", "second"]
    registry.unregister("second")
    with pytest.raises(UnknownNameError, match="Unknown thing 'second'"):
        registry["second"]


def test_as_a_decorator_also_of_a_cell_that_runs_again(registry: Registry) -> None:
    def define() -> type:
        @registry.register("third")  # also a name that was absent
        class Third(int):
            pass

        return Third

    define()
    again = define()
    assert registry["third"] is again


@pytest.mark.parametrize(
    ("name", "thing", "message"),
    [
        ("first", 1, "segzoo has a thing 'first' itself"),
        ("taken", 2, r"registered thing 'taken' already \(1\).*replace=True"),
        ("a b", 1, "named by letters, digits and underscores, not 'a b'"),
        ("text", "x", "'text' must be a numbers.Number or a class that extends it, not 'x'"),
        ("cls", str, "'cls' must be a numbers.Number"),
    ],
)
def test_what_cannot_be_registered(registry: Registry, name: str, thing: object, message: str) -> None:
    registry.register("taken", 1)
    with pytest.raises(RegistrationError, match=message):
        registry.register(name, thing)
    assert registry.register("taken", 3, replace=True) == registry["taken"] == 3
    with pytest.raises(RegistrationError, match="no registered thing 'first' to remove"):
        registry.unregister("first")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Install a package with an entry point of the kind "thing"."""

    def package(code: str, value: str = "outsiders:Third") -> None:
        (tmp_path / "outsiders.py").write_text(code)
        info = tmp_path / "outsiders-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outsiders\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[segzoo.plugins]\nthing.third = {value}\nother.x = outsiders:x\n")
        monkeypatch.syspath_prepend(tmp_path)
        importlib.invalidate_caches()
        registries._installed.cache_clear()

    yield package
    sys.modules.pop("outsiders", None)
    registries._installed.cache_clear()


def test_an_entry_point_is_loaded_when_its_name_is_used(registry: Registry, package) -> None:
    package("class Third(int): pass")
    assert list(registry) == ["first", "third"] and "third" in registry and len(registry) == 2
    registry.check("third")
    assert "outsiders" not in sys.modules
    assert registry["third"](3) == 3
    assert list(registry) == ["first", "third"] and "outsiders" in sys.modules


def test_an_entry_point_that_fails_names_its_package(registry: Registry, package) -> None:
    package("raise ImportError('no such thing')")
    with pytest.raises(
        RegistrationError, match=r"'third' of the installed package outsiders cannot be imported .*no such thing"
    ):
        registry["third"]


class TestWithKeras:
    """Through the public functions, on real networks."""

    def test_a_decoder_is_checked_built_saved_and_loaded(self, tmp_path: Path, pixels) -> None:
        import keras
        from networks import small_backbone

        import segzoo
        from segzoo.config import load_config
        from segzoo.decoders import DECODERS, Decoder
        from segzoo.errors import ConfigError

        @DECODERS.register("one_level")
        class OneLevel(Decoder):
            """A convolution on P2."""

            def __init__(self, channels: int = 8, **kwargs):
                super().__init__(**kwargs)
                self.channels = channels

            @classmethod
            def levels(cls, output_stride: int = 32, available=None, **options) -> tuple[str, ...]:
                return ("P2",)

            def build(self, shapes) -> None:
                self.conv = keras.layers.Conv2D(self.channels, 3, padding="same", name="conv")
                self.conv.build(shapes["P2"])
                self.built = True

            def call(self, features, training=None):
                return self.conv(features["P2"])

            def compute_output_shape(self, shapes):
                return (*shapes["P2"][:3], self.channels)

        try:
            model = segzoo.build_model("one_level", small_backbone(), 3, channels=5)
            assert model.get_layer("decoder").get_config()["channels"] == 5
            images = pixels(33, 47)
            model.save(tmp_path / "model.keras")
            again = keras.models.load_model(tmp_path / "model.keras")  # the class lives in this process alone
            np.testing.assert_allclose(again(images), model(images), atol=1e-6)
            recipe = tmp_path / "own.yaml"
            recipe.write_text("model: {decoder: one_level, backbone: resnet18, options: {chanels: 4}}\ndata: {}\n")
            with pytest.raises(ConfigError, match=r"'chanels' is no option .* did you mean channels"):
                load_config(recipe)
        finally:
            DECODERS.unregister("one_level")

    def test_an_optimizer_gets_rates_by_part(self) -> None:
        import keras

        from segzoo.optim import OPTIMIZERS, optimizers

        @OPTIMIZERS.register("plain_descent")
        class PlainDescent(keras.optimizers.SGD):
            def __init__(self, learning_rate=0.1, boost=1.0, **kwargs):
                super().__init__(learning_rate=learning_rate, **kwargs)
                self.boost = boost

        try:
            assert optimizers.options("plain_descent") == {"boost": 1.0}
            made = optimizers.create("plain_descent", 0.5, boost=2.0)
            variables = [keras.Variable([1.0], name=name) for name in ("a", "b")]
            made.build(variables)
            made.set_factors([(variables[1], 0.1)])
            made.apply([keras.ops.ones(1), keras.ops.ones(1)], variables)
            assert made.boost == 2.0
            np.testing.assert_allclose([float(v[0]) for v in variables], [0.5, 0.95], rtol=1e-6)
        finally:
            OPTIMIZERS.unregister("plain_descent")

    def test_a_schedule_has_the_peak_the_updates_and_options_of_its_own(self, tmp_path: Path) -> None:
        import keras

        from segzoo.config import load_config
        from segzoo.engine.builders import build_schedule
        from segzoo.errors import ConfigError
        from segzoo.optim import SCHEDULES

        @SCHEDULES.register("halves")
        class Halves(keras.optimizers.schedules.LearningRateSchedule):
            def __init__(self, peak, updates, times=1):
                super().__init__()
                self.peak, self.updates, self.times = peak, updates, times

            def __call__(self, step):
                step = keras.ops.cast(step, "float32")
                return self.peak * 0.5 ** keras.ops.floor(step * (self.times + 1) / self.updates)

        recipe = tmp_path / "own.yaml"
        text = "model: {decoder: unet, backbone: resnet18}\ndata: {source: generated}\ntraining: {epochs: 1, "
        try:
            recipe.write_text(text + "schedule: {name: halves, options: {times: 3}}}\n")
            schedule = build_schedule(load_config(recipe), 8)
            peak = load_config(recipe).training.optimizer.learning_rate
            np.testing.assert_allclose([float(schedule(step)) / peak for step in (0, 1, 2, 7)], [1, 1, 0.5, 0.125])
            recipe.write_text(text + "schedule: {name: halves, options: {time: 3}}}\n")
            with pytest.raises(ConfigError, match=r"'time' is no option of the schedule halves; did you mean times"):
                load_config(recipe)
            recipe.write_text(text + "schedule: {name: poly, options: {power: 2}}}\n")
            with pytest.raises(ConfigError, match="the schedule poly has its options beside its name"):
                load_config(recipe)
            recipe.write_text(text + "schedule: {name: halfs}}\n")
            with pytest.raises(ConfigError, match=r"Unknown schedule 'halfs'\. Did you mean halves"):
                load_config(recipe)
        finally:
            SCHEDULES.unregister("halves")

    def test_a_loss_is_created_by_name_with_its_options_checked(self) -> None:
        import keras

        from segzoo import losses
        from segzoo.losses import LOSSES, PixelLoss

        @LOSSES.register("squared")
        class Squared(PixelLoss):
            modes = ("multiclass",)

            def __init__(self, ignore_index=None, scale=1.0, mode="multiclass", name="squared", **kwargs):
                super().__init__(ignore_index=ignore_index, mode=mode, name=name, **kwargs)
                self.scale = scale

            def call(self, y_true, y_pred):
                return self.scale * keras.ops.mean(keras.ops.square(y_pred))

        try:
            assert losses.create({"squared": {"scale": 3.0}}).scale == 3.0
            with pytest.raises(UnknownNameError, match=r"option of loss 'squared' 'scal'. Did you mean scale"):
                losses.create({"squared": {"scal": 3.0}})
            assert keras.saving.get_registered_name(Squared) == f"{__name__.partition('.')[0]}>Squared"
        finally:
            LOSSES.unregister("squared")
