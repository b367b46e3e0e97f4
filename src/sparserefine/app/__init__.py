"""A page in the browser: a photo, where its prediction is unsure, and two dials."""
