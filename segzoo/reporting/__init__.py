"""Reports on runs, evaluations and data sets: pictures, plots, HTML and Markdown pages, JSON."""
