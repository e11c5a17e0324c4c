"""The state of a run as plain data: numbers, strings, tensors, lists and dicts.

No class is named by what is read back but those of the literal dicts in `known`, and nothing
of it is called: a state from a stranger can be wrong, it can't run code.

The state is gathered by walking through the strategy, its plugins and what these are
made of. What the configuration alone makes (streams, functions, consoles, images to
measure on) is left out: a fresh strategy of the same configuration has it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from kancl.runner.checkpoint.decoding import Decoder
from kancl.runner.checkpoint.encoding import Encoder
from kancl.runner.checkpoint.known import Unresumable
from kancl.runner.checkpoint.samples import Samples


class World:
    """What a state may refer to: all that a fresh run of a configuration has.

    Make it when the strategy is built, before it is evaluated or trained.

    Args:
        left_out: plugins that only show the run.
    """

    def __init__(self, strategy: Any, benchmark: Any, left_out: Any = ()) -> None:
        self.strategy = strategy
        ignored = {id(plugin) for plugin in left_out}
        self.plugins = [p for p in strategy.plugins if id(p) not in ignored]
        self.samples = Samples(benchmark)
        self.pristine = copy.deepcopy(strategy.model)
        self.built: list[tuple[Tensor, int]] = []
        """Tensors that the plugins had from the start, and their versions."""
        collector = Encoder(self)
        collector.whole()
        self.built = [(t, t._version) for t in collector.tensors]

    def parameters(self) -> dict[str, Tensor]:
        model = self.strategy.model
        return dict([*model.named_parameters(), *model.named_buffers()])

    def plugin_key(self, number: int) -> str:
        return f"{number} {type(self.plugins[number]).__name__}"

    def state(self) -> dict[str, Any]:
        """The strategy as it is now, but for the random streams."""
        return Encoder(self).whole()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Raises: Unresumable, if the state is no state of this configuration."""
        try:
            Decoder(self).whole(state)
        except Unresumable:
            raise
        except Exception as error:  # whatever a stranger's state runs into
            raise Unresumable(
                f"the state does not fit this run ({type(error).__name__}: "
                f"{_one_line(error)})"
            ) from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
