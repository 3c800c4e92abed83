"""One net on a GPU that is played: batches sized to its memory, halved, and half precision where it is safe."""

import numpy as np
import pytest
import torch
from gpu_stand_in import CPU, GPU, Gpu, Inputs, Model

from infer.net import LARGEST_BATCH, Net


def test_batches_are_sized_to_the_memory(monkeypatch):
    gpu, said = Gpu(monkeypatch, holds=100, free=2000), []
    net = Net("a/fold0", Model(), GPU, said.append)
    assert net.half and net.model.device == GPU
    answer = net.answer(Inputs(list(range(25)), GPU))
    assert answer[:, 0].tolist() == list(range(25)) and said == []
    assert net.batch_size == 10  # half of 2,000 bytes at 100 a window
    assert [size for _, size, _ in gpu.sizes] == [2, 2, 10, 10, 5]  # a trial in half and in full, then all
    net.answer(Inputs(list(range(10)), GPU))
    assert [size for _, size, _ in gpu.sizes][5:] == [10]  # measured once
    assert all(half for _, size, half in gpu.sizes if size > 2)


def test_batches_never_get_larger_than_makes_sense(monkeypatch):
    Gpu(monkeypatch, holds=10**6, free=10**9)
    net = Net("a/fold0", Model(), GPU, print)
    net.answer(Inputs(list(range(200)), GPU))
    assert net.batch_size == LARGEST_BATCH


def test_out_of_memory_halves_the_batch_and_goes_on(monkeypatch):
    gpu, said = Gpu(monkeypatch, holds=6), []
    net = Net("a/fold0", Model(), GPU, said.append)
    answer = net.answer(Inputs(list(range(42)), GPU))
    assert answer[:, 0].tolist() == list(range(42))
    assert net.batch_size == 5 and net.device == GPU
    assert said == [f"a/fold0: {n} windows at once are too many for cuda:0, half are tried" for n in (42, 21, 10)]
    before = len(gpu.sizes)
    net.answer(Inputs(list(range(10)), GPU))
    assert [size for _, size, _ in gpu.sizes[before:]] == [5, 5] and len(said) == 3  # remembered


def test_where_one_window_is_too_much_the_cpu_goes_on(monkeypatch):
    gpu, said = Gpu(monkeypatch, holds=0), []
    net = Net("a/fold0", Model(), GPU, said.append)
    assert net.answer(Inputs([3, 4, 5], GPU))[:, 0].tolist() == [3, 4, 5]
    assert net.device == CPU and not net.half and said[-1].startswith("a/fold0 runs on the CPU: cuda:0 has too little")
    assert gpu.sizes[-1] == ("cpu", 3, False)


def test_a_net_that_does_not_fit_onto_the_gpu_stays_on_the_cpu(monkeypatch):
    Gpu(monkeypatch, holds=10)

    class Large(Model):
        def to(self, device, **_):
            if torch.device(device).type == "cuda":
                raise torch.OutOfMemoryError("CUDA out of memory")
            return self

    said = []
    net = Net("a/fold0", Large(), GPU, said.append)
    assert net.device == CPU and len(said) == 1
    assert net.answer(Inputs([3, 4], GPU))[:, 0].tolist() == [3, 4]


@pytest.mark.parametrize(("error", "half"), [(0.004, True), (0.02, False), (float("nan"), False)])
def test_half_precision_is_used_where_it_changes_nothing(monkeypatch, error, half):
    gpu, said = Gpu(monkeypatch, holds=100, error=error), []
    net = Net("a/fold0", Model(), GPU, said.append)
    answer = net.answer(Inputs(list(range(20)), GPU))
    assert net.half is half and len(said) == (not half)
    assert gpu.sizes[-1][2] is half
    np.testing.assert_allclose(answer[:, 0], np.arange(20) + (error if half else 0), rtol=0, atol=1e-12)
