"""Checkpoints: the run state, its provenance, and the run folder."""
