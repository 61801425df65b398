"""A packed set of photographs as a folder of class folders, with the parts it comes with.

    python benchmarks/clothing_folder.py ../shared/data/images/clothing96-packed.npz clothing
    keras-optlab search clothing --minutes 20

Expected of the search before it was first run: a test accuracy of .75 to .85 (always the largest class: .196; a support vector machine on 80 principal
components: .516).
"""

import sys
from pathlib import Path

import numpy as np


def main(packed: str, folder: str) -> None:
    file = np.load(packed, allow_pickle=False)
    for short, part in (("train", "train"), ("val", "validation"), ("test", "test")):
        offsets, content = file[f"x_{short}_offsets"], file[f"x_{short}_bytes"]
        for i, label in enumerate(file[f"y_{short}"]):
            path = Path(folder, part, str(file["label_names"][label]), f"{i:05d}.jpg")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content[offsets[i] : offsets[i + 1]].tobytes())


if __name__ == "__main__":
    main(*sys.argv[1:])
