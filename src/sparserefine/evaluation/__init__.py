"""The quality of predictions: scores, tables, and records of what was computed of each image."""
