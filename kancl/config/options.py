"""The options of a command, refused in one sentence as keys are."""

from argparse import ArgumentParser
from typing import NoReturn

from kancl.config.values import ConfigError


class Parser(ArgumentParser):
    """A command's options; what it cannot read is a ConfigError.

    Raises: ConfigError instead of printing the usage and ending the process.
    """

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; {self.prog} --help shows what it takes")
