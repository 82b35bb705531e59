"""VGG16 with an attention behind each block: the figures of the blog post's table, and the truth beside them."""

import pytest
import torch

from attnbench.core.case import Case
from attnbench.core.errors import UnsupportedError
from attnbench.metrics.counters.dispatch import dispatch_count
from attnbench.metrics.counters.flop_counter import torch_macs
from attnbench.targets.build import build
from attnbench.targets.catalogue import catalogue
from attnbench.targets.resolve import resolve


def vgg16(insert: str | None, side: int, **fields: object) -> Case:
    return resolve(Case("vgg16", kind="network", height=side, width=side, insert=insert, **fields))


@pytest.mark.parametrize(
    ("insert", "side", "params", "macs"),
    [
        (None, 224, 138_357_544, 15_470_264_320),
        # By hand: five blocks of C = 64, 128, 256, 512, 512 channels on maps of side 224, 112, 56, 28, 14.
        # Parameters +2.25 (sum of C²) + 2.25 (sum of C); MACs + sum of N 2.25 C² + N² (C/8 + C).
        ("pseudo_linear_attn", 224, 139_734_040, 224_572_171_264),
        ("pseudo_linear_attn", 32, 139_734_040, 563_209_216),
    ],
)
def test_the_blog_posts_table_counted(insert: str | None, side: int, params: int, macs: int) -> None:
    subject = build(vgg16(insert, side), "meta")
    assert sum(parameter.numel() for parameter in subject.module.parameters()) == params
    assert torch_macs(subject) == macs
    assert (subject.expected.params, subject.expected.macs) == (params, macs)


def test_the_sum_by_hand() -> None:
    """The figure above is derived here from nothing but the channels and sides."""
    blocks = [(64, 224), (128, 112), (256, 56), (512, 28), (512, 14)]
    extra = sum(s**2 * 9 * c**2 // 4 + s**4 * (c // 8 + c) for c, s in blocks)
    assert 15_470_264_320 + extra == 224_572_171_264
    assert 138_357_544 + sum(9 * c**2 // 4 + 9 * c // 4 for c, _ in blocks) == 139_734_040


@pytest.mark.parametrize(
    "spec", [spec for spec in catalogue() if spec.kind == "module"], ids=lambda spec: spec.name
)
def test_every_attention_can_be_inserted_and_its_formula_still_holds(spec) -> None:
    widened = (("attn.d_ffn", 64),) if spec.name == "gmlp" else ()  # the bare gating unit halves the channels
    subject = build(vgg16(spec.name, 32, params=widened), "meta")
    assert subject.forward().shape == (1, 1000)
    assert dispatch_count(subject).macs == subject.expected.macs
    assert sum(parameter.numel() for parameter in subject.module.parameters()) == subject.expected.params


def test_the_attention_stands_between_the_last_convolution_and_its_activation() -> None:
    subject = build(vgg16("se", 32), "meta")
    features = subject.module.features
    places = [index for index, layer in enumerate(features) if hasattr(layer, "inserted")]
    assert [f"features.{index}" for index in places] == list(subject.inserted)
    assert len(places) == 5
    for index in places:
        assert isinstance(features[index], torch.nn.Conv2d)
        assert isinstance(features[index + 1], torch.nn.ReLU)
        assert isinstance(features[index + 2], torch.nn.MaxPool2d)


def test_the_networks_own_weights_keep_their_names() -> None:
    plain, inserted = (set(build(vgg16(insert, 32), "meta").module.state_dict()) for insert in (None, "se"))
    assert plain < inserted
    assert all(".inserted." in name for name in inserted - plain)


def test_an_inserted_attention_is_initialised_by_kaiming_and_the_seed() -> None:
    first, again = (build(vgg16("pseudo_linear_attn", 32), "cpu") for _ in range(2))
    assert all(map(torch.equal, first.weights, again.weights))
    linear = [m for m in first.module.features.modules() if isinstance(m, torch.nn.Linear)]
    assert len(linear) == 20
    for layer in linear:
        assert not layer.bias.any()
        # fan-out Kaiming for a rectifier: a normal of standard deviation sqrt(2 / fan_out)
        assert layer.weight.std().item() == pytest.approx((2 / layer.out_features) ** 0.5, rel=0.2)


def test_settings_for_the_inserted_attention() -> None:
    plain, slim = (
        build(vgg16("se", 32, params=params), "meta").expected.params for params in ((), (("attn.reduction", 16),))
    )
    assert slim < plain


def test_a_network_without_places_says_so() -> None:
    with pytest.raises(UnsupportedError, match="no places for an attention"):
        resolve(Case("torch.nn:Identity", kind="network", height=32, width=32, insert="se"))


def test_a_users_attention_can_be_inserted(tmp_path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from torch import nn\n"
        "class Mine(nn.Module):\n"
        "    def __init__(self, dim):\n        super().__init__()\n        self.proj = nn.Linear(dim, dim)\n"
        "    def forward(self, x):\n        b, n, c = x.shape\n        return self.proj(x)\n"
    )
    subject = build(vgg16(f"{path}:Mine", 32), "meta")
    extra = sum(c * c + c for c in (64, 128, 256, 512, 512))
    assert sum(parameter.numel() for parameter in subject.module.parameters()) == 138_357_544 + extra
