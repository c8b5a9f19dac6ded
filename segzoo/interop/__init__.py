"""Networks of other libraries: what their checkpoints hold, and where it belongs in a segzoo model."""
