"""Networks of a run: rebuilt from its configuration, given by the user, or saved at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segzoo.errors import SegzooError, unknown_name

if TYPE_CHECKING:
    import keras

    from segzoo.engine.checkpoint.run import Run

WEIGHTS = ("best", "last")


def description(weights: str | None, model: object | None, saved: bool) -> str:
    """Return a few words for titles, such as "best weights", after checking that the three options go together.

    Raises:
        UnknownNameError: no such weights.
        SegzooError: options that exclude each other.
    """
    if saved and model is not None:
        raise SegzooError("Give a model, or take the run's own by saved=True; not both.")
    if saved:
        if weights != "best":
            raise SegzooError(f"model.keras holds the best weights; leave weights={weights!r} out, or saved=True.")
        return "model.keras"
    if weights is None:
        if model is None:
            raise SegzooError("weights=None takes the weights that a given model has; give the model, or best or last.")
        return "given model"
    if weights not in WEIGHTS:
        raise unknown_name("weights of a run", weights, WEIGHTS)
    return f"{weights} weights"


def network_of(run: Run, weights: str | None, model: keras.Model | None, saved: bool) -> keras.Model:
    """Return the network of a run, from images `(B, H, W, C)` to logits `(B, H, W, classes)`.

    Args:
        run: the run.
        weights: "best" or "last" weights of the run; None: those that `model` has.
        model: takes the place of the network that the configuration describes; gets the weights, in place.
        saved: load the run's model.keras instead.

    Raises:
        RunError: the weights or file do not exist yet, or the model does not match the run's classes or images.
        WeightsError: a file that cannot be read, or weights of another network.
    """
    from segzoo.models.build import logits_only
    from segzoo.models.given import check_fits, functional

    if saved:
        return run.saved_model()
    if model is None:
        return run.model(weights or "best")
    model = functional(model)
    check_fits(model, run.config.model.input_channels, run.config.task)
    network = logits_only(model)
    if weights is not None:
        run.load_weights(model, weights)
    return network
