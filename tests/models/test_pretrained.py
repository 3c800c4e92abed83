"""First weights of a backbone: from a file or the hub, for any number of channels and any grid of patches."""

import pickle

import pytest
import timm
import torch
from safetensors.torch import save_file

from common.models.build import build_model
from train.engine.pretrained import RunError, initialise
from train.experiment import Experiment

DEEP = {
    "kind": "eeg-spectra",
    "layout": "depth",
    "crops": [{"seconds": 10, "transform": {"kind": "multitaper", "hop": 200}, "size": [64, 64]}],
}
COLOURS = {"kind": "raw-image", "copies": 3, "resize": [64, 96]}
SMALL = {"kind": "kaggle-image", "resize": [48, 80]}
DISTILLED = "deit_tiny_distilled_patch16_224"


def experiment(backbone, image=SMALL, kind="spectrogram-cnn", **model):
    model = {"kind": kind, "backbone": backbone, **model}
    return Experiment(name="pretrained", input=image, model=model)


def published(backbone, **options):
    """A net as published files hold them: three colours, a classifier, the image size of its time."""
    torch.manual_seed(1)
    return timm.create_model(backbone, **options)


def filled(tmp_path, source, wanted):
    save_file(source.state_dict(), tmp_path / "published.safetensors")
    torch.manual_seed(2)
    model = build_model(wanted)
    assert initialise(model, wanted, tmp_path / "published.safetensors") == "file published.safetensors"
    return model


def assert_equal_but(ours, theirs, *others):
    """Every weight of our backbone is theirs, but for `others`."""
    weights = theirs.state_dict()
    for name, value in ours.backbone.state_dict().items():
        if name not in others:
            assert torch.equal(value, weights[name]), name


# ---- nets of convolutions


@pytest.mark.parametrize(
    ("backbone", "first"),
    [
        ("test_efficientnet", "conv_stem.weight"),
        ("test_convnext", "stem.0.weight"),
        ("test_resnet", "conv1.0.weight"),
        ("mobilenetv3_small_050", "conv_stem.weight"),
    ],
)
def test_one_channel_sees_the_sum_of_three_colours_whatever_the_classifier(tmp_path, backbone, first):
    source = published(backbone, num_classes=11)
    model = filled(tmp_path, source, experiment(backbone))
    colours = source.state_dict()[first]
    torch.testing.assert_close(model.backbone.state_dict()[first], colours.sum(dim=1, keepdim=True))
    assert_equal_but(model, source, first)


def test_many_channels_take_the_colours_in_turn(tmp_path):
    """So weighted that the same picture in all channels looks as it did in three."""
    source = published("test_efficientnet")
    model = filled(tmp_path, source, experiment("test_efficientnet", DEEP))
    found, colours = model.backbone.conv_stem.weight, source.conv_stem.weight
    assert found.shape[1] == 16
    for channel in range(16):
        torch.testing.assert_close(found[:, channel], colours[:, channel % 3] * 3 / 16)
    assert_equal_but(model, source, "conv_stem.weight")


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_state_dict_saved_by_torch_will_do(tmp_path, wrapped):
    source, wanted = published("test_efficientnet"), experiment("test_efficientnet", COLOURS)
    weights = {f"module.{name}": value for name, value in source.state_dict().items()}
    torch.save({"state_dict": weights, "epoch": 3} if wrapped else weights, tmp_path / "saved.pth")
    model = build_model(wanted)
    assert initialise(model, wanted, tmp_path / "saved.pth") == "file saved.pth"
    assert_equal_but(model, source)


# ---- vision transformers


@pytest.mark.parametrize("backbone", ["test_vit2", DISTILLED])
def test_transformer_on_its_own_grid_gets_every_weight(tmp_path, backbone):
    source = published(backbone)
    height, width = source.patch_embed.img_size
    image = {"kind": "kaggle-image", "resize": [height, width]}
    model = filled(tmp_path, source, experiment(backbone, image, "spectrogram-transformer"))
    first = "patch_embed.proj.weight"
    colours = source.state_dict()[first]
    torch.testing.assert_close(model.backbone.state_dict()[first], colours.sum(dim=1, keepdim=True))
    assert_equal_but(model, source, first)


@pytest.mark.parametrize(("stride", "grid"), [(None, (3, 19)), (10, (4, 29))])
def test_transformer_on_another_grid_gets_the_published_positions_resampled(tmp_path, stride, grid):
    source = published(DISTILLED)  # 14 x 14 patches behind two tokens
    image = {"kind": "kaggle-image", "resize": [48, 300]}
    model = filled(tmp_path, source, experiment(DISTILLED, image, "spectrogram-transformer", stride=stride))
    assert model.grid == grid
    found = model.backbone.pos_embed
    assert torch.equal(found[:, :2], source.pos_embed[:, :2])
    # On one row: rows 5.. of 14 are the central ones, columns lie at half-pixel distances.
    top, n = (14 - grid[0]) // 2, grid[1]
    row = source.pos_embed[0, 2:].reshape(14, 14, -1)[top]
    at = ((torch.arange(n) + 0.5) * 14 / n - 0.5).clamp(0, 13)
    low = at.floor().long().clamp(max=12)
    part = (at - low)[:, None]
    torch.testing.assert_close(found[0, 2 : 2 + n], row[low] * (1 - part) + row[low + 1] * part, rtol=0, atol=1e-6)
    assert_equal_but(model, source, "patch_embed.proj.weight", "pos_embed")


def test_file_wins_where_timm_has_its_own_loader(tmp_path):
    """timm reads published files of this backbone as numpy archives, if it is given their path."""
    source = published("vit_tiny_patch16_224")
    model = filled(tmp_path, source, experiment("vit_tiny_patch16_224", kind="spectrogram-transformer"))
    assert_equal_but(model, source, "patch_embed.proj.weight", "pos_embed")


# ---- what does not fit


class Stranger:
    def __reduce__(self):
        return print, ("this must never be printed",)


def state_of(backbone, **options):
    return published(backbone, **options).state_dict()


BROKEN = {  # what is in it, and what is said of it
    "empty.safetensors": (lambda: b"", "neither a safetensors file nor a state dict saved by torch"),
    "renamed.safetensors": (lambda: state_of("test_efficientnet"), "neither a safetensors"),
    "object.pth": (lambda: pickle.dumps(Stranger()), "neither a safetensors"),
    "no-weights.pth": (lambda: {"epoch": 3}, "it does not hold weights by their names"),
    "grey.pth": (lambda: state_of("test_resnet", in_chans=1), "made for 1 channels, not for RGB"),
    "half.pth": (lambda: dict(list(state_of("test_resnet").items())[:20]), r"Missing key\(s\) in state_dict"),
    "wider.pth": (
        lambda: state_of("test_resnet") | {"layer1.0.conv1.weight": torch.zeros(7, 7, 3, 3)},
        r"size mismatch for layer1\.0\.conv1\.weight",
    ),
    "another.pth": (lambda: state_of("test_efficientnet"), r"it has no 'conv1\.0\.weight'|Missing key"),
}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", BROKEN)
def test_any_other_file_is_refused_by_name(tmp_path, capsys, name):
    make, message = BROKEN[name]
    if isinstance(content := make(), bytes):
        (tmp_path / name).write_bytes(content)
    else:
        torch.save(content, tmp_path / name)
    wanted = experiment("test_resnet")
    model = build_model(wanted)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(RunError, match=rf"{name} does not fit test_resnet: .*({message})") as caught:
        initialise(model, wanted, tmp_path / name)
    assert len(str(caught.value)) < 500 and "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


# ---- without a file


def test_hub_is_asked_for_the_inputs_channels_and_its_weights_are_placed(monkeypatch):
    wanted = experiment(DISTILLED, SMALL, "spectrogram-transformer")
    model, create, asked = build_model(wanted), timm.create_model, {}

    def hub(name, **options):
        asked.update(options)
        return create(name, **options | {"pretrained": False})

    monkeypatch.setattr(timm, "create_model", hub)
    assert initialise(model, wanted, None) == f"timm {DISTILLED}.fb_in1k"
    assert asked["pretrained"] and asked["in_chans"] == 1


def test_unreachable_hub_leaves_the_net_random_and_says_so(monkeypatch):
    wanted = experiment("test_vit", SMALL, "spectrogram-transformer")
    model = build_model(wanted)
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def unreachable(*arguments, **options):
        raise ConnectionError("no route\nto the hub")

    monkeypatch.setattr(timm, "create_model", unreachable)
    said = initialise(model, wanted, None)
    assert said.startswith("random: test_vit's pretrained weights") and "(ConnectionError: no route)" in said
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_nets_without_a_backbone_and_configs_without_wish(tmp_path):
    wish_less = experiment("test_vit", SMALL, "spectrogram-transformer", pretrained=False)
    assert initialise(build_model(wish_less), wish_less, None) == "random: the config says pretrained = false"
    wave = Experiment(
        name="wave",
        input={"kind": "bipolar-sequence"},
        model={"kind": "wave-squeezeformer", "width": 16, "filters": 2, "layers": 1},
    )
    assert initialise(build_model(wave), wave, None) == "random: this net has no pretrained weights"
    with pytest.raises(RunError, match="wave has no timm backbone"):
        initialise(build_model(wave), wave, tmp_path / "weights.safetensors")
