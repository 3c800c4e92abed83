"""GPUs, as far as they can be stood in for: which are used and how, what becomes of too little memory and of failures.

No GPU is at hand: devices, memory and precision are played by stand-ins, the arithmetic is real.
"""

import numpy as np
import pytest
import torch

import infer.nets
import infer.submit
from common.predict import find_devices, good_at_half, predict
from common.weights import load_weights
from infer.ensemble import Ensemble, members_of
from infer.nets import LARGEST_BATCH, Net
from infer.samples import read_sample
from infer.submit import submit
from infer.validate import read_test_table

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


@pytest.mark.parametrize(
    ("cards", "used"),
    [
        (("Tesla T4", "Tesla T4"), [0, 1]),
        (("Tesla P100",), []),
        (("Tesla P100", "Tesla T4"), [1]),
        (("NVIDIA L4",), [0]),  # sm_89 runs what was built for sm_86
        (("RTX PRO 6000",), [0]),
    ],
)
def test_every_gpu_that_torch_has_kernels_for_is_used(monkeypatch, cards, used):
    plug_in(monkeypatch, *cards)
    devices, surprises = find_devices()
    assert devices == ([torch.device("cuda", number) for number in used] or [CPU])
    assert [f"sm_{''.join(map(str, CARDS[card]))}" in text for card in ("Tesla P100",) for text in surprises] == (
        [True] * cards.count("Tesla P100")
    )
    assert all(good_at_half(device) for device in devices if device.type == "cuda")


def test_without_a_gpu_nothing_is_said():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert find_devices() == ([CPU], []) and not good_at_half(CPU)


def test_a_p100_means_the_cpu_and_a_line_that_says_so(road, monkeypatch, tmp_path):
    plug_in(monkeypatch, "Tesla P100")
    report = submit(road.competition, road.datasets, road.blend, tmp_path / "out.csv")
    assert report.devices == ["cpu"]
    assert "WARNING: Tesla P100 is not used: torch" in "\n".join(report.lines())
    assert "sm_60; the CPU is used" in "\n".join(report.lines())
    monkeypatch.undo()
    submit(road.competition, road.datasets, road.blend, tmp_path / "plain.csv")
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "plain.csv").read_bytes()


@pytest.mark.parametrize("card", ["V100", "Tesla T4", "NVIDIA L4"])
def test_half_precision_is_float16_on_every_gpu(monkeypatch, card):
    """A T4 has no bfloat16 and emulates it; newer ones have, with too few digits."""
    plug_in(monkeypatch, card)
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


# ---- a GPU's memory


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
    """Plays a card whose memory holds so many windows; half precision is off by `error`."""

    def __init__(self, monkeypatch, holds, error=0.0, bytes_each=100, free=10_000):
        self.holds, self.error, self.sizes, self.peak, self.each = holds, error, [], 0, bytes_each
        plug_in(monkeypatch, "Tesla T4")
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
        monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: setattr(self, "peak", 0))
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 0)
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 0)
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: self.peak)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, free))
        monkeypatch.setattr(infer.nets, "predict", self.predict)

    def predict(self, model, inputs, half=False):
        assert model.device.type == inputs.device.type
        self.sizes.append((inputs.device.type, len(inputs), half))
        if inputs.device.type == "cuda" and len(inputs) > self.holds:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.peak = max(self.peak, self.each * len(inputs))
        return np.repeat(np.array(inputs.rows, dtype=float)[:, None], 6, axis=1) + (self.error if half else 0.0)


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


# ---- several devices, and what fails


@pytest.fixture(scope="module")
def loaded(road):
    table = read_test_table(road.competition)
    samples = [read_sample(road.competition, eeg, spec, True) for spec, eeg in table.iter_rows()]
    return members_of(load_weights(folder, CPU) for folder in road.datasets), samples


def all_passes(members, *views):
    from common.views import PLAIN

    return {member.looks_at(view) for member in members for view in (PLAIN, *views)}


def never():
    return False


def test_two_devices_share_a_batch_and_answer_as_one(loaded, monkeypatch):
    members, samples = loaded
    parts, real = [], Ensemble.answer_at_once
    monkeypatch.setattr(Ensemble, "answer_at_once", lambda *given: parts.append(given[1:3]) or real(*given))
    one, _ = Ensemble(members, [CPU], print).answer(samples, all_passes(members), never)
    two, costs = Ensemble(members, [CPU, CPU], print).answer(samples, all_passes(members), never)
    assert sorted((number, len(given)) for number, given in parts[1:]) == [(0, 5), (1, 4)] and len(parts[0][1]) == 9
    assert set(one) == {"tiny-image", "tiny-wave"} and len(costs) == 6  # two inputs, four nets
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])


def test_inputs_that_do_not_fit_are_made_in_halves(loaded, monkeypatch):
    members, samples = loaded
    real, sizes, said = infer.ensemble.build_input, [], []

    def build(windows, config):
        size = len(windows.eeg if windows.eeg is not None else windows.spectrogram)
        sizes.append(size)
        if size > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(windows, config)

    whole, _ = Ensemble(members, [CPU], print).answer(samples, all_passes(members), never)
    monkeypatch.setattr(infer.ensemble, "build_input", build)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    halved, _ = Ensemble(members, [CPU], said.append).answer(samples, all_passes(members), never)
    assert sizes[:3] == [9, 4, 2] and len(said) == 2
    for name in whole:
        np.testing.assert_array_equal(whole[name], halved[name])


def test_a_gpu_that_fails_hands_over_to_the_cpu(loaded, monkeypatch):
    members, samples = loaded
    expected, _ = Ensemble(members, [CPU], print).answer(samples, all_passes(members), never)
    for forgiving in (False, True):
        said, broken = [], Ensemble(members, [CPU], print)
        broken.say, broken.forgiving = said.append, forgiving

        def fail(inputs):
            raise torch.AcceleratorError("CUDA error: no kernel image is available\nmore")

        broken.nets[0][1].answer = fail
        if not forgiving:
            with pytest.raises(torch.AcceleratorError):
                broken.answer(samples, all_passes(members), never)
            continue
        answers, _ = broken.answer(samples, all_passes(members), never)
        assert said == ["the GPU failed, all goes on on the CPU: CUDA error: no kernel image is available"]
        assert broken.devices == [CPU]
        for name in expected:
            np.testing.assert_array_equal(answers[name], expected[name])


def test_a_library_of_the_gpu_that_fails_hands_over_to_the_cpu_too(loaded):
    """cuDNN and its kind raise plain RuntimeErrors: on the CPU it shows that the net is sound."""
    members, samples = loaded
    expected, _ = Ensemble(members, [CPU], print).answer(samples, all_passes(members), never)
    said = []
    ensemble = Ensemble(members, [CPU], said.append, forgiving=True)
    played = ensemble.nets[0][0]
    played.device = GPU

    def fail(inputs):
        raise RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED")

    played.answer = fail
    answers, _ = ensemble.answer(samples, all_passes(members), never)
    assert said == ["the GPU failed, all goes on on the CPU: cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"]
    for name in expected:
        np.testing.assert_array_equal(answers[name], expected[name])


def test_a_net_that_fails_is_left_out_by_name_where_that_is_forgiven(loaded):
    members, samples = loaded

    def fail(inputs):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    strict = Ensemble(members, [CPU], print)
    strict.nets[0][0].answer = fail
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        strict.answer(samples, all_passes(members), never)
    said = []
    forgiving = Ensemble(members, [CPU], said.append, forgiving=True)
    forgiving.nets[0][0].answer = fail
    answers, _ = forgiving.answer(samples, all_passes(members), never)
    again, _ = forgiving.answer(samples, all_passes(members), never)
    assert said == [
        "tiny-image/fold0.safetensors is left out, it failed: RuntimeError: mat1 and mat2 shapes cannot be multiplied"
    ]
    other = all_passes(members) - {members[0].looks_at(one.view) for one in all_passes(members)}
    expected, _ = Ensemble(members, [CPU], print).answer(samples, other, never)
    for name in answers:
        np.testing.assert_array_equal(answers[name], expected[name])
        np.testing.assert_array_equal(again[name], expected[name])


def test_answers_that_are_not_finite_are_left_out_and_counted(loaded):
    members, samples = loaded
    ensemble = Ensemble(members, [CPU], print)
    net = ensemble.nets[0][2]  # the wave model's first
    real = net.answer

    def half_nan(inputs):
        answer = real(inputs)
        answer[:3] = np.nan
        return answer

    net.answer = half_nan
    answers, _ = ensemble.answer(samples, all_passes(members), never)
    assert dict(ensemble.not_finite) == {"tiny-wave/fold0.safetensors": 3}
    only = {members[3].looks_at(one.view) for one in all_passes(members)}
    second, _ = Ensemble(members, [CPU], print).answer(samples, only, never)
    np.testing.assert_array_equal(answers["tiny-wave"][:3], second["tiny-wave"][:3])
    assert np.isfinite(answers["tiny-wave"]).all()


def test_each_input_is_built_once_for_all_nets_that_want_it(loaded, monkeypatch):
    members, samples = loaded
    built, real = [], infer.ensemble.build_input
    monkeypatch.setattr(
        infer.ensemble, "build_input", lambda windows, config: built.append(config.kind) or real(windows, config)
    )
    twice = [*members, *members]  # as two models with the same input would be
    Ensemble(twice, [CPU], print).answer(samples, all_passes(members), never)
    assert sorted(built) == ["bipolar-sequence", "kaggle-image"]
