"""Families of keras-cv, which is imported when one of them is built."""
