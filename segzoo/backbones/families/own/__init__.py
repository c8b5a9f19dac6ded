"""Families built by segzoo itself."""
