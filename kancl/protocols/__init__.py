"""Published protocols, one file of data each, and the rule that passes or fails."""

from kancl.protocols.bounds import (
    Bound,
    BoundedProtocol,
    BoundJudgement,
    bounds_markdown,
    is_bounded,
    judge_bound,
    judge_fall,
    read_bounds,
)
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
    "Bound",
    "BoundJudgement",
    "BoundedProtocol",
    "bounds_markdown",
    "is_bounded",
    "judge_bound",
    "judge_fall",
    "read_bounds",
    "Judgement",
    "Protocol",
    "Row",
    "judge",
    "judgements_markdown",
    "protocol_names",
    "read_protocol",
]
