"""Published protocols, one file of data each, and the rule that passes or fails."""

from kancl.protocols.protocol import Protocol, Row, protocol_names, read_protocol
from kancl.protocols.verdict import Judgement, judge, judge_fall

__all__ = [
    "Judgement",
    "Protocol",
    "Row",
    "judge",
    "judge_fall",
    "protocol_names",
    "read_protocol",
]
