"""Encoder layers and whole networks: torch's Transformer, VGG16 and ViT-B/16."""

from collections.abc import Iterator

import torch
from hand_case import TOKENS, Sizes, attend, case, merge, split
from torch import Tensor, nn

ENCODER = "B * (4*N*C**2 + 2*N**2*C + 2*N*C*f)"
ENCODER_PARAMS = "4*(C**2 + C) + 2*C*f + f + C + 4*C"


@case("encoder layer", "nn.TransformerEncoderLayer, eval", TOKENS, macs=ENCODER, params=ENCODER_PARAMS, quadratic=True)
def torch_layer(s: Sizes) -> nn.Module:
    """Multi-head attention: 4 N C² + 2 N² C; C -> f -> C at N tokens: 2 N C f. Norms are elementwise."""
    return nn.TransformerEncoderLayer(s.C, s.h, s.f, batch_first=True)


@case("encoder layer", "nn.TransformerEncoderLayer, train", TOKENS, macs=ENCODER, params=ENCODER_PARAMS, train=True,
      backward="2 * macs", quadratic=True)  # fmt: skip
def torch_layer_in_training(s: Sizes) -> nn.Module:
    """The same products; backward: each has two gradients. Norms and dropout are elementwise."""
    return nn.TransformerEncoderLayer(s.C, s.h, s.f, batch_first=True)


@case("encoder layer", "two in nn.TransformerEncoder, eval", TOKENS, macs="2 * " + ENCODER,
      params=f"2 * ({ENCODER_PARAMS})", quadratic=True)  # fmt: skip
def torch_encoder(s: Sizes) -> nn.Module:
    """Each of two layers: 4 N C² + 2 N² C of attention and 2 N C f of feed-forward."""
    return nn.TransformerEncoder(torch_layer(s), 2)


class Block(nn.Module):
    """A pre-norm encoder layer."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.h = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.feed = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (split(each, self.h) for each in self.qkv(self.norm1(x)).chunk(3, -1))
        x = x + self.out(merge(attend(q, k, v)))
        return x + self.feed(self.norm2(x))


@case("encoder layer", "own, pre-norm", TOKENS, macs=ENCODER, params=ENCODER_PARAMS, backward="2 * macs",
      quadratic=True)  # fmt: skip
def own_layer(s: Sizes) -> nn.Module:
    """4 N C² + 2 N² C of attention and 2 N C f of feed-forward; backward: two gradients for each product."""
    return Block(s.C, s.h, s.f)


VGG = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)
# A 3x3 convolution is 9 taps over its inputs for each output at each position of a map of 224, 112, 56, 28 or 14.
VGG_MACS = ("9 * (224**2*(3*64 + 64*64) + 112**2*(64*128 + 128*128) + 56**2*(128*256 + 2*256*256)"
            " + 28**2*(256*512 + 2*512*512) + 14**2*3*512*512) + 7*7*512*4096 + 4096*4096 + 4096*1000")  # fmt: skip
VGG_PARAMS = ("9 * (3*64 + 64*64 + 64*128 + 128*128 + 128*256 + 2*256*256 + 256*512 + 5*512*512)"
              " + 2*64 + 2*128 + 3*256 + 6*512 + 7*7*512*4096 + 4096*4096 + 4096*1000 + 2*4096 + 1000")  # fmt: skip
IMAGE = ("1", "3", "224", "224")


@case("VGG16", "at 224", IMAGE, macs=VGG_MACS, params=VGG_PARAMS, backward="2 * macs")
def vgg16(s: Sizes) -> nn.Module:
    """Thirteen 3x3 convolutions and three Linear, layer by layer: 15,470,264,320 for one image.

    Backward: filters and inputs have a gradient each, the image among them, as it is asked for here.
    """

    def layers() -> Iterator[nn.Module]:
        inputs = 3
        for outputs in VGG:
            yield from [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()] if outputs else [nn.MaxPool2d(2)]
            inputs = outputs or inputs

    head = [nn.Flatten(), nn.Linear(7 * 7 * 512, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(),
            nn.Dropout(), nn.Linear(4096, 1000)]  # fmt: skip
    return nn.Sequential(*layers(), *head)


class VisionTransformer(nn.Module):
    """ViT-B/16: 196 patches and a class token through 12 blocks of 768 channels, 12 heads, 3072 hidden units."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 768, 16, stride=16)
        self.token = nn.Parameter(torch.zeros(1, 1, 768))
        self.position = nn.Parameter(torch.zeros(1, 197, 768))
        self.blocks = nn.Sequential(*(Block(768, 12, 3072) for _ in range(12)))
        self.norm, self.head = nn.LayerNorm(768), nn.Linear(768, 1000)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), patches], 1) + self.position
        return self.head(self.norm(self.blocks(x))[:, 0])


@case("ViT-B/16", "at 224", IMAGE, backward="2 * macs",
      macs="196*768*3*16*16 + 12*(197*(4 + 2*4)*768**2 + 2*197**2*768) + 768*1000",
      params="768*3*16*16 + 768 + 768 + 197*768 + 12*(12*768**2 + 13*768) + 2*768 + 768*1000 + 1000")  # fmt: skip
def vit_b_16(s: Sizes) -> nn.Module:
    """196 patches of 3 x 16 x 16 numbers to 768 channels; 12 blocks at 197 tokens: projections 4 x 768², feed-forward
    2 x 4 x 768², two products 2 x 197² x 768; the head 768 x 1000: 17,563,828,224 for one image.

    Backward: two gradients for each product.
    """
    return VisionTransformer()
