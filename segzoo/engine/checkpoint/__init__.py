"""The checkpoint of a run: its state, where it comes from, and the folder that holds it."""
