"""Sixty networks of timm, torchvision and transformers: their names, and each as its own library builds it."""

import torch
from torch import nn

from attnbench.core.case import Case

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
NAMES = [
    *(f"timm:{name}" for name in OF_TIMM.split()),
    *(f"torchvision:{name}" for name in OF_TORCHVISION.split()),
    *(f"hf:{name}" for name in [*OF_TOKENS.split(), *OF_IMAGES.split()]),
]
IMAGE, TOKENS = 224, 512


def reads_tokens(name: str) -> bool:
    return name.removeprefix("hf:") in OF_TOKENS.split()


def asked(name: str, size: int | None = None, **settings: int) -> Case:
    """The network at that size, or at the usual one."""
    case = Case(name, kind="network", params=tuple(sorted(settings.items())))
    if reads_tokens(name):
        return case.with_(tokens=size or TOKENS)
    return case.with_(height=size or IMAGE, width=size or IMAGE)


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
