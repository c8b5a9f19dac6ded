"""Conversion of networks of other libraries: their checkpoints, options and tensor names."""
