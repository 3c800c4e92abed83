"""What a report is about: runs and a blend of them, as predictions of the same label rows."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from common.blend import Blend, combine, load_blend
from common.files import sha256_of
from common.metric import kl_divergence, vote_shares
from common.schema import VOTES
from train.blend.diagnostics import diagnose
from train.blend.out_of_fold import read_out_of_fold
from train.blend.select import fit_blend
from train.engine.run_folder import OOF, RunError, read_run, read_table
from train.evaluate.runs import FLOOR, PRIOR, Evaluation, evaluate, names_of, read_predictions
from train.evaluate.scores import many_votes
from train.experiment import Experiment

# What kind of number a score is: its label, what that means, and whether it is honest.
KINDS = {
    "floor": ("Bayes floor", "the probabilities that a simulation draws its votes from: no model can do better"),
    "oof": ("out of fold", "each row is predicted by a model that was not trained on its patient"),
    "nested": ("nested, out of fold", "the models out of fold, combined by weights fitted without the fold scored"),
    "chosen": ("chosen on the fold", "the epoch was chosen by the rows that score it: too good"),
    "nested-chosen": ("nested, of chosen epochs", "weights are nested, but a model's epoch was chosen on the fold"),
    "given": ("weights as given", "the blend file does not say how its weights were fitted: perhaps on these rows"),
    "prior": ("no model", "the class prior of the other folds, the same answer for every row"),
    "uniform": ("no model", "one sixth for every pattern"),
}
KIND_OF = {FLOOR: "floor", PRIOR: "prior", "uniform": "uniform"}
TOO_GOOD = ("chosen", "nested-chosen", "given")
WEIGHTS_DIFFER = 1e-6


@dataclass(frozen=True)
class Entry:
    """One way to predict the rows. kl: (rows,), probabilities: (rows, 6)."""

    name: str
    kind: str  # of KINDS
    probabilities: np.ndarray
    kl: np.ndarray


@dataclass(frozen=True)
class ReportData:
    """Everything that is scored. rows: by label_id, with ids, votes and fold; scored: those that scores are read on."""

    rows: pl.DataFrame
    scored: np.ndarray
    runs: dict[str, Path]  # by what each is called on the page
    experiments: dict[str, Experiment]
    entries: list[Entry]  # the Bayes floor if it is known, runs, the blend if there is one, prior, uniform
    evaluation: Evaluation
    blend: Blend | None
    diagnostics: dict[str, Any] | None  # what `train blend --json` writes; None where the weights were not fitted
    warnings: list[str]

    @property
    def votes(self) -> np.ndarray:
        return self.rows.select(VOTES).to_numpy()

    @property
    def patient(self) -> np.ndarray:
        return self.rows["patient_id"].to_numpy()

    def models(self) -> list[Entry]:
        """The runs, and the blend behind them."""
        return [entry for entry in self.entries if entry.kind not in ("floor", "prior", "uniform")]

    @property
    def prior(self) -> Entry:
        return self.entries[-2]

    @property
    def bayes_floor(self) -> Entry | None:
        """None where the truth is not known."""
        return self.entries[0] if self.entries[0].kind == "floor" else None

    def headline(self) -> Entry:
        """The blend; without one the run whose score is best."""
        return self.models()[-1] if self.blend else min(self.models(), key=lambda entry: entry.kl[self.scored].mean())


def sort_sources(sources: list[Path]) -> tuple[list[Path], Path | None]:
    """Run folders, and the blend file. Raises RunError."""
    runs, files = ([source for source in sources if source.is_file() == wanted] for wanted in (False, True))
    if absent := [source for source in runs if not source.exists()]:
        raise RunError(f"{absent[0]}: not there; give run folders, and one blend file of them")
    if len(files) > 1:
        raise RunError(f"{' and '.join(map(str, files))}: a report is about one blend; make one for each")
    if not runs:
        named = ", ".join(load_blend(files[0]).models) or "no model"
        raise RunError(f"{files[0]} blends {named}: give the run folders of these models too")
    return runs, files[0] if files else None


def blended_runs(blend: Blend, file: Path, runs: list[Path]) -> list[Path]:
    """The run folders of a blend, in its order. Raises RunError, also when it was fitted on other predictions."""
    folders = {run.resolve().name: run for run in runs}
    if not blend.models:
        raise RunError(f"{file} names no model, so there is nothing to report of it: leave it out")
    if absent := [name for name in blend.models if name not in folders]:
        raise RunError(
            f"{file} blends {', '.join(absent)}, whose run folders were not given (there are {', '.join(folders)})"
        )
    for source in blend.provenance.sources if blend.provenance else ():
        if source.name in blend.models and sha256_of(oof := folders[source.name] / OOF) != source.sha256:
            raise RunError(f"{file} was fitted on other predictions than those in {oof}: blend again")
    return [folders[name] for name in blend.models]


def fit_again(blend: Blend, file: Path, runs: list[Path], chosen: str) -> tuple[np.ndarray, dict[str, Any]]:
    """Nested probabilities (rows, 6) by label_id by the chosen method, and the diagnostics of the blend."""
    oof = read_out_of_fold(runs, None, None)
    fitted = fit_blend(oof, blend.views, blend.hours)
    diagnostics = diagnose(fitted)
    again = fitted.blend.chosen
    gaps = [abs(fitted.blend.models[name] - weight) for name, weight in blend.models.items()]
    if chosen != again or max(gaps) > WEIGHTS_DIFFER:
        diagnostics["warnings"].append(
            f"{file.name} does not hold what fitting gives now ({again}): it was changed by hand, or by another version"
        )
    order = np.argsort(read_table(runs[0] / OOF)["label_id"].to_numpy())
    return fitted.nested[chosen][order], diagnostics


def blend_entry(
    file: Path, blend: Blend, models: dict[Path, Entry], votes: np.ndarray
) -> tuple[Entry, dict[str, Any] | None]:
    """The blend's predictions of the rows, and its diagnostics. Raises RunError, BlendError."""
    runs = blended_runs(blend, file, list(models))
    if chosen := blend.chosen:
        probabilities, diagnostics = fit_again(blend, file, runs, chosen)
        kind = "nested-chosen" if any(models[run].kind == "chosen" for run in runs) else "nested"
    else:
        given = {run.resolve().name: models[run].probabilities for run in runs}
        probabilities = combine(given, blend.models, blend.prior, len(votes), blend.log_linear)
        kind, diagnostics = "given", None
    kl = kl_divergence(vote_shares(votes), probabilities)
    return Entry(f"blend ({chosen})" if chosen else "blend", kind, probabilities, kl), diagnostics


def load_report_data(sources: list[Path], truth: Path | None) -> ReportData:
    """Everything on the same label rows. Raises RunError, BlendError, BlendInputError."""
    runs, file = sort_sources(sources)
    experiments = [read_run(run) for run in runs]
    names = names_of(runs, experiments)
    rows, predictions = read_predictions(runs, truth)
    votes = rows.select(VOTES).to_numpy()
    scored_at = {run: (name, e.training.checkpoint) for run, name, e in zip(runs, names, experiments, strict=True)}
    entries, models = [], {}
    for one in predictions:
        name, checkpoint = scored_at[one.run] if one.run else (one.what.partition(" (")[0], None)
        if one.checkpoint == checkpoint:
            kind = KIND_OF.get(one.what) or ("oof" if checkpoint == "last" else "chosen")
            entry = Entry(name, kind, one.probabilities, kl_divergence(vote_shares(votes), one.probabilities))
            entries.append(entry)
            models |= {one.run: entry} if one.run else {}
    blend, diagnostics = load_blend(file) if file else None, None
    if file and blend:
        entry, diagnostics = blend_entry(file, blend, models, votes)
        entries.insert(-2, entry)
    many, warnings = many_votes(votes), diagnostics["warnings"] if diagnostics else []
    if not many.any():
        many = np.full(rows.height, True)
        warnings = [*warnings, "No row has at least 10 votes: every score on this page is read on all rows."]
    return ReportData(
        rows,
        many,
        dict(zip(names, runs, strict=True)),
        dict(zip(names, experiments, strict=True)),
        entries,
        evaluate(runs, truth),
        blend,
        diagnostics,
        warnings,
    )
