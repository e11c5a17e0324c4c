"""How many bytes a strategy holds beside the model: samples, importances, old weights."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor, nn

from kancl.data.rows import as_tensors
from kancl.plugins.rehearsal.exemplar_memory import ExemplarMemory


def held_bytes(strategy: SupervisedTemplate, observers: Iterable[Any] = ()) -> int:
    """Bytes of what the strategy's plugins keep from one experience to the next.

    Tensors count once, those of the model not at all. Kept data sets count as the
    tensors that their samples are, whether they are copies or rows of the benchmark's.

    Args:
        observers: plugins that only measure.
    """
    watching = {id(observer) for observer in observers}
    own = [plugin for plugin in strategy.plugins if id(plugin) not in watching]
    roots = [*own, getattr(strategy, "storage_policy", None)]
    search = _Search(strategy)
    for root in roots:
        search.visit(root)
    return search.n_bytes


class _Search:
    """Walk through objects of kancl's and Avalanche's plugins, each once."""

    def __init__(self, strategy: SupervisedTemplate) -> None:
        self.n_bytes = 0
        self._strategy = strategy
        self._seen = {id(strategy), id(strategy.model), id(strategy.optimizer)}
        parts = [*strategy.model.parameters(), *strategy.model.buffers()]
        self._storages = {part.untyped_storage().data_ptr() for part in parts}

    def visit(self, item: Any) -> None:
        if id(item) in self._seen:
            return
        self._seen.add(id(item))
        if isinstance(item, Tensor):
            self._add(item)
        elif isinstance(item, nn.Module):
            for part in (*item.parameters(), *item.buffers()):
                self.visit(part)
        elif isinstance(item, AvalancheDataset):
            self._add_samples(item)
        elif isinstance(item, Mapping):
            self._visit_all(item.values())
        elif isinstance(item, (list, tuple, set, deque)):
            self._visit_all(item)
        elif isinstance(item, ExemplarMemory):
            state = vars(item)  # its data set is the tensors that it draws from
            self._visit_all(v for k, v in state.items() if k != "exemplars")
        elif _is_ours(item):
            self._visit_all(vars(item).values())

    def _visit_all(self, items: Iterable[Any]) -> None:
        for item in list(items):
            self.visit(item)

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._storages:
            self._storages.add(storage.data_ptr())
            self.n_bytes += storage.nbytes()

    def _add_samples(self, dataset: AvalancheDataset) -> None:
        if len(dataset):
            x, y, _ = as_tensors(dataset, 1)
            self.n_bytes += len(dataset) * (x.nbytes + y.nbytes)


def _is_ours(item: Any) -> bool:
    """A plugin, or what one is made of; not an experience, a stream or a loader."""
    room = type(item).__module__
    return hasattr(item, "__dict__") and room.startswith(
        ("kancl.plugins", "kancl.strategies", "avalanche.training")
    )
