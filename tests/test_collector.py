"""Python's garbage collector rests inside, and is left as it was found."""

import gc

import pytest

from kancl.collector import not_collecting


@pytest.mark.parametrize("collects", [True, False])
def test_it_rests_inside_and_is_as_before_after_an_error(collects: bool) -> None:
    try:
        if not collects:
            gc.disable()
        with pytest.raises(KeyError), not_collecting():
            assert not gc.isenabled()
            raise KeyError
        assert gc.isenabled() == collects
    finally:
        gc.enable()
