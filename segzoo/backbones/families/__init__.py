"""Backbone families, grouped by the source of their networks: one module each."""
