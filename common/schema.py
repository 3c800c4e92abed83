"""The competition's nouns as tables: electrodes, chains, regions, votes, rates, windows, file names.

Everything that is a fact of the data and not a choice of ours stands here once. The order of every
table is the order used everywhere else in the kit, and the files' own; files are read by name, never by position.
"""

# The six patterns, in the order of the competition's vote columns.
PATTERNS = ("seizure", "lpd", "gpd", "lrda", "grda", "other")
VOTES = tuple(f"{pattern}_vote" for pattern in PATTERNS)
# How train.csv spells the consensus, in the same order.
CONSENSUS = ("Seizure", "LPD", "GPD", "LRDA", "GRDA", "Other")
# Scores, blends and priors are read on rows with at least this many votes: the hidden test is like them.
MANY_VOTES = 10

SFREQ = 200  # Hz
ELECTRODES = (
    *("Fp1", "F3", "C3", "P3", "F7", "T3", "T5", "O1"),
    *("Fz", "Cz", "Pz"),
    *("Fp2", "F4", "C4", "P4", "F8", "T4", "T6", "O2"),
    "EKG",
)
N_ELECTRODES = len(ELECTRODES)  # 19 on the scalp and the EKG

WINDOW_SECONDS = 50
WINDOW_SAMPLES = WINDOW_SECONDS * SFREQ
LABELLED_SECONDS = 10  # the experts judged the central 10 s

# Regions of the spectrogram, in the order of the files' columns: left and right lateral chain, left and right
# parasagittal chain.
REGIONS = ("LL", "RL", "LP", "RP")
FORMER_REGIONS = ("LL", "RL", "RP", "LP")  # of weights that do not say their order: older versions of the kit
CHAINS = {
    "LL": ("Fp1", "F7", "T3", "T5", "O1"),
    "RL": ("Fp2", "F8", "T4", "T6", "O2"),
    "LP": ("Fp1", "F3", "C3", "P3", "O1"),
    "RP": ("Fp2", "F4", "C4", "P4", "O2"),
}
MIDLINE = ("Fz", "Cz", "Pz")

SPECTROGRAM_SECONDS = 600
SPECTROGRAM_STEP_SECONDS = 2  # one column of the image, one row of the file
SPECTROGRAM_COLUMNS = SPECTROGRAM_SECONDS // SPECTROGRAM_STEP_SECONDS
SPECTROGRAM_BINS = range(3, 103)  # of a 1024-point transform at 200 Hz
SPECTROGRAM_NFFT = 1024
FREQUENCIES = tuple(k * SFREQ / SPECTROGRAM_NFFT for k in SPECTROGRAM_BINS)  # Hz, 0.5859 ... 19.9219
N_FREQUENCIES = len(FREQUENCIES)

# The files spell a frequency rounded half up to two decimals, without zeros at the end: 3.125 is 3.13, 4.1016 is 4.1.
# So they are written. They are read by region and by frequency as a number (common/records.py).
SPECTROGRAM_FIELDS = {r: tuple(f"{r}_{int(100 * hertz + 0.5) / 100:g}" for hertz in FREQUENCIES) for r in REGIONS}

# Folders and tables of a competition folder.
TRAIN_EEGS, TEST_EEGS = "train_eegs", "test_eegs"
TRAIN_SPECTROGRAMS, TEST_SPECTROGRAMS = "train_spectrograms", "test_spectrograms"
TRAIN_TABLE, TEST_TABLE, SAMPLE_SUBMISSION = "train.csv", "test.csv", "sample_submission.csv"
SUBMISSION_COLUMNS = ("eeg_id", *VOTES)
