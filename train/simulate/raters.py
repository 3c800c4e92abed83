"""How experts vote on an episode: a distribution, sharp when the pattern is clear, and draws from it."""

import numpy as np

from common.schema import MANY_VOTES, PATTERNS
from train.simulate.patterns import Episode

# Mean vote shares by the pattern that won, rows with at least 10 votes of the public IIIC votes table.
CONFUSION = np.array(
    [
        [0.609, 0.073, 0.115, 0.047, 0.027, 0.129],  # seizure
        [0.038, 0.716, 0.030, 0.072, 0.011, 0.134],  # lpd
        [0.100, 0.049, 0.697, 0.006, 0.037, 0.110],  # gpd
        [0.034, 0.095, 0.010, 0.559, 0.059, 0.243],  # lrda
        [0.015, 0.024, 0.043, 0.045, 0.599, 0.274],  # grda
        [0.020, 0.057, 0.035, 0.064, 0.074, 0.749],  # other
    ]
)
# Peak over background's median at which half of the raters see the pattern.
HALF_SEEN = {"seizure": 4.0, "lpd": 3.6, "gpd": 3.6, "lrda": 2.8, "grda": 2.8}
SHARE_UNCLEAR, SHARE_CLEAR = 0.3, 0.97  # of the votes that go to the pattern itself
CROWD_VOTES = np.array([0.05, 0.10, 0.50, 0.12, 0.11, 0.07, 0.05])  # probability of 1, 2, ... 7 votes
MOST_EXTRA_VOTES = 10  # panel rows have 10 to 20 votes, 13.5 on average
CROWD_AGREEMENT = 6.0  # concentration of the Dirichlet a crowd's opinion is drawn from: untrained, so low
SMALLEST_SHARE = 0.002  # nobody is ever sure: no probability is zero


def clarity(episode: Episode) -> float:
    """How clearly an episode shows its pattern, in (0, 1): height over background, regularity, presence."""
    if episode.pattern == "other":
        # Nothing to see is clear; what resembles a pattern is less so, the more of it there is.
        return 0.95 if episode.kind == "plain" else float(1 / (1 + (episode.ratio / 7) ** 1.5))
    height = 1 / (1 + (HALF_SEEN[episode.pattern] / episode.ratio) ** 2.5)
    # Suppressed background makes a small pattern no easier to see than its microvolts allow.
    visible = 1 / (1 + (8.0 / episode.peak) ** 2)
    return float(height * visible * (1 - 0.5 * episode.irregularity) * episode.presence)


def confusable(episode: Episode) -> np.ndarray:
    """Where the votes go that do not go to the pattern itself, (patterns,), sum one."""
    own = PATTERNS.index(episode.pattern)
    shares = CONFUSION[own].copy()
    shares[own] = 0
    if episode.pattern in ("lpd", "gpd") and episode.rate > 1.7:
        shares[PATTERNS.index("seizure")] *= 3  # discharges near 2.5 Hz are seizures to many
    if episode.kind == "spikes":
        shares[PATTERNS.index("lpd" if episode.side else "gpd")] *= 5
    if episode.kind == "delta":
        shares[PATTERNS.index("lrda" if episode.side else "grda")] *= 5
    return shares / shares.sum()


def probabilities(episode: Episode, panel: bool, rng: np.random.Generator) -> np.ndarray:
    """The distribution (patterns,) that the votes on an episode are drawn from: positive, sum one."""
    own = SHARE_UNCLEAR + (SHARE_CLEAR - SHARE_UNCLEAR) * clarity(episode)
    p = (1 - own) * confusable(episode)
    p[PATTERNS.index(episode.pattern)] = own
    if not panel:
        p = rng.dirichlet(CROWD_AGREEMENT * p)
    p = np.maximum(p, SMALLEST_SHARE)
    return p / p.sum()


def draw_votes(p: np.ndarray, panel: bool, rng: np.random.Generator) -> np.ndarray:
    """Votes (patterns,) of a panel of 10 to 20 experts or of a crowd of 1 to 7, drawn from p (patterns,)."""
    if panel:
        n_votes = MANY_VOTES + rng.binomial(MOST_EXTRA_VOTES, 0.35)
    else:
        n_votes = rng.choice(len(CROWD_VOTES), p=CROWD_VOTES) + 1
    return rng.multinomial(n_votes, p)
