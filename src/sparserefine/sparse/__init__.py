"""2-D sparse convolution."""
