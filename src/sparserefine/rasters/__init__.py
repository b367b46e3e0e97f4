"""Images larger than memory, segmented by window.

The low-resolution prediction is of the whole image, and kept on disk; refinement reads and writes
windows, each with a margin as wide as the extractor sees, so that no window can be told from its
neighbors.
"""
