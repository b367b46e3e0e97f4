"""The method: uncertainty, selector, extractor, ensembler, refiner."""
