"""When does a spline network not forget? Five Gaussian peaks, learned one after the other.

The KAN paper's own experiment: a KAN on a fine grid without a base branch, one with it, an
MLP; coarser grids and other degrees; and the counter-example with two inputs. About a
minute on one CPU core; ends with a table of PASS and FAIL and writes three figures:
functions learned after each phase, the same in two dimensions, the phase diagram.
Everything can be overridden (then nothing is judged):

    python scenarios/gaussian_peaks.py --rows mlp training.iterations=2000

Source: Liu et al. 2024, arXiv:2404.19756, section 3.4.
"""

import sys

from kancl.cli import main

RESULTS = "--results=gaussian_peaks.md"

if __name__ == "__main__":
    sys.exit(main(["reproduce", "gaussian-peaks", "--seeds=1", RESULTS, *sys.argv[1:]]))
