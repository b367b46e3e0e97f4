"""Models of other libraries behind our protocol."""
