"""Datasets, paired transforms and the synthetic street."""
