"""A GPU that is not there: cards, memory and devices played by stand-ins; the arithmetic is real."""

import numpy as np
import torch

import infer.net

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
TORCH_2_10 = ["sm_70", "sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]
CARDS = {"Tesla P100": (6, 0), "Tesla T4": (7, 5), "NVIDIA L4": (8, 9), "RTX PRO 6000": (12, 0), "V100": (7, 0)}


def plug_in(monkeypatch, *cards, built_for=TORCH_2_10):
    def capability(device=0):
        return CARDS[cards[device.index if isinstance(device, torch.device) else device]]

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(cards))
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: built_for)
    monkeypatch.setattr(torch.cuda, "get_device_capability", capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=0: cards[getattr(device, "index", device)])


class Inputs:
    """Rows on a device that is not there."""

    def __init__(self, rows, device):
        self.rows, self.device = rows, device

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, part):
        return Inputs(self.rows[part], self.device)

    def to(self, device):
        return Inputs(self.rows, device)

    def split(self, size):
        return [self[start : start + size] for start in range(0, len(self), size)]


class Model:
    device = CPU

    def to(self, device, **_):
        self.device = torch.device(device)
        return self


class Gpu:
    """Plays a card whose memory holds so many windows; half precision is off by `error`.

    calls: device, windows and precision of each prediction.
    """

    def __init__(self, monkeypatch, holds, error=0.0):
        self.holds, self.error, self.calls = holds, error, []
        plug_in(monkeypatch, "Tesla T4")
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
        monkeypatch.setattr(infer.net, "predict", self.predict)

    def predict(self, model, inputs, half=False):
        assert model.device.type == inputs.device.type
        self.calls.append((inputs.device.type, len(inputs), half))
        if inputs.device.type == "cuda" and len(inputs) > self.holds:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return np.repeat(np.array(inputs.rows, dtype=float)[:, None], 6, axis=1) + (self.error if half else 0.0)
