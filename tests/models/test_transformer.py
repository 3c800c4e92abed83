"""Vision transformers over spectrogram images: their patches, their positions, and the six logits."""

import numpy as np
import pytest
import timm
import torch
from eeg_samples import bilinear

from common.models.transformer import (
    SpectrogramTransformer,
    SpectrogramTransformerConfig,
    patch_plan,
    place_patches,
    resample_positions,
)
from common.strict import ConfigError

DISTILLED = "deit_tiny_distilled_patch16_224"


def vit(backbone="test_vit", shape=(1, 100, 70), **options):
    torch.manual_seed(0)
    return SpectrogramTransformer(SpectrogramTransformerConfig(backbone=backbone, **options), shape).eval()


# ---- patches


@pytest.mark.parametrize(
    ("size", "stride", "grid"),
    [
        ((400, 300), None, (25, 19)),  # 475 patches: the last column half over zeros
        ((400, 300), 10, (39, 29)),  # 1131, as published for the AST on this image
        ((512, 256), 10, (50, 25)),
        ((128, 1024), 10, (12, 101)),  # the AST's own
    ],
)
@pytest.mark.parametrize("backbone", [DISTILLED, "vit_small_patch16_224"])
def test_grids_are_those_of_the_literature(backbone, size, stride, grid):
    config = SpectrogramTransformerConfig(backbone=backbone, stride=stride)
    assert patch_plan(config, (1, *size)) == (grid, (stride or 16, stride or 16))


def test_backbone_reads_each_patch_where_the_plan_says():
    """One bright pixel changes exactly the patches over it, right and below the image there are zeros."""
    for stride, over in ((None, [(1, 2)]), (10, [(2, 3), (2, 4), (3, 3), (3, 4)])):
        model = vit(shape=(1, 90, 70), stride=stride)
        grid, step = model.grid, model.stride[0]
        assert grid == ((6, 5) if stride is None else (8, 6))  # zeros to 96 x 80; 4 rows and columns that are not seen
        assert model.backbone.patch_embed.img_size == ((96, 80) if stride is None else (86, 66))
        image, seen = torch.zeros(1, 1, 90, 70), []
        model.backbone.patch_embed.register_forward_hook(lambda module, arguments, out, seen=seen: seen.append(out))
        model(image)
        image[..., 31, 41] = 5.0  # row 31 lies in patches that start at 16; or at 20 and 30
        model(image)
        changed = (seen[0] != seen[1]).any(dim=-1).reshape(grid).nonzero().tolist()
        assert changed == [list(patch) for patch in over]
        assert all(row * step <= 31 < row * step + 16 and col * step <= 41 < col * step + 16 for row, col in over)


# ---- positions


def bilinear_grid(grid, size):
    """Half-pixel bilinear resampling of (height, width, features), a feature at a time."""
    return np.stack([bilinear(feature, size) for feature in grid.transpose(2, 0, 1)], axis=-1)


def test_positions_are_interpolated_along_a_longer_axis_and_cut_along_a_shorter():
    positions = torch.randn(1, 2 + 6 * 5, 3, generator=torch.Generator().manual_seed(0))
    grid = positions[0, 2:].reshape(6, 5, 3).numpy()
    for new, expected in (
        ((6, 5), grid),
        ((9, 11), bilinear_grid(grid, (9, 11))),
        ((3, 2), grid[1:4, 1:3]),  # the centre: (6 - 3) // 2 = 1, (5 - 2) // 2 = 1
        ((10, 3), bilinear_grid(grid[:, 1:4], (10, 3))),
    ):
        found = resample_positions(positions, 2, (6, 5), new)
        assert torch.equal(found[:, :2], positions[:, :2])
        np.testing.assert_allclose(found[0, 2:].reshape(*new, 3).numpy(), expected, atol=1e-6)


def test_positions_without_prefix_and_backbones_without_positions():
    positions = torch.randn(1, 4, 3)
    assert torch.equal(resample_positions(positions, 0, (2, 2), (2, 2)), positions)
    backbone = timm.create_model("test_vit", num_classes=0, pos_embed="none")
    place_patches(backbone, (4, 4), (16, 16))
    assert backbone.pos_embed is None and backbone(torch.randn(1, 3, 64, 64)).shape == (1, 64)


# ---- answers


@pytest.mark.parametrize(("backbone", "stride"), [("test_vit3", None), ("test_vit4", 10), (DISTILLED, 10)])
def test_six_logits_that_depend_on_the_image_and_not_on_the_batch(backbone, stride):
    model = vit(backbone, shape=(2, 50, 70), stride=stride)
    images = torch.randn(3, 2, 50, 70, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        together = model(images)
        assert together.shape == (3, 6)
        alone = torch.cat([model(image[None]) for image in images])
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-5)
    assert (together[0] - together[1]).abs().max() > 1e-4


@pytest.mark.parametrize("backbone", ["test_vit", "test_vit2", "test_vit3"])
def test_plain_vit_answers_as_timm_does(backbone):
    """At timm's own image size, with its weights: class token, mean or attention, as the backbone has it."""
    torch.manual_seed(0)
    theirs = timm.create_model(backbone, num_classes=6, in_chans=1, img_size=(64, 96), dynamic_img_size=False).eval()
    ours = vit(backbone, shape=(1, 64, 96))
    weights = theirs.state_dict()
    classifier = {name.removeprefix("head."): weights.pop(name) for name in ("head.weight", "head.bias")}
    ours.backbone.load_state_dict(weights)
    ours.classifier.load_state_dict(classifier)
    image = torch.randn(2, 1, 64, 96)
    torch.testing.assert_close(ours(image), theirs(image))


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ({"backbone": "resnet34"}, (1, 64, 64), r"resnet34 is a ResNet; .* wants a timm VisionTransformer"),
        ({"backbone": "vit_small_r26_s32_224"}, (1, 64, 64), "over plain patches"),
        ({"backbone": "vit_tiny_patch61_224"}, (1, 64, 64), r"no model named 'vit_tiny_patch61_224'; names like it"),
        ({"backbone": "test_vit", "stride": 17}, (1, 64, 64), r"stride = 17 leaves gaps .* 16 x 16: at most 16"),
        ({"backbone": "test_vit"}, (1, 12, 64), r"patches of 16 x 16, the image is 12 x 64: give the input"),
        ({"backbone": "test_vit", "stride": 4}, (1, 64, 15), "the image is 64 x 15"),
    ],
)
def test_what_does_not_fit_is_refused(options, shape, message):
    with pytest.raises(ConfigError, match=message):
        vit(shape=shape, **options)
