"""A script as a user writes it, whose strategy does what ``plants.json`` says.

``test_launchers.py`` runs it: the processes of a launcher do not know what it registers.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from kancl.cli import main
from kancl.plugins import Plugin
from kancl.strategies import STRATEGIES


class PlantPlugin(Plugin):
    """Note who trains what; break in the last experience, in one way or another.

    Args:
        cell: of the sweep.
    """

    def __init__(self, *, cell: int = 0) -> None:
        super().__init__()
        self.cell = cell

    def before_training_exp(self, strategy, **kwargs):
        with open("made.txt", "a") as made:
            made.write(f"{self.cell} {os.environ.get('NODE', 'none')} {os.getpid()}\n")
        if strategy.clock.train_exp_counter < 4:
            return
        plants = json.loads(Path("plants.json").read_text())
        kind = plants.get(str(self.cell))
        if kind == "raise":
            raise ZeroDivisionError("planted")
        if kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "nan":
            for parameter in strategy.model.parameters():
                parameter.data.fill_(float("nan"))
        time.sleep(plants.get("seconds", 0))


STRATEGIES["planted"] = [PlantPlugin]

if __name__ == "__main__":
    sys.exit(main(["run", "-q", "-m", "strategy=planted", *sys.argv[1:]]))
