"""What a person waits for is timed on real commands."""

import pytest

from kancl.bench.answers import IMPORTS, NOTHING, bench_answers


@pytest.mark.proof
def test_answers_without_torch_come_before_its_import() -> None:
    (rows,) = bench_answers(repeats=1)
    seconds = {row["answer"]: row["CPU seconds"] for row in rows}
    answers = [
        name for name in seconds if name.startswith("kancl ") and "run," not in name
    ]
    assert len(answers) == 5
    for name in answers:
        assert seconds[NOTHING] < seconds[name] < seconds[IMPORTS] / 2
    assert seconds["kancl run, first iteration"] > seconds[IMPORTS]
