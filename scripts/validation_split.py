#!/usr/bin/env python3
"""Makes a data set to choose settings on, whose test split is a fifth of another's training images.

Usage: scripts/validation_split.py FOLDER OUT      (image folders: FOLDER/train/CLASS/*)

Of each class every fifth image goes to OUT/test, the others to OUT/train, as hard links. Where names are
CLASS_TRACK_FRAME, as GTSRB's, every fifth track does: frames of one track are all but the same image.
scripts/reproduce.py plants and purifies on OUT as on any other set; FOLDER's own test split stays unseen.
"""
import os
import pathlib
import re
import sys

TRACK = re.compile(r"\d+_(\d+)_\d+\.\w+")


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    folder, out = map(pathlib.Path, sys.argv[1:])
    train = folder / "train"
    if not train.is_dir():
        sys.exit(f"{folder}: no train/CLASS folders in it")
    for images in sorted(path for path in train.iterdir() if path.is_dir()):
        for number, image in enumerate(sorted(images.iterdir())):
            track = TRACK.fullmatch(image.name)
            part = "test" if (int(track[1]) if track else number) % 5 == 4 else "train"
            to = out / part / images.name / image.name
            to.parent.mkdir(parents=True, exist_ok=True)
            os.link(image, to)


if __name__ == "__main__":
    main()
