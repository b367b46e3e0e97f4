"""Variants differ in one setting."""

from __future__ import annotations

from pathlib import Path

import pytest

import sparserefine as sr
from sparserefine.data import Sample
from sparserefine.workflows.variants import points_of, train_variant, variants_of


def test_each_differs_in_one_setting(model: sr.SparseRefiner) -> None:
    found = variants_of(
        model, widths=["tiny"], pyramids=["floor", "dilate"], inputs=["rgb", "rgb+entropy"]
    )
    names = [variant.name for variant in found]
    assert names[1:] == ["width tiny", "pyramid dilate", "inputs rgb+entropy"]
    assert [variant.build(model).inputs for variant in found[2:]] == [("rgb",), ("rgb", "entropy")]
    assert points_of(model).build(model).settings()["inputs"] == list(model.inputs)


def test_what_is_unknown_is_refused(model: sr.SparseRefiner) -> None:
    with pytest.raises(ValueError, match="width 'wide' is unknown, expected one of paper"):
        variants_of(model, widths=["wide"])
    with pytest.raises(ValueError, match="pyramid 'ceil' is unknown"):
        variants_of(model, pyramids=["ceil"])
    with pytest.raises(ValueError, match="expected some of rgb"):
        variants_of(model, inputs=["depth"])


def test_a_variant_that_is_trained_is_read(
    model: sr.SparseRefiner, street: list[Sample], tmp_path: Path
) -> None:
    (own,) = variants_of(model)
    first = train_variant(model, own, street[:1], tmp_path, steps=1)
    again = train_variant(model, own, street[:1], tmp_path, steps=1)
    assert all(
        (one == other).all()
        for one, other in zip(first.parameters(), again.parameters(), strict=True)
    )
