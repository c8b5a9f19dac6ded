"""Families built by keras.applications."""
