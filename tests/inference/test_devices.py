"""Which GPUs are used and how precisely, as far as they can be stood in for."""

import pytest
import torch
from gpu_stand_in import CARDS, CPU, GPU, plug_in

from common.predict import find_devices, good_at_half, predict
from infer.submit import submit


@pytest.mark.parametrize(
    ("cards", "used"),
    [
        (("Tesla T4", "Tesla T4"), [0, 1]),
        (("Tesla P100",), []),
        (("Tesla P100", "Tesla T4"), [1]),
        (("NVIDIA L4",), [0]),  # sm_89 runs what was built for sm_86
    ],
)
def test_every_gpu_that_torch_has_kernels_for_is_used(monkeypatch, cards, used):
    plug_in(monkeypatch, *cards)
    devices, unusable = find_devices()
    assert devices == ([torch.device("cuda", number) for number in used] or [CPU])
    assert [f"sm_{''.join(map(str, CARDS[card]))}" in text for card in ("Tesla P100",) for text in unusable] == (
        [True] * cards.count("Tesla P100")
    )
    assert all(good_at_half(device) for device in devices if device.type == "cuda")


def test_a_p100_means_the_cpu_and_a_line_that_says_so(road, plain, monkeypatch, tmp_path):
    plug_in(monkeypatch, "Tesla P100")
    report = submit(road.competition, road.datasets, road.blend, tmp_path / "out.csv")
    assert report.devices == ["cpu"]
    assert "WARNING: Tesla P100 is not used: torch" in "\n".join(report.lines())
    assert "sm_60; the CPU is used" in "\n".join(report.lines())
    assert (tmp_path / "out.csv").read_bytes() == plain[0].read_bytes()


def test_half_precision_is_float16(monkeypatch):
    """A T4 has no bfloat16 and emulates it; newer ones have, with too few digits."""
    plug_in(monkeypatch, "NVIDIA L4")
    asked, real = [], torch.autocast

    class Recorder(real):
        def __init__(self, kind, **options):
            asked.append((options["dtype"], options["enabled"]))
            super().__init__("cpu", enabled=False)

    monkeypatch.setattr(torch, "autocast", Recorder)
    with torch.device("meta"):  # the only device here that is not the CPU
        net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 6)).eval()
        with pytest.raises(NotImplementedError, match="meta"):  # nothing can be read from it
            predict(net, torch.empty(2, 2, 2), half=good_at_half(GPU))
    assert asked == [(torch.float16, True)]
