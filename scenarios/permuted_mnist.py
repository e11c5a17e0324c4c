"""Which of two equally large networks forgets more of Permuted MNIST, KAN or MLP?

Ten experiences with the same ten digits, the pixels of each in an order of its own;
domain-incremental, trained naively, one epoch each. Everything can be overridden:

    python scenarios/permuted_mnist.py strategy=naive,ewc,si 'seed=range(5)'

Source: Goodfellow et al. 2013, arXiv:1312.6211.
"""

import sys

from kancl.cli import main

if __name__ == "__main__":
    sys.exit(main(["compare", "scenario=permuted_mnist", *sys.argv[1:]]))
