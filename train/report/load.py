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
TOO_GOOD = ("chosen", "nested-chosen", "given")
WEIGHTS_DIFFER = 1e-6


@dataclass(frozen=True)
class Entry:
    """One way to predict the rows. kl: (rows,), probabilities: (rows, 6)."""

    name: str
    kind: str  # of KINDS
    probabilities: np.ndarray
    kl: np.ndarray
    run: Path | None = None


@dataclass(frozen=True)
class ReportData:
    """Everything that is scored. rows: by label_id, with ids, votes and fold; scored: those that scores are read on."""

    rows: pl.DataFrame
    scored: np.ndarray
    runs: dict[str, Path]  # by what each is called on the page
    experiments: dict[str, Experiment]
    entries: list[Entry]  # floor, runs, blend, prior, uniform: those there are
    evaluation: Evaluation
    blend: Blend | None
    diagnostics: dict[str, Any] | None  # what `train blend --json` writes; None where the weights were not fitted
    warnings: tuple[str, ...]

    @property
    def votes(self) -> np.ndarray:
        return self.rows.select(VOTES).to_numpy()

    @property
    def patient(self) -> np.ndarray:
        return self.rows["patient_id"].to_numpy()

    def models(self) -> list[Entry]:
        """The runs, and the blend behind them."""
        return [entry for entry in self.entries if entry.kind not in ("floor", "prior", "uniform")]

    def of_kind(self, kind: str) -> Entry | None:
        return next((entry for entry in self.entries if entry.kind == kind), None)

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
    """The run folders of a blend, in its order. Raises RunError."""
    folders = {run.resolve().name: run for run in runs}
    if not blend.models:
        raise RunError(f"{file} names no model, so there is nothing to report of it: leave it out")
    if absent := [name for name in blend.models if name not in folders]:
        raise RunError(
            f"{file} blends {', '.join(absent)}, whose run folders were not given (there are {', '.join(folders)})"
        )
    return [folders[name] for name in blend.models]


def check_fingerprints(blend: Blend, file: Path, members: list[Path]) -> None:
    """Raises RunError when the blend was fitted on other predictions than the runs have now."""
    known = {source.name: source.sha256 for source in blend.provenance.sources} if blend.provenance else {}
    for member in members:
        name = member.resolve().name
        if name in known and sha256_of(member / OOF) != known[name]:
            raise RunError(f"{file} was fitted on other predictions than those in {member / OOF}: blend again")


def fit_again(blend: Blend, file: Path, members: list[Path]) -> tuple[np.ndarray, dict[str, Any]]:
    """Nested probabilities (rows, 6) by label_id by the chosen method, and the diagnostics of the blend."""
    oof = read_out_of_fold(members, None, None)
    fitted = fit_blend(oof, blend.views, blend.hours)
    diagnostics = diagnose(fitted)
    chosen = next(candidate.name for candidate in blend.candidates if candidate.chosen)
    again = next(candidate.name for candidate in fitted.blend.candidates if candidate.chosen)
    gaps = [abs(fitted.blend.models[name] - weight) for name, weight in blend.models.items()]
    if chosen != again or max(gaps) > WEIGHTS_DIFFER:
        diagnostics["warnings"].append(
            f"{file.name} does not hold what fitting gives now ({again}): it was changed by hand, or by another version"
        )
    order = np.argsort(read_table(members[0] / OOF)["label_id"].to_numpy())
    return fitted.nested[chosen][order], diagnostics


def blend_entry(
    file: Path, runs: list[Path], experiments: dict[Path, Experiment], rows: pl.DataFrame, models: dict[Path, Entry]
) -> tuple[Blend, Entry, dict[str, Any] | None]:
    """The blend, its predictions of the rows, and its diagnostics. Raises RunError, BlendError."""
    blend = load_blend(file)
    members = blended_runs(blend, file, runs)
    check_fingerprints(blend, file, members)
    if any(candidate.chosen for candidate in blend.candidates):
        probabilities, diagnostics = fit_again(blend, file, members)
        optimistic = any(experiments[run].training.checkpoint == "best" for run in members)
        kind = "nested-chosen" if optimistic else "nested"
        name = f"blend ({next(candidate.name for candidate in blend.candidates if candidate.chosen)})"
    else:
        given = {run.resolve().name: models[run].probabilities for run in members}
        probabilities = combine(given, blend.models, blend.prior, rows.height, blend.log_linear)
        name, kind, diagnostics = "blend", "given", None
    target = vote_shares(rows.select(VOTES).to_numpy())
    return blend, Entry(name, kind, probabilities, kl_divergence(target, probabilities)), diagnostics


def load_report_data(sources: list[Path], truth: Path | None) -> ReportData:
    """Everything on the same label rows. Raises RunError, BlendError, BlendInputError."""
    runs, file = sort_sources(sources)
    experiments = [read_run(run) for run in runs]
    names = names_of(runs, experiments)
    by_run = dict(zip(runs, experiments, strict=True))
    evaluation = evaluate(runs, truth)
    rows, predictions = read_predictions(runs, truth)
    target = vote_shares(rows.select(VOTES).to_numpy())
    entries, of_run = [], {}
    for prediction in predictions:
        kl = kl_divergence(target, prediction.probabilities)
        run = prediction.run
        if run is None:
            kind = {FLOOR: "floor", PRIOR: "prior"}.get(prediction.what, "uniform")
            name = KINDS["floor"][0] if kind == "floor" else prediction.what
            entries.append(Entry(name, kind, prediction.probabilities, kl))
        elif prediction.checkpoint == by_run[run].training.checkpoint:
            kind = "oof" if prediction.checkpoint == "last" else "chosen"
            of_run[run] = Entry(names[runs.index(run)], kind, prediction.probabilities, kl, run)
            entries.append(of_run[run])
    blend, diagnostics, many = None, None, many_votes(rows.select(VOTES).to_numpy())
    if file:
        blend, entry, diagnostics = blend_entry(file, runs, by_run, rows, of_run)
        last = max(k for k, known in enumerate(entries) if known.run)
        entries.insert(last + 1, entry)
    warnings = tuple(diagnostics["warnings"]) if diagnostics else ()
    if not many.any():
        warnings += ("No row has at least 10 votes: every score on this page is read on all rows.",)
    return ReportData(
        rows,
        many if many.any() else np.full(rows.height, True),
        dict(zip(names, runs, strict=True)),
        dict(zip(names, experiments, strict=True)),
        entries,
        evaluation,
        blend,
        diagnostics,
        warnings,
    )
