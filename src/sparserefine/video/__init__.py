"""Segmentation of videos, frame by frame in constant memory (extra `video`: PyAV)."""
