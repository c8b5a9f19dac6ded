"""What people read of a run, an evaluation or a data set: pictures, plots, pages, JSON beside them."""
