"""One-line faults, and the tests that must catch each of them.

    python tests/mutants.py                 all of them (ten minutes on two free cores)
    python tests/mutants.py montage blend   those whose name or file contains one of these words
    python tests/mutants.py --list          only say what there is

Each fault is planted in a copy of the project, where its tests then run; they must fail, and without it they must
pass. A fault that no test notices is named at the end, and the script ends with 1. Not part of `make test-all`: run it
after tests or the code under them were changed. Tests that run the built kernel build it themselves, so a fault in
common/ or infer/ is in it.
"""

import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
LIMIT = 300  # seconds for the tests of one fault
# A server that has imported the libraries, which takes longer than most tests, and nothing of the project.
PROCESSES = multiprocessing.get_context("forkserver")
LIBRARIES = [
    "pytest",
    "numpy",
    "polars",
    "pyarrow.parquet",
    "pydantic",
    "scipy.signal",
    "scipy.stats",
    "scipy.optimize",
]
LIBRARIES += ["sklearn.model_selection", "librosa", "mne", "pywt", "torch", "timm", "safetensors.torch"]


@dataclass(frozen=True)
class Mutant:
    """In `file`, `old` (found exactly once) becomes `new`; one of `tests` (pytest's ids below tests/) must fail.

    road: these tests need the road of conftest.py, which is made once, by the sound code; HMS_ROAD: one there already.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    road: bool = False


def mutant(name: str, file: str, old: str, new: str, *tests: str, road: bool = False) -> Mutant:
    return Mutant(name, file, old, new, tests, road)


MUTANTS = (
    # ---- signal
    mutant(
        "montage: cathode minus anode",
        "common/signal/montage.py",
        "eeg.index_select(-2, anodes) - eeg.index_select(-2, cathodes)",
        "eeg.index_select(-2, cathodes) - eeg.index_select(-2, anodes)",
        "inputs/test_montage.py::test_bipolar_is_anode_minus_cathode_and_a_missing_electrode_silences_its_own_only",
    ),
    mutant(
        "montage: the mirror exchanges chains of one side too",
        "common/signal/montage.py",
        'MIRRORED = ("RL", "LL", "RP", "LP")',
        'MIRRORED = ("RP", "LP", "RL", "LL")',
        "inputs/test_montage.py::test_mirror_exchanges_sides_and_keeps_the_middle",
    ),
    mutant(
        "montage: a shift goes the other way",
        "common/signal/montage.py",
        "shifted[..., max(-steps, 0) : n_time - max(steps, 0)] = values[..., max(steps, 0) : n_time + min(steps, 0)]",
        "shifted[..., max(steps, 0) : n_time + min(steps, 0)] = values[..., max(-steps, 0) : n_time - max(steps, 0)]",
        "inputs/test_montage.py::test_shift_takes_a_later_window_and_knows_nothing_beyond",
    ),
    mutant(
        "filter: ends continued by even reflection",
        "common/signal/filters.py",
        "after = 2 * signal[..., -1:] - signal[..., -margin - 1 : -1].flip(-1)",
        "after = signal[..., -margin - 1 : -1].flip(-1)",
        "inputs/test_filters.py::test_zero_phase_equals_mne_ends_included",
    ),
    mutant(
        "filter: the delay is not undone",
        "common/signal/filters.py",
        'first = n_taps - 1 if phase == "zero" else 0',
        'first = n_taps // 2 if phase == "zero" else 0',
        "inputs/test_filters.py::test_zero_phase_equals_mne_ends_included",
    ),
    mutant(
        "filter: thinned without the low-pass",
        "common/signal/filters.py",
        "high + upper_transition(high) > sfreq / 2",
        "high + upper_transition(high) > sfreq",
        "inputs/test_filters.py::test_thinning_folds_nothing_back",
    ),
    mutant(
        "filter: a gap counts in the mean that fills it",
        "common/signal/filters.py",
        "dtype=torch.float64) / n_known.clamp(min=1)",
        "dtype=torch.float64) / signal.shape[-1]",
        "inputs/test_filters.py::test_gaps_become_the_channels_mean",
    ),
    # ---- inputs
    mutant(
        "mel image: chains in the order of the files",
        "common/inputs/eeg_mel_image.py",
        'MEL_CHAINS = ("LL", "LP", "RL", "RP")',
        'MEL_CHAINS = ("LL", "RL", "LP", "RP")',
        "inputs/test_eeg_images.py::test_mel_image_equals_librosa",
    ),
    mutant(
        "mel image: decibels below the chain's maximum",
        "common/inputs/eeg_mel_image.py",
        "power.amax(dim=(0, 3), keepdim=True)",
        "power.amax(dim=(0, 2, 3), keepdim=True)",
        "inputs/test_eeg_images.py::test_mel_image_equals_librosa",
    ),
    mutant(
        "mel: triangles of one height",
        "common/signal/spectra.py",
        "np.maximum(0, np.minimum(rising, falling)) * 2 / (edges[2:] - edges[:-2])",
        "np.maximum(0, np.minimum(rising, falling))",
        "inputs/test_transforms.py::test_mel_equals_librosa",
    ),
    mutant(
        "kaggle image: clipped before the logarithm",
        "common/inputs/kaggle_image.py",
        "return power.log().clamp(*LOG_RANGE)",
        "return power.clamp(*LOG_RANGE).log()",
        "inputs/test_kaggle_images.py::test_kaggle_image_equals_numpy",
    ),
    mutant(
        "kaggle image: each row standardised alone",
        "common/inputs/kaggle_image.py",
        '(-2, -1) if how == "panel" else',
        '(-1,) if how == "panel" else',
        "inputs/test_kaggle_images.py::test_kaggle_image_equals_numpy",
    ),
    mutant(
        "kaggle image: the last columns for the central ones",
        "common/inputs/panels.py",
        "first = (values.shape[-1] - length) // 2",
        "first = values.shape[-1] - length",
        "inputs/test_kaggle_images.py::test_kaggle_image_equals_numpy",
    ),
    mutant(
        "spectrogram: tapers added, not averaged",
        "common/signal/spectrogram.py",
        "div_(N_TAPERS * SFREQ)",
        "div_(SFREQ)",
        "inputs/test_spectra.py::test_spectrogram_equals_a_plain_loop",
    ),
    mutant(
        "spectrogram: a band-pass up to the last bin",
        "common/signal/spectrogram.py",
        "BAND_ORDER, BAND = 3, (0.5, 40.0)",
        "BAND_ORDER, BAND = 3, (0.5, 20.0)",
        "inputs/test_spectra.py::test_spectrogram_equals_a_plain_loop",
    ),
    mutant(
        "spectrogram: rebuilt one column too early",
        "common/signal/spectrogram.py",
        "CENTRE_COLUMNS = range(138, 162)",
        "CENTRE_COLUMNS = range(137, 161)",
        "inputs/test_spectra.py::test_rebuild_restores_the_centre_and_nothing_else",
    ),
    mutant(
        "spectrogram: what was known is rebuilt too",
        "common/signal/spectrogram.py",
        "centre.copy_(torch.where(centre.isnan(), columns, centre))",
        "centre.copy_(columns)",
        "inputs/test_spectra.py::test_rebuild_restores_the_centre_and_nothing_else",
    ),
    # ---- recordings
    mutant(
        "records: columns that are left take the first places",
        "common/records.py",
        "values[found] = known",
        "values[: len(found)] = known",
        "data/test_records.py::test_missing_electrodes_become_nan",
    ),
    mutant(
        "records: the first spelling wins over the exact name",
        "common/records.py",
        "(not types[name].is_numeric(), name not in spelled)",
        "(not types[name].is_numeric(), name in spelled)",
        "data/test_records.py::test_sound_values_survive_unchanged",
        "data/test_records.py::test_sound_power_survives_unchanged",
    ),
    mutant(
        "records: a column of text hides the one of numbers",
        "common/records.py",
        "key=lambda name: (not types[name].is_numeric(), ",
        "key=lambda name: (types[name].is_numeric(), ",
        "data/test_records.py::test_sound_power_survives_unchanged",
    ),
    mutant(
        "records: an offset counts as amplitude",
        "common/records.py",
        "np.median(np.abs(known - np.median(known, axis=1, keepdims=True)))",
        "np.median(np.abs(known))",
        "data/test_systematic.py::test_an_amplifiers_offset_is_no_amplitude",
    ),
    mutant(
        "records: the beginning for the centre",
        "common/records.py",
        "return cut(values, (values.shape[-1] - length) // 2, length)",
        "return cut(values, 0, length)",
        "data/test_records.py::test_central_window_of_any_length",
    ),
    mutant(
        "systematic: a few are many",
        "common/systematic.py",
        "number > A_FEW or",
        "number >= A_FEW or",
        "data/test_systematic.py::test_more_than_a_few_of_the_first_or_all_of_few",
    ),
    mutant(
        "systematic: later files count too",
        "common/systematic.py",
        "first = structural[:FIRST_RECORDINGS]",
        "first = structural",
        "data/test_systematic.py::test_more_than_a_few_of_the_first_or_all_of_few",
    ),
    mutant(
        "systematic: the rate upside down",
        "common/systematic.py",
        "SFREQ * np.array(n_time[:FIRST_RECORDINGS]) / np.array(expected[:FIRST_RECORDINGS])",
        "SFREQ * np.array(expected[:FIRST_RECORDINGS]) / np.array(n_time[:FIRST_RECORDINGS])",
        "data/test_systematic.py::test_another_rate_is_one_factor_for_all",
    ),
    mutant(
        "systematic: the public run goes on, the hidden one stops",
        "infer/runner.py",
        "if not self.ensemble.forgiving:",
        "if self.ensemble.forgiving:",
        "data/test_systematic.py::test_a_public_run_stops_and_the_hidden_one_goes_on_loudly[other electrodes]",
        road=True,
    ),
    # ---- labels and folds
    mutant(
        "labels: windows in the order of the file",
        "train/data/labels.py",
        "by_time = [pl.col(name).sort_by(*TIME_ORDER) for name",
        "by_time = [pl.col(name) for name",
        "data/test_labels.py::test_all_kinds_of_rows_have_the_same_columns_and_one_order",
    ),
    mutant(
        "labels: votes of all windows of an EEG added up",
        "train/data/labels.py",
        "one_window.sum() * one_window.max()",
        "one_window.sum() * one_window.sum()",
        "data/test_labels.py::test_rows_of_whole_eegs_by_hand",
    ),
    mutant(
        "labels: an odd second rounded up",
        "train/data/labels.py",
        "(offset // SPECTROGRAM_STEP_SECONDS)",
        "(offset / SPECTROGRAM_STEP_SECONDS).ceil()",
        "data/test_labels.py::test_label_rows_by_hand",
    ),
    mutant(
        "labels: max_votes itself is left out",
        "train/data/labels.py",
        "chosen &= totals <= selection.max_votes",
        "chosen &= totals < selection.max_votes",
        "data/test_labels.py::test_selection_by_hand",
    ),
    mutant(
        "labels: large panels count more in the prior",
        "train/data/labels.py",
        "(votes[chosen] / totals[chosen, None]).mean(axis=0)",
        "votes[chosen].sum(axis=0) / totals[chosen].sum()",
        "data/test_labels.py::test_prior_counts_rows_whose_votes_carry_rounding_errors",
        "evaluation/test_evaluate_numbers.py::test_prior_of_a_fold_never_sees_it",
    ),
    mutant(
        "folds: grouped by EEG",
        "train/data/folds.py",
        '    patients = rows["patient_id"].to_numpy()',
        '    patients = rows["eeg_id"].to_numpy()',
        "data/test_folds.py::test_folds_split_no_patient_and_are_deterministic",
    ),
    mutant(
        "folds: a patient in two folds passes",
        "train/data/folds.py",
        'seen.filter(pl.col("fold") > 1)',
        'seen.filter(pl.col("fold") > 2)',
        "data/test_folds.py::test_too_few_patients_and_split_patients_are_refused",
    ),
    mutant(
        "folds: the prior of a fold knows it",
        "train/evaluate/scores.py",
        "others = votes[fold != k]",
        "others = votes[fold >= 0]",
        "evaluation/test_evaluate_numbers.py::test_prior_of_a_fold_never_sees_it",
    ),
    mutant(
        "folds: a teacher may have seen some of what is held out",
        "train/engine/pseudo_labels.py",
        "predicted[:, held_out].all(axis=1, keepdims=True)",
        "predicted[:, held_out].any(axis=1, keepdims=True)",
        "training/test_pseudo.py::test_every_choice_agrees_with_a_search_over_patients",
    ),
    # ---- training
    mutant(
        "loss: softmax over the batch",
        "train/engine/losses.py",
        "logits.log_softmax(dim=1)",
        "logits.log_softmax(dim=0)",
        "training/test_losses.py::test_loss_is_the_metric",
    ),
    mutant(
        "loss: vote-log of N, not of N + 1",
        "train/engine/losses.py",
        "return torch.log(n_votes + 1)",
        "return torch.log(n_votes)",
        "training/test_losses.py::test_weight_of_a_row_by_its_votes",
    ),
    mutant(
        "loss: smoothed shares do not sum to 1",
        "train/engine/losses.py",
        "return smoothed / smoothed.sum(dim=1, keepdim=True)",
        "return smoothed / votes.sum(dim=1, keepdim=True)",
        "training/test_losses.py::test_smoothed_target_by_hand",
    ),
    mutant(
        "loss: few votes are one more",
        "train/engine/losses.py",
        "n_votes < few.below - 0.5",
        "n_votes < few.below + 0.5",
        "training/test_losses.py::test_few_votes_count_less_and_less",
    ),
    mutant(
        "cutmix: the published axis",
        "train/augment/mixing.py",
        'axis = -1 if cutmix.axis == "time" else -2',
        'axis = -2 if cutmix.axis == "time" else -1',
        "training/test_cutmix.py::test_cutmix_is_what_the_loops_make",
    ),
    mutant(
        "cutmix: bands from rows of any class",
        "train/augment/mixing.py",
        "keys.masked_fill(~member, torch.inf).argsort()",
        "keys.argsort()",
        "training/test_cutmix.py::test_cutmix_takes_from_the_class_and_keeps_the_targets",
    ),
    mutant(
        "mixup: targets stay",
        "train/augment/mixing.py",
        "images, target, n_votes = blend.of(images), blend.of(target), blend.of(n_votes)",
        "images, target, n_votes = blend.of(images), target, blend.of(n_votes)",
        "training/test_mixing.py::test_mixup_blends_images_sequences_and_targets_alike",
    ),
    mutant(
        "mixup: gaps of both windows add up",
        "train/augment/mixing.py",
        "None if kind is None else blend.of_known(kind)",
        "None if kind is None else blend.of(kind)",
        "training/test_mixing.py::test_mixup_of_signals_is_linear_and_takes_what_one_lacks_from_the_other",
    ),
    mutant(
        "mosaic: votes of the first strip",
        "train/augment/mixing.py",
        "n_votes[drawn].mean(dim=1)",
        "n_votes[drawn[:, 0]]",
        "training/test_cutmix.py::test_mosaic_is_what_loops_over_columns_make",
    ),
    mutant(
        "schedule: cosine ends a step late",
        "train/engine/optim.py",
        "max(1.0, steps - 1 - warm_up)",
        "max(1.0, steps - warm_up)",
        "training/test_optimisation.py::test_every_rate_of_cosine_and_constant_and_one_cycle",
    ),
    mutant(
        "optimizer: scaled gradients are clipped",
        "train/engine/optim.py",
        "self.scaler.unscale_(self.adamw)",
        "pass",
        "training/test_optimisation.py::test_gradients_are_clipped_as_they_are_not_as_they_are_scaled",
    ),
    mutant(
        "optimizer: batches of a step each count whole",
        "train/engine/loop.py",
        "(distributed.size / batch.rows_in_step)",
        "(distributed.size / batch.size)",
        "training/test_optimisation.py::test_batches_of_a_step_are_worth_one_large_batch",
    ),
    mutant(
        "ema: the raw weights are scored",
        "train/engine/optim.py",
        "return self.model if self.average is None else self.average.module",
        "return self.model",
        "training/test_optimisation.py::test_averaged_weights_are_those_by_hand",
    ),
    mutant(
        "ema: no warm-up",
        "train/engine/optim.py",
        "use_warmup=True",
        "use_warmup=False",
        "training/test_optimisation.py::test_averaged_weights_are_those_by_hand",
    ),
    mutant(
        "resume: the schedule starts again",
        "train/engine/optim.py",
        'self.schedule.load_state_dict(state["schedule"])',
        "pass",
        "training/test_training.py::test_training_interrupted_again_and_again_ends_the_same",
    ),
    mutant(
        "resume: dropout goes on from anywhere",
        "train/engine/loop.py",
        "torch.manual_seed(seed_of(*step, DROPOUT + 2 * state.distributed.rank))",
        "pass",
        "training/test_training.py::test_training_interrupted_again_and_again_ends_the_same",
    ),
    mutant(
        "resume: averaged weights start again from the raw ones",
        "train/engine/optim.py",
        'self.average.module.load_state_dict(state["average"])',
        "self.average.module.load_state_dict(self.model.state_dict())",
        "training/test_optimisation.py::test_a_state_brings_back_all_that_moves_the_weights",
    ),
    mutant(
        "resume: the best score is forgotten",
        "train/engine/checkpoint.py",
        'state.history, state.best = values["history"], values["best"]',
        'state.history = values["history"]',
        "training/test_resume.py::test_the_best_score_so_far_is_remembered",
    ),
    # ---- weights
    mutant(
        "weights: no checksum",
        "common/weights.py",
        "if sha256_of(path) != entry.sha256:",
        "if not entry.sha256:",
        "training/test_weights.py::test_swapped_folds",
        road=True,
    ),
    mutant(
        "weights: any recipe",
        "common/weights.py",
        "if hashlib.sha256(config).hexdigest() != manifest.config_sha256:",
        "if not manifest.config_sha256:",
        "training/test_weights.py::test_a_damaged_recipe[another band]",
        road=True,
    ),
    mutant(
        "weights: regions in any order",
        "common/weights.py",
        "if manifest.regions != REGIONS:",
        "if set(manifest.regions) != set(REGIONS):",
        "training/test_weights.py::test_a_damaged_recipe[former order]",
        road=True,
    ),
    # ---- views and blends
    mutant(
        "views: the spectrogram is not mirrored",
        "common/predict.py",
        "spectrogram = None if spectrogram is None else mirror_spectrogram(spectrogram)",
        "spectrogram = windows.spectrogram",
        "evaluation/test_tta.py::test_a_view_changes_the_answer_to_the_mean_of_both",
        road=True,
    ),
    mutant(
        "views: the spectrogram shifts by twice the seconds",
        "common/predict.py",
        "round(view.shift / SPECTROGRAM_STEP_SECONDS)",
        "round(view.shift)",
        "evaluation/test_tta.py::test_a_view_changes_the_answer_to_the_mean_of_both",
        road=True,
    ),
    mutant(
        "views: a net without an answer counts in the mean",
        "infer/ensemble.py",
        "counts[fold.model_name][rows] += finite",
        "counts[fold.model_name][rows] += 1",
        "inference/test_ensemble.py::test_answers_that_are_not_finite_are_left_out_and_named",
    ),
    mutant(
        "blend: multiplied by the temperature",
        "common/blend.py",
        "logs / log_linear.temperature",
        "logs * log_linear.temperature",
        "blending/test_combine.py::test_logarithms_are_combined_as_written_down",
    ),
    mutant(
        "blend: models that did not answer keep their weight",
        "common/blend.py",
        "weight_sum += np.where(answered[name], weight, 0.0)",
        "weight_sum += weight",
        "blending/test_combine.py::test_rows_are_mixed_from_those_who_answered",
    ),
    mutant(
        "blend: the weight of a missing model is lost",
        "common/blend.py",
        "return {name: weight / total for name, weight in known.items()}, problems",
        "return {name: weight for name, weight in known.items()}, problems",
        "blending/test_blend_file.py::test_model_weights_strict_and_forgiving",
    ),
    mutant(
        "blend: nested weights know their fold",
        "train/blend/methods.py",
        "{k: self.fit_without(rows, frozenset({k})) for k in folds}",
        "{k: self.fit_without(rows) for k in folds}",
        "blending/test_blend.py::test_nested_score_never_sees_its_own_fold",
    ),
    mutant(
        "blend: the strength is chosen with the fold left out",
        "train/blend/methods.py",
        "rows.without(folds | {k})",
        "rows.without(frozenset({k}))",
        "blending/test_blend.py::test_strength_is_the_best_of_the_inner_folds",
    ),
    mutant(
        "blend: the prior of all rows",
        "train/blend/select.py",
        "prior = rows.target.mean(axis=0)",
        "prior = vote_shares(oof.votes).mean(axis=0)",
        "blending/test_blend.py::test_nested_score_never_sees_its_own_fold",
    ),
    mutant(
        "blend: noise counts as worse",
        "train/blend/select.py",
        "behind[k][0] > 0 for k",
        "behind[k][1] > 0 for k",
        "blending/test_blend.py::test_noise_keeps_the_simple_and_more_than_noise_does_not",
    ),
    mutant(
        "blend: models are left out each as if alone",
        "train/blend/select.py",
        "losses_without(rows, nested, [*order, model])",
        "losses_without(rows, nested, [model])",
        "blending/test_blend.py::test_of_near_twins_one_is_missed_once_the_other_is_gone",
    ),
    # ---- metric, submission, validation
    mutant(
        "metric: the divergence of the votes from the answer",
        "common/metric.py",
        "target * (np.log(safe) - np.log(prediction))",
        "prediction * (np.log(prediction) - np.log(safe))",
        "evaluation/test_scores.py::test_kl_by_hand",
    ),
    mutant(
        "metric: above 1 passes",
        "common/metric.py",
        "((prediction < 0) | (prediction > 1))",
        "(prediction < 0)",
        "evaluation/test_scores.py::test_refusals_name_the_row",
    ),
    mutant(
        "submission: votes in the order of the alphabet",
        "infer/submit.py",
        "for k, vote in enumerate(VOTES)",
        "for k, vote in enumerate(sorted(VOTES))",
        "inference/test_submit.py::test_the_report",
        road=True,
    ),
    mutant(
        "submission: rows sorted by id",
        "infer/submit.py",
        'for eeg_id in table["eeg_id"]])',
        'for eeg_id in table["eeg_id"].sort()])',
        "inference/test_submit.py::test_batch_size_and_row_order_do_not_matter[1]",
        road=True,
    ),
    mutant(
        "submission: uniform for the prior",
        "infer/submit.py",
        "predicted.get(eeg_id, prior)",
        "predicted.get(eeg_id, np.full(len(VOTES), 1 / len(VOTES)))",
        "inference/test_always_answers.py::test_the_prior_is_there_before_the_first_model_runs_and_answers_replace_it",
        road=True,
    ),
    mutant(
        "submission: nothing is written before the weights are read",
        "infer/submit.py",
        "if early and forgiving:",
        "if early and not forgiving:",
        "inference/test_always_answers.py::test_whatever_fails_in_the_hidden_run_the_answer_stands[while loading]",
        road=True,
    ),
    mutant(
        "submission: an EEG takes the spectrogram of its last row",
        "infer/submit.py",
        'table.unique("eeg_id", keep="first")',
        'table.unique("eeg_id", keep="last")',
        "inference/test_submit.py::test_repeated_ids_are_computed_once",
        road=True,
    ),
    mutant(
        "validation: columns in any order",
        "infer/validate.py",
        "if tuple(frame.columns) != SUBMISSION_COLUMNS:",
        "if set(frame.columns) != set(SUBMISSION_COLUMNS):",
        "evaluation/test_scores.py::test_wrong_submission_is_refused",
    ),
    mutant(
        "validation: rows twice pass",
        "infer/validate.py",
        "extra, missing = Counter(found) - Counter(expected),",
        "extra, missing = Counter(set(found)) - Counter(expected),",
        "evaluation/test_scores.py::test_wrong_submission_is_refused",
    ),
    mutant(
        "validation: repeated ids are scored in any order",
        "infer/validate.py",
        'truth.sort("eeg_id", maintain_order=True)',
        'truth[::-1].sort("eeg_id", maintain_order=True)',
        "evaluation/test_scores.py::test_score_by_hand_with_repeated_and_shuffled_ids",
    ),
    # ---- the hidden run
    mutant(
        "budget: the first view goes first",
        "infer/budget.py",
        "for view in reversed(views):",
        "for view in views:",
        "inference/test_budget.py::test_what_is_given_up_first",
    ),
    mutant(
        "budget: the net of all rows goes before the folds",
        "infer/budget.py",
        "-1 if one.fold is None else one.fold",
        "99 if one.fold is None else one.fold",
        "inference/test_budget.py::test_what_is_given_up_first",
    ),
    mutant(
        "budget: what is lost between parts is not counted",
        "infer/budget.py",
        "eegs * ratio * cost / counted",
        "eegs * cost / counted",
        "inference/test_budget.py::test_predictions_rest_on_batches_after_the_first",
    ),
    mutant(
        "budget: the warm-up counts",
        "infer/budget.py",
        "if self.batches == 1:",
        "if self.batches == 0:",
        "inference/test_budget.py::test_predictions_rest_on_batches_after_the_first",
    ),
    mutant(
        "budget: a run that hangs is ended after Kaggle's limit",
        "infer/kernel.py",
        "GRACE = 0.25",
        "GRACE = 0.75",
        "inference/test_always_answers.py::test_a_run_that_hangs_is_ended_with_exit_code_0[True]",
        road=True,
    ),
    mutant(
        "hidden: as strict as the public run",
        "infer/kernel.py",
        "submit_mounted(root, blend, True, report)",
        "submit_mounted(root, blend, False, report)",
        "inference/test_always_answers.py::test_a_damaged_fold_stops_the_public_run_and_is_left_out_of_the_hidden_one",
        road=True,
    ),
    mutant(
        "hidden: the public run forgives",
        "infer/kernel.py",
        "        submit_mounted(root, blend, False, report)",
        "        submit_mounted(root, blend, True, report)",
        "inference/test_always_answers.py::test_a_damaged_fold_stops_the_public_run_and_is_left_out_of_the_hidden_one",
        road=True,
    ),
    mutant(
        "hidden: a panic ends the run",
        "infer/kernel.py",
        "except BaseException as error:  # whatever it is",
        "except Exception as error:  # whatever it is",
        "inference/test_always_answers.py::test_whatever_fails_in_the_hidden_run_the_answer_stands[while predicting]",
        road=True,
    ),
    # ---- sandbox and builder
    mutant(
        "sandbox: a connection passes",
        "kernels/sandboxing/guard.py",
        'NETWORK = {"connect", "bind",',
        'NETWORK = {"bind",',
        "kernel/test_sandbox_walls.py::test_no_network[guard]",
    ),
    mutant(
        "sandbox: the project is not hidden",
        "kernels/sandboxing/mounts.py",
        "hidden = [str(PROJECT), str(competition.resolve())]",
        "hidden = [str(competition.resolve())]",
        "kernel/test_sandbox_walls.py::test_the_project_cannot_be_read_or_written[guard]",
    ),
    mutant(
        "sandbox: the project is looked for elsewhere first",
        "kernels/sandboxing/guard.py",
        'sys.meta_path.insert(0, Blocker(plan["packages"]))',
        'sys.meta_path.append(Blocker(plan["packages"]))',
        "kernel/test_sandbox_walls.py::test_the_project_cannot_be_imported[guard-common.schema]",
    ),
    mutant(
        "sandbox: the answers are mounted",
        "kernels/sandboxing/mounts.py",
        'OURS = ("truth", "store")',
        'OURS = ("store",)',
        "kernel/test_sandbox_walls.py::test_the_answers_cannot_be_read[guard]",
    ),
    mutant(
        "sandbox: hours are minutes",
        "kernels/sandbox.py",
        "options.hours * 3600",
        "options.hours * 60",
        "kernel/test_sandbox.py::test_the_time_limit_ends_the_kernel_and_its_children[guard]",
    ),
    mutant(
        "sandbox: a failure that the kernel tells passes",
        "kernels/sandbox.py",
        "and rows is not None and failure is None,",
        "and rows is not None,",
        "kernel/test_sandbox.py::test_a_kernel_that_tells_of_a_failure_has_not_passed",
    ),
    mutant(
        "build: names from outside may mean two things",
        "kernels/building/inline.py",
        "for name, line, meaning in own + outside:",
        "for name, line, meaning in own:",
        "kernel/test_build_refusals.py::test_refuses",
    ),
    mutant(
        "build: of an import only its first line is cut",
        "kernels/building/inline.py",
        "lines[first - 1 : last] = [None] * (last - first + 1)",
        "lines[first - 1 : first] = [None]",
        "kernel/test_build.py::test_dependencies_come_first_and_sources_stay_as_written",
    ),
    mutant(
        "build: internet",
        "kernels/build.py",
        '"enable_internet": False,',
        '"enable_internet": True,',
        "kernel/test_build.py::test_metadata_names_the_blend_and_keeps_the_internet_off",
    ),
    mutant(
        "build: smoke tests are attached",
        "kernels/build.py",
        'if not slug.startswith("hms-smoke-")',
        "if slug",
        "kernel/test_build.py::test_metadata_of_an_open_blend_lists_published_datasets",
    ),
    mutant(
        "build: the committed kernel is not built again",
        "common/metric.py",
        "CLIP = 1e-15",
        "CLIP = 1e-14",
        "kernel/test_kernel.py::test_the_committed_kernel_is_up_to_date_and_stands_alone",
    ),
    # ---- publishing
    mutant(
        "publishing: an unknown count counts as the same count",
        "kernels/publishing/submission.py",
        "if ever is not None and ever == submission.ever:",
        "if ever == submission.ever:",
        "publishing/test_publish_once.py::test_no_second_submission_while_the_first_may_have_arrived",
    ),
    mutant(
        "publishing: not noted before it is sent",
        "kernels/publishing/submission.py",
        "submission.asked, submission.ever, job.options.resend = True, ever, False",
        "submission.ever, job.options.resend = ever, False",
        "publishing/test_publish_once.py::test_no_second_submission_while_the_first_may_have_arrived",
    ),
    mutant(
        "publishing: the kernel of another owner",
        "kernels/publishing/checks.py",
        'reasons = foreign_owner(where, metadata["id"], user) + committed(folder) + secrets(where, code)',
        "reasons = committed(folder) + secrets(where, code)",
        "publishing/test_publish_refusals.py::test_what_is_refused[kernel of another]",
    ),
    mutant(
        "publishing: weights are not searched for secrets",
        "kernels/publishing/checks.py",
        "reasons += secrets(*(path for path in sorted(folder.iterdir()) if path.is_file()))",
        "reasons += secrets(where)",
        "publishing/test_publish_refusals.py::test_what_is_refused[secret in weights]",
    ),
    mutant(
        "publishing: secrets of two bytes a letter",
        "kernels/publishing/secret_scan.py",
        r'for text in (content, content.replace(b"\0", b"")):',
        "for text in (content,):",
        "publishing/test_publish_refusals.py::test_secrets_are_found_wherever_they_lie",
    ),
    mutant(
        "publishing: secrets at the end of a large file",
        "kernels/publishing/secret_scan.py",
        "return secret_in(content + file.read())",
        "return secret_in(content)",
        "publishing/test_publish_refusals.py::test_a_token_at_either_end_of_large_weights_is_found",
    ),
    mutant(
        "publishing: a sandbox run of other weights",
        "kernels/publishing/bundle.py",
        "if ran.get(slug) != given.get(slug)",
        "if slug not in ran",
        "publishing/test_publish_refusals.py::test_what_is_refused[sandbox of others]",
    ),
    mutant(
        "publishing: a kernel that changed since it was checked",
        "kernels/publishing/bundle.py",
        'same_kernel = report["ok"] is True, report["kernel_sha256"] == kernel.sha256',
        'same_kernel = report["ok"] is True, bool(report["kernel_sha256"])',
        "publishing/test_publish_refusals.py::test_what_is_refused[edited kernel]",
    ),
    mutant(
        "ledger: a resumed publication is a row of its own",
        "kernels/publishing/ledger.py",
        "if any(old.message == row.message for old in read_ledger(path)):",
        "if any(old == row for old in read_ledger(path)):",
        "publishing/test_ledger.py::test_rows_come_back_as_they_were_added",
    ),
    mutant(
        "ledger: written anew",
        "kernels/publishing/ledger.py",
        r'text.write(path.read_text(encoding="utf-8").rstrip("\n") + "\n")',
        "writer.writerow(COLUMNS)",
        "publishing/test_ledger.py::test_rows_come_back_as_they_were_added",
    ),
    # ---- store, simulator, doctor
    mutant(
        "store: the end of a window is not emptied",
        "train/data/store.py",
        "window[..., last - start :] = torch.nan",
        "window[..., last:] = torch.nan",
        "data/test_store.py::test_every_window_has_the_bits_of_the_recording",
    ),
    mutant(
        "store: a changed file of the same size",
        "train/data/store_build.py",
        "entries[recording].stamp == stamp for recording, stamp",
        "entries[recording].file_bytes == stamp[0] for recording, stamp",
        "data/test_store.py::test_only_a_changed_file_is_read_again",
    ),
    mutant(
        "store: old entries for new values",
        "train/data/store_build.py",
        "index.unlink(missing_ok=True)  # from here on",
        "pass  # from here on",
        "data/test_store_faults.py::test_stopped_at_any_step_it_is_not_whole_and_the_next_build_is",
    ),
    mutant(
        "store: training shifts to earlier windows",
        "train/data/windows.py",
        "starts = starts + np.rint(shifts * kind.rate)",
        "starts = starts - np.rint(shifts * kind.rate)",
        "data/test_store.py::test_windows_are_shifted_in_seconds",
    ),
    mutant(
        "simulator: crowds without a vote",
        "train/simulate/raters.py",
        "rng.choice(len(CROWD_VOTES), p=CROWD_VOTES) + 1",
        "rng.choice(len(CROWD_VOTES), p=CROWD_VOTES)",
        "simulation/test_simulate.py::test_crowds_have_one_to_seven_votes_and_confuse_what_is_alike",
    ),
    mutant(
        "simulator: who is taken for what, the other way round",
        "train/simulate/raters.py",
        "shares = CONFUSION[own].copy()",
        "shares = CONFUSION[:, own].copy()",
        "simulation/test_simulate.py::test_crowds_have_one_to_seven_votes_and_confuse_what_is_alike",
    ),
    mutant(
        "simulator: clear episodes are unclear",
        "train/simulate/raters.py",
        "(SHARE_CLEAR - SHARE_UNCLEAR) * clarity(episode)",
        "(SHARE_CLEAR - SHARE_UNCLEAR) * (1 - clarity(episode))",
        "simulation/test_simulate.py::test_clear_episodes_have_sharper_votes",
    ),
    mutant(
        "doctor: windows that only touch overlap",
        "train/doctor/tables.py",
        'pl.col("after") < LABELLED_SECONDS',
        'pl.col("after") <= LABELLED_SECONDS',
        "data/test_doctor.py::test_changes_within_eegs_are_counted_by_hand",
    ),
    mutant(
        "doctor: a consensus that shares the most votes is beaten",
        "train/doctor/tables.py",
        "votes[np.arange(len(votes)), place] < votes.max(axis=1, initial=0)",
        "votes[np.arange(len(votes)), place] <= votes.max(axis=1, initial=0)",
        "data/test_doctor.py::test_a_consensus_is_beaten_by_more_votes_only",
    ),
)


# ---- carrying it out


def tracked_files() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, check=True, text=True)
    return [name for name in listed.stdout.split("\0") if name and (PROJECT / name).is_file()]


def copy_project(folder: Path) -> None:
    for name in tracked_files():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(PROJECT / name, folder / name)


def prepare_process(copy: Path, road: Path, output: Path) -> None:
    """Of the process it runs in: imports from the copy only, as the commands that it starts; output to a file."""
    os.setsid()  # so that it can be ended with what it started
    number = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(number, 1)
    os.dup2(number, 2)
    os.chdir(copy)
    os.environ |= {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "HMS_ROAD": str(road)}
    sys.dont_write_bytecode = True
    sys.path[:] = [str(copy), *(path for path in sys.path if path not in (str(PROJECT), str(PROJECT / "tests")))]


def pytest_process(copy: Path, road: Path, output: Path, words: list[str]) -> None:
    prepare_process(copy, road, output)
    import pytest

    sys.exit(int(pytest.main(words)))


def road_process(copy: Path, road: Path, output: Path) -> None:
    prepare_process(copy, road, output)
    sys.path.insert(0, "tests")
    from conftest import Road, build_road

    road.mkdir()
    build_road(Road(road))


def in_process(target: Callable[..., None], output: Path, *given: Any) -> tuple[int | None, str]:
    """Exit code (None: it took too long) and output of a process that has imported the libraries already."""
    process = PROCESSES.Process(target=target, args=given)
    process.start()
    process.join(LIMIT)
    in_time = process.exitcode is not None
    if not in_time:
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
    return process.exitcode if in_time else None, output.read_text(encoding="utf-8", errors="replace")


def run_tests(copy: Path, tests: Iterable[str], road: Path, more: Iterable[str]) -> tuple[int | None, str]:
    words = ["-q", "-p", "no:cacheprovider", "-n", "0", "--tb=line", *more, *(f"tests/{test}" for test in tests)]
    output = copy.with_name("output")
    return in_process(pytest_process, output, copy, road, output, words)


def make_road(copy: Path, road: Path) -> None:
    """By the sound code: faults in what is trained have tests of their own."""
    output = copy.with_name("output")
    exit_code, said = in_process(road_process, output, copy, road, output)
    if exit_code != 0:
        sys.exit(f"the road of tests/conftest.py could not be built:\n{said}")


def not_passed(tests: Iterable[str], output: str) -> list[str]:
    """The tests of which pytest's -rA names none that passed, or one that failed."""
    passed = re.findall(r"(?m)^PASSED tests/(.+)$", output)
    failed = re.findall(r"(?m)^(?:FAILED|ERROR) tests/(\S+(?: \S+)*?)(?: - .*)?$", output)

    def is_one(case: str, test: str) -> bool:
        return case == test or case.startswith((f"{test}[", f"{test}::"))

    return [
        test
        for test in tests
        if not any(is_one(case, test) for case in passed) or any(is_one(case, test) for case in failed)
    ]


def plant(mutant: Mutant, copy: Path) -> str | None:
    """The file as it was; None where the pattern is not found exactly once."""
    path = copy / mutant.file
    text = path.read_text(encoding="utf-8")
    if text.count(mutant.old) != 1 or mutant.old == mutant.new:
        return None
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    return text


def judge(mutant: Mutant, copy: Path, road: Path) -> tuple[bool, str]:
    """Whether it was caught; by which test, or what is wrong."""
    before = plant(mutant, copy)
    if before is None:
        return False, "BROKEN PATTERN"
    try:
        exit_code, output = run_tests(copy, mutant.tests, road, ["-x", "-rf"])
    finally:
        (copy / mutant.file).write_text(before, encoding="utf-8")
    if exit_code == 0:
        return False, "SURVIVED"
    if exit_code is None:
        return True, f"not done after {LIMIT} s"
    found = re.search(r"(?m)^FAILED tests/(?:\S+/)?(\S+?\.py::.+?)(?: - .*)?$", output)
    if exit_code != 1 or not found:
        return False, f"NO TEST FAILED: {output.strip().splitlines()[-1]}"
    return True, found[1]


def main(words: list[str]) -> int:
    listed, words = "--list" in words, [word.lower() for word in words if word != "--list"]
    chosen = [m for m in MUTANTS if not words or any(w in f"{m.name} {m.file}".lower() for w in words)]
    if listed or not chosen:
        print("\n".join(f"{m.name}  ({m.file})" for m in chosen) or "no fault has one of these words in its name")
        return 0 if chosen else 2
    os.environ["OMP_NUM_THREADS"] = "1"
    PROCESSES.set_forkserver_preload(LIBRARIES)
    with tempfile.TemporaryDirectory(prefix="hms-mutants-") as folder:
        copy, road = Path(folder, "project"), Path(os.environ.get("HMS_ROAD") or Path(folder, "road"))
        copy_project(copy)
        if any(m.road for m in chosen) and not road.is_dir():
            make_road(copy, road)
        tests = [*dict.fromkeys(test for m in chosen for test in m.tests)]
        output = "".join(run_tests(copy, tests[k : k + 20], road, ["-rA"])[1] for k in range(0, len(tests), 20))
        if broken := not_passed(tests, output):
            told = "\n".join(line for line in output.splitlines() if line.startswith(("FAILED", "ERROR", "SKIPPED")))
            print(f"{told}\nwithout any fault these tests fail, or are skipped:\n" + "\n".join(broken))
            return 1
        print(f"without any fault {len(tests)} tests pass", flush=True)
        width = max(len(m.name) for m in chosen)
        missed = []
        for m in chosen:
            started = time.monotonic()
            caught, verdict = judge(m, copy, road)
            if not caught:
                missed.append(m.name)
            seconds = time.monotonic() - started
            print(f"{m.name:{width}}  {m.file:33}  {seconds:4.0f} s  {verdict}", flush=True)
    print(f"{len(chosen) - len(missed)} of {len(chosen)} faults are caught")
    if missed:
        print("not caught: " + "; ".join(missed))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
