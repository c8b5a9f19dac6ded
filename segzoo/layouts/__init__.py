"""Sizes of networks, which backbones are built by and checkpoints of other libraries are recognised by."""
