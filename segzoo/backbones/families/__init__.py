"""Backbone families, by where their networks come from: one module each."""
