"""Names, keys and documentation of the strategies, sums of them, and what is refused."""

import inspect

import pytest
import torch
from torch import nn

from kancl.benchmarks import split_mnist
from kancl.models import KAN, MLP, KANLinear
from kancl.models.heads import with_head
from kancl.plugins import Plugin
from kancl.plugins.penalties.ewc import EWCPlugin
from kancl.strategies import (
    GROUP,
    STRATEGIES,
    TrainingSetup,
    build,
    trains_jointly,
    trains_last_layer_only,
)
from kancl.strategies.bases import Base, DERBase


def setup(model=None, **options):
    model = model or nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return TrainingSetup(model, optimizer, batch_size=8, iterations=2, **options)


@pytest.mark.parametrize("name", GROUP.names)
def test_parts_are_typed_and_documented(name):
    for part in GROUP.parts(name):
        for parameter in inspect.signature(part.builder).parameters.values():
            assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
            assert parameter.default is not inspect.Parameter.empty
        purpose, *rest = inspect.getdoc(part.builder).split("\n")
        assert purpose.endswith(".") and len(purpose) <= 88
        assert any(line.startswith("Source:") for line in rest) or name in (
            *("lazy", "freeze_base", "hard_mask", "grow_grids", "ridge_readout"),
            *("nearest_mean", "spline_bayes"),
        )
    for option in GROUP.options(name).values():
        assert option.help, option.name


def test_every_plugin_of_a_strategy_is_in_the_right_room():
    for classes in STRATEGIES.values():
        for cls in classes:
            assert issubclass(cls, (Plugin, Base))
            room = cls.__module__.split(".")[1]
            assert room == ("plugins" if issubclass(cls, Plugin) else "strategies")


SUMS = ["ewc+replay", "si+replay", "lwf+replay", "ewc+lwf", "gram+labels_trick"]


@pytest.mark.parametrize("name", SUMS)
def test_a_sum_has_the_keys_and_plugins_of_its_parts(name):
    def plugins(name):
        return {type(plugin) for plugin in build(name, setup()).plugins}

    first, second = name.split("+")
    options = {**GROUP.options(first), **GROUP.options(second)}
    assert GROUP.options(name) == options
    assert plugins(name) == plugins(first) | plugins(second)


@pytest.mark.parametrize("name", SUMS)
def test_a_sum_is_the_same_in_any_order(name):
    def kinds(name):
        return [type(plugin) for plugin in build(name, setup()).plugins]

    assert kinds(name) == kinds("+".join(reversed(name.split("+"))))


def test_keys_that_two_parts_share_are_told_apart():
    name = "agem+replay"
    keys = GROUP.options(name)
    assert {"agem.mem_size", "replay.mem_size", "weighting"} <= keys.keys()
    options = {"agem.mem_size": 7, "replay.mem_size": 9, "weighting": "experiences"}
    made = {type(p).__name__: p for p in build(name, setup(), **options).plugins}
    assert made["AGEMPlugin"].mem_size == 7
    assert (made["ReplayPlugin"].mem_size, made["ReplayPlugin"].weighting) == (
        9,
        "experiences",
    )
    with pytest.raises(ValueError, match="strategy.mem_size is not a key.*mem_size"):
        build(name, setup(), mem_size=7)


def test_presets_carry_tuned_values_and_say_what_they_are():
    assert GROUP.expanded("gram_ewc") == "gram+ewc"
    assert GROUP.defaults("gram_ewc")["ewc_lambda"] == 0.3
    assert GROUP.defaults("online_ewc")["gamma"] == 1.0
    assert GROUP.defaults("ewc")["gamma"] is None
    assert "Gram occupancy" in GROUP.summary("gram_ewc")
    ewc = next(p for p in build("gram_ewc", setup()).plugins if hasattr(p, "implicit"))
    assert ewc.implicit and ewc.ewc_lambda == 0.3


@pytest.mark.parametrize(
    "name, why",
    [
        ("replya", "replya.*nearest: replay"),
        ("ewc+replya", "there is no strategy=ewc.replya"),
        ("naive+ewc", "naive adds nothing to a sum; use strategy=ewc instead"),
        ("ewc+ewc", "EWCPlugin more than once.* instead"),
        ("ewc+online_ewc", "EWCPlugin more than once.* instead"),
        ("der+er_ace", "training loops of DER and ER_ACE at once.* instead"),
        ("der+lwf", "a loss of its own; .* instead"),
        ("der+replay", "a loss of its own; .* instead"),
        ("er_ace+labels_trick", "a loss of its own; .* instead"),
        ("joint+ewc", "no past to protect; use strategy=joint by itself instead"),
        ("cumulative+replay", "nothing left to protect; .* by itself instead"),
        ("gdumb+ewc", "use strategy=gdumb by itself instead"),
        ("ewc+ridge_readout", "no gradient steps.* by itself instead"),
        (
            "ewc+from_scratch",
            "keeps those of the past; use strategy=from_scratch by it",
        ),
        ("si+from_scratch", "keeps those of the past; .* instead"),
        ("from_scratch+gram", "keeps those of the past; .* instead"),
        ("from_scratch+owm", "keeps those of the past; .* instead"),
        ("lazy+ewc", "which splines a batch touches; use model=kan instead"),
    ],
)
def test_sums_that_cannot_work_are_refused(name, why):
    with pytest.raises(ValueError, match=why):
        build(name, setup(with_head(MLP([4, 3, 4]), "single", 4)))


@pytest.mark.parametrize(
    "name",
    [
        "gram+grow_grids",
        "owm+grow_grids",
        "ewc_batched+grow_grids",
        "from_scratch+grow_grids",
    ],
)
def test_what_knows_old_bases_only_is_refused_where_grids_change(name):
    model = with_head(KAN([4, 3, 4], enable_standalone_scale_spline=False), "single", 4)
    with pytest.raises(ValueError, match="leave grow_grids out"):
        build(name, setup(model))


def test_shared_occupancies_are_refused_where_grids_change_one_by_one():
    model = with_head(
        KAN([4, 3, 4], enable_standalone_scale_spline=False), "growing", 4
    )
    with pytest.raises(ValueError, match="can't change one by one.* instead"):
        build("grow_grids+occupancy", setup(model))


@pytest.mark.parametrize("name", GROUP.names)
def test_a_regression_is_refused_by_all_that_need_classes(name):
    learns = {"naive", "joint", "cumulative", "from_scratch", "l2_anchor", "si", "mas"}
    learns |= {"occupancy", "gram", "owm", "lazy", "freeze_base", "hard_mask"}
    learns |= {"drift_penalty", "grow_grids", "sparsity", "clip_gradients"}
    net = KAN([4, 3, 1], base=True, enable_standalone_scale_spline=False)
    values = setup(with_head(net, "single", 1), learns_values=True)
    if name in learns:
        build(name, values)
    else:
        with pytest.raises(ValueError, match=f"strategy={name}.* instead"):
            build(name, values)


@pytest.mark.parametrize(
    "name, wrong",
    [
        ("ewc", {"ewc_lambda": -1.0}),
        ("ewc", {"fisher_samples": 0}),
        ("ewc_batched", {"ewc_lambda": -1.0}),
        ("online_ewc", {"gamma": 1.1}),
        ("si", {"si_c": -0.5}),
        ("si", {"damping": 0.0}),
        ("lwf", {"alpha": -1.0}),
        ("lwf", {"temperature": 0.0}),
        ("mas", {"mas_lambda": -1.0}),
        ("l2_anchor", {"l2_lambda": float("inf")}),
        ("replay", {"mem_size": 0}),
        ("replay", {"mem_per_class": 0}),
        ("replay", {"replay_batch_size": 0}),
        ("agem", {"mem_size": -5}),
        ("gem", {"patterns_per_experience": 0}),
        ("gem", {"memory_strength": -0.1}),
        ("er_ace", {"mem_size": 0}),
        ("er_ace", {"replay_batch_size": 0}),
        ("der", {"mem_size": 0}),
        ("der", {"alpha": -0.1}),
        ("der", {"beta": -0.1}),
        ("gdumb", {"mem_size": 0}),
        ("mir", {"candidates": 0}),
        ("occupancy", {"beta": -1.0}),
        ("occupancy", {"feature_samples": 0}),
        ("gram", {"beta_input": -1.0}),
        ("gram", {"beta_hidden": -0.1}),
        ("gram", {"structure": "round"}),
        ("owm", {"alpha_input": 0.0}),
        ("owm", {"alpha_hidden_decay": 2.0}),
        ("owm", {"alpha_input_decay": 0.0}),
        ("owm", {"alpha_hidden_decay": 0.0}),
        ("owm", {"alpha_output_decay": 0.0}),
        ("gram_ewc", {"ewc_lambda": -0.3}),
        ("labels_trick_gram", {"rank": 0}),
        ("hard_mask", {"threshold": -1.0}),
        ("drift_penalty", {"drift_lambda": -1.0}),
        ("grow_grids", {"off_grid": 2.0}),
        ("sparsity", {"sparsity_lambda": -1.0}),
        ("ewc+replay", {"mem_size": 0}),
    ],
)
def test_refuses_options_out_of_range_by_name_and_value(name, wrong):
    [(option, value)] = wrong.items()
    with pytest.raises(ValueError, match=f"{option}.*{value}"):
        build(name, setup(), **wrong)


@pytest.mark.parametrize("head", ["single", "growing", "multi"])
@pytest.mark.parametrize("widths", [[4, 5, 3000, 2], [4, 2500, 2500, 2]])
@pytest.mark.parametrize(
    "name, options, way",
    [
        ("gram", {}, "set strategy.structure=blocks or low_rank instead"),
        (
            "gram",
            {"structure": "low_rank", "rank": 9000},
            "a smaller strategy.rank, or",
        ),
        ("owm", {}, "set strategy.block_size to 1000 or less"),
        ("owm", {"block_size": 9000}, "a smaller strategy.block_size"),
        ("owm", {"block_size": 2800}, "a smaller strategy.block_size"),
    ],
)
def test_matrices_over_features_that_do_not_fit_together_are_refused(
    name, options, way, widths, head, monkeypatch
):
    """Those of the last layer as well, where it is still to come."""
    monkeypatch.setattr("kancl.data.checks.free_memory", lambda device: 2**26 - 2**20)
    with pytest.raises(ValueError, match=f"past features takes 0.* are free: .*{way}"):
        build(name, setup(with_head(MLP(widths), head, 2)), **options)
    for few in {"structure": "blocks"}, {"structure": "low_rank", "rank": 10}:
        build("gram", setup(with_head(MLP(widths), head, 2)), **few)
    build("owm", setup(with_head(MLP(widths), head, 2)), block_size=100)


def test_projectors_of_every_sample_take_more_while_they_are_worked_out(monkeypatch):
    monkeypatch.setattr("kancl.data.checks.free_memory", lambda device: 2**26)
    layers = [4, 5, 2100, 2]
    build("owm", setup(with_head(MLP(layers), "single", 2)))
    with pytest.raises(ValueError, match="past features takes .* are free"):
        build("owm", setup(with_head(MLP(layers), "single", 2)), by_sample=True)


def test_heads_to_come_are_counted_without_a_random_number():
    model = with_head(MLP([4, 3, 2]), "growing", 2)
    torch.manual_seed(0)
    expected = torch.rand(())
    torch.manual_seed(0)
    build("owm", setup(model))
    assert torch.equal(torch.rand(()), expected)


@pytest.mark.parametrize("name", ["occupancy", "gram", "gram_ewc", "labels_trick_gram"])
def test_a_factor_per_edge_is_refused_before_training(name):
    with pytest.raises(ValueError, match="model.standalone_scale=false instead"):
        build(name, setup(KANLinear(4, 4)))


def test_only_joint_trains_jointly_and_readouts_the_last_layer_only():
    assert [name for name in GROUP.names if trains_jointly(name)] == ["joint"]
    assert [name for name in GROUP.names if trains_last_layer_only(name)] == [
        *("ridge_readout", "nearest_mean", "spline_bayes"),
    ]


class CountingPlugin(Plugin):
    """Forget to declare what it counts."""

    def __init__(self) -> None:
        super().__init__()
        self.n = 0


def test_a_plugin_with_undeclared_state_is_refused():
    with pytest.raises(ValueError, match="CountingPlugin keeps n and declares it"):
        build("naive", setup(plugins=[CountingPlugin()]))


def test_a_users_plugin_does_not_take_the_place_of_the_strategys_own():
    mine = EWCPlugin(ewc_lambda=1.0)
    plugins = build("ewc", setup(plugins=[mine]), ewc_lambda=7.0).plugins
    strengths = [p.ewc_lambda for p in plugins if isinstance(p, EWCPlugin)]
    assert strengths == [1.0, 7.0]


def test_a_new_strategy_is_one_line(monkeypatch):
    ewc, replay = STRATEGIES["ewc"], STRATEGIES["replay"]
    monkeypatch.setitem(STRATEGIES, "mine", [*ewc, *replay])
    strategy = build("mine", setup(), ewc_lambda=3.0)
    kinds = {type(plugin) for plugin in strategy.plugins}
    assert {*ewc, *replay} <= kinds


@pytest.mark.parametrize("head", ["growing", "multi"])
def test_a_refused_head_really_fails(head, monkeypatch):
    """Fails once Avalanche can do it: then take the need out of ``DERBase``."""
    incremental = "task" if head == "multi" else "class"
    benchmark = split_mnist(incremental=incremental, train_samples=16)
    n = benchmark.info.n_outputs
    with pytest.raises(ValueError, match="strategy=der.* instead"):
        build("der", setup(with_head(MLP([784, 4, n]), head, n)))
    monkeypatch.setattr(DERBase, "needs", Base.needs)
    built = build("der", setup(with_head(MLP([784, 4, n]), head, n)), mem_size=8)
    with pytest.raises((TypeError, RuntimeError, UserWarning, AssertionError)):
        for experience in list(benchmark.train_stream)[:2]:
            built.train(experience)
            output = next(iter(built.storage_policy.buffer))[3]
            assert output.min() > -500, "an output that no head gave is kept"
