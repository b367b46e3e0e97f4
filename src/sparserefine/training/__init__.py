"""Training of a refiner; the dense model stays frozen."""
