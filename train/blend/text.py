"""A judged blend as aligned text."""

from typing import Any

from common.blend import Blend, Bounds
from train.evaluate.text import MANY, aligned, between, number

NOT_KNOWN: Bounds = (float("nan"), float("nan"))


def candidate_lines(judged: dict[str, Any]) -> list[str]:
    lines = [
        ["", "nested KL", "95 % interval", "to the first", "95 % interval", "behind the best", "95 % interval", ""]
    ]
    for line in judged["candidates"]:
        cells = [line["name"], number(line["nested_kl"]), between(*(line["interval"] or NOT_KNOWN))]
        for what in ("difference", "behind"):
            cells += [number(line[what], "+"), between(*(line[f"{what}_interval"] or NOT_KNOWN), "+")]
        lines.append([*cells, "<- chosen" if line["chosen"] else ""])
    return [line.rstrip() for line in aligned(lines)]


def model_lines(judged: dict[str, Any]) -> list[str]:
    """Models as the kernel would leave them out."""
    lines = [["", "alone", "95 % interval", "weight", "value", "95 % interval", "calibration error"]]
    for line in sorted(judged["models"], key=lambda line: line["place"]):
        cells = [f"{line['place']}. {line['name']}", number(line["kl"]), between(*(line["interval"] or NOT_KNOWN))]
        cells += [f"{line['weight']:.3f}", number(line["value"], "+")]
        lines.append([*cells, between(*(line["value_interval"] or NOT_KNOWN), "+"), number(line["calibration_error"])])
    return aligned(lines)


def pair_lines(judged: dict[str, Any]) -> list[str]:
    """Correlation of errors above the diagonal, disagreement below it."""
    names, size = judged["names"], len(judged["names"])
    lines = [["", *(str(k + 1) for k in range(size))]]
    for k, name in enumerate(names):
        cells = [
            f"{judged['disagreement' if j < k else 'correlation'][k][j]:.2f}" if j != k else "" for j in range(size)
        ]
        lines.append([f"{k + 1} {name}", *cells])
    return aligned(lines)


def part_lines(parts: list[dict[str, Any]]) -> list[str]:
    lines = [["", "rows", "groups", *parts[0]["kl"]]]
    for part in parts:
        lines.append([part["label"], str(part["rows"]), str(part["groups"]), *map(number, part["kl"].values())])
    return aligned(lines)


def shape_lines(blend: Blend) -> list[str]:
    """What the chosen way has beside weights."""
    if blend.log_linear is None:
        return []
    bias = ", ".join(f"{value:+.3f}" for value in blend.log_linear.bias)
    lines = [f"logarithms are averaged; temperature {blend.log_linear.temperature:.3f}, bias {bias}"]
    return lines + (["corrected by the models' means and spreads"] if blend.log_linear.correction else [])


def as_text(judged: dict[str, Any], blend: Blend) -> str:
    gap = next((line["optimality_gap"] for line in judged["candidates"] if line["name"] == "convex"), None)
    spread = judged["by_group"]
    lines = [
        f"KL divergence on {judged['many']} rows with {MANY}, nested: each fold is combined as fitted on the others",
        *candidate_lines(judged),
        judged["rule"],
        f"Intervals: {judged['draws']} draws of {judged['groups']} values of {judged['group']}, with replacement.",
        *([] if gap is None else [f"Convex weights: no others could gain more than {max(gap, 0):.1e} on these rows."]),
        "\nModels in the order in which they are left out when time is short. Value: what the blend loses without it",
        *model_lines(judged),
        *shape_lines(blend),
        "\nErrors' correlation (above the diagonal) and share of rows that are named differently (below)",
        *(line.rstrip() for line in pair_lines(judged)),
        "\nCalibration error (predicted less observed share, ten bins): "
        + ", ".join(f"{part['name']} {part['error']:.4f}" for part in judged["calibration"]),
    ]
    for title, parts in (("votes", "by_votes"), ("consensus", "by_class"), ("fold", "by_fold")):
        if judged[parts]:
            lines += [f"\nKL by {title} (best: the best single model; the blend nested)", *part_lines(judged[parts])]
    lines.append(
        f"\nBy {judged['group']}: median {spread['median']:.4f}, nine of ten below {spread['p90']:.4f}; "
        f"the worst tenth holds {spread['worst_tenth']:.0%} of the KL"
    )
    return "\n".join([*lines, *(f"WARNING: {surprise}" for surprise in judged["warnings"])])
