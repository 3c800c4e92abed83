"""What a model sees: every input as a config. common.inputs.build.build_input makes them.

Formulas and constants of the published ones: the seed repository's notebooks (Kaggle image, percentiles,
global features, EEG mel image), the EfficientNetB0 starter and the ResNet34d baseline, and what the ten best
solutions have in common (fixed scaling, zoomed centre, raw EEG as an image, bipolar sequences).
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from common.schema import SFREQ


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Size = tuple[Annotated[int, Field(ge=8, le=2048)], Annotated[int, Field(ge=8, le=2048)]]  # height, width
Side = Literal["beside", "below"]  # how images are joined: along time or along frequency

# ---- the competition's spectrogram

# Parts of an image: the four panels stacked, their percentiles, their min/max/mean/range.
Part = Literal["image", "percentiles", "global"]
Parts = Annotated[tuple[Part, ...], Field(min_length=1)]


class Constants(Strict):
    """Fixed mean and deviation of log power."""

    mean: float
    deviation: float = Field(gt=0)


# As the seed published them: means of the mean and the deviation of 20,183 crops of log power ("spec"), and of
# their min/max/mean/range taken before the logarithm ("stat"), which is not what they are then applied to.
PUBLISHED_CONSTANTS = {
    "spec": Constants(mean=-0.08340271, deviation=1.9072835),
    "stat": Constants(mean=0.07975473, deviation=1.9484872),
}

# Mean and deviation of each panel, of the whole image, published constants, constants measured on each fold's
# training rows (they travel with the fold's weights), or given ones.
Standardise = Literal["panel", "image", "spec", "stat", "training"] | Constants


class KaggleImage(Strict):
    """The competition's 10-minute spectrogram: log power, standardised, four panels of 100 x 300 stacked."""

    kind: Literal["kaggle-image"] = "kaggle-image"
    columns: int = Field(default=300, ge=2, le=300, multiple_of=2)  # the central ones, 2 s each
    missing: Literal["mean", "silence"] = "mean"  # what NaN becomes; "silence": no power at all
    standardise: Standardise = "panel"
    standardise_features: Standardise | None = None  # of percentiles and global; None: as the image
    # Mean and deviation of the columns that are shown, or of all 300, as the EfficientNetB0 starter has them.
    standardise_over: Literal["columns", "window"] = "columns"
    divide: float = Field(default=1.0, ge=1e-3)  # after standardising
    panel_rows: int = Field(default=100, ge=100, le=256, multiple_of=2)  # 0 above and below up to this height
    parts: Parts = ("image",)
    join: Side = "beside"
    resize: Size | None = None


class EegMelImage(Strict):
    """The public recipe's mel spectrogram of the 50 s EEG: four chains of 128 x 256 stacked."""

    kind: Literal["eeg-mel-image"] = "eeg-mel-image"
    denoise: Literal["haar", "db4", "db8", "sym8"] | None = None  # wavelet whose small coefficients are cut
    parts: Parts = ("image",)
    join: Side = "beside"
    resize: Size | None = None


# ---- the EEG: which differences, which band

Montage = Literal["chains", "double-banana", "interleaved", "mirrored-pairs"]


class EegSignal(Strict):
    """Bipolar differences, band-passed and clipped: where every input made of waves begins."""

    montage: Montage = "double-banana"
    low: float = Field(default=0.5, ge=0.05)  # Hz; a lower edge would need a filter longer than the window
    high: float = Field(default=20.0, gt=0)  # Hz
    # "zero": symmetric FIR, no delay, looks ahead; "causal": second-order Butterworth, as published notebooks.
    phase: Literal["zero", "causal"] = "zero"
    clip: float = Field(default=1024.0, gt=0)  # microvolts

    @model_validator(mode="after")
    def band_is_a_band(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low = {self.low} Hz must be below high = {self.high} Hz")
        if self.high + 2 > SFREQ / 2:
            raise ValueError(f"high = {self.high} Hz: nothing can be passed up to the {SFREQ // 2} Hz the EEG ends at")
        return self


class BipolarSequence(EegSignal):
    """Differences over 50 s, band-passed, clipped, scaled, and thinned to `sfreq`."""

    kind: Literal["bipolar-sequence"] = "bipolar-sequence"
    scale: float = Field(default=32.0, ge=1e-3)  # microvolts that become 1
    sfreq: Literal[200, 100, 50, 40] = 200  # where the band-pass leaves more than half of it, a low-pass goes before
    quality: bool = False  # behind the signals: each one's missing, flat and clipped share, constant in time

    @model_validator(mode="after")
    def band_fits_rate(self) -> Self:
        if self.high > self.sfreq / 2:
            raise ValueError(f"high = {self.high} Hz: sfreq = {self.sfreq} Hz would alias it; at most {self.sfreq / 2}")
        return self


Seconds = Literal[50, 30, 10]  # around the centre, where the label is


class RawImage(EegSignal):
    """The waves themselves as an image: every difference in rows of `columns` samples, one below the other."""

    kind: Literal["raw-image"] = "raw-image"
    scale: float = Field(default=32.0, ge=1e-3)  # microvolts that become 1
    crops: Annotated[tuple[Seconds, ...], Field(min_length=1)] = (50,)  # one below the other
    columns: int = Field(default=500, ge=50, le=2000)
    # "folded": all samples, 50 s in 10,000 / columns rows; "resized": one row a difference, time shrunk to fit.
    rows: Literal["folded", "resized"] = "folded"
    copies: Literal[1, 3] = 1  # 3: the same image in three channels, for a backbone that wants colours
    resize: Size | None = None

    @model_validator(mode="after")
    def rows_are_full(self) -> Self:
        for seconds in self.crops if self.rows == "folded" else ():
            if seconds * SFREQ % self.columns:
                raise ValueError(f"columns = {self.columns} do not divide the {seconds * SFREQ} samples of {seconds} s")
        return self


# ---- spectra of the EEG


class Transform(Strict):
    """What all spectra share: one-sided density in uV^2/Hz, a column every `hop` samples."""

    hop: int = Field(default=40, ge=1, le=2000)  # samples at 200 Hz
    low: float = Field(default=0.5, ge=0.1)  # Hz
    high: float = Field(default=20.0, gt=0, le=SFREQ / 2)  # Hz

    @model_validator(mode="after")
    def has_a_band(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low = {self.low} Hz must be below high = {self.high} Hz")
        return self


LONGEST_WINDOW = 10 * SFREQ


def window_fits(window: int, n_fft: int) -> None:
    if window % 2:
        raise ValueError(f"window = {window} samples must be even")
    if n_fft < window:
        raise ValueError(f"n_fft = {n_fft} is shorter than window = {window}")
    if window > LONGEST_WINDOW:
        raise ValueError(f"window = {window} samples is longer than {LONGEST_WINDOW}, the shortest crop's 10 s")


class Stft(Transform):
    """Hann windows that lie inside the signal; bins from `low` to `high`."""

    kind: Literal["stft"] = "stft"
    window: int = Field(default=100, ge=8)  # samples
    n_fft: int = Field(default=200, ge=8, le=16384)

    @model_validator(mode="after")
    def fits(self) -> Self:
        window_fits(self.window, self.n_fft)
        return self


class Mel(Transform):
    """Hann windows centred on 0, hop, 2 hop ..., beyond the ends 0; triangles on the mel scale."""

    kind: Literal["mel"] = "mel"
    window: int = Field(default=128, ge=8)  # samples
    n_fft: int = Field(default=1024, ge=8, le=16384)
    n_mels: int = Field(default=64, ge=4, le=256)

    @model_validator(mode="after")
    def fits(self) -> Self:
        window_fits(self.window, self.n_fft)
        return self


class Multitaper(Transform):
    """Windows inside the signal, each under DPSS tapers whose powers are averaged; bins from `low` to `high`."""

    kind: Literal["multitaper"] = "multitaper"
    window: int = Field(default=400, ge=8)  # samples
    n_fft: int = Field(default=512, ge=8, le=16384)
    time_bandwidth: float = Field(default=2.0, ge=1)  # half bandwidth in Hz times the window's seconds
    tapers: int = Field(default=3, ge=1)

    @model_validator(mode="after")
    def fits(self) -> Self:
        window_fits(self.window, self.n_fft)
        if self.tapers > 2 * self.time_bandwidth:
            raise ValueError(f"tapers = {self.tapers}: only the first {int(2 * self.time_bandwidth)} are concentrated")
        return self


class Morlet(Transform):
    """Continuous wavelet transform at frequencies evenly spaced in octaves; power averaged over each hop."""

    kind: Literal["morlet"] = "morlet"
    frequencies: int = Field(default=40, ge=2, le=256)
    bandwidth: float = Field(default=1.5, ge=0.1, le=50)  # of exp(-t^2 / bandwidth), t in periods


AnyTransform = Annotated[Stft | Mel | Multitaper | Morlet, Field(discriminator="kind")]


class Crop(Strict):
    """The central `seconds`, seen through one transform; `size`: each difference's map is resized to it."""

    seconds: Seconds = 50
    transform: AnyTransform = Stft()
    size: Size | None = None


class EegSpectra(EegSignal):
    """Spectra of each difference, whole and zoomed in: tiles of one image, or channels in depth."""

    kind: Literal["eeg-spectra"] = "eeg-spectra"
    montage: Montage = "chains"
    crops: Annotated[tuple[Crop, ...], Field(min_length=1)] = (Crop(),)
    # "log": ln of the density, minus mean, over deviation: fixed; "peak": decibels below each map's maximum.
    scale: Literal["log", "peak"] = "log"
    mean: float = 0.0
    deviation: float = Field(default=2.0, ge=1e-3)
    layout: Literal["tiled", "depth"] = "tiled"
    tiles: int = Field(default=1, ge=1, le=18)  # in a row, when tiled
    join: Side = "beside"  # how the crops are joined
    resize: Size | None = None

    @model_validator(mode="after")
    def tiles_fill_rows(self) -> Self:
        channels = 16 if self.montage == "chains" else 18
        if self.layout == "tiled" and channels % self.tiles:
            raise ValueError(f"tiles = {self.tiles} in a row do not divide the {channels} differences of the montage")
        return self


# ---- several images

SingleImage = Annotated[KaggleImage | EegMelImage | RawImage | EegSpectra, Field(discriminator="kind")]


class CombinedImage(Strict):
    """Images of any sources joined to one, beside or below each other or as channels."""

    kind: Literal["combined-image"] = "combined-image"
    images: Annotated[tuple[SingleImage, ...], Field(min_length=2)]
    join: Literal["beside", "below", "channels"] = "beside"
    resize: Size | None = None


InputConfig = Annotated[
    KaggleImage | EegMelImage | RawImage | EegSpectra | CombinedImage | BipolarSequence, Field(discriminator="kind")
]


def parts_of(config: Any) -> tuple[Any, ...]:
    """The single inputs of a config: those of a combined image, or itself."""
    return config.images if isinstance(config, CombinedImage) else (config,)


def needs_spectrogram(config: Any) -> bool:
    return any(isinstance(part, KaggleImage) for part in parts_of(config))


def needs_eeg(config: Any) -> bool:
    return any(not isinstance(part, KaggleImage) for part in parts_of(config))
