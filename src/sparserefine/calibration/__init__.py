"""The choice of a threshold, what it costs, and whether refinement can be worth it."""
