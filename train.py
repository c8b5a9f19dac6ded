"""Train a model from one YAML file: `python train.py --config unet_b3.yaml`; the same as `segzoo train`."""

import sys

from segzoo.__main__ import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
