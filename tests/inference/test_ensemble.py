"""All nets on all devices: shared batches, inputs built once, and what becomes of whatever fails."""

import time

import numpy as np
import pytest
import torch
from gpu_stand_in import CPU, GPU

import infer.ensemble
from common.tta import PLAIN
from common.weights import load_weights
from infer.budget import Budget
from infer.ensemble import Ensemble, loaded_folds
from infer.recordings import read_row
from infer.test_table import read_test_table


class Case:
    """The road's nets and test recordings."""

    def __init__(self, road):
        self.rows = [
            read_row(road.competition, eeg, spec, True) for spec, eeg in read_test_table(road.competition).rows()
        ]
        self.folds = loaded_folds(load_weights(folder, CPU) for folder in road.datasets)
        self.warnings = []
        self.expected = self.predict(self.ensemble())

    def ensemble(self, *devices, folds=None, forgiving=False):
        self.warnings.clear()
        budget = Budget(1e9, time.monotonic)
        return Ensemble(folds or self.folds, list(devices or [CPU]), budget, self.warnings.append, forgiving)

    def predict(self, ensemble, *folds):
        return ensemble.predict_batch(self.rows, {fold.on_view(PLAIN) for fold in folds or self.folds})[0]


@pytest.fixture(scope="module")
def case(road):
    return Case(road)


def assert_equal(one, other):
    assert set(one) == set(other) == {"tiny-image", "tiny-wave"}
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def failing(error):
    def fail(inputs):
        raise error

    return fail


def test_two_devices_share_a_batch_and_answer_as_one(case, monkeypatch):
    parts, real = [], Ensemble.predict_on_device
    monkeypatch.setattr(Ensemble, "predict_on_device", lambda *given: parts.append(given[1:3]) or real(*given))
    ensemble = case.ensemble(CPU, CPU)
    two, costs = ensemble.predict_batch(case.rows, {fold.on_view(PLAIN) for fold in case.folds})
    assert sorted((number, len(part)) for number, part in parts) == [(0, 5), (1, 4)]
    assert len(costs) == 6  # two inputs, four nets
    assert_equal(two, case.expected)


def test_inputs_that_do_not_fit_are_made_in_halves(case, monkeypatch):
    real, sizes = infer.ensemble.build_input, []

    def build(windows, config):
        size = len(windows.eeg if windows.eeg is not None else windows.spectrogram)
        sizes.append(size)
        if size > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(windows, config)

    monkeypatch.setattr(infer.ensemble, "build_input", build)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    assert_equal(case.predict(case.ensemble()), case.expected)
    assert sizes[:3] == [9, 4, 2]
    assert case.warnings[0] == "inputs of 9 EEGs at once are too many for cpu, half are tried"


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: no kernel image is available\nmore"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),  # as libraries of the GPU raise it
    ],
)
def test_a_gpu_that_fails_hands_over_to_the_cpu(case, error):
    for forgiving in (False, True):
        ensemble = case.ensemble(forgiving=forgiving)
        ensemble.nets[0][1].device, ensemble.nets[0][1].probabilities = GPU, failing(error)
        if not forgiving:
            with pytest.raises(RuntimeError, match=str(error)[:10]):
                case.predict(ensemble)
            continue
        assert_equal(case.predict(ensemble), case.expected)
        assert case.warnings == [f"the GPU failed, all goes on on the CPU: {str(error).splitlines()[0]}"]
        assert ensemble.devices == [CPU]


def test_a_net_that_fails_is_left_out_by_name_where_that_is_forgiven(case):
    fail = failing(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    strict = case.ensemble()
    strict.nets[0][0].probabilities = fail
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        case.predict(strict)
    forgiving = case.ensemble(forgiving=True)
    forgiving.nets[0][0].probabilities = fail
    first, again = case.predict(forgiving), case.predict(forgiving)
    assert case.warnings == [
        "tiny-image/fold0.safetensors is left out, it failed: RuntimeError: mat1 and mat2 shapes cannot be multiplied"
    ]
    expected = case.predict(case.ensemble(), *case.folds[1:])
    assert_equal(first, expected)
    assert_equal(again, expected)


def test_answers_that_are_not_finite_are_left_out_and_named(case):
    ensemble = case.ensemble()
    net = ensemble.nets[0][2]  # the wave model's first
    real = net.probabilities

    def half_nan(inputs):
        answer = real(inputs)
        answer[:3] = np.nan
        return answer

    net.probabilities = half_nan
    answers = case.predict(ensemble)
    assert case.warnings == ["tiny-wave/fold0.safetensors gave answers that are not finite: they were left out"]
    second = case.predict(case.ensemble(), case.folds[3])
    np.testing.assert_array_equal(answers["tiny-wave"][:3], second["tiny-wave"][:3])
    np.testing.assert_array_equal(answers["tiny-wave"][3:], case.expected["tiny-wave"][3:])


def test_each_input_is_built_once_for_all_nets_that_want_it(case, monkeypatch):
    built, real = [], infer.ensemble.build_input
    monkeypatch.setattr(
        infer.ensemble, "build_input", lambda windows, config: built.append(config.kind) or real(windows, config)
    )
    case.predict(case.ensemble(folds=case.folds * 2))  # as two models with the same input would be
    assert sorted(built) == ["bipolar-sequence", "kaggle-image"]
