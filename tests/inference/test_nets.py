"""One net on a GPU that is played: half precision where it is safe, the CPU where the GPU's memory is too small."""

import numpy as np
import pytest
import torch
from gpu_stand_in import CPU, GPU, Gpu, Inputs, Model

from infer.net import Net


def test_out_of_memory_halves_the_batch_and_goes_on(monkeypatch):
    gpu, warnings = Gpu(monkeypatch, holds=6), []
    net = Net("a/fold0", Model(), GPU, warnings.append)
    assert net.probabilities(Inputs(list(range(42)), GPU))[:, 0].tolist() == list(range(42))
    assert net.batch_size == 5 and net.device == GPU
    assert warnings == [f"a/fold0: {n} windows at once are too many for cuda:0, half are tried" for n in (42, 21, 10)]
    assert gpu.calls[:2] == [("cuda", 2, True), ("cuda", 2, False)]
    before = len(gpu.calls)
    net.probabilities(Inputs(list(range(10)), GPU))
    assert gpu.calls[before:] == [("cuda", 5, True)] * 2 and len(warnings) == 3  # remembered, and precision too


def test_where_one_window_is_too_much_the_cpu_goes_on(monkeypatch):
    gpu, warnings = Gpu(monkeypatch, holds=0), []
    net = Net("a/fold0", Model(), GPU, warnings.append)
    assert net.probabilities(Inputs([3, 4, 5], GPU))[:, 0].tolist() == [3, 4, 5]
    assert warnings[-1] == "a/fold0 runs on the CPU: cuda:0 has too little memory for it"
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
