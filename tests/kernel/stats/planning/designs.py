"""The grid of designs whose recipes are checked: by running the Python lines, and against R's answers in recipes.tsv.

recipes.tsv is written with R at hand: PYTHONPATH=. python tests/kernel/stats/planning/designs.py | Rscript recipes.R
"""

from collections.abc import Iterator

from apps.kernel.stats.planning import design, means, paired, proportions
from apps.kernel.stats.planning.result import Recipe


def recipes() -> Iterator[tuple[str, float, Recipe]]:
    """(name, the planner's unrounded number, its recipe)."""
    for p1, p2 in ((0.03, 0.036), (0.5, 0.52), (0.002, 0.003), (0.92, 0.93), (0.3, 0.27)):
        for ratio, sides in ((1.0, 2), (1.0, 1), (1 / 9, 2), (2.0, 2)):
            size = proportions.sample_size(p1, p2, alpha=0.05, power=0.8, ratio=ratio, sides=sides)
            yield f"size of {p1} and {p2}, ratio {ratio:.3g}, {sides} sides", size.exact, size.recipe
        for control, treatment in ((6500, 6500), (9000, 1000)):
            power = proportions.power(p1, p2, control, treatment, alpha=0.01)
            yield f"power of {p1} and {p2} with {control} and {treatment}", power.value, power.recipe
        for fewer in (False, True):
            rate = proportions.detectable(p1, 20_000, 10_000, power=0.9, decrease=fewer)
            yield f"detectable from {p1}, decrease {fewer}", rate.value, rate.recipe
    for delta, sd, second, ratio, sides in (
        (0.5, 2.0, None, 1.0, 2),
        (-3.0, 2.0, None, 1.0, 2),
        (0.02, 1.0, None, 1.0, 1),
        (0.5, 2.0, 3.0, 0.25, 2),
        (0.5, 2.0, 1.0, 3.0, 2),
    ):
        size = means.sample_size(delta, sd, sd_treatment=second, ratio=ratio, sides=sides)
        yield f"size of {delta}, sd {sd} and {second}, ratio {ratio}, {sides} sides", size.exact, size.recipe
        power = means.power(delta, sd, 150, 90, sd_treatment=second, sides=sides)
        yield f"power of {delta}, sd {sd} and {second}, {sides} sides", power.value, power.recipe
        delta_found = means.detectable(sd, 150, 90, sd_treatment=second, sides=sides)
        yield f"detectable, sd {sd} and {second}, {sides} sides", delta_found.value, delta_found.recipe
    for accuracy, target, disagreement in ((0.92, 0.93, 0.03), (0.92, 0.93, 0.05), (0.8, 0.75, 0.2)):
        inputs = paired.mcnemar_inputs(accuracy, target, disagreement)
        yield f"inputs for {accuracy} and {target}, {disagreement} apart", inputs.value, inputs.recipe
    for delta, sd, sides in ((0.1, 0.7, 2), (2.0, 1.0, 2), (0.01, 0.5, 1)):
        pairs = paired.paired_t_pairs(delta, sd, sides=sides)
        yield f"pairs for {delta}, sd {sd}, {sides} sides", pairs.value, pairs.recipe
    for number in (
        design.split_cost(0.1),
        design.best_split(1.0, 2.0, 3),
        design.cluster_factor(10.0, 0.05, size_cv=0.5),
        design.looks_factor(5),
        design.looks_factor(10, spending="pocock"),
        design.looks_factor(4, spending="linear"),
        design.always_valid_factor(),
    ):
        yield number.recipe.formula + " " + number.recipe.r[:40], number.value, number.recipe


if __name__ == "__main__":
    for _, _, made in recipes():
        print(made.r)
