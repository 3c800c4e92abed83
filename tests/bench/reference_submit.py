"""P8: the public inference notebook as one script: pandas, librosa one EEG after the other, eager torch.

    python reference_submit.py COMPETITION WEIGHTS OUT.csv [--eegs N]

WEIGHTS: a folder of fold*.safetensors of an EfficientNet-B0 on the mel image. Prints one line of JSON: seconds until
the imports were done, to load the models, and for the N first EEGs.
"""

import argparse
import json
import time
from pathlib import Path

import pandas as pd
import timm
import torch
from references import mel_image_of_file
from safetensors.torch import load_file
from torch import nn

VOTES = [f"{pattern}_vote" for pattern in ("seizure", "lpd", "gpd", "lrda", "grda", "other")]
BATCH_SIZE = 8


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = timm.create_model("efficientnet_b0", pretrained=False, in_chans=1, num_classes=0)
        self.classifier = nn.Linear(1280, len(VOTES))

    def forward(self, image: torch.Tensor) -> torch.Tensor:  # (batch, 1, 512, 256) -> (batch, 6)
        return self.classifier(self.backbone(image))


def load_models(weights: Path) -> list[nn.Module]:
    models = []
    for path in sorted(weights.glob("fold*.safetensors")):
        model = Net()
        model.load_state_dict(load_file(path))
        models.append(model.eval())
    return models


def predict(models: list[nn.Module], images: torch.Tensor) -> torch.Tensor:
    """Mean of the folds' probabilities: (n, 1, 512, 256) -> (n, 6), in batches of 8."""
    answers = []
    with torch.no_grad():
        for model in models:
            answers.append(torch.cat([model(batch).softmax(dim=1) for batch in images.split(BATCH_SIZE)]))
    return torch.stack(answers).mean(dim=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("competition", "weights", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--eegs", type=int, default=None, help="only the first of test.csv; default: all")
    arguments = parser.parse_args()
    started = time.perf_counter()
    models = load_models(arguments.weights)
    loaded = time.perf_counter()
    table = pd.read_csv(arguments.competition / "test.csv").head(arguments.eegs)
    paths = [arguments.competition / "test_eegs" / f"{eeg_id}.parquet" for eeg_id in table["eeg_id"]]
    images = torch.stack([torch.from_numpy(mel_image_of_file(path)) for path in paths]).unsqueeze(1)
    submission = pd.DataFrame(predict(models, images).numpy(), columns=VOTES)
    submission.insert(0, "eeg_id", table["eeg_id"])
    submission.to_csv(arguments.out, index=False)
    print(json.dumps({"load": loaded - started, "eegs": time.perf_counter() - loaded}))


if __name__ == "__main__":
    main()
