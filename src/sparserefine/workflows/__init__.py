"""What one does with a refiner."""
