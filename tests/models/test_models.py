"""The nets: six logits for every config of the kit, and what their design promises."""

import numpy as np
import pytest
import timm
import torch
from eeg_samples import CONFIG_FILES

from common.inputs.base import Windows
from common.inputs.build import build_input, input_shape
from common.inputs.config import BipolarSequence, CombinedImage, EegMelImage, EegSpectra, KaggleImage
from common.inputs.eeg_spectra import Crop
from common.inputs.transforms import Multitaper
from common.models.build import build_model
from common.models.cnn import GemPooling, SpectrogramCNN, SpectrogramCnnConfig
from common.models.squeezeformer import WaveSqueezeformerConfig
from common.models.wavenet import WaveNet, WaveNetConfig
from common.predict import predict
from common.signal.montage import mirror_eeg
from common.strict import ConfigError
from train.experiment import Experiment, load_experiment, parse_experiment


def windows(batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    eeg = torch.randn(batch, 20, 10_000, generator=generator).cumsum(dim=-1)
    return Windows(eeg, torch.rand(batch, 4, 100, 300, generator=generator).exp())


def wave_net(sequence=BipolarSequence(sfreq=50), **changes):  # noqa: B008
    torch.manual_seed(0)
    return WaveNet(WaveNetConfig(width=16, dilations=(1, 2), **changes), sequence).eval(), sequence


def test_every_config_makes_a_net_that_fits_its_input():
    """Without memory and without a computation: on torch's meta device shapes alone are worked out."""
    experiments = map(load_experiment, CONFIG_FILES)
    distinct = {(experiment.model, input_shape(experiment.input)): experiment for experiment in experiments}
    assert len(distinct) > 10
    for (_, shape), experiment in distinct.items():
        with torch.device("meta"), torch.no_grad():
            model = build_model(experiment).eval()
            assert model(torch.empty(2, *shape)).shape == (2, 6), experiment.name


# ---- backbones of convolutions

FAMILIES = ["test_efficientnet", "test_convnext", "mixnet_s", "test_resnet", "resnet34d", "mobilenetv3_small_050"]


@pytest.mark.parametrize("backbone", FAMILIES)
def test_plain_head_answers_as_timm_does(backbone):
    torch.manual_seed(0)
    theirs = timm.create_model(backbone, num_classes=6, in_chans=2)
    for weight in theirs.parameters():  # what starts at 0, as ConvNeXt's last biases, must count too
        torch.nn.init.normal_(weight, std=0.1)
    config = SpectrogramCnnConfig(backbone=backbone, drop_path=0, dropout=0)
    ours, weights = SpectrogramCNN(config, (2, 64, 96)), theirs.state_dict()
    last = theirs.pretrained_cfg["classifier"]
    ours.classifier.load_state_dict({part: weights.pop(f"{last}.{part}") for part in ("weight", "bias")})
    ours.backbone.load_state_dict(weights)
    image = torch.randn(2, 2, 64, 96)
    with torch.inference_mode():
        answer, expected = ours.eval()(image), theirs.eval()(image)
    assert expected.std() > 1e-3
    torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("backbone", FAMILIES)
def test_gem_at_exponent_one_is_the_average_of_what_is_positive(backbone):
    """Put where the backbone's own pooling stands: what follows it, a norm or a wider layer, is the same."""
    torch.manual_seed(0)
    config = SpectrogramCnnConfig(backbone=backbone, pooling="gem")
    model = SpectrogramCNN(config, (1, 64, 96)).eval()
    model.pooling.exponent.data.fill_(1.0)
    average = SpectrogramCNN(config.model_copy(update={"pooling": "average"}), (1, 64, 96)).eval()
    average.load_state_dict({k: v for k, v in model.state_dict().items() if k != "pooling.exponent"})
    compute = average.backbone.forward_features
    average.backbone.forward_features = lambda image: compute(image).clamp(min=1e-6)
    image = torch.randn(2, 1, 64, 96)
    with torch.inference_mode():
        torch.testing.assert_close(model(image), average(image), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("backbone", "parameters"),  # with six classes and one channel, in millions; published for the first three
    [("efficientnet_b0", 4.01), ("efficientnet_b2", 7.71), ("efficientnet_b4", 17.56), ("efficientnet_b5", 28.35)],
)
def test_backbones_of_the_published_runs_have_their_size(backbone, parameters):
    with torch.device("meta"):
        model = SpectrogramCNN(SpectrogramCnnConfig(backbone=backbone), (1, 400, 300))
    assert sum(weight.numel() for weight in model.parameters()) / 1e6 == pytest.approx(parameters, abs=0.006)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "efficientnet_b99"}, r"no model named 'efficientnet_b99'; names like it: "),
        ({"backbone": "densenet121"}, r"densenet121 with drop_path = 0\.2 makes no features .*drop_path_rate"),
        (
            {"backbone": "vit_tiny_patch16_224"},
            r"makes no features of 1 x 400 x 304 images .*'spectrogram-transformer'",
        ),
        ({"backbone": "test_vit2", "pooling": "gem"}, r"'gem' pools maps of .*; test_vit2 makes 476 x 64: take"),
        ({"backbone": "test_mambaout", "pooling": "gem"}, r"test_mambaout makes 13 x 10 x \d+: take 'average'"),
    ],
)
def test_backbones_that_do_not_fit_are_refused(options, message):
    with torch.device("meta"), pytest.raises(ConfigError, match=message):
        SpectrogramCNN(SpectrogramCnnConfig(**options), (1, 400, 304))


def test_gem_is_the_root_of_the_mean_cube():
    features = torch.rand(2, 3, 5, 7) + 0.1
    torch.testing.assert_close(GemPooling()(features)[..., 0, 0], features.pow(3).mean(dim=(-2, -1)) ** (1 / 3))


@pytest.mark.parametrize("level", [0.0, -3.0, 100.0])
def test_gem_is_finite_in_half_precision(level):
    """0 is raised to 1e-6, whose cube half precision takes for 0; 100 cubed it takes for infinite."""
    pooling, features = GemPooling(), torch.full((1, 2, 3, 3), level, dtype=torch.float16, requires_grad=True)
    pooled = pooling(features)
    pooled.sum().backward()
    torch.testing.assert_close(pooled.float(), torch.full((1, 2, 1, 1), max(level, 1e-6)), rtol=1e-3, atol=1e-7)
    assert features.grad.isfinite().all() and pooling.exponent.grad.isfinite()


def test_answer_does_not_depend_on_the_batch():
    model, sequence = wave_net()
    inputs = build_input(windows(5), sequence)
    together = predict(model, inputs)
    with pytest.raises(RuntimeError, match=r"needs model\.eval"):
        predict(model.train(), inputs)
    model.eval()
    for row in range(5):
        assert abs(predict(model, inputs[row : row + 1]) - together[row]).max() < 1e-6
    assert abs(together[0] - together[1]).max() > 1e-4  # else it would depend on nothing


def test_wave_net_does_not_tell_left_from_right():
    model, sequence = wave_net()
    raw = windows(2).eeg
    answers = [predict(model, build_input(Windows(eeg, None), sequence)) for eeg in (raw, mirror_eeg(raw))]
    assert abs(answers[0] - answers[1]).max() < 1e-6
    one_sided = raw.clone()
    one_sided[:, [1, 2, 3]] *= 20  # F3, C3, P3: lateralised is told from generalised
    assert abs(predict(model, build_input(Windows(one_sided, None), sequence)) - answers[0]).max() > 1e-4


@pytest.mark.parametrize("config", [WaveNetConfig(), WaveSqueezeformerConfig()], ids=lambda config: config.kind)
def test_nets_of_sequences_see_the_context_and_see_the_labelled_seconds_more_sharply(config):
    torch.manual_seed(0)
    model = config.build(BipolarSequence(sfreq=50), (18, 2500)).eval()
    torch.manual_seed(1)
    sequence = torch.randn(1, 18, 2500, requires_grad=True)
    model(sequence)[0, 0].backward()
    gradient = sequence.grad.abs().mean(dim=(0, 1))  # (time,)
    assert (gradient > 0).float().mean() > 0.99
    assert gradient[1000:1500].mean() > 2 * gradient[:900].mean()


# ---- inputs of other shapes

DEEP = EegSpectra(layout="depth", crops=(Crop(seconds=10, transform=Multitaper(hop=200), size=(64, 64)),))
CHANNELS = CombinedImage(images=(KaggleImage(resize=(64, 64)), EegMelImage(resize=(64, 64))), join="channels")


@pytest.mark.parametrize(("config", "channels"), [(DEEP, 16), (CHANNELS, 2)], ids=["depth", "channels"])
def test_backbone_takes_images_of_many_channels_that_fit_each_other(config, channels):
    backbone = SpectrogramCnnConfig(backbone="test_efficientnet", pretrained=False)
    unfit = CombinedImage(images=(KaggleImage(), EegMelImage()))
    with pytest.raises(ConfigError, match=r"wide: input: images of 1 x 400 x 300, 1 x 512 x 256 .* give them a size"):
        build_model(Experiment(name="wide", input=unfit, model=backbone))
    torch.manual_seed(0)
    model = build_model(Experiment(name="deep", input=config, model=backbone)).eval()
    images = build_input(windows(), config)
    assert images.shape == (2, channels, 64, 64)
    answer = predict(model, images)
    for channel in range(channels):  # each has its say
        without = images.clone()
        without[:, channel] = 0
        assert abs(predict(model, without) - answer).max() > 1e-9, channel


@pytest.mark.parametrize("options", [{}, {"quality": True}, {"phase": "causal"}, {"sfreq": 200}], ids=str)
def test_wave_net_gives_one_answer_for_any_order_of_the_montage(options):
    raw, answers = windows(2), []
    raw.eeg[0, 5, 2000:4000] = torch.nan  # T3 on the left only
    for montage in ("double-banana", "interleaved", "mirrored-pairs"):
        model, sequence = wave_net(BipolarSequence(**{"sfreq": 50, "montage": montage, **options}))
        answers.append(predict(model, build_input(raw, sequence)))
    np.testing.assert_allclose(answers[1:], [answers[0]] * 2, atol=1e-6)
    assert abs(answers[0][0] - answers[0][1]).max() > 1e-4


def test_wave_net_hears_of_quality():
    model, sequence = wave_net(BipolarSequence(sfreq=50, quality=True))
    inputs = build_input(windows(1), sequence)
    worse = inputs.clone()
    worse[:, 18 + 2] = 0.8  # T3-T5 missing for 40 s
    assert abs(predict(model, worse) - predict(model, inputs)).max() > 1e-5


@pytest.mark.parametrize(
    ("options", "message"),
    [({"montage": "chains"}, "montage = 'chains' lacks it"), ({"sfreq": 40}, "input.sfreq = 40 is no multiple")],
)
def test_wave_net_refuses_what_it_cannot_read(options, message):
    values = {"name": "wave", "input": {"kind": "bipolar-sequence", **options}, "model": {"kind": "wave-net"}}
    with pytest.raises(ConfigError, match=message):
        parse_experiment(values, "wave.toml")
