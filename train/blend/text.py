"""A blend and its diagnostics as aligned text."""

from typing import Any

from common.blend import Blend
from train.blend.methods import method_named
from train.evaluate.text import MANY
from train.tables import aligned, between, number


def method_lines(found: dict[str, Any]) -> list[str]:
    """A line for each method with its nested score."""
    lines = [
        ["", "nested KL", "95 % interval", "to the first", "95 % interval", "behind the best", "95 % interval", ""]
    ]
    for method in found["candidates"]:
        cells = [method["name"], number(method["nested_kl"]), between(method["interval"])]
        for what in ("difference", "behind"):
            cells += [number(method[what], "+"), between(method[f"{what}_interval"], "+")]
        lines.append([*cells, "<- chosen" if method["chosen"] else ""])
    return aligned(lines)


def model_lines(found: dict[str, Any]) -> list[str]:
    """Models as the kernel would leave them out."""
    lines = [["", "alone", "95 % interval", "weight", "value", "95 % interval", "calibration error"]]
    for model in sorted(found["models"], key=lambda model: model["place"]):
        cells = [f"{model['place']}. {model['name']}", number(model["kl"]), between(model["interval"])]
        cells += [f"{model['weight']:.3f}", number(model["value"], "+"), between(model["value_interval"], "+")]
        lines.append([*cells, number(model["calibration_error"])])
    return aligned(lines)


def pair_lines(found: dict[str, Any]) -> list[str]:
    """Correlation of errors above the diagonal, disagreement below it."""
    numbers = range(len(found["names"]))

    def cell(k: int, j: int) -> str:
        return "" if j == k else f"{found['disagreement' if j < k else 'correlation'][k][j]:.2f}"

    heads = ["", *(str(j + 1) for j in numbers)]
    body = [[f"{k + 1} {found['names'][k]}", *(cell(k, j) for j in numbers)] for k in numbers]
    return aligned([heads, *body])


def part_lines(parts: list[dict[str, Any]]) -> list[str]:
    """KL on parts of the rows."""
    lines = [["", "rows", "groups", *parts[0]["kl"]]]
    for part in parts:
        lines.append([part["label"], str(part["rows"]), str(part["groups"]), *map(number, part["kl"].values())])
    return aligned(lines)


def chosen_lines(blend: Blend) -> list[str]:
    """What the chosen method is, and what it has beside weights."""
    lines = [f"The blend, {blend.chosen}: {method_named(blend.chosen).description}"]
    if blend.log_linear:
        bias = ", ".join(f"{value:+.3f}" for value in blend.log_linear.bias)
        lines.append(f"temperature {blend.log_linear.temperature:.3f}, bias {bias}")
    return lines


def as_text(found: dict[str, Any], blend: Blend) -> str:
    """All of diagnose(), table by table."""
    gaps = [(method["name"], method["optimality_gap"]) for method in found["candidates"]]
    lines = [
        f"KL divergence on {found['many']} rows with {MANY}, nested: each fold is combined as fitted on the others",
        *method_lines(found),
        found["rule"],
        f"Intervals: {found['draws']} draws of {found['groups']} values of {found['group']}, with replacement.",
        *(
            f"{name}: no other weights could gain more than {max(gap, 0):.1e} on these rows."
            for name, gap in gaps
            if gap is not None
        ),
        *chosen_lines(blend),
        "\nModels in the order in which they are left out when time is short. Value: what the blend loses without it",
        *model_lines(found),
        "\nErrors' correlation (above the diagonal) and share of rows that are named differently (below)",
        *pair_lines(found),
        "\nCalibration error (predicted less observed share, ten bins): "
        + ", ".join(f"{name} {error:.4f}" for name, error in found["calibration"].items()),
    ]
    for title, parts in (("votes", "by_votes"), ("consensus", "by_class"), ("fold", "by_fold")):
        if found[parts]:
            lines += [f"\nKL by {title} (best: the best single model; the blend nested)", *part_lines(found[parts])]
    return "\n".join([*lines, *(f"WARNING: {warning}" for warning in found["warnings"])])
