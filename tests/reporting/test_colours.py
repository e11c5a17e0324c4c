"""Colours that tell apart."""

from kancl.reporting.colours import KAN, MLP, model_colours


def test_models_of_one_family_are_told_apart_and_the_first_ones_keep_theirs():
    colours = model_colours(["kan", "mlp", "kan_local", "kan", "forest"])
    assert colours["kan"] == KAN and colours["mlp"] == MLP
    assert len(set(colours.values())) == 4
