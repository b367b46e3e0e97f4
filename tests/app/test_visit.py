"""A visit without a browser: what is kept, what a dial does, what is said of bad files."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sparserefine as sr
from disk_photo import Redness, inside, write_mask, write_photo
from small_models import make_patch_model
from sparserefine.app import visit as visit_module
from sparserefine.app.catalog import STREETS, Catalog
from sparserefine.app.downloads import file_name, png
from sparserefine.app.kept import Dials, KeptBand, KeptPass
from sparserefine.app.markup import facts, notice, viewer
from sparserefine.app.visit import PageError, Visit
from sparserefine.app.visits import Visits

OWN = "own"
HALF = Dials(threshold=0.0, budget=0.02)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return write_photo(tmp_path)


def begun(photo: Path, model: sr.dense.DenseModel | sr.SparseRefiner | None = None) -> Visit:
    visit = Visit(OWN)
    visit.take_photo(photo, photo.name)
    visit.start(Catalog(own=(OWN, model or Redness())))
    return visit


def test_at_first_all_is_as_the_command_has_it(photo: Path) -> None:
    visit, cutout = begun(photo), sr.cutout(photo, model=Redness())
    assert visit.answer is not None
    np.testing.assert_array_equal(visit.answer.values, cutout.alpha)
    assert visit.answer.density == cutout.density > 0
    saved = Image.open(io.BytesIO(png(visit, "cutout")))
    np.testing.assert_array_equal(np.asarray(saved), cutout.rgba())


def test_a_dial_takes_the_prediction_where_it_does_not_select(photo: Path) -> None:
    visit = begun(photo)
    kept = visit.kept
    assert isinstance(kept, KeptBand)
    some = visit.turn(HALF)
    assert 0 < some.mask.sum() <= 0.02 * some.mask.size < kept.band.sum()
    np.testing.assert_array_equal(some.values[some.mask], kept.after[some.mask])
    left = kept.band & ~some.mask
    np.testing.assert_array_equal(some.values[left], kept.before[left])
    assert (kept.before != kept.after)[left].any()
    none = visit.turn(Dials(threshold=0.7, budget=1.0))  # more than ln 2
    assert not none.mask.any()
    colors = np.asarray(Image.open(io.BytesIO(png(visit, "cutout"))))[..., :3]
    np.testing.assert_array_equal(colors[kept.band], kept.image[kept.band])


def test_a_dial_of_a_trained_refiner_equals_refine(photo: Path) -> None:
    model = make_patch_model()
    visit = begun(photo, model)
    kept = visit.kept
    assert isinstance(kept, KeptPass) and visit.dials == Dials(threshold=0.1, budget=1.0)
    for dials in (visit.dials, Dials(threshold=0.3, budget=0.1)):
        answer = visit.turn(dials)
        expected = model.predict(photo, selector=dials.selector)
        np.testing.assert_array_equal(answer.values, expected.labels)
        np.testing.assert_array_equal(answer.mask, expected.mask)
        assert answer.stages_ms.keys() == {"select", "extract", "ensemble", "combine"}
    images = torch.from_numpy(kept.image).permute(2, 0, 1)[None]
    low = model.low_resolution_labels(model.dense_pass(images), kept.before.shape)
    np.testing.assert_array_equal(kept.before, low[0])


def test_the_dense_model_runs_once(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for model in (Redness(), make_patch_model()):
        visit = begun(photo, model)
        monkeypatch.setattr(torch.nn.Conv2d, "forward", None)
        monkeypatch.setattr(Redness, "forward", None)
        visit.turn(Dials(threshold=0.6, budget=0.1))
        monkeypatch.undo()


@pytest.mark.slow
def test_edges_behind_a_model_of_several_classes(photo: Path) -> None:
    dense = make_patch_model().dense
    model = sr.SparseRefiner(dense, refiner="edges")
    visit = begun(photo, model)
    assert visit.answer is not None
    np.testing.assert_array_equal(visit.answer.values, model.predict(photo).labels)


def test_a_mask_takes_the_place_of_the_model(photo: Path, tmp_path: Path) -> None:
    mask = write_mask(tmp_path / "mask.png", inside()[::4, ::4])
    visit, catalog = Visit(OWN), Catalog(own=(OWN, make_patch_model()))
    visit.take_mask(mask, "mask.png")
    with pytest.raises(PageError, match="no photo yet"):
        visit.start(catalog)
    visit.take_photo(photo, "disk.png")
    answer = visit.start(catalog)
    np.testing.assert_array_equal(answer.values, sr.refine(photo, mask).alpha)
    fewer = visit.turn(HALF)
    assert 0 < fewer.mask.sum() < answer.mask.sum()
    visit.drop_mask()
    assert visit.start(catalog).values.dtype == np.uint8  # labels of the model again


def test_labels_with_gaps_are_refined_too(photo: Path, tmp_path: Path) -> None:
    labels = np.where(inside(), 7, 255).astype(np.uint8)
    labels[:20] = 3
    path = tmp_path / "labels.png"
    image = Image.fromarray(labels)
    image.putpalette(list(range(256)) * 3)
    image.putpalette([value for one in range(256) for value in (one, 0, 255 - one)])
    image.save(path)
    visit = Visit(OWN)
    visit.take_photo(photo, "disk.png")
    visit.take_mask(path, "labels.png")
    answer = visit.start(Catalog())
    np.testing.assert_array_equal(answer.values, sr.refine(photo, path).labels)
    assert visit.kept is not None and set(np.unique(visit.kept.before)) == {3, 7, 255}
    assert "label 7" in facts(visit, 0.0)
    np.testing.assert_array_equal(
        np.asarray(Image.open(io.BytesIO(png(visit, "labels")))), answer.values
    )


def test_what_is_shown_has_the_photo_s_proportions(photo: Path) -> None:
    visit = begun(photo)
    for view in ("result", "entropy", "selected"):
        text = viewer(visit, view)
        assert text.count("data:image/jpeg;base64,") == 4 and "--w:128;--h:96" in text
    assert f"download/{visit.token}/alpha.png" in facts(visit, 3.0)
    assert "<b" not in notice("<b>a name</b>")


def test_results_are_named_after_the_photo(photo: Path) -> None:
    visit = begun(photo)
    visit.photo_name = 'mit "Größe"\n.jpg'
    assert file_name(visit, "alpha") == "mit__Gr__e___alpha.png"
    for wrong in ("../x", "depth"):
        with pytest.raises(PageError, match="There is no"):
            png(visit, wrong)
    with pytest.raises(PageError, match="There is no alpha"):
        png(begun(photo, make_patch_model()), "alpha")


def _text(folder: Path) -> Path:
    path = folder / "notes.txt"
    path.write_text("no photo")
    return path


def _cut(folder: Path) -> Path:
    path = folder / "cut.png"
    path.write_bytes(write_photo(folder).read_bytes()[:-200])
    return path


def _empty(folder: Path) -> Path:
    path = folder / "empty.jpg"
    path.touch()
    return path


@pytest.mark.parametrize(
    ("write", "message"),
    [(_text, "notes.txt is not an image"), (_cut, "cut.png"), (_empty, "empty.jpg is empty")],
)
def test_a_bad_photo_is_a_sentence_without_its_path(write, message: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = write(tmp_path)
    visit = Visit(OWN)
    with pytest.raises(PageError, match=message) as found:
        visit.take_photo(path, path.name)
    assert str(tmp_path) not in str(found.value) and str(found.value).endswith(".")
    with pytest.raises(PageError, match="no photo yet"):
        visit.start(Catalog())


def test_a_huge_picture_is_not_decoded(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visit_module, "MAX_PIXELS", 96 * 128 - 1)
    monkeypatch.setattr(visit_module, "open_photo", lambda path: pytest.fail("it was decoded"))
    with pytest.raises(PageError, match=r"disk.png has 0 megapixels, and this page takes up to"):
        Visit(OWN).take_photo(photo, photo.name)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((24, 32), bool), "mask.png"),
        (np.ones((24, 32), bool), "mask.png"),
        (np.eye(32, dtype=bool), "mask.png is 32×32, the photo 96×128: other proportions. Drop"),
    ],
)
def test_a_mask_that_does_not_fit_is_a_sentence(
    mask: np.ndarray, message: str, photo: Path, tmp_path: Path
) -> None:
    visit = Visit(OWN)
    visit.take_photo(photo, photo.name)
    with pytest.raises(PageError, match=message) as found:
        visit.take_mask(write_mask(tmp_path / "mask.png", mask), "mask.png")
        visit.start(Catalog())
    assert str(tmp_path) not in str(found.value) and "fit=" not in str(found.value)


def test_a_refiner_without_a_dense_model_asks_for_a_mask(photo: Path) -> None:
    with pytest.raises(PageError, match="needs a mask of the photo"):
        begun(photo, sr.SparseRefiner(None, num_classes=2))


def test_a_dial_of_a_photo_that_is_gone_says_so(photo: Path) -> None:
    visit = begun(photo)
    visit.drop_photo()
    assert visit.pixels == 0 and not visit.drawn
    with pytest.raises(PageError, match="no longer here"):
        visit.turn(HALF)


def test_visits_are_bounded_and_those_longest_unused_go(photo: Path) -> None:
    pixels = 96 * 128
    visits = Visits(OWN, most_pixels=2 * pixels, most=3)
    tokens = {}
    for key in "abc":
        visit = visits.of(key)
        visit.take_photo(photo, photo.name)
        tokens[key] = visit.token
        visits.of("a")
        visits.trim()
    assert [visits.by_token(tokens[key]) is not None for key in "abc"] == [True, False, True]
    for key in "defg":
        visits.of(key)
        visits.trim()
    assert len(visits) == 3
    visits.drop("g")
    assert len(visits) == 2 and len(set(tokens.values())) == 3
    visits.drop("never there")


def test_one_photo_larger_than_the_bound_stays_alone(photo: Path) -> None:
    visits = Visits(OWN, most_pixels=10)
    visits.of("other")
    visits.of("own").take_photo(photo, photo.name)
    visits.trim()
    assert len(visits) == 1 and visits.of("own").photo is not None


def test_the_catalog_loads_what_is_asked_for_and_once() -> None:
    model = Redness()
    catalog = Catalog(own=(OWN, model))
    assert catalog.names[0] == OWN and catalog[OWN] is model and len(catalog.names) == 3
    assert catalog[STREETS] is catalog[STREETS]
    assert Catalog(first=STREETS).names[0] == STREETS
    with pytest.raises(ValueError, match="there is no model 'x'"):
        catalog["x"]
