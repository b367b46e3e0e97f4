from pathlib import Path

import pytest
import torch
from behavior import assert_equal_but_for_rounding
from torch import Tensor

from sparserefine.dense import ESPNetv2, cityscapes, create
from sparserefine.dense.weights import read_weights

WEIGHTS = Path(__file__).resolve().parents[3] / "shared" / "data" / "espnet-weights"
needs_weights = pytest.mark.skipif(
    not WEIGHTS.is_dir(), reason="needs shared/data/espnet-weights beside the repository"
)

PARAMETERS = {0.5: 80_342, 1.0: 234_010, 1.5: 468_362, 2.0: 789_242}
PUBLISHED_MILLIONS = {0.5: 0.08, 1.0: 0.23, 1.5: 0.47, 2.0: 0.79}


@pytest.fixture(scope="module")
def model() -> ESPNetv2:
    model = create("espnetv2-0.5")
    assert isinstance(model, ESPNetv2)
    return model


def random_images(batch: int, height: int, width: int) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


@needs_weights
@pytest.mark.parametrize("trained_at", ["1024x512", "512x256"])
@pytest.mark.parametrize("width", PARAMETERS)
def test_published_weights_load_strictly(width: float, trained_at: str):
    path = WEIGHTS / f"espnetv2_s_{width}_city_{trained_at}.pth"
    model = ESPNetv2(width)
    model.load_state_dict(read_weights(path, allow_pickle=True), strict=True)


@pytest.mark.parametrize("width", PARAMETERS)
def test_parameter_count_is_the_published_one(width: float):
    count = sum(parameter.numel() for parameter in ESPNetv2(width).parameters())
    assert count == PARAMETERS[width]
    assert round(count / 1e6, 2) == PUBLISHED_MILLIONS[width]


@pytest.mark.parametrize("size", [(16, 16), (48, 80), (112, 16), (144, 208)])
def test_logits_have_the_size_of_the_images(model: ESPNetv2, size: tuple[int, int]):
    logits = model(random_images(2, *size))
    assert logits.shape == (2, 19, *size)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()


def test_logits_are_float32_under_autocast(model: ESPNetv2):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(random_images(1, 32, 32)).dtype == torch.float32


def test_a_batch_does_not_change_an_image(model: ESPNetv2):
    images = random_images(3, 48, 80)
    alone = torch.cat([model(image[None]) for image in images])
    assert_equal_but_for_rounding(model(images), alone)


def test_background_is_dropped_and_the_rest_kept(model: ESPNetv2):
    head = model.bu_dec_l4.merge_layer[-1]
    assert head.out_channels == model.num_classes + 1
    images = random_images(1, 32, 48)
    before = model(images)
    changed = create("espnetv2-0.5")
    assert isinstance(changed, ESPNetv2)
    changed.bu_dec_l4.merge_layer[-1].bias[19] += 100
    assert torch.equal(changed(images), before)


def test_images_are_normalized_inside(model: ESPNetv2):
    # At the mean of ImageNet the network sees zeros, so that the scale no longer matters.
    gray = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1).expand(1, 3, 32, 32)
    rescaled = create("espnetv2-0.5")
    rescaled.normalize.std *= 5
    torch.testing.assert_close(rescaled(gray), model(gray))
    assert not {"normalize.mean", "normalize.std"} & set(model.state_dict())


@pytest.mark.parametrize("size", [(32, 40), (33, 48)])
def test_sides_must_be_multiples_of_16(model: ESPNetv2, size: tuple[int, int]):
    message = f"image size {size[0]}×{size[1]} is not a multiple of 16.*Pad or resize to "
    message += "32×48" if size[0] == 32 else "48×48"
    with pytest.raises(ValueError, match=message):
        model(random_images(1, *size))


def test_width_must_be_published():
    with pytest.raises(ValueError, match=r"got width 3\.0, expected one of 0\.5, 1\.0, 1\.5, 2\.0"):
        ESPNetv2(3.0)


def test_preset_is_that_of_cityscapes(model: ESPNetv2):
    preset = model.preset
    assert (preset.dense_size, preset.threshold, preset.license) == (0.5, 0.5, "")
    assert len(preset.class_names) == len(preset.palette) == model.num_classes == 19
    assert len(set(preset.palette)) == 19
    assert preset.class_names is cityscapes.CLASS_NAMES
