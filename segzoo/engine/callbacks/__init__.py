"""Callbacks of a run: segzoo's own, the list that calls them and the user's, and the states in the checkpoint."""
