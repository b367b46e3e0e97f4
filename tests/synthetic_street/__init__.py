"""A street that is drawn, with labels that are exact to the pixel: test data."""
