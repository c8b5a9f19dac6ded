"""DPT of segmentation_models.pytorch on a narrow ViT of timm, with the weights of our network.

Write data/dpt_smp.json anew: `PYTHONPATH=tests python tests/decoders/smp_dpt.py tests/decoders/data/dpt_smp.json`, with
segmentation_models_pytorch and timm installed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

READOUTS, SIZES = ("cat", "add", "ignore"), ((64, 96), (96, 32))
WIDTH, DEPTH, HEADS, GRID = 16, 12, 2, 3
CHANNELS, FUSION, CLASSES = (4, 6, 8, 10), 8, 3


def ours(readout: str) -> Any:
    """Our network, with seeded weights."""
    from networks import small_vit
    from seeding import fill

    import segzoo

    vit = small_vit(width=WIDTH, depth=DEPTH, heads=HEADS, grid=GRID, antialias=True)
    options = {"readout": readout, "intermediate_channels": CHANNELS, "fusion_channels": FUSION}
    model = segzoo.build_model("dpt", vit, CLASSES, weights="none", **options)
    fill(model)
    return model


def theirs(readout: str) -> Any:
    """The same network of theirs, with initial weights."""
    import segmentation_models_pytorch as smp

    vit = {"embed_dim": WIDTH, "num_heads": HEADS, "img_size": 16 * GRID, "dynamic_img_size": True}
    return smp.DPT(
        "tu-vit_tiny_patch16_224",
        encoder_weights=None,
        decoder_readout=readout,
        decoder_intermediate_channels=CHANNELS,
        decoder_fusion_channels=FUSION,
        classes=CLASSES,
        **vit,
    ).eval()


def state_dict(model: Any) -> dict[str, np.ndarray]:
    """Weights of our network by their names."""
    found: dict[str, np.ndarray] = {}

    def put(name: str, layer: Any) -> None:
        for weight in layer.weights:
            value = np.asarray(weight)
            if weight.name == "kernel" and value.ndim == 4:  # (h, w, in, out), and (h, w, out, in) if transposed
                value = value.transpose(3, 2, 0, 1)
            elif weight.name == "kernel":
                value = value.T
            names = {"kernel": "weight", "gamma": "weight", "beta": "bias", "bias": "bias"}
            names |= {"moving_mean": "running_mean", "moving_variance": "running_var"}
            found[f"{name}.{names[weight.name]}"] = value

    vit = next(layer for layer in model.layers if layer.name == "small_vit")
    put("encoder.model.patch_embed.proj", vit.get_layer("patch_embedding"))
    embedding = vit.get_layer("token_embedding")
    found["encoder.model.cls_token"] = np.asarray(embedding.class_token)
    found["encoder.model.pos_embed"] = np.asarray(embedding.positions)
    for number in range(DEPTH):
        block, name = vit.get_layer(f"block_{number + 1}"), f"encoder.model.blocks.{number}"
        parts = [block.query.get_weights(), block.key.get_weights(), block.value.get_weights()]
        found[f"{name}.attn.qkv.weight"] = np.concatenate([kernel.T for kernel, _ in parts])
        found[f"{name}.attn.qkv.bias"] = np.concatenate([bias for _, bias in parts])
        pairs = {"norm1": "norm1", "attn.proj": "project", "norm2": "norm2", "mlp.fc1": "expand", "mlp.fc2": "contract"}
        for part, own in pairs.items():
            put(f"{name}.{part}", getattr(block, own))

    decoder = model.get_layer("decoder")
    for number, layer in enumerate(decoder.readouts):
        put(f"decoder.projection_blocks.{number}.project.0", layer)
    for number, layers in enumerate(decoder.reassembled):
        first, *middle, last = layers
        put(f"decoder.reassemble_blocks.{number}.project_to_out_channel", first)
        for layer in middle:
            put(f"decoder.reassemble_blocks.{number}.upsample", layer)
        put(f"decoder.reassemble_blocks.{number}.project_to_feature_dim", last)
    for number, (fusion, projection) in enumerate(zip(decoder.fusions, decoder.projections, strict=True)):
        name = f"decoder.fusion_blocks.{3 - number}"
        put(f"{name}.project", projection)
        for unit, blocks in enumerate(fusion.units, 1):
            for step, block in enumerate(blocks, 1):
                put(f"{name}.residual_conv_block{unit}.conv_{step}", block.convolutions[0])
                put(f"{name}.residual_conv_block{unit}.batch_norm_{step}", block.norm)
    put("segmentation_head.head.0", decoder.last.convolutions[0])
    put("segmentation_head.head.1", decoder.last.norm)
    put("segmentation_head.head.4", model.get_layer("head").conv)
    return found


def images(height: int, width: int) -> np.ndarray:
    """Images `(1, H, W, 3)`, pixels 0..255."""
    return np.random.default_rng(0).uniform(0, 255, (1, height, width, 3)).astype("float32")


def part(logits: Any) -> list:
    """Return every 24th pixel of logits, rounded."""
    return np.round(np.asarray(logits)[0, ::24, ::24].astype(float), 5).tolist()


def main(path: str) -> None:
    """Write what theirs return with our weights, and how many parameters theirs have."""
    # Before TensorFlow, behind which a part of PyTorch 2.14 crashes as it is imported.
    from segmentation_models_pytorch.decoders.dpt.decoder import DPTDecoder, DPTSegmentationHead

    whole = DPTDecoder((768,) * 4, (16,) * 4), DPTSegmentationHead(256, 1)
    found: dict[str, Any] = {"default parameters": sum(p.numel() for module in whole for p in module.parameters())}
    for readout in READOUTS:
        network = theirs(readout)
        import torch

        kept, weights = network.state_dict(), state_dict(ours(readout))
        # Parts of timm's classifier, which nothing reads.
        unread = {name for name in kept if name.startswith(("encoder.model.norm.", "encoder.model.head."))}
        assert set(weights) == {name for name in kept if not name.endswith("num_batches_tracked")} - unread
        network.load_state_dict({**kept, **{name: torch.from_numpy(value.copy()) for name, value in weights.items()}})
        parameters = sum(value.numel() for name, value in network.named_parameters() if name not in unread)
        logits = {}
        for height, width in SIZES:
            prepared = torch.from_numpy((images(height, width) / 64 - 2).transpose(0, 3, 1, 2).copy())
            with torch.no_grad():
                logits[f"{height}x{width}"] = part(network(prepared).numpy().transpose(0, 2, 3, 1))
        found[readout] = {"parameters": parameters, "logits": logits}
    Path(path).write_text(json.dumps(found) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
