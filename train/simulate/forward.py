"""A head: electrodes on a unit sphere and the potential that a current dipole leaves on them.

Axes: x to the right ear, y to the nose, z to the vertex; the radius of the head is one. The potential is
that of a dipole in an infinite homogeneous conductor, (d . o) / |d|^3: crude about skulls, right about what
matters here, that every source is seen by many electrodes and most by the near ones.
"""

from itertools import pairwise

import numpy as np

from common.schema import CHAINS, ELECTRODES, MIDLINE

SCALP = ELECTRODES[:-1]  # without the EKG
# (inclination from the vertex, azimuth from the right ear towards the nose) in degrees, 10-20 system.
ANGLES = {
    "Fp1": (90, 108), "F7": (90, 144), "T3": (90, 180), "T5": (90, 216), "O1": (90, 252),
    "Fp2": (90, 72), "F8": (90, 36), "T4": (90, 0), "T6": (90, 324), "O2": (90, 288),
    "F3": (60, 129), "C3": (45, 180), "P3": (60, 231), "F4": (60, 51), "C4": (45, 0), "P4": (60, 309),
    "Fz": (45, 90), "Cz": (0, 90), "Pz": (45, 270),
}  # fmt: skip
MIRROR = np.array([-1.0, 1.0, 1.0])
LEFT, RIGHT = -1, 1


def direction(inclination: float, azimuth: float) -> np.ndarray:
    """Unit vector (3,) of two angles in degrees."""
    theta, phi = np.deg2rad((inclination, azimuth))
    return np.array([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)])


def electrode_positions() -> np.ndarray:
    """Positions of the scalp electrodes in schema order, (scalp, 3)."""
    return np.stack([direction(*ANGLES[name]) for name in SCALP])


def bipolar_matrix() -> np.ndarray:
    """Differences of neighbours along the chains and the midline: (pairs, scalp)."""
    pairs = [pair for chain in (*CHAINS.values(), MIDLINE) for pair in pairwise(chain)]
    matrix = np.zeros((len(pairs), len(SCALP)))
    for row, (anode, cathode) in enumerate(pairs):
        matrix[row, SCALP.index(anode)], matrix[row, SCALP.index(cathode)] = 1, -1
    return matrix


def dipole_field(position: np.ndarray, moment: np.ndarray) -> np.ndarray:
    """Potential of one dipole at the scalp electrodes, (scalp,); position and moment are (3,)."""
    d = electrode_positions() - position  # (electrodes, 3)
    return d @ moment / np.linalg.norm(d, axis=1) ** 3


def normalise(field: np.ndarray) -> np.ndarray:
    """Scale a field (scalp,) so that its largest bipolar difference is one: amplitudes are then bipolar ones."""
    return (field / np.abs(bipolar_matrix() @ field).max()).astype(np.float32)


def random_moment(position: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Radial plus a random tangential part, (3,): cortex is folded, crowns of gyri are seen best."""
    moment = position / np.linalg.norm(position) + 0.5 * rng.standard_normal(3)
    return moment / np.linalg.norm(moment)


def background_fields(n_sources: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Sources all over the upper head: fields (n_sources, scalp) and their positions (n_sources, 3)."""
    fields, positions = [], []
    for _ in range(n_sources):
        place = direction(rng.uniform(10, 100), rng.uniform(0, 360)) * rng.uniform(0.3, 0.8)
        fields.append(normalise(dipole_field(place, random_moment(place, rng))))
        positions.append(place)
    return np.stack(fields), np.stack(positions)


def lateral_field(side: int, rng: np.random.Generator) -> np.ndarray:
    """Two to four neighbouring dipoles under one hemisphere and a weak mirror image of them, (scalp,)."""
    azimuth, inclination = rng.uniform(-60, 60), rng.uniform(45, 80)
    field = np.zeros(len(SCALP))
    leak = rng.uniform(0, 0.35)  # what crosses over: the other side always shows some of it
    for _ in range(rng.integers(2, 5)):
        place = direction(inclination + rng.normal(0, 15), azimuth + rng.normal(0, 25)) * rng.uniform(0.4, 0.7)
        place *= [side, 1, 1]
        moment = random_moment(place, rng)
        field += dipole_field(place, moment) + leak * dipole_field(place * MIRROR, moment * MIRROR)
    return normalise(field)


def generalised_field(frontal: bool, rng: np.random.Generator) -> np.ndarray:
    """Pairs of dipoles mirrored at the midline, a front and a back one, sometimes one between them, (scalp,)."""
    front, back = rng.uniform(35, 75), rng.uniform(-60, 30)
    back_weight = rng.uniform(0.1, 0.4) if frontal else rng.uniform(0.4, 1.5)
    field = np.zeros(len(SCALP))
    for azimuth, weight in ((front, 1.0), (back, back_weight)):
        place = direction(rng.uniform(45, 75), azimuth) * rng.uniform(0.3, 0.65)
        moment = weight * random_moment(place, rng)
        field += dipole_field(place, moment)
        field += rng.uniform(0.85, 1.15) * dipole_field(place * MIRROR, moment * MIRROR)  # never quite equal
    if rng.random() < 0.4:
        middle = direction(rng.uniform(20, 60), 90 if frontal else rng.choice([90, 270])) * 0.5
        field += rng.uniform(0.3, 1.0) * dipole_field(middle, middle / 0.5)
    return normalise(field)


def eye_field(vertical: bool) -> np.ndarray:
    """Both eyeballs, turned upwards (a blink) or to one side, (scalp,)."""
    # The eyes lie in front of and below Fp1 and Fp2, outside the sphere; a blink makes the front positive.
    moment = np.array([0.0, 0.3, 1.0]) if vertical else np.array([1.0, 0.0, 0.0])
    left, right = (dipole_field(np.array([x, 1.05, -0.35]), moment) for x in (-0.33, 0.33))
    return normalise(left + right)
