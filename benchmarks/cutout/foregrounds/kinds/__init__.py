"""What can be drawn: one file a kind, each with `make(rng, size) -> Layer`."""
