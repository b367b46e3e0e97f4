"""Refinement behind HTTP: one process that answers, and workers that compute.

The process that answers imports no torch and decodes no image: whatever a file does to a decoder,
it does to a worker, which is started anew.
"""
