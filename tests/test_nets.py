"""One net on a GPU that is played: half precision where it is safe, the CPU where the GPU's memory is too small."""

import numpy as np
import pytest
import torch
from gpu_stand_in import CPU, GPU, Gpu, Inputs, Model

from infer.net import Net


def test_a_batch_that_does_not_fit_is_for_the_ensemble_to_halve(monkeypatch):
    gpu, warnings = Gpu(monkeypatch, holds=6), []
    net = Net("a/fold0", Model(), GPU, warnings.append)
    with pytest.raises(torch.OutOfMemoryError):
        net.probabilities(Inputs(list(range(7)), GPU))
    assert net.probabilities(Inputs(list(range(6)), GPU))[:, 0].tolist() == list(range(6))
    assert net.device == GPU and net.half and not warnings
    assert gpu.calls == [("cuda", 2, True), ("cuda", 2, False), ("cuda", 7, True), ("cuda", 6, True)]  # compared once


def test_where_one_window_is_too_much_the_cpu_goes_on(monkeypatch):
    gpu, warnings = Gpu(monkeypatch, holds=0), []
    net = Net("a/fold0", Model(), GPU, warnings.append)
    assert net.probabilities(Inputs([3], GPU))[:, 0].tolist() == [3]
    assert warnings == ["a/fold0 runs on the CPU: cuda:0 has too little memory for it"]
    assert net.probabilities(Inputs([3, 4, 5], GPU))[:, 0].tolist() == [3, 4, 5]
    assert net.device == CPU and not net.half and gpu.calls[-1] == ("cpu", 3, False)


def test_a_net_that_does_not_fit_onto_the_gpu_stays_on_the_cpu(monkeypatch):
    Gpu(monkeypatch, holds=10)

    class Large(Model):
        def to(self, device, **_):
            if torch.device(device).type == "cuda":
                raise torch.OutOfMemoryError("CUDA out of memory")
            return self

    warnings = []
    net = Net("a/fold0", Large(), GPU, warnings.append)
    assert net.device == CPU and len(warnings) == 1
    assert net.probabilities(Inputs([3, 4], GPU))[:, 0].tolist() == [3, 4]


@pytest.mark.parametrize(("error", "half"), [(0.004, True), (0.02, False), (float("nan"), False)])
def test_half_precision_is_used_where_it_changes_nothing(monkeypatch, error, half):
    gpu, warnings = Gpu(monkeypatch, holds=100, error=error), []
    net = Net("a/fold0", Model(), GPU, warnings.append)
    answer = net.probabilities(Inputs(list(range(20)), GPU))
    assert net.half is half and len(warnings) == (not half)
    assert gpu.calls[-1] == ("cuda", 20, half)
    np.testing.assert_allclose(answer[:, 0], np.arange(20) + (error if half else 0), rtol=0, atol=1e-12)
