"""Published protocols, one file of data each, and the rule that passes or fails."""

from kancl.protocols.protocol import (
    SLACK,
    Judgement,
    Protocol,
    Row,
    judge_fall,
    protocol_names,
    read_protocol,
)
