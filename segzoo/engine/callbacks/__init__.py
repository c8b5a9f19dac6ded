"""Callbacks of a run: the list that calls them, and the states of those that are part of the checkpoint."""
