"""Processor time before the first step on JAX, and size of the training step that is compiled.

    python benchmarks/compile_size.py [--decoder unet] [--backbone efficientnet_b3] [--size 128] [--optimizer adamw]

Prints processor seconds (all cores together) of building the network from random values, of tracing one training step
of a batch of two in bfloat16, and of compiling it; the operations of the traced step by kind, and the instructions and
fusions of the compiled one. Needs JAX; on a processor there is no autotuning, so this is the size alone.
"""

from __future__ import annotations

import argparse
import collections
import os
import re
import time
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"

import numpy as np

CLASSES = 12


def training_step(model: Any, images: np.ndarray, masks: np.ndarray) -> Any:
    """Return the traced training step of a compiled model, not yet compiled by XLA."""
    import jax

    model._symbolic_build(data_batch=(images, masks))
    model.optimizer.build(model.trainable_variables)
    state = model._get_jax_state(
        trainable_variables=True, non_trainable_variables=True, optimizer_variables=True, metrics_variables=True
    )
    return jax.jit(model.train_step).lower(tuple(state), (images, masks))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decoder", default="unet", help="decoder")
    parser.add_argument("--backbone", default="efficientnet_b3", help="backbone")
    parser.add_argument("--size", type=int, default=128, help="height and width of the images")
    parser.add_argument("--optimizer", default="adamw", help="optimizer of segzoo.optim")
    parser.add_argument("--no-compile", action="store_true", help="trace only")
    chosen = parser.parse_args()

    import keras

    import segzoo
    from segzoo import losses
    from segzoo.optim import optimizers

    keras.config.set_dtype_policy("mixed_bfloat16")
    began = time.process_time()
    model = segzoo.build_model(chosen.decoder, chosen.backbone, CLASSES, weights="none")
    print(f"built in {time.process_time() - began:.1f} s, {len(model.trainable_variables)} trainable variables")
    model.compile(optimizers.create(chosen.optimizer, 1e-3, 1e-4), losses.create({"cross_entropy": 1.0}, 255))
    images = np.zeros((2, chosen.size, chosen.size, 3), "uint8")
    began = time.process_time()
    traced = training_step(model, images, np.zeros(images.shape[:3], "int32"))
    found = re.findall(r"= \"?((?:stablehlo|chlo)\.\w+|call)", traced.as_text())
    print(f"traced in {time.process_time() - began:.1f} s: {len(found):,} operations")
    print(", ".join(f"{name} {count:,}" for name, count in collections.Counter(found).most_common(12)))
    if not chosen.no_compile:
        began = time.process_time()
        text = traced.compile().as_text()
        instructions = re.findall(r"^\s+(?:ROOT )?\S+ = ", text, re.M)
        fusions = text.count(" fusion(")
        print(
            f"compiled in {time.process_time() - began:.1f} s: {len(instructions):,} instructions, {fusions:,} fusions"
        )


if __name__ == "__main__":
    main()
