"""Which map a number of tokens is, which names a pattern means, and which projections a module has."""

import pytest
import torch
from torch import nn

from attnbench.core.errors import UsageError
from attnbench.targets.hosts.maps import grid, is_map
from attnbench.targets.hosts.patterns import chosen
from attnbench.targets.hosts.projections import carry, projections
from attnbench.targets.hosts.watching import watch


@pytest.mark.parametrize(
    ("tokens", "image", "hint", "found"),
    [
        (196, (224, 224), 0, ((14, 14), 0)),
        (197, (224, 224), 1, ((14, 14), 1)),
        (197, (224, 224), 0, ((14, 14), 1)),
        (198, (224, 224), 0, ((14, 14), 2)),
        (261, (224, 224), 0, ((16, 16), 5)),  # DINOv2 with a class token and four registers
        (196, (224, 224), 1, ((14, 14), 0)),  # CaiT's class token comes later than the patches
        (99, (224, 112), 1, ((14, 7), 1)),
        (7 * 14, (112, 224), 0, ((7, 14), 0)),
        (16 * 11 + 1, (250, 170), 0, ((16, 11), 1)),  # 250 / 16 and 170 / 16 rounded up
        (131, (224, 224), 0, None),
        (18, (224, 224), 0, ((4, 4), 2)),
        (3, (224, 224), 0, None),
    ],
)
def test_the_map_that_tokens_are(tokens: int, image: tuple[int, int], hint: int, found: object) -> None:
    assert grid(tokens, image, hint) == found


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [((1, 64, 56, 56), True), ((1, 64, 54, 54), True), ((1, 56, 56, 96), False), ((1, 197, 192), False)],
)
def test_a_map_is_not_a_map_with_its_channels_last(sizes: tuple[int, ...], expected: bool) -> None:
    assert is_map(sizes, (224, 224)) is expected


NAMES = ["stem", "stages.0", "stages.0.conv", "stages.1", "stages.1.conv", "stages.10"]


@pytest.mark.parametrize(
    ("patterns", "inside", "found"),
    [
        (["stages.*"], False, ["stages.0", "stages.1", "stages.10"]),
        (["stages.1"], False, ["stages.1"]),
        (["stages.1"], True, ["stages.1", "stages.1.conv"]),
        (["stages.[01]", "stem"], False, ["stem", "stages.0", "stages.1"]),
        (["*.*.conv"], False, ["stages.0.conv", "stages.1.conv"]),
    ],
)
def test_patterns_go_part_by_part(patterns: list[str], inside: bool, found: list[str]) -> None:
    assert chosen(NAMES, patterns, "net", inside) == found


def test_a_pattern_that_matches_nothing() -> None:
    with pytest.raises(UsageError, match=r"--at 'stage.1' matches no place in net. Did you mean 'stages.1'\?"):
        chosen(NAMES, ["stem", "stage.1"], "net")


class Layers(nn.Module):
    def __init__(self, **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)


def linear(inputs: int = 8, outputs: int = 8, bias: bool = True) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=bias)


FORMS = {
    "separate": lambda: Layers(q_proj=linear(), k_proj=linear(), v_proj=linear(), out_proj=linear()),
    "fused": lambda: Layers(qkv=linear(8, 24), proj=linear()),
    "keys and values": lambda: Layers(q=linear(), kv=linear(8, 16), proj=linear()),
    "convolutions": lambda: Layers(query=nn.Conv2d(8, 8, 1), key=nn.Conv2d(8, 8, 1), value=nn.Conv2d(8, 8, 1),
                                   out=nn.Conv2d(8, 8, 1)),
    "with dropout": lambda: Layers(to_qkv=linear(8, 24), to_out=nn.Sequential(linear(), nn.Dropout())),
    "packed": lambda: nn.MultiheadAttention(8, 2),
}  # fmt: skip


@pytest.mark.parametrize("source", FORMS)
@pytest.mark.parametrize("target", FORMS)
def test_projections_go_from_any_form_to_any(source: str, target: str) -> None:
    host, new = FORMS[source](), FORMS[target]()
    for parameter in host.parameters():
        nn.init.normal_(parameter)
    kept = carry(host, new, heads=2)
    assert (kept.parts, kept.left) == (("query", "key", "value", "out"), ())
    x, ours, theirs = torch.randn(3, 8), projections(host), projections(new)
    for part in ours:
        expected = nn.functional.linear(x, ours[part].weight, ours[part].bias)
        assert torch.equal(nn.functional.linear(x, theirs[part].weight, theirs[part].bias), expected)


def test_a_bias_that_nothing_takes_keeps_its_projection_behind() -> None:
    host = FORMS["separate"]()
    new = Layers(query=linear(bias=False), key=linear(), value=linear(), out=linear(8, 4))
    kept = carry(host, new, heads=2)
    assert kept.parts == ("value",)  # a key without its query means nothing
    assert kept.left == ("q_proj", "k_proj", "out_proj")


def test_a_network_is_left_as_it_was_watched() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)
    calls = watch(layer, (torch.randn(1, 4, 8),))
    assert [call.name for call in calls if call.attends] == ["self_attn"]
    assert layer.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in layer.modules())
