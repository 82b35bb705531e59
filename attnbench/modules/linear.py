"""Linear attention: keys and values are summed into a small matrix first, so that no N x N map is ever formed."""

import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.modules.spec import attention

__all__ = ["EfficientAttention", "LinearAttention"]


@attention(
    name="linear_attn",
    aliases=("linear", "katharopoulos"),
    layout="bnc",
    complexity="N",
    memory="N",
    where={"d": "C // heads"},
    params="4*C**2 + 4*C",
    macs="B*(4*N*C**2 + 2*N*C*d + N*C)",
    paper="Katharopoulos et al. 2020, Transformers are RNNs, arXiv:2006.16236",
)
class LinearAttention(nn.Module):
    """Linear attention with the feature map elu + 1, which replaces the softmax by a kernel.

    phi(x) = elu(x) + 1, y_i = W_o concat_h(phi(q_i) S / (phi(q_i) . z + eps)), S = sum_j phi(k_j)^T v_j,
    z = sum_j phi(k_j). (B, N, C) -> (B, N, C); S is (d, d) for each head, d = dim / heads. Not causal.

    Hyper-parameters: `eps` keeps the normaliser from zero.
    """

    def __init__(self, dim: int, heads: int, eps: float = 1e-6) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim={dim} is not divisible by the number of heads, {heads}")
        self.heads, self.eps = heads, eps
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.shape[1]
        query = F.elu(self._split(self.query(x))) + 1  # (B, heads, N, d)
        key = F.elu(self._split(self.key(x))) + 1  # (B, heads, N, d)
        value = self._split(self.value(x))  # (B, heads, N, d)
        # S, z and eps are all divided by N: the ratio stays, and phi(q) . z, near d * N, does not overflow in fp16.
        context = (key.transpose(-2, -1) @ value) / tokens  # (B, heads, d, d)
        normaliser = query @ key.mean(dim=-2).unsqueeze(-1) + self.eps / tokens  # (B, heads, N, 1)
        attended = (query @ context) / normaliser  # (B, heads, N, d)
        y: Tensor = self.out(attended.transpose(1, 2).flatten(2))  # (B, N, C)
        return y

    def _split(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        return x.reshape(batch, tokens, self.heads, -1).transpose(1, 2)  # (B, N, C) -> (B, heads, N, d)


@attention(
    name="efficient_attn",
    aliases=("efficient", "shen"),
    layout="bchw",
    complexity="N",
    memory="N",
    where={"key_channels": "key_channels or C", "value_channels": "value_channels or C"},
    params="2*(C*key_channels + key_channels) + C*value_channels + value_channels + value_channels*C + C",
    macs="B*(2*N*C*(key_channels + value_channels) + 2*N*key_channels*value_channels//heads)",
    paper="Shen et al. 2021, Efficient Attention: Attention with Linear Complexities, arXiv:1812.01243",
)
class EfficientAttention(nn.Module):
    """Efficient attention: queries and keys are normalised by a softmax each, and multiplied apart.

    y = W_o concat_h(rho_q(q) (rho_k(k)^T v)) + x; rho_q is the softmax over a head's features,
    rho_k the one over the positions. q, k, v and W_o are 1x1 convolutions. (B, C, H, W) -> (B, C, H, W).

    Hyper-parameters: `key_channels`, `value_channels` over all heads (dim); both divisible by `heads`.
    """

    def __init__(
        self, dim: int, heads: int, key_channels: int | None = None, value_channels: int | None = None
    ) -> None:
        super().__init__()
        key_channels, value_channels = key_channels or dim, value_channels or dim
        if key_channels % heads or value_channels % heads:
            widths = f"key_channels={key_channels} and value_channels={value_channels}"
            raise ValueError(f"{widths} must both be divisible by the number of heads, {heads}")
        self.heads = heads
        self.query = nn.Conv2d(dim, key_channels, 1)
        self.key = nn.Conv2d(dim, key_channels, 1)
        self.value = nn.Conv2d(dim, value_channels, 1)
        self.out = nn.Conv2d(value_channels, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        query = self._split(self.query(x)).softmax(dim=2)  # (B, heads, d_k, N), over the features
        key = self._split(self.key(x)).softmax(dim=3)  # (B, heads, d_k, N), over the positions
        value = self._split(self.value(x))  # (B, heads, d_v, N)
        context = value @ key.transpose(-2, -1)  # (B, heads, d_v, d_k)
        attended = (context @ query).reshape(x.shape[0], -1, *x.shape[2:])  # (B, value_channels, H, W)
        y: Tensor = self.out(attended) + x  # (B, C, H, W)
        return y

    def _split(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        # (B, heads * d, H, W) -> (B, heads, d, N)
        return x.reshape(batch, self.heads, channels // self.heads, height * width)
