"""How fast kancl is on this machine: ``kancl bench NAME``, a module each."""

BENCHES = {"layers": "layers", "device": "device", "answers": "answers"}
BENCHES |= dict.fromkeys(("data", "runs"), "stock")
BENCHES |= dict.fromkeys(("evaluation", "iteration", "checkpoints", "sweep"), "costs")
"""The module of each benchmark."""
