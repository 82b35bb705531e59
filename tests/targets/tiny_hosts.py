"""Small networks of every kind that has attention, for images of 32x32 unless said otherwise.

All of their parameters are filled, since a gate or a bias that begins at zero would hide that it was lost.
"""

from typing import Any

import torch
from torch import Tensor, nn


def filled(network: nn.Module) -> nn.Module:
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.25)
    return network


def timm_net(name: str, **settings: Any) -> nn.Module:
    import timm

    return filled(timm.create_model(name, **settings))


SMALL_VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4, "num_classes": 5}


def vit() -> nn.Module:
    return timm_net("vit_tiny_patch16_224", **SMALL_VIT)


def vit_register() -> nn.Module:
    return timm_net("vit_medium_patch16_reg4_gap_256", **SMALL_VIT)


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
    from timm.models.maxxvit import MaxxVit, MaxxVitCfg, MaxxVitTransformerCfg

    attention = MaxxVitTransformerCfg(dim_head=8, window_size=(2, 2), grid_size=(2, 2), rel_pos_type="")
    return filled(MaxxVit(MaxxVitCfg((16, 32), (1, 1), ("M", "M"), 16, transformer_cfg=attention), 32, num_classes=5))


def davit() -> nn.Module:
    return timm_net("davit_tiny", depths=(1, 1), embed_dims=(16, 32), num_heads=(2, 4), window_size=2, num_classes=5)


def nest() -> nn.Module:
    from timm.models.nest import Nest

    return filled(Nest(img_size=32, patch_size=2, num_levels=3, embed_dims=(16, 16, 32), num_heads=(2, 2, 4),
                       depths=(1, 1, 1), num_classes=5))  # fmt: skip


def mvit() -> nn.Module:
    from timm.models.mvitv2 import MultiScaleVit, MultiScaleVitCfg

    sizes = MultiScaleVitCfg(depths=(1, 1), embed_dim=(16, 32), num_heads=(2, 4))
    return filled(MultiScaleVit(sizes, img_size=32, num_classes=5))


def vit_b() -> nn.Module:
    from torchvision.models import VisionTransformer

    return filled(VisionTransformer(32, 8, num_layers=2, num_heads=4, hidden_dim=32, mlp_dim=64, num_classes=5))


def torchvision_swin() -> nn.Module:
    from torchvision.models import SwinTransformer

    return filled(SwinTransformer([4, 4], 16, [2, 2], [2, 4], [4, 4], num_classes=5))


class Patches(nn.Module):
    """Images to tokens (B, 16, 32), then a network of tokens; `batch_first` as torch's own layers have it."""

    def __init__(self, body: nn.Module, batch_first: bool = True) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 8, 8)
        self.position = nn.Parameter(torch.randn(1, 16, 32))
        self.body, self.batch_first = body, batch_first
        filled(self)

    def forward(self, x: Tensor) -> Any:
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.position  # (B, 16, 32)
        return self.run(tokens if self.batch_first else tokens.transpose(0, 1))

    def run(self, tokens: Tensor) -> Any:
        return self.body(tokens)


def encoder(**settings: Any) -> nn.Module:
    layer = nn.TransformerEncoderLayer(32, 4, 64, **{"batch_first": True, **settings})
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=layer.self_attn.batch_first)


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
    return small_text("gpt2", bos_token_id=0, eos_token_id=0)


def hf_gpt2_eager() -> nn.Module:
    return small_text("gpt2", bos_token_id=0, eos_token_id=0, attn_implementation="eager")


def hf_llama() -> nn.Module:
    return small_text("llama")


def without_rotation(network: nn.Module) -> nn.Module:
    """Its rotary embedding turned off, so that there is nothing that a swap could not hand on."""
    for name, buffer in network.named_buffers():
        if "inv_freq" in name:
            buffer.zero_()
    return network


def hf_llama_without_rope() -> nn.Module:
    return without_rotation(small_text("llama"))


def hf_llama_shared_keys() -> nn.Module:
    return without_rotation(small_text("llama", num_key_value_heads=2))


def hf_neox_without_rope() -> nn.Module:
    return without_rotation(small_text("gpt_neox"))


class Summary(Embedded):
    """An encoder and a decoder that read the same."""

    def run(self, tokens: Tensor) -> Any:
        return self.body(inputs_embeds=tokens, decoder_inputs_embeds=tokens.flip(1)).last_hidden_state


def hf_bart() -> nn.Module:
    from transformers import BartConfig, BartModel

    return Summary(BartModel(BartConfig(
        vocab_size=50, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64,
    )))  # fmt: skip


def hf_albert() -> nn.Module:
    return small_text("albert", embedding_size=32)


def hf_vit() -> nn.Module:
    from transformers import ViTConfig, ViTModel

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    return filled(ViTModel(ViTConfig(image_size=32, patch_size=8, **sizes)))


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
