"""The minimum of a smooth convex function, some of whose arguments may not be negative."""

from collections.abc import Callable

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import nnls

# value, gradient, and what computes the Hessian: it costs most, and of the last x it is not wanted
Evaluated = tuple[float, np.ndarray, Callable[[], np.ndarray]]
Objective = Callable[[np.ndarray], Evaluated]

STEPS, ENOUGH = 200, 1e-13  # ENOUGH: what a step promises to gain when there is nothing more to be had
NEAR = 1e-8  # after a whole step that promised so little the next one would promise about its square
SHORTEST = 1e-10  # of a Newton step, before rounding is taken to be all that is left
SUFFICIENT = 1e-4  # of the gain that the slope promises
LEVEL = 1e-10  # of the mean curvature: what is flat gets so much, as where models are equal and any share is as good


def minimise(objective: Objective, start: np.ndarray, bounded: np.ndarray) -> np.ndarray:
    """x (n,) where `objective` is least among those with x[bounded] >= 0; `start` is one of them.

    Newton's method: each step goes towards the minimum of the parabola that fits at x, within the bounds, so that
    every step leads down and every point between is allowed.
    """
    x, (value, gradient, hessian) = start, objective(start)
    for _ in range(STEPS):
        curvature = hessian()
        curvature += LEVEL * (1 + np.trace(curvature) / len(x)) * np.eye(len(x))
        step = parabola_minimum(curvature, gradient - curvature @ x, bounded) - x
        promised = -gradient @ step
        if promised < ENOUGH:
            break
        length = 1.0
        while (found := objective(x + length * step))[0] > value - SUFFICIENT * length * promised:
            length /= 2
            if length < SHORTEST:
                return x
        x, (value, gradient, hessian) = x + length * step, found
        if promised < NEAR and length == 1:
            break
    return np.where(bounded, np.maximum(x, 0.0), x)  # x + step may miss a bound by a rounding


def parabola_minimum(curvature: np.ndarray, slope: np.ndarray, bounded: np.ndarray) -> np.ndarray:
    """y (n,) where y @ curvature @ y / 2 + slope @ y is least among those with y[bounded] >= 0."""
    free, y = ~bounded, np.empty_like(slope)
    # What is free follows from the rest: y[free] = - follows @ (y[bounded], 1).
    across = curvature[np.ix_(free, bounded)]
    follows = np.linalg.solve(curvature[np.ix_(free, free)], np.column_stack([across, slope[free]]))
    if bounded.any():
        root = cholesky(curvature[np.ix_(bounded, bounded)] - across.T @ follows[:, :-1], lower=True)
        down = slope[bounded] - across.T @ follows[:, -1]
        y[bounded] = nnls(root.T, solve_triangular(root, -down, lower=True), maxiter=100 * len(y))[0]
    y[free] = -follows @ np.append(y[bounded], 1.0)
    return y
