from __future__ import annotations

import copy
import functools
import pickle
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, parametrize

from ckptstore.errors import UnsupportedModel
from ckptstore.hashing import describe_model
from tests.hashing_models import Tied, TwoLayers


def digest_of(model):
    return describe_model(model).digest


def conv(**options):
    return nn.Conv1d(4, 4, 3, **options)


def encoder(**options):
    return nn.TransformerEncoderLayer(4, 2, 8, **options)


@pytest.mark.parametrize(
    "models",
    [
        [nn.Linear(2, 2), nn.Linear(2, 99), nn.Linear(2, 2, bias=False), nn.Linear(2, 2, dtype=torch.float64)],
        [
            nn.LSTM(2, 3),
            nn.LSTM(2, 4),
            nn.LSTM(3, 3),
            nn.GRU(2, 3),
            nn.LSTM(2, 3, bidirectional=True),
            nn.LSTM(2, 3, 2),
            nn.LSTM(2, 3, 2, dropout=0.5),
            nn.LSTM(2, 3, batch_first=True),
            nn.RNN(2, 3),
            nn.RNN(2, 3, nonlinearity="relu"),
            nn.LSTM(2, 3, proj_size=2),
        ],
        [
            conv(),
            conv(padding=1),
            conv(bias=False),
            conv(dilation=2),
            conv(stride=2),
            conv(groups=2),
            conv(padding=1, padding_mode="circular"),
            nn.Conv1d(4, 5, 3),
            nn.Conv1d(4, 4, 5),
            nn.ConvTranspose1d(4, 4, 3),
        ],
        [nn.Dropout(0.1), nn.Dropout(0.2), nn.Dropout(0.1, inplace=True), nn.Dropout1d(0.1)],
        [nn.MultiheadAttention(8, heads) for heads in (1, 2, 4)] + [nn.MultiheadAttention(8, 1, batch_first=True)],
        [encoder(), encoder(activation="gelu"), encoder(norm_first=True), encoder(batch_first=True)],
        [
            nn.BatchNorm1d(3),
            nn.BatchNorm1d(3, eps=1e-3),
            nn.BatchNorm1d(3, affine=False),
            nn.BatchNorm1d(3, momentum=0.2),
        ],
        [nn.ReLU(), nn.GELU(), nn.GELU("tanh"), nn.LeakyReLU(), nn.LeakyReLU(0.5), nn.Softmax(0), nn.Softmax(1)],
        [nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=0.1), nn.CrossEntropyLoss(reduction="sum")],
        [
            nn.Sequential(nn.ReLU(), nn.Tanh()),
            nn.Sequential(nn.Tanh(), nn.ReLU()),
            nn.ModuleList([nn.ReLU(), nn.Tanh()]),
        ],
        [nn.Sequential(nn.Sequential(nn.ReLU()), nn.ReLU()), nn.Sequential(nn.Sequential(nn.ReLU(), nn.ReLU()))],
        [
            nn.ParameterList([torch.zeros(2)]),
            nn.ParameterList([torch.zeros(3)]),
            nn.ParameterDict({"a": torch.zeros(2)}),
        ],
        [TwoLayers(), TwoLayers(width=5), TwoLayers(scale=3.0)],
    ],
    ids=lambda models: type(models[0]).__name__,
)
def test_models_that_differ_have_different_digests(models):
    assert len({digest_of(model) for model in models}) == len(models)


def test_the_digest_of_a_model_is_that_of_the_first_release():
    small = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(1), nn.Linear(4, 2))
    assert digest_of(nn.Linear(2, 3)) == "84574191bb6cf87a4bd9342d6cd5ebd9644f19eab6ce6a552549c82084ae7548"
    assert digest_of(small) == "4600cef9a4359d80770db48be10bc2e90699ffc175d27b1a644b0b6634a35d3a"
    assert digest_of(TwoLayers()) == "13463b38bdfbfff152066ffbf5e14f245cb45537975bde585105fe6f3c809616"
    assert (
        describe_model(TwoLayers(), forward_source=False).digest
        == "e93ac2b0081cd9b06578936d4c59962b893d8ee93f55ccb55f6f30b51a946284"
    )


def test_values_mode_and_gradients_do_not_count():
    model = TwoLayers()
    expected = digest_of(model)
    with torch.no_grad():
        model.first.weight.fill_(7)
        model.offset.fill_(3)
    model.requires_grad_(False)
    assert digest_of(model.eval()) == digest_of(copy.deepcopy(model)) == digest_of(TwoLayers()) == expected
    assert digest_of(pickle.loads(pickle.dumps(model))) == expected


def test_a_counter_that_forward_increments_does_not_count():
    model = TwoLayers()
    before = describe_model(model)
    model(torch.zeros(1, 3))
    assert model.calls == 1
    assert describe_model(model) == before
    assert describe_model(model, forward_source=False) == describe_model(TwoLayers(), forward_source=False)


def test_a_model_on_the_meta_device_is_the_same_model():
    for make in (
        TwoLayers,
        encoder,
        lambda: nn.LSTM(2, 3),
        lambda: Tied(tied=True),
        lambda: nn.ParameterList([torch.zeros(2)]),
    ):
        with torch.device("meta"):
            meta = make()
        assert {parameter.device.type for parameter in meta.parameters()} == {"meta"}
        assert describe_model(meta) == describe_model(make())


def test_dtype_counts():
    assert digest_of(TwoLayers().half()) != digest_of(TwoLayers())


def test_tied_weights_count():
    assert digest_of(Tied(tied=True)) != digest_of(Tied(tied=False))
    assert digest_of(Tied(tied=True)) == digest_of(copy.deepcopy(Tied(tied=True)))


def test_a_module_registered_twice_is_not_two_modules():
    shared, own = nn.ReLU(), [nn.ReLU(), nn.ReLU()]
    twice = describe_model(nn.Sequential(shared, shared))
    assert twice.digest != digest_of(nn.Sequential(*own))
    assert list(twice.modules) == ["", "0", "1"]
    assert twice.modules["0"] != twice.modules["1"]


def test_the_place_where_weights_are_tied_counts():
    def three(first, second):
        layers = nn.Sequential(*[nn.Linear(2, 2) for _ in range(3)])
        layers[second].weight = layers[first].weight
        return layers

    assert len({digest_of(three(*pair)) for pair in [(0, 1), (0, 2), (1, 2)]}) == 3


def test_buffers_count_and_whether_they_are_persistent():
    def with_buffer(size, *, persistent):
        module = nn.Module()
        module.register_buffer("table", torch.zeros(size), persistent=persistent)
        return module

    models = [with_buffer(2, persistent=True), with_buffer(3, persistent=True), with_buffer(3, persistent=False)]
    assert len({digest_of(model) for model in models}) == 3


def test_only_the_changed_layer_has_another_digest():
    one, other = describe_model(TwoLayers()), describe_model(TwoLayers(width=5))
    assert list(one.modules) == ["", "first", "second"]
    small, large = encoder(), encoder()
    large.linear1 = nn.Linear(4, 8, bias=False)
    before, after = describe_model(small).modules, describe_model(large).modules
    assert [path for path in before if before[path] != after[path]] == ["linear1"]
    assert one.modules["first"] != other.modules["first"]


def test_a_description_is_frozen():
    description = describe_model(nn.ReLU())
    with pytest.raises(AttributeError):
        description.digest = "x"  # type: ignore[misc]
    with pytest.raises(TypeError):
        description.modules["x"] = "y"  # type: ignore[index]


@dataclass
class Sizes:
    width: int = 3
    depth: int = 2


class Keeps(nn.Module):
    def __init__(self, kept=None, *, also=None, device=None, training=True):
        super().__init__()
        self.kept = kept
        self.also = also
        self.device = device
        self.training = training


@pytest.mark.parametrize(
    "values",
    [
        [1, 2, 1.0, True, "1", None, [1], {"a": 1}, Sizes(), Sizes(depth=3), torch.float16],
        [
            functional.relu,
            functional.gelu,
            torch.tanh,
            nn.ReLU,
            functools.partial(functional.relu, inplace=True),
            functools.partial(nn.LayerNorm, eps=1e-06),
            functools.partial(nn.LayerNorm, eps=1e-05),
            [functional.relu],
        ],
    ],
    ids=["data", "functions"],
)
def test_a_kept_argument_counts(values):
    assert len({digest_of(Keeps(value)) for value in values}) == len(values)
    assert len({digest_of(Keeps(also=value)) for value in values}) == len(values)


@pytest.mark.parametrize("value", [torch.zeros(3), [torch.zeros(3)], {"a": object()}, torch.device("cpu"), iter([])])
def test_an_argument_without_plain_form_is_skipped(value):
    assert digest_of(Keeps(value)) == digest_of(Keeps(object()))


def test_device_and_mode_are_no_arguments_that_count():
    assert digest_of(Keeps(device="cuda")) == digest_of(Keeps(device=torch.device("cpu"), training=False))


def test_arguments_of_a_base_class_count():
    class Derived(Keeps):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)

    assert digest_of(Derived(1)) != digest_of(Derived(2))


class Chatty(nn.Module):
    def __init__(self, text):
        super().__init__()
        self._text = text

    def extra_repr(self):
        return self._text


def test_an_address_in_extra_repr_does_not_count_and_values_neither():
    assert digest_of(Chatty(f"fn={object()!r}")) == digest_of(Chatty(f"fn={[object() for _ in range(9)][-1]!r}"))
    assert digest_of(Chatty(f"min={torch.zeros(1)}")) == digest_of(Chatty(f"min={torch.ones(1)}"))
    assert digest_of(Chatty("a=1")) != digest_of(Chatty("a=2"))


def test_a_failing_extra_repr_names_its_module():
    with pytest.raises(UnsupportedModel, match=r"extra_repr\(\) of module 'inner' failed"):
        describe_model(nn.ModuleDict({"inner": Chatty(None)}))


@pytest.mark.parametrize("lazy", [nn.LazyLinear(3), nn.Sequential(nn.ReLU(), nn.LazyConv2d(3, 3))])
def test_a_lazy_model_that_has_not_run_is_refused(lazy):
    with pytest.raises(UnsupportedModel, match="has no shape yet: the module is lazy; run one batch"):
        describe_model(lazy)


def test_a_lazy_model_that_has_run_is_the_model_it_became():
    lazy = nn.LazyLinear(3)
    lazy(torch.zeros(1, 2))
    assert digest_of(lazy) == digest_of(nn.Linear(2, 3))


def test_parametrizations_count():
    plain = nn.Linear(2, 2)
    normed = parametrizations.weight_norm(nn.Linear(2, 2))
    orthogonal = parametrizations.orthogonal(nn.Linear(2, 2))
    assert len({digest_of(plain), digest_of(normed), digest_of(orthogonal)}) == 3
    assert digest_of(normed) == digest_of(parametrizations.weight_norm(nn.Linear(2, 2)))
    parametrize.remove_parametrizations(normed, "weight")
    assert describe_model(normed).sources == {}


@pytest.mark.parametrize("thing", [None, {"weight": 1}, nn.Linear, "model", torch.zeros(2)])
def test_what_is_no_module_is_refused(thing):
    with pytest.raises(UnsupportedModel, match=r"a model is a torch\.nn\.Module, not"):
        describe_model(thing)


def test_a_model_that_contains_itself_is_refused():
    model = nn.Sequential(nn.ReLU())
    model.add_module("again", model)
    with pytest.raises(UnsupportedModel, match="contains itself"):
        describe_model(model)


def test_classes_of_torch_have_no_source_to_count():
    assert describe_model(nn.Sequential(nn.Linear(2, 2), encoder())).sources == {}


class Rewired(nn.Module):
    __constants__ = ("twice",)

    def __init__(self, *, twice: bool) -> None:
        super().__init__()
        self.twice = twice

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs + inputs if self.twice else inputs


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_scripted_model_counts_by_its_script():
    eager = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    scripted = torch.jit.script(eager)
    assert digest_of(scripted) == digest_of(torch.jit.script(copy.deepcopy(eager)))
    assert digest_of(scripted) != digest_of(eager)
    assert digest_of(torch.jit.script(Rewired(twice=True))) != digest_of(torch.jit.script(Rewired(twice=False)))


def test_a_traced_graph_counts_by_its_code():
    graph = torch.fx.symbolic_trace(TwoLayers())
    rewired = torch.fx.symbolic_trace(TwoLayers())
    assert digest_of(graph) == digest_of(rewired)
    node = next(node for node in rewired.graph.nodes if node.target is functional.relu)
    node.target = functional.gelu
    rewired.recompile()
    assert digest_of(graph) != digest_of(rewired)
