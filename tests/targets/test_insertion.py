"""VGG16 with an attention behind each block: the figures of the blog post's table, and the truth beside them."""

from copy import deepcopy

import pytest
import torch

from attnbench.core.case import Case
from attnbench.core.errors import UnsupportedError, UsageError
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


OWN = """
import torch
from torch import nn
def block(n, m, stride=1):
    return nn.Sequential(nn.Conv2d(n, m, 3, stride, 1), nn.ReLU())
class Unnamed(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = block(3, 8), block(8, 16, 2), block(16, 16)
        self.deep = nn.ModuleList([block(16, 32, 2), block(32, 32)])
        self.head = nn.Linear(32, 5)
    def forward(self, x):
        x = self.third(self.second(self.first(x)))
        for index in range(len(self.deep)):
            x = self.deep[index](x)
        return self.head(x.mean((2, 3)))
class Walked(nn.ModuleDict):
    def __init__(self):
        super().__init__({"a": block(3, 4), "b": block(4, 8, 2)})
    def forward(self, x):
        for layer in self.values():
            x = layer(x)
        return x
class Holder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer1, self.layer2 = Walked(), block(8, 8, 2)
    def forward(self, x):
        return self.layer2(self.layer1(x)).mean((2, 3))
class Two(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.proj = nn.Conv2d(dim, dim, 1)
    def forward(self, x):
        return self.proj(x), None
"""


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return lambda name: f"{path}:{name}"


def in_own(target: str, **fields: object) -> Case:
    return Case(target, kind="network", layout="bchw", height=32, width=32, **{"insert": "se", **fields})


def test_in_any_other_network_before_each_change_of_the_resolution(own) -> None:
    subject = build(in_own(own("Unnamed")), "meta")
    assert list(subject.inserted) == ["first", "third", "deep.1"]
    before = torch_macs(build(in_own(own("Unnamed"), insert=None), "meta"))
    assert torch_macs(subject) - before == sum(2 * c * (c // 4) for c in (8, 16, 32))  # 32 -> 8 -> 32 channels


def test_places_by_hand(own) -> None:
    assert list(build(in_own(own("Unnamed"), at="first,deep.*"), "meta").inserted) == ["first", "deep.0", "deep.1"]
    with pytest.raises(UsageError, match=r"--at 'thrid' matches no place in .* Did you mean 'third'\?"):
        build(in_own(own("Unnamed"), at="thrid"), "meta")
    with pytest.raises(UnsupportedError, match="no attention can stand behind head: it gives 1x5, which is no map"):
        build(in_own(own("Unnamed"), at="head"), "meta")


def test_a_container_that_runs_its_children_itself_is_wrapped(own) -> None:
    subject = build(in_own(own("Holder")), "meta")
    assert list(subject.inserted) == ["layer1", "layer2"]
    before = torch_macs(build(in_own(own("Holder"), insert=None), "meta"))
    assert torch_macs(subject) - before == 2 * (2 * 8 * 2)


def test_the_first_output_of_an_attention_with_several_is_handed_on(own) -> None:
    assert build(in_own(own("Unnamed"), insert=own("Two")), "meta").forward().shape == (1, 5)


def test_a_copied_network_runs_its_own_copy_of_the_attention(own) -> None:
    subject = build(in_own(own("Unnamed")), "cpu")
    copied = deepcopy(subject.module)
    for parameter in subject.module.parameters():
        parameter.data.zero_()
    assert copied(*subject.inputs).abs().sum() > 0


def test_it_compiles_as_one_graph_and_takes_gradients(own) -> None:
    subject = build(in_own(own("Unnamed"), mode="fwd_bwd"), "cpu")
    subject.step()
    compiled = torch.compile(subject.module, backend="eager", fullgraph=True)
    assert torch.allclose(compiled(*subject.inputs), subject.module(*subject.inputs), atol=1e-6)
    torch.compiler.reset()


HOSTS = {
    "timm:resnet18": ["layer1", "layer2", "layer3", "layer4"],
    "timm:regnety_002": ["s1", "s2", "s3", "s4"],
    "timm:convnext_atto": ["stages.0", "stages.1", "stages.2", "stages.3"],
    "timm:mobilenetv3_small_050": ["blocks.0", "blocks.1", "blocks.3", "blocks.5"],
    "timm:vgg11_bn": ["features.1", "features.5", "features.12", "features.19", "features.26"],
    "torchvision:vgg11": ["features.0", "features.3", "features.8", "features.13", "features.18"],
    "torchvision:resnet18": ["layer1", "layer2", "layer3", "layer4"],
    "torchvision:convnext_tiny": ["features.1", "features.3", "features.5", "features.7"],
    "torchvision:shufflenet_v2_x0_5": ["stage2", "stage3", "stage4"],
    "torchvision:googlenet": ["conv1", "conv3", "inception3b", "inception4e", "inception5b"],
    "hf:resnet": [f"encoder.stages.{stage}" for stage in range(4)],
}


@pytest.mark.parametrize("name", HOSTS)
def test_hosts_by_rule(name: str) -> None:
    pytest.importorskip({"timm": "timm", "hf": "transformers"}.get(name.partition(":")[0], "torchvision"))
    subject = build(Case(name, kind="network", layout="bchw", height=64, width=64, insert="eca"), "meta")
    assert list(subject.inserted) == HOSTS[name]
    subject.forward()


@pytest.mark.parametrize("name", ["timm:vit_tiny_patch16_224", "timm:mixer_s16_224", "torchvision:swin_t"])
def test_networks_of_tokens_have_no_stages(name: str) -> None:
    """Swin's maps are (B, H, W, C), which is not what an inserted attention reads."""
    pytest.importorskip(name.partition(":")[0])
    with pytest.raises(UnsupportedError, match="no places for an attention"):
        build(Case(name, kind="network", layout="bchw", height=224, width=224, insert="eca"), "meta")


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
