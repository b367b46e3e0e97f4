"""Adapters that put models of other libraries behind `DenseModel`."""
