"""The minimum of a smooth convex function, some of whose arguments may not be negative."""

from collections.abc import Callable

import numpy as np

# value, gradient, and what computes the Hessian: it costs most, and of the last x it is not wanted
Evaluated = tuple[float, np.ndarray, Callable[[], np.ndarray]]
Objective = Callable[[np.ndarray], Evaluated]

STEPS, ENOUGH = 100, 1e-13  # ENOUGH: what a step promises to gain when there is nothing more to be had
NEAR = 1e-8  # after a whole step that promised so little the next one would promise about its square
SHORTEST = 1e-6  # of a Newton step, before rounding is taken to be all that is left
SUFFICIENT = 1e-4  # of the gain that the slope promises


def minimise(objective: Objective, start: np.ndarray, bounded: np.ndarray) -> np.ndarray:
    """x (n,) where `objective` is least among those with x[bounded] >= 0; `start` is one of them.

    Newton's method on the arguments that are free to move; those at 0 that want to go below wait there.
    """
    x, (value, gradient, hessian) = start, objective(start)
    for _ in range(STEPS):
        free = ~(bounded & (x <= 0) & (gradient > 0))
        curvature = hessian()[np.ix_(free, free)]
        level = 1e-10 * (1 + np.trace(curvature) / max(len(curvature), 1))  # equal models: any share is as good
        step = np.zeros_like(x)
        step[free] = -np.linalg.solve(curvature + level * np.eye(len(curvature)), gradient[free])
        promised = -gradient @ step
        if promised < ENOUGH:
            break
        length = 1.0
        while True:
            aim = x + length * step
            there = np.where(bounded, np.maximum(aim, 0.0), aim)
            found = objective(there)
            if found[0] <= value + SUFFICIENT * (gradient @ (there - x)):
                break
            length /= 2
            if length < SHORTEST:
                return x
        x, (value, gradient, hessian) = there, found
        if promised < NEAR and length == 1 and (there == aim).all():
            break
    return x
