"""Joint MNIST: does the KAN converge in fewer epochs, is it as accurate, does it overfit?

KAN [784, 64, 10] and an MLP with as many parameters, as KAN write-ups train them: pixels
in [-1, 1], AdamW with lr 1e-3 falling by 0.8 each epoch, batches of 64, ten epochs;
measured on the test images after every epoch; about four minutes on 2 CPU cores. The
run ends with a table and the three answers. Everything can be overridden:

    python scenarios/mnist.py training.epochs=3 match=width scenario.validation=0.1
"""

import sys

from kancl.cli import main

PROTOCOL = [
    "scenario=mnist",
    "scenario.normalize=unit",
    "optimizer=adamw",
    "optimizer.lr=1e-3",
    "optimizer.weight_decay=1e-4",
    "training.lr_gamma=0.8",
    "training.batch_size=64",
    "training.epochs=10",
    "evaluation.each_epoch=true",
]

if __name__ == "__main__":
    sys.exit(main(["compare", *PROTOCOL, *sys.argv[1:]]))
