"""The gate's size, start and gradients."""

from __future__ import annotations

import torch

from sparserefine.refinement.ensembler import GatedEnsembler


def test_parameters_at_19_classes() -> None:
    assert sum(p.numel() for p in GatedEnsembler(19).parameters()) == 5269
    assert sum(p.numel() for p in GatedEnsembler(19).gate.parameters()) == 2754


def test_starts_as_a_weighted_mean_of_both() -> None:
    dense, refined = torch.randn(30, 6), torch.randn(30, 6)
    fused = GatedEnsembler(6)(dense, refined)
    low, high = torch.minimum(dense, refined), torch.maximum(dense, refined)
    assert bool(((fused >= low - 1e-6) & (fused <= high + 1e-6)).all())


def test_paper_mode_has_no_residual() -> None:
    ensembler = GatedEnsembler(6, residual=False)
    for parameter in ensembler.fuser.parameters():
        torch.nn.init.zeros_(parameter)
    assert not ensembler(torch.randn(4, 6), torch.randn(4, 6)).any()


def test_no_rows() -> None:
    assert GatedEnsembler(6)(torch.zeros(0, 6), torch.zeros(0, 6)).shape == (0, 6)


def test_the_gate_passes_gradients_to_the_extractor() -> None:
    refined = torch.randn(8, 6, requires_grad=True)
    GatedEnsembler(6)(torch.randn(8, 6), refined).sum().backward()
    assert refined.grad is not None and bool(refined.grad.any())
