"""The Squeezeformer over bipolar sequences: what its parts promise, and the six logits."""

import pytest
import torch

from common.inputs.base import Windows
from common.inputs.build import build_input
from common.inputs.config import BipolarSequence
from common.models.build import build_model
from common.models.squeezeformer import DifferenceStem, RotaryAttention, WaveSqueezeformer, WaveSqueezeformerConfig
from common.predict import predict
from train.experiment import Experiment

SMALL = WaveSqueezeformerConfig(width=16, filters=4, layers=1, heads=2, kernel=7)


def squeezeformer(sequence, config=SMALL):
    torch.manual_seed(0)
    return WaveSqueezeformer(config, sequence).eval()


def eeg(batch):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, 20, 10_000, generator=generator).cumsum(dim=-1)


@pytest.mark.parametrize("quality", [False, True])
@pytest.mark.parametrize(
    ("sfreq", "montage"), [(200, "chains"), (100, "interleaved"), (50, "double-banana"), (40, "chains")]
)
def test_any_sequence_makes_500_moments_and_six_logits(sfreq, montage, quality):
    sequence = BipolarSequence(sfreq=sfreq, montage=montage, quality=quality)
    model = build_model(Experiment(name="wave", input=sequence, model=SMALL)).eval()
    inputs = build_input(Windows(eeg(2), None), sequence)
    n_differences = 16 if montage == "chains" else 18
    assert model.stem(inputs).shape == (2, 4 * n_differences, 500)
    answer = predict(model, inputs)
    assert answer.shape == (2, 6) and abs(answer[0] - answer[1]).max() > 1e-6
    with torch.inference_mode():  # the answer does not depend on the batch
        torch.testing.assert_close(torch.from_numpy(answer), model(inputs).double().softmax(dim=1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("blocks", [1, 4], ids=["signals", "quality"])
def test_stem_looks_at_each_difference_alone_and_alike(blocks):
    torch.manual_seed(0)
    stem = DifferenceStem(18, 4, BipolarSequence(sfreq=50, quality=blocks == 4))
    sequence, order = torch.randn(1, 18 * blocks, 2500), torch.randperm(18)
    features = stem(sequence).unflatten(1, (18, 4))
    shuffled = sequence.unflatten(1, (blocks, 18))[:, :, order].flatten(1, 2)
    torch.testing.assert_close(stem(shuffled).unflatten(1, (18, 4)), features[:, order])
    for block in range(blocks):  # signal, missing, flat, clipped of the seventh difference
        changed = sequence.clone()
        changed[:, 18 * block + 7] += 0.5
        touched = (stem(changed).unflatten(1, (18, 4)) != features).flatten(2).any(dim=2)[0]
        assert touched.nonzero().flatten().tolist() == [7]


@pytest.mark.parametrize("sfreq", [200, 100, 50, 40])
def test_a_moment_stands_where_its_samples_are(sfreq):
    torch.manual_seed(0)
    stem = DifferenceStem(16, 4, BipolarSequence(sfreq=sfreq))
    sequence = torch.zeros(1, 16, 50 * sfreq)
    silent = stem(sequence)
    sequence[..., 20 * sfreq] = 100  # at 20 s, the first moment of the labelled 10 s
    response = (stem(sequence) - silent).abs().sum(dim=(0, 1))  # (500,)
    seen = response.nonzero().flatten()
    centre = (response * torch.arange(500)).sum() / response.sum()
    assert 199 < centre < 201
    assert 196 <= seen.min() <= 200 <= seen.max() <= 204  # within 0.4 s on either side


def test_attention_sees_how_far_apart_moments_are_and_not_when_they_are():
    """Scores of turned queries and keys have a closed form: in a plane of rate r, the cosine of r times the lag."""
    query, key = torch.zeros(1, 1, 50, 4), torch.zeros(1, 1, 50, 4)
    query[..., 1] = key[..., 1] = 1.0  # the second of two planes: 10000 ** (-1 / 2) radians a moment
    scores = RotaryAttention.turn(query) @ RotaryAttention.turn(key).transpose(-2, -1)
    lags = torch.arange(50)[:, None] - torch.arange(50)
    torch.testing.assert_close(scores[0, 0], torch.cos(lags * 0.01))
    query[..., 1], key[..., 1], query[..., 0], key[..., 0] = 0, 0, 1, 1  # the first: 1 radian a moment
    scores = RotaryAttention.turn(query) @ RotaryAttention.turn(key).transpose(-2, -1)
    torch.testing.assert_close(scores[0, 0], torch.cos(lags * 1.0), rtol=0, atol=1e-4)
    # Any query and key, the same at all moments: lengths stay, and scores are constant along each diagonal.
    drawn = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    query, key = drawn[:, None, None, None].expand(2, 1, 1, 50, 4)
    turned = RotaryAttention.turn(query)
    torch.testing.assert_close(turned.norm(dim=-1), query.norm(dim=-1))
    scores = (turned @ RotaryAttention.turn(key).transpose(-2, -1))[0, 0]
    torch.testing.assert_close(scores[1:, 1:], scores[:-1, :-1], rtol=0, atol=1e-4)
    assert (scores[0] - scores[0, 0]).abs().max() > 0.1


def test_attention_by_hand():
    torch.manual_seed(0)
    attention, x = RotaryAttention(8, heads=2), torch.randn(3, 10, 8)
    query, key, value = attention.project(x).chunk(3, dim=-1)
    heads = []
    for head in (slice(0, 4), slice(4, 8)):
        turned = [RotaryAttention.turn(part[:, None, :, head])[:, 0] for part in (query, key)]
        weights = (turned[0] @ turned[1].transpose(1, 2) / 4**0.5).softmax(dim=-1)
        heads.append(weights @ value[..., head])
    torch.testing.assert_close(attention(x), attention.merge(torch.cat(heads, dim=-1)))


def test_half_precision_trains():
    model = squeezeformer(BipolarSequence(sfreq=50)).train()
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(torch.randn(2, 18, 2500) * 100)
    logits.float().square().sum().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters())
