"""Which of two equally large networks forgets more of Split MNIST, the KAN or the MLP?

Five experiences of two digits each, class-incremental, trained naively one after the
other; under a minute on 2 CPU cores. Everything can be overridden:

    python scenarios/split_mnist.py strategy=ewc scenario.incremental=task 'seed=range(5)'

Source: van de Ven and Tolias 2019, arXiv:1904.07734.
"""

import sys

from kancl.cli import main

if __name__ == "__main__":
    sys.exit(main(["compare", "scenario=split_mnist", *sys.argv[1:]]))
