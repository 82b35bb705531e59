"""Networks by the names of timm, torchvision and transformers: sixty of them are what their library builds."""

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from attnbench.core.case import Case
from attnbench.targets.build import build
from attnbench.targets.providers import PROVIDERS
from attnbench.targets.resolve import resolve
from attnbench.targets.sources import locate

OF_TIMM = """
    vit_tiny_patch16_224 deit3_small_patch16_224 vit_small_patch16_rope_224 beit_base_patch16_224 cait_xxs24_224
    swin_tiny_patch4_window7_224 swinv2_tiny_window8_256 pvt_v2_b0 twins_svt_small xcit_nano_12_p16_224 levit_128s
    maxvit_tiny_tf_224 coatnet_nano_rw_224 mobilevit_xxs efficientvit_b0 mixer_s32_224 poolformer_s12 convnext_atto
    vit_small_patch14_dinov2 eva02_tiny_patch14_224 resnet50 vgg16_bn densenet121 efficientnet_b0 mobilenetv3_small_050
"""
OF_TORCHVISION = """
    alexnet vgg16 resnet18 resnet50 densenet121 googlenet inception_v3 mobilenet_v3_small efficientnet_b0
    convnext_tiny regnet_y_400mf shufflenet_v2_x0_5 swin_t vit_b_16 maxvit_t
"""
OF_TOKENS = "bert roberta distilbert albert deberta-v2 gpt2 opt bloom llama mistral qwen3 gemma2 phi t5 bart"
OF_IMAGES = "vit swin dinov2 convnext segformer"
# A size besides its own, where 288 is not one that it can be built for.
OTHER_SIZE = {"vit_small_patch14_dinov2": 252, "eva02_tiny_patch14_224": 252, "maxvit_t": 448,
              "maxvit_tiny_tf_224": 256}  # fmt: skip
NAMES = [
    *(f"timm:{name}" for name in OF_TIMM.split()),
    *(f"torchvision:{name}" for name in OF_TORCHVISION.split()),
    *(f"hf:{name}" for name in [*OF_TOKENS.split(), *OF_IMAGES.split()]),
]
IMAGE, TOKENS = 224, 512


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Whatever the libraries say of themselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def require(name: str) -> None:
    library = PROVIDERS[name.partition(":")[0]].library
    pytest.importorskip(library, reason=f"{library} is not installed")


def reads_tokens(name: str) -> bool:
    return name.removeprefix("hf:") in OF_TOKENS.split()


def asked(name: str, size: int, **settings: Any) -> Case:
    case = Case(name, kind="network", params=tuple(sorted(settings.items())))
    return case.with_(tokens=size) if reads_tokens(name) else case.with_(height=size, width=size)


def parameters(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def as_the_library_builds(name: str) -> nn.Module:
    """As people build it without attnbench."""
    library, _, short = name.partition(":")
    maker = {"timm": of_timm, "torchvision": of_torchvision, "hf": of_transformers}[library]
    with torch.device("cpu" if "regnet" in name else "meta"):  # it reads its widths off a range
        return maker(short)


def of_timm(name: str) -> nn.Module:
    import timm

    own = timm.get_pretrained_cfg(name)
    usual = own is None or own.input_size[1] == IMAGE or not own.fixed_input_size
    return timm.create_model(name, pretrained=False, **({} if usual else {"img_size": IMAGE}))


def of_torchvision(name: str) -> nn.Module:
    import torchvision

    return torchvision.models.get_model(name, weights=None)


def of_transformers(name: str) -> nn.Module:
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.for_model(name)
    if name == "roberta":
        config.max_position_embeddings = TOKENS + 2  # it counts positions from the padding's number on
    return AutoModel.from_config(config)


def test_there_are_sixty_of_them() -> None:
    assert len(set(NAMES)) == 60


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_the_librarys_own_and_it_runs(name: str) -> None:
    require(name)
    layout = locate(name).layout
    assert layout is not None
    subject = build(asked(name, TOKENS if reads_tokens(name) else IMAGE).with_(layout=layout), "meta")
    subject.forward()
    assert parameters(subject.module) == parameters(as_the_library_builds(name))


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_at_another_size(name: str) -> None:
    require(name)
    short = name.partition(":")[2]
    size = 96 if reads_tokens(name) else OTHER_SIZE.get(short, 288)
    case = resolve(asked(name, size, **({"num_hidden_layers": 2} if reads_tokens(name) else {})))
    assert case.layout == ("bchw" if not reads_tokens(name) else "ids_ids" if short in ("t5", "bart") else "ids")
