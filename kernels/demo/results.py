"""What a simulated competition's runs come to: a command at a time, and a table of KL beside the Bayes floor."""

import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from common.blend import Blend, load_blend
from common.metric import kl_divergence
from common.schema import MANY_VOTES, VOTES
from infer.validate import score
from train.blend.methods import nested_kl
from train.blend.out_of_fold import read_out_of_fold
from train.evaluate.runs import FLOOR, PRIOR, UNIFORM, evaluate
from train.tables import aligned, number

ROOT = Path(__file__).resolve().parents[2]
GAP_TO_CLOSE = 0.30  # of the way from the class prior to the Bayes floor, on the hidden test


def run_command(*words: str | Path) -> float:
    """Run `python WORDS` in the project's root; seconds. Shown as a user would type it; ends all if it fails."""
    ours = [isinstance(word, Path) and word.is_relative_to(ROOT) for word in words]
    shown = [str(Path(word).relative_to(ROOT) if own else word) for word, own in zip(words, ours, strict=True)]
    print(f"\n$ python {shlex.join(shown)}", flush=True)
    started = time.monotonic()
    done = subprocess.run([sys.executable, *shown], cwd=ROOT)
    if done.returncode:
        sys.exit(f"the command above ended with exit code {done.returncode}")
    return time.monotonic() - started


def write_blend_of_one(folder: Path) -> Path:
    """A blend that names no model: the one that is given counts alone."""
    file = folder / "alone" / "blend.json"
    file.parent.mkdir(exist_ok=True)
    prior = load_blend(folder / "blend.json").prior
    file.write_text(Blend(models={}, prior=prior).model_dump_json(), encoding="utf-8")
    return file


def hidden_kl(competition: Path, answer: np.ndarray) -> float:
    """KL on the hidden test of one and the same answer (6,) for every row."""
    solution = pl.read_csv(competition / "truth" / "solution.csv").select(VOTES).to_numpy()
    return float(kl_divergence(solution, np.tile(answer, (len(solution), 1))).mean())


def result_table(folder: Path, names: Sequence[str], submission: Path) -> pl.DataFrame:
    """Rows: Bayes floor, each model, blend, class prior, uniform. Columns: what, oof_all, oof_many, hidden_test.

    `submission` is the blend's answer to the hidden test, folder/alone/hms-NAME.csv each model's.
    """
    competition, truth = folder / "competition", folder / "competition" / "truth"
    solution = truth / "solution.csv"
    run_folders = [folder / "runs" / name for name in names]
    scores = evaluate(run_folders, truth / "train_probabilities.csv").scores
    oof = {row["what"]: row for row in scores.iter_rows(named=True)}
    blend = load_blend(folder / "blend.json")
    chosen = blend.chosen
    together = read_out_of_fold(run_folders, None, None)
    nested = nested_kl(together, chosen)
    floor, prior, uniform = (oof[what] for what in (FLOOR, PRIOR, "uniform"))
    lines = [("Bayes floor", floor["kl_all"], floor["kl_many"], score(truth / "probabilities.csv", solution)[0])]
    for name in names:
        row = oof[f"{name} (last epoch)"]
        alone = folder / "alone" / f"hms-{name}.csv"
        lines.append((name, row["kl_all"], row["kl_many"], score(alone, solution)[0]))
    lines.append(("blend (nested)", nested.mean(), nested[together.many].mean(), score(submission, solution)[0]))
    lines.append(("class prior", prior["kl_all"], prior["kl_many"], hidden_kl(competition, np.array(blend.prior))))
    lines.append(("uniform", uniform["kl_all"], uniform["kl_many"], hidden_kl(competition, UNIFORM)))
    return pl.DataFrame(lines, schema=["what", "oof_all", "oof_many", "hidden_test"], orient="row")


def verdict(table: pl.DataFrame, names: Sequence[str]) -> tuple[list[str], bool]:
    """What the hidden test says, and whether it is what the demo promises."""
    hidden = dict(zip(table["what"], table["hidden_test"], strict=True))
    closed = (hidden["class prior"] - hidden["blend (nested)"]) / (hidden["class prior"] - hidden["Bayes floor"])
    worse = [name for name in (*names, "blend (nested)") if hidden[name] >= hidden["class prior"]]
    lines = [f"On the hidden test the blend closes {closed:.0%} of the gap from the class prior to the Bayes floor."]
    lines += [f"NOT better than the class prior there: {', '.join(worse)}"] if worse else []
    return lines, not worse and closed >= GAP_TO_CLOSE


def print_table(table: pl.DataFrame) -> None:
    heads = ["", "oof, all rows", f"oof, >= {MANY_VOTES} votes", "hidden test"]
    lines = [[what, *map(number, values)] for what, *values in table.iter_rows()]
    print("\nKL divergence, lower is better", *aligned([heads, *lines]), sep="\n")
    print("oof: out of fold, models after their last epoch; the blend with weights fitted on the other folds")
