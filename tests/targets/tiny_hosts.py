"""Small networks of every kind that has attention, for images of 32x32 unless said otherwise."""

from typing import Any

import torch
from torch import Tensor, nn


def timm_net(name: str, **settings: Any) -> nn.Module:
    import timm

    return timm.create_model(name, **settings)


SMALL_VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4, "num_classes": 5}


def vit() -> nn.Module:
    return timm_net("vit_tiny_patch16_224", **SMALL_VIT)


def vit_register() -> nn.Module:
    return timm_net("vit_medium_patch16_reg4_256", **SMALL_VIT)


def vit_qk_norm() -> nn.Module:
    return timm_net("vit_tiny_patch16_224", **SMALL_VIT, qk_norm=True)


def deit() -> nn.Module:
    return timm_net("deit_tiny_distilled_patch16_224", **SMALL_VIT)


def dinov2() -> nn.Module:
    return timm_net("vit_small_patch14_reg4_dinov2", **{**SMALL_VIT, "init_values": 1.0})


def parallel_vit() -> nn.Module:
    from timm.models.vision_transformer import ParallelScalingBlock

    return timm_net("vit_tiny_patch16_224", **SMALL_VIT, block_fn=ParallelScalingBlock)


def beit() -> nn.Module:
    return timm_net("beit_base_patch16_224", **SMALL_VIT)


def beit_without_bias() -> nn.Module:
    return timm_net("beit_base_patch16_224", **SMALL_VIT, use_rel_pos_bias=False)


def eva() -> nn.Module:
    return timm_net("eva_giant_patch14_224", **SMALL_VIT, mlp_ratio=2)


def eva_rope() -> nn.Module:
    return timm_net("eva02_tiny_patch14_224", **SMALL_VIT)


def cait() -> nn.Module:
    small = {**SMALL_VIT, "init_values": 1.0}
    return timm_net("cait_xxs24_224", **small)


def xcit() -> nn.Module:
    return timm_net("xcit_nano_12_p8_224", **SMALL_VIT, eta=1.0)


def swin() -> nn.Module:
    return timm_net("swin_tiny_patch4_window7_224", img_size=32, window_size=4, embed_dim=16, depths=(2, 2),
                    num_heads=(2, 4), num_classes=5)  # fmt: skip


def pvt_v2() -> nn.Module:
    return timm_net("pvt_v2_b0", depths=(1, 1, 1, 1), embed_dims=(16, 16, 32, 32), num_heads=(1, 2, 2, 4),
                    num_classes=5)  # fmt: skip


def twins() -> nn.Module:
    return timm_net("twins_svt_small", img_size=32, embed_dims=(16, 16, 32, 32), num_heads=(2, 2, 4, 4),
                    depths=(2, 1, 1, 1), wss=(4, 2, 2, 1), num_classes=5)  # fmt: skip


def maxvit() -> nn.Module:
    return timm_net("maxvit_rmlp_pico_rw_256", img_size=64, num_classes=5)


def mobilevit() -> nn.Module:
    return timm_net("mobilevit_xxs", num_classes=5)


def nest() -> nn.Module:
    return timm_net("nest_tiny", img_size=32, patch_size=2, num_levels=3, embed_dims=(16, 16, 32), num_heads=(2, 2, 4),
                    depths=(1, 1, 1), num_classes=5)  # fmt: skip


def efficientvit() -> nn.Module:
    return timm_net("efficientvit_b0", num_classes=5)


def vit_b() -> nn.Module:
    from torchvision.models import VisionTransformer

    return VisionTransformer(32, 8, num_layers=2, num_heads=4, hidden_dim=32, mlp_dim=64, num_classes=5)


def torchvision_swin() -> nn.Module:
    from torchvision.models import SwinTransformer

    return SwinTransformer([4, 4], 16, [2, 2], [2, 4], [4, 4], num_classes=5)


class Patches(nn.Module):
    """Images to tokens (B, 16, 32), then a network of tokens; `batch_first` as torch's own layers have it."""

    def __init__(self, body: nn.Module, batch_first: bool = True) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 8, 8)
        self.position = nn.Parameter(torch.randn(1, 16, 32))
        self.body, self.batch_first = body, batch_first

    def forward(self, x: Tensor) -> Any:
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.position  # (B, 16, 32)
        return self.run(tokens if self.batch_first else tokens.transpose(0, 1))

    def run(self, tokens: Tensor) -> Any:
        return self.body(tokens)


def encoder(**settings: Any) -> nn.Module:
    layer = nn.TransformerEncoderLayer(32, 4, 64, **{"batch_first": True, **settings})
    return nn.TransformerEncoder(layer, 2)


def torch_encoder() -> nn.Module:
    return Patches(encoder())


def torch_encoder_token_first() -> nn.Module:
    return Patches(encoder(batch_first=False), batch_first=False)


class Causal(Patches):
    """With torch's mask of what comes later."""

    def run(self, tokens: Tensor) -> Any:
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1], device=tokens.device)
        return self.body(tokens, mask=mask, is_causal=True)


def causal_encoder() -> nn.Module:
    return Causal(encoder())


class Translator(Patches):
    """With a decoder, which attends to another sequence besides its own."""

    def run(self, tokens: Tensor) -> Any:
        return self.body(tokens, tokens.flip(1))


def decoder() -> nn.Module:
    layer = nn.TransformerDecoderLayer(32, 4, 64, batch_first=True)
    return Translator(nn.TransformerDecoder(layer, 2))


class Embedded(Patches):
    """A network of transformers, which takes embeddings by name and returns an output by name."""

    def run(self, tokens: Tensor) -> Any:
        return self.body(inputs_embeds=tokens).last_hidden_state


def small_text(kind: str, **settings: Any) -> nn.Module:
    from transformers import AutoConfig, AutoModel

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
             "vocab_size": 50}  # fmt: skip
    return Embedded(AutoModel.from_config(AutoConfig.for_model(kind, **{**sizes, **settings})))


def hf_bert() -> nn.Module:
    return small_text("bert")


def hf_roberta() -> nn.Module:
    return small_text("roberta")


def hf_distilbert() -> nn.Module:
    return small_text("distilbert", dim=32, n_heads=4, n_layers=2, hidden_dim=64)


def hf_gpt2() -> nn.Module:
    return small_text("gpt2")


def hf_gpt2_eager() -> nn.Module:
    return small_text("gpt2", attn_implementation="eager")


def hf_llama() -> nn.Module:
    return small_text("llama", num_key_value_heads=2)


def hf_vit() -> nn.Module:
    from transformers import ViTConfig, ViTModel

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    return ViTModel(ViTConfig(image_size=32, patch_size=8, **sizes))


class OwnAttention(nn.Module):
    """Written by a user, over the function."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.to_out = nn.Sequential(nn.Linear(dim, dim), nn.Dropout(0.0))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.to_qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(query, key, value)
        y: Tensor = self.to_out(attended.transpose(1, 2).flatten(2))
        return y


class OwnBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.mixer = nn.LayerNorm(32), OwnAttention(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mixer(self.norm(x))


def own() -> nn.Module:
    return Patches(nn.Sequential(OwnBlock(), OwnBlock()))
