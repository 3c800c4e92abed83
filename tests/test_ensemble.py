"""All nets on all devices: shared batches, inputs built once, and what becomes of whatever fails."""

import numpy as np
import pytest
import torch
from gpu_stand_in import CPU, GPU

import infer.ensemble
import infer.nets
from common.weights import load_weights
from infer.ensemble import Ensemble, members_of
from infer.rows import read_test_table
from infer.samples import read_sample


@pytest.fixture(scope="module")
def loaded(road):
    table = read_test_table(road.competition)
    samples = [read_sample(road.competition, eeg, spec, True) for spec, eeg in table.iter_rows()]
    return members_of(load_weights(folder, CPU) for folder in road.datasets), samples


def all_passes(members, *views):
    from common.tta import PLAIN

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
