"""How large a layer's edges are together, and how evenly they share it."""

from torch import Tensor

SMALLEST = 1e-30  # far below any share; its inverse and logarithm are finite


def l1_and_entropy(sizes: Tensor, l1: float, entropy: float) -> Tensor:
    """``l1 sum_e s_e + entropy S``, ``S`` the entropy of the edges' shares of the sum.

    An edge of size 0 adds nothing.

    Source: Liu et al. 2024, arXiv:2404.19756, section 2.5.1.
    """
    total = sizes.sum()
    share = sizes / total.clamp(min=SMALLEST)
    uncertainty = -(share * share.clamp(min=SMALLEST).log()).sum()
    return l1 * total + entropy * uncertainty
