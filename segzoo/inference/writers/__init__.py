"""Writers of what a prediction is wanted as: class maps, overlays, probabilities, objects, polygons, tables."""
