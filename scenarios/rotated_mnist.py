"""Which of two equally large networks forgets more of Rotated MNIST, KAN or MLP?

Five experiences with the same ten digits, turned from 0 to 180 degrees;
domain-incremental, trained naively, one epoch each. Everything can be overridden:

    python scenarios/rotated_mnist.py scenario.n_experiences=10 strategy=replay

Source: Lopez-Paz and Ranzato 2017, arXiv:1706.08840.
"""

import sys

from kancl.cli import main

if __name__ == "__main__":
    sys.exit(main(["compare", "scenario=rotated_mnist", *sys.argv[1:]]))
