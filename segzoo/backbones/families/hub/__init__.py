"""Families of keras-hub, which is imported when one of them is built."""
