"""Published protocols, one file of data each, and the rule that passes or fails."""

from kancl.protocols.protocol import (
    Judgement,
    Protocol,
    Row,
    judge,
    judgements_markdown,
    protocol_names,
    read_protocol,
)

__all__ = [
    "Judgement",
    "Protocol",
    "Row",
    "judge",
    "judgements_markdown",
    "protocol_names",
    "read_protocol",
]
