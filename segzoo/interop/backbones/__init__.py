"""Classifiers and feature extractors of other libraries whose networks segzoo has as backbones: a table per family."""
