"""Linear attention: keys and values are summed into a small matrix first, so that no N x N map is ever formed."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.modules.parts.arguments import head_dim
from attnbench.modules.parts.chunked import causal_linear
from attnbench.modules.parts.heads import merge_heads, split_heads
from attnbench.modules.spec import attention

__all__ = [
    "CosformerAttention",
    "EfficientAttention",
    "FocusedLinearAttention",
    "HydraAttention",
    "LinearAttention",
    "LiteMLA",
    "MambaLikeLinearAttention",
    "PerformerAttention",
    "PolaLinearAttention",
    "RandomFeatureAttention",
    "SanaLinearAttention",
    "SeparableAttention",
    "SwiftAdditiveAttention",
]


def _tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)  # (B, C, H, W) -> (B, N, C)


def _map(x: Tensor, like: Tensor) -> Tensor:
    return x.transpose(1, 2).reshape(like.shape)  # (B, N, C) -> (B, C, H, W)


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _count(number: int, like: Tensor) -> Tensor:
    """0, 1, ... number - 1, in float32 at least."""
    return torch.arange(number, device=like.device, dtype=torch.promote_types(like.dtype, torch.float32))


def _kernel_sums(query: Tensor, key: Tensor, value: Tensor, causal: bool = False) -> tuple[Tensor, Tensor]:
    """q_i . S and q_i . z, both divided by N: S is the sum of k_j^T v_j, z that of k_j, over all j or over j <= i.

    query and key are features, (B, heads, N, m), value is (B, heads, N, d); gives (B, heads, N, d), (B, heads, N, 1).
    Their ratio is what counts, and divided by N they do not overflow in float16. MACs for each head: N*m*(2*d + 1),
    or, causal, those of `causal_linear` with a column of ones beside the values, which sums the keys.
    """
    tokens = key.shape[2]
    if causal:
        scale = tokens**-0.5  # on both sides, so that neither becomes too small for float16
        sums = causal_linear(query * scale, key * scale, F.pad(value, (0, 1), value=1.0))  # (B, heads, N, d + 1)
        return sums[..., :-1], sums[..., -1:]
    context = (key.transpose(-2, -1) @ value) / tokens  # (B, heads, m, d)
    return query @ context, query @ key.mean(dim=-2).unsqueeze(-1)


@attention(
    name="linear_attn",
    aliases=("linear", "linear_elu", "katharopoulos"),
    layout="bnc",
    complexity="N",
    memory="N",
    where={"d": "C // heads", "c": "min(64, N)", "P": "(N + c - 1)//c*c"},
    params="4*C**2 + 4*C",
    macs="B*(4*N*C**2 + (heads*(P*c*(2*d + 1) + 2*P*d*(d + 1)) if causal else 2*N*C*d + N*C))",
    paper="Katharopoulos et al. 2020, Transformers are RNNs, arXiv:2006.16236",
    computes="approximation",
    causal="flag",
)
class LinearAttention(nn.Module):
    """Linear attention with the feature map elu + 1, which replaces the softmax by a kernel.

    phi(x) = elu(x) + 1, y_i = W_o concat_h(phi(q_i) S / (phi(q_i) . z + eps)), S = sum_j phi(k_j)^T v_j,
    z = sum_j phi(k_j). (B, N, C) -> (B, N, C); S is (d, d) for each head, d = dim / heads.

    Hyper-parameters: `eps` keeps the normaliser from zero; with `causal` the sums run over j <= i, in chunks of c
    tokens (P is N padded to whole chunks).
    """

    def __init__(self, dim: int, heads: int, eps: float = 1e-6, causal: bool = False) -> None:
        super().__init__()
        head_dim(dim, heads)
        self.heads, self.eps, self.causal = heads, eps, causal
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        query = F.elu(split_heads(self.query(x), self.heads)) + 1  # (B, heads, N, d)
        key = F.elu(split_heads(self.key(x), self.heads)) + 1  # (B, heads, N, d)
        value = split_heads(self.value(x), self.heads)  # (B, heads, N, d)
        attended, normaliser = _kernel_sums(query, key, value, self.causal)
        attended = attended / (normaliser + self.eps / x.shape[1])  # (B, heads, N, d)
        y: Tensor = self.out(merge_heads(attended))  # (B, N, C)
        return y


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
    computes="approximation",
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


@attention(
    name="performer",
    aliases=("favor",),
    layout="bnc",
    complexity="N",
    memory="N",
    where={"d": "C // heads", "m": "nb_features or floor_ln(d, d)", "c": "min(64, N)", "P": "(N + c - 1)//c*c"},
    params="4*C**2 + C + (3*C if qkv_bias else 0)",
    macs="B*(4*N*C**2 + 2*N*C*m + (heads*(P*c*(m + d + 1) + 2*P*m*(d + 1)) if causal else 2*N*C*m + N*heads*m))",
    paper="Choromanski et al. 2021, Rethinking Attention with Performers, arXiv:2009.14794",
    computes="approximation",
    causal="flag",
)
class PerformerAttention(nn.Module):
    """Performer (FAVOR+): positive random features whose dot products are, on average, those of the softmax.

    phi(x) = exp(w x' - |x'|^2 / 2 - max) + eps, x' = x / d^(1/4), for m rows w, orthogonal in blocks of d and as long
    as Gaussian ones; y_i = W_o concat_h(phi(q_i) S / (phi(q_i) . z)), S = sum_j phi(k_j)^T v_j, z = sum_j phi(k_j).
    max keeps exp from overflowing: the largest w x' of a query, and that of all keys of a head. It leaves the ratio
    but for eps; through that alone, also when causal, a later key can be seen. (B, N, C) -> (B, N, C).

    Hyper-parameters: `nb_features`, m (int(d ln d)); `eps`; `qkv_bias`; with `causal` the sums run over j <= i, in
    chunks of c tokens (P is N padded to whole chunks). The projection, m * d numbers shared by the heads, is a buffer:
    drawn once, and not a parameter.
    """

    projection: Tensor

    def __init__(
        self,
        dim: int,
        heads: int,
        nb_features: int | None = None,
        eps: float = 1e-4,
        qkv_bias: bool = False,
        causal: bool = False,
    ) -> None:
        super().__init__()
        width = head_dim(dim, heads)
        features = nb_features or math.floor(width * math.log(width))
        if features < 1:
            raise ValueError(f"a head of {width} channel has no random features: give nb_features or fewer heads")
        self.heads, self.eps, self.causal = heads, eps, causal
        self.query = nn.Linear(dim, dim, bias=qkv_bias)
        self.key = nn.Linear(dim, dim, bias=qkv_bias)
        self.value = nn.Linear(dim, dim, bias=qkv_bias)
        self.out = nn.Linear(dim, dim)
        self.register_buffer("projection", _orthogonal_rows(features, width))  # (m, d)

    def forward(self, x: Tensor) -> Tensor:
        query = self._features(split_heads(self.query(x), self.heads), (-1,))  # (B, heads, N, m)
        key = self._features(split_heads(self.key(x), self.heads), (-1, -2))  # (B, heads, N, m)
        value = split_heads(self.value(x), self.heads)  # (B, heads, N, d)
        attended, normaliser = _kernel_sums(query, key, value, self.causal)
        y: Tensor = self.out(merge_heads(attended / normaliser))  # (B, N, C)
        return y

    def _features(self, x: Tensor, over: tuple[int, ...]) -> Tensor:
        x = x * x.shape[-1] ** -0.25
        projected = x @ self.projection.t()  # (B, heads, N, m)
        largest = projected.amax(dim=over, keepdim=True).detach()
        features: Tensor = torch.exp(projected - x.square().sum(dim=-1, keepdim=True) / 2 - largest) + self.eps
        return features


def _orthogonal_rows(rows: int, width: int) -> Tensor:
    """(rows, width): orthogonal in blocks of `width` rows, each row as long as one of independent normals."""
    blocks = -(-rows // width)
    directions, triangles = torch.linalg.qr(torch.randn(blocks, width, width))
    # Only with these signs are all directions as likely: without them the features are biased, at d = 4 by a tenth.
    directions = directions * triangles.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)
    lengths: Tensor = torch.randn(rows, width).norm(dim=1, keepdim=True)
    orthogonal: Tensor = directions.flatten(0, 1)[:rows]
    return orthogonal * lengths


@attention(
    name="cosformer",
    layout="bnc",
    complexity="N",
    memory="N",
    where={"d": "C // heads", "c": "min(64, N)", "P": "(N + c - 1)//c*c"},
    params="4*C**2 + 4*C",
    macs="B*(4*N*C**2 + (heads*(P*c*(3*d + 1) + 4*P*d*(d + 1)) if causal else 4*N*C*d + 2*N*C))",
    paper="Qin et al. 2022, cosFormer: Rethinking Softmax in Attention, arXiv:2202.08791",
    computes="approximation",
    causal="flag",
)
class CosformerAttention(nn.Module):
    """cosFormer: rectified queries and keys, weighed by the cosine of the distance between their positions.

    y_i = W_o concat_h(sum_j s_ij v_j / max(sum_j s_ij, eps)), s_ij = relu(q_i) . relu(k_j) cos(pi/2 (i - j)/N). The
    cosine of a difference falls apart into products of sines and cosines, so that each head sums features of width
    2 d and no N x N matrix: phi(x_i) = relu(x_i) [sin(pi i / 2N), cos(pi i / 2N)]. (B, N, C) -> (B, N, C).

    Hyper-parameters: `eps`, the least normaliser; with `causal` the sums run over j <= i, in chunks of c tokens
    (P is N padded to whole chunks).
    """

    def __init__(self, dim: int, heads: int, eps: float = 1e-6, causal: bool = False) -> None:
        super().__init__()
        head_dim(dim, heads)
        self.heads, self.eps, self.causal = heads, eps, causal
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.shape[1]
        angles = _count(tokens, x) * (math.pi / 2 / tokens)  # (N,)
        waves = torch.stack([angles.sin(), angles.cos()], dim=-1).to(x.dtype)  # (N, 2)
        query = self._features(self.query(x), waves)  # (B, heads, N, 2 d)
        key = self._features(self.key(x), waves)  # (B, heads, N, 2 d)
        value = split_heads(self.value(x), self.heads)  # (B, heads, N, d)
        attended, normaliser = _kernel_sums(query, key, value, self.causal)
        attended = attended / normaliser.clamp_min(self.eps / tokens)  # (B, heads, N, d)
        y: Tensor = self.out(merge_heads(attended))  # (B, N, C)
        return y

    def _features(self, x: Tensor, waves: Tensor) -> Tensor:
        rectified = F.relu(split_heads(x, self.heads))  # (B, heads, N, d)
        return torch.cat([rectified * wave.unsqueeze(-1) for wave in waves.unbind(-1)], dim=-1)


@attention(
    name="litemla",
    aliases=("relu_linear", "efficientvit"),
    layout="bchw",
    complexity="N",
    memory="N",
    where={"T": "C//head_dim*head_dim"},
    params="3*C*T + 3*T*scale**2 + 3*T*head_dim + 2*T*C + 2*C",
    macs="B*N*(3*C*T + 3*T*scale**2 + 3*T*head_dim + 4*T*(head_dim + 1) + 2*T*C)",
    paper="Cai et al. 2023, EfficientViT: Multi-Scale Linear Attention for High-Resolution Dense Prediction, "
    "arXiv:2205.14756",
    computes="approximation",
)
class LiteMLA(nn.Module):
    """EfficientViT's multi-scale linear attention: a rectifier as the kernel, on two scales of the map.

    y = BN(W_o [o, o']), o_i = relu(q_i) S / (relu(q_i) . z + eps), S = sum_j relu(k_j)^T v_j, z = sum_j relu(k_j),
    for each head; o' the same from q', k', v', which a depth-wise convolution of `scale` x `scale` and a 1x1
    convolution within each head make from q, k, v. All sums run in float32 at least. (B, C, H, W) -> (B, C, H, W).

    Hyper-parameters: `head_dim`, the width of a head; there are dim // head_dim of them, T channels in all. `scale`,
    odd; `eps`.
    """

    def __init__(self, dim: int, head_dim: int = 8, scale: int = 5, eps: float = 1e-5) -> None:
        super().__init__()
        heads = dim // head_dim
        if not heads or scale % 2 == 0:
            raise ValueError(f"dim={dim} must hold a head of head_dim={head_dim}, and scale={scale} must be odd")
        inner = heads * head_dim
        self.head_dim, self.eps = head_dim, eps
        self.qkv = nn.Conv2d(dim, 3 * inner, 1, bias=False)
        self.depthwise = nn.Conv2d(3 * inner, 3 * inner, scale, padding=scale // 2, groups=3 * inner, bias=False)
        self.pointwise = nn.Conv2d(3 * inner, 3 * inner, 1, groups=3 * heads, bias=False)
        self.out = nn.Conv2d(2 * inner, dim, 1, bias=False)
        self.norm = nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x)  # (B, 3 * T, H, W): q, k and v of the first head, of the second ...
        scales = torch.cat([qkv, self.pointwise(self.depthwise(qkv))], dim=1)  # (B, 6 * T, H, W)
        batch, channels, height, width = scales.shape
        heads = scales.reshape(batch, channels // (3 * self.head_dim), 3 * self.head_dim, height * width)
        query, key, value = heads.transpose(2, 3).chunk(3, dim=-1)  # (B, 2 * heads, N, d)
        attended = _rectified_attention(query, key, value, self.eps)  # (B, 2 * heads, N, d)
        y: Tensor = self.norm(self.out(attended.transpose(2, 3).reshape(x.shape[0], -1, *x.shape[2:])))
        return y


def _rectified_attention(query: Tensor, key: Tensor, value: Tensor, eps: float) -> Tensor:
    """relu(q) S / (relu(q) . z + eps) in float32 at least, z summed as a column of ones beside the values."""
    query, key = _at_least_float32(query).relu(), _at_least_float32(key).relu()  # (B, heads, N, d)
    ones = F.pad(_at_least_float32(value), (0, 1), value=1.0)  # (B, heads, N, d + 1)
    sums = query @ (key.transpose(-2, -1) @ ones)  # (B, heads, N, d + 1)
    return (sums[..., :-1] / (sums[..., -1:] + eps)).to(value.dtype)


@attention(
    name="focused",
    aliases=("flatten",),
    layout="bchw",
    complexity="N",
    memory="N",
    where={"d": "C // heads"},
    params="4*C**2 + 5*C + d*kernel_size**2 + d + height*width*C",
    macs="B*(4*N*C**2 + 2*N*C*d + N*C + N*C*kernel_size**2)",
    paper="Han et al. 2023, FLatten Transformer: Vision Transformer using Focused Linear Attention, arXiv:2308.00442",
    computes="approximation",
)
class FocusedLinearAttention(nn.Module):
    """Focused linear attention: a power of the features points them to the nearest axis, as a softmax would.

    t(x) = (relu(x) + 1e-6) / softplus(s), phi(x) = t^p |t| / |t^p| with the norms over all heads together,
    y = W_o (concat_h(phi(q_i) S / (phi(q_i) . z + eps)) + DWConv(v)), S = sum_j phi(k_j)^T v_j, z = sum_j phi(k_j); a
    learned position is added to the keys, and the depth-wise convolution is shared by the heads.
    (B, C, H, W) -> (B, C, H, W), for the one `height` x `width` that it is made for.

    Hyper-parameters: `focusing_factor`, p; `kernel_size`, odd; `eps`.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        height: int,
        width: int,
        focusing_factor: int = 3,
        kernel_size: int = 5,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.heads, self.size, self.focusing_factor, self.eps = heads, (height, width), focusing_factor, eps
        self.qkv = nn.Linear(dim, 3 * dim)
        self.scale = nn.Parameter(torch.zeros(dim))
        self.position = nn.Parameter(torch.zeros(height * width, dim))
        self.local = _local(head_dim(dim, heads), kernel_size)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        _check_size(x, self.size)
        query, key, value = self.qkv(_tokens(x)).chunk(3, dim=-1)  # (B, N, C)
        query = split_heads(self._focused(query), self.heads)  # (B, heads, N, d)
        key = split_heads(self._focused(key + self.position), self.heads)
        attended, normaliser = _kernel_sums(query, key, split_heads(value, self.heads))
        attended = attended / (normaliser + self.eps / value.shape[1])  # (B, heads, N, d)
        return _map(self.out(merge_heads(attended) + _by_heads(self.local, value, x)), x)

    def _focused(self, x: Tensor) -> Tensor:
        features = (_at_least_float32(x).relu() + 1e-6) / F.softplus(_at_least_float32(self.scale))
        powers = features**self.focusing_factor
        ratio: Tensor = features.norm(dim=-1, keepdim=True) / powers.norm(dim=-1, keepdim=True)  # (B, N, 1)
        return (powers * ratio).to(x.dtype)


def _local(width: int, kernel_size: int) -> nn.Conv2d:
    if kernel_size % 2 == 0:
        raise ValueError(f"kernel_size={kernel_size} is even: the map would change its size")
    return nn.Conv2d(width, width, kernel_size, padding=kernel_size // 2, groups=width)


def _by_heads(convolution: nn.Conv2d, value: Tensor, like: Tensor) -> Tensor:
    """The convolution over the map of each head: (B, N, C) -> (B, N, C), its size that of `like`, (B, C, H, W)."""
    maps = _map(value, like).reshape(-1, convolution.in_channels, *like.shape[2:])  # (B * heads, d, H, W)
    return _tokens(convolution(maps).reshape(like.shape))


def _check_size(x: Tensor, size: tuple[int, int]) -> None:
    if tuple(x.shape[2:]) != size:
        raise ValueError(f"it is made for a map of {size[0]}x{size[1]}, not of {x.shape[2]}x{x.shape[3]}")


@attention(
    name="sana",
    aliases=("relu_linear_tokens",),
    layout="bnc",
    complexity="N",
    memory="N",
    where={"d": "C // heads"},
    params="4*C**2 + C",
    macs="B*(4*N*C**2 + 2*N*C*(d + 1))",
    paper="Xie et al. 2024, SANA: Efficient High-Resolution Image Synthesis with Linear Diffusion Transformers, "
    "arXiv:2410.10629",
    computes="approximation",
)
class SanaLinearAttention(nn.Module):
    """SANA's linear attention: a rectifier as the kernel.

    y_i = W_o concat_h(relu(q_i) S / (relu(q_i) . z + eps)), S = sum_j relu(k_j)^T v_j, z = sum_j relu(k_j), the sums in
    float32 at least. Only W_o has a bias. (B, N, C) -> (B, N, C); S is (d, d) for each head, d = dim / heads.

    Hyper-parameters: `eps` keeps the normaliser from zero.
    """

    def __init__(self, dim: int, heads: int, eps: float = 1e-15) -> None:
        super().__init__()
        head_dim(dim, heads)
        self.heads, self.eps = heads, eps
        self.query = nn.Linear(dim, dim, bias=False)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim, bias=False)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (split_heads(project(x), self.heads) for project in (self.query, self.key, self.value))
        y: Tensor = self.out(merge_heads(_rectified_attention(query, key, value, self.eps)))  # (B, N, C)
        return y


@attention(
    name="separable",
    aliases=("mobilevitv2",),
    layout="bchw",
    complexity="N",
    memory="N",
    params="3*C**2 + 4*C + 1",
    macs="B*N*(3*C**2 + 2*C)",
    paper="Mehta and Rastegari 2022, Separable Self-attention for Mobile Vision Transformers, arXiv:2206.02680",
)
class SeparableAttention(nn.Module):
    """Separable self-attention of MobileViTv2: one score for each position, one context vector for all of them.

    s = softmax_N(W_q x), a single channel; y = W_o (relu(W_v x) * sum_n s_n W_k x_n), all projections 1x1 convolutions.
    (B, C, H, W) -> (B, C, H, W), over the whole map (MobileViTv2 does so within sets of pixels, one of each patch).
    The sum over the positions is a matrix product here: N C of the MACs, which a product and a sum would hide.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.qkv = nn.Conv2d(dim, 1 + 2 * dim, 1)
        self.out = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).split([1, self.dim, self.dim], dim=1)
        scores = query.flatten(2).softmax(dim=-1)  # (B, 1, N)
        context = key.flatten(2) @ scores.transpose(1, 2)  # (B, C, 1)
        y: Tensor = self.out(F.relu(value) * context.unsqueeze(-1))  # (B, C, H, W)
        return y


@attention(
    name="hydra",
    layout="bnc",
    complexity="N",
    memory="N",
    params="4*C**2 + 4*C",
    macs="B*(4*N*C**2 + N*C)",
    paper="Bolya et al. 2022, Hydra Attention: Efficient Attention with Many Heads, arXiv:2209.07484",
    computes="approximation",
    causal="flag",
)
class HydraAttention(nn.Module):
    """Hydra attention: as many heads as channels, with the cosine as the kernel.

    y_i = W_o (q_i * sum_j k_j * v_j), q and k normalised to length 1 over all channels. (B, N, C) -> (B, N, C).

    The N C MACs beyond the projections are an explicit product and sum, of which torch's counter says nothing.

    Hyper-parameters: with `causal` the sum runs over j <= i, as a cumulative sum.
    """

    def __init__(self, dim: int, causal: bool = False) -> None:
        super().__init__()
        self.causal = causal
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        query = F.normalize(self.query(x), dim=-1)  # (B, N, C)
        key = F.normalize(self.key(x), dim=-1)  # (B, N, C)
        y: Tensor = self.out(query * self._context(key, self.value(x)))  # (B, N, C)
        return y

    def _context(self, key: Tensor, value: Tensor) -> Tensor:
        if not self.causal:
            return (key * value).sum(dim=1, keepdim=True)  # (B, 1, C); as an einsum it is ten times slower on a CPU
        # In bfloat16 a running sum would stand still once it is 256 times what comes in.
        sums = (key * value).cumsum(dim=1, dtype=torch.promote_types(key.dtype, torch.float32))
        return sums.to(key.dtype)  # (B, N, C)


@attention(
    name="rfa",
    layout="bnc",
    complexity="N",
    memory="N",
    where={"d": "C // heads", "m": "2*proj_dim", "c": "min(64, N)", "P": "(N + c - 1)//c*c"},
    params="4*C**2 + 4*C",
    macs="B*(4*N*C**2 + N*C*m + (heads*(P*c*(m + d + 1) + 2*P*m*(d + 1)) if causal else 2*N*C*m + N*heads*m))",
    paper="Peng et al. 2021, Random Feature Attention, arXiv:2103.02143",
    computes="approximation",
    causal="flag",
)
class RandomFeatureAttention(nn.Module):
    """Random feature attention: sines and cosines of random projections stand for the exponential of the softmax.

    phi(x) = exp(|x'|^2 / 2 - max) [sin(w x'), cos(w x')] / sqrt(m), x' = x / d^(1/4), m = `proj_dim` rows w of standard
    normals for each head; y_i = W_o concat_h(phi(q_i) S / max(phi(q_i) . z, eps)), S = sum_j phi(k_j)^T v_j,
    z = sum_j phi(k_j). max is the largest |x'|^2 / 2 of the keys of a head; of a query alone the whole factor goes.
    The normaliser may come out negative, which `eps` stops. (B, N, C) -> (B, N, C). Without the paper's gate.

    Hyper-parameters: `proj_dim`, m; `eps`; with `causal` the sums run over j <= i, in chunks of c tokens (P is N padded
    to whole chunks; max is still that of all keys). The projections, heads * m * d numbers, are a buffer: drawn once,
    and not parameters.
    """

    projection: Tensor

    def __init__(self, dim: int, heads: int, proj_dim: int = 64, eps: float = 1e-2, causal: bool = False) -> None:
        super().__init__()
        width = head_dim(dim, heads)
        self.heads, self.eps, self.causal = heads, eps, causal
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)
        self.register_buffer("projection", torch.randn(heads, proj_dim, width))  # (heads, m, d)

    def forward(self, x: Tensor) -> Tensor:
        query = self._waves(split_heads(self.query(x), self.heads))  # (B, heads, N, 2 m)
        key = split_heads(self.key(x), self.heads)  # (B, heads, N, d)
        lengths = key.square().sum(dim=-1, keepdim=True) * (0.5 * key.shape[-1] ** -0.5)  # (B, heads, N, 1)
        key = self._waves(key) * torch.exp(lengths - lengths.amax(dim=-2, keepdim=True).detach())
        value = split_heads(self.value(x), self.heads)  # (B, heads, N, d)
        attended, normaliser = _kernel_sums(query, key, value, self.causal)
        attended = attended / normaliser.clamp_min(self.eps / x.shape[1])  # (B, heads, N, d)
        y: Tensor = self.out(merge_heads(attended))  # (B, N, C)
        return y

    def _waves(self, x: Tensor) -> Tensor:
        angles = (x * x.shape[-1] ** -0.25) @ self.projection.transpose(-2, -1)  # (B, heads, N, m)
        return torch.cat([angles.sin(), angles.cos()], dim=-1) / math.sqrt(self.projection.shape[1])


@attention(
    name="swift_additive",
    layout="bchw",
    complexity="N",
    memory="N",
    params="4*C**2 + 5*C",
    macs="B*(4*N*C**2 + 2*N*C)",
    paper="Shaker et al. 2023, SwiftFormer: Efficient Additive Attention for Transformer-based Real-time Mobile Vision "
    "Applications, arXiv:2303.15446",
)
class SwiftAdditiveAttention(nn.Module):
    """Efficient additive attention of SwiftFormer: the queries are summed into one, which then weighs every key.

    q and k normalised to length 1 over the channels; a = q w_g / sqrt(C), normalised to length 1 over the positions;
    g = sum_n a_n q_n; y = W_f (W_p (g * k) + q). (B, C, H, W) -> (B, C, H, W). The sum over the positions is a matrix
    product here: N C of the MACs, which a product and a sum would hide.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.w_g = nn.Parameter(torch.randn(dim, 1))
        self.proj = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        tokens = _tokens(x)  # (B, N, C)
        query = F.normalize(self.query(tokens), dim=-1)  # (B, N, C)
        key = F.normalize(self.key(tokens), dim=-1)  # (B, N, C)
        weights = F.normalize(query @ self.w_g * x.shape[1] ** -0.5, dim=1)  # (B, N, 1)
        summed = weights.transpose(1, 2) @ query  # (B, 1, C)
        return _map(self.out(self.proj(summed * key) + query), x)


@attention(
    name="pola",
    aliases=("polaformer",),
    layout="bchw",
    complexity="N",
    memory="N",
    where={"d": "C // heads"},
    params="5*C**2 + 3*C + d*kernel_size**2 + d + height*width*C",
    macs="B*(5*N*C**2 + 4*N*C*d + 4*N*C + N*C*kernel_size**2)",
    paper="Meng et al. 2025, PolaFormer: Polarity-aware Linear Attention for Vision Transformers, arXiv:2501.15061",
    computes="approximation",
)
class PolaLinearAttention(nn.Module):
    """Polarity-aware linear attention: products of equal and of opposite signs are summed apart.

    q = W_q x / softplus(s), k likewise with a learned position added first; p = 1 + alpha sigmoid(r), a power learned
    for each channel; x+ = relu(x)^p, x- = relu(-x)^p. With kern(q, k, v) = q sum_j k_j^T v_j / (q . sum_j k_j + eps),
    the first half of each head is kern([q+, q-], [k+, k-], v_1), the second kern([q-, q+], [k+, k-], v_2), v_1 and v_2
    the halves of v. y = W_o ((that + DWConv(v)) * W_g x); the depth-wise convolution is shared by the heads.
    (B, C, H, W) -> (B, C, H, W), for the one `height` x `width` that it is made for.

    Hyper-parameters: `alpha`; `kernel_size`, odd; `eps`. Only W_o has a bias.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        height: int,
        width: int,
        alpha: float = 4.0,
        kernel_size: int = 5,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.heads, self.size, self.alpha, self.eps = heads, (height, width), alpha, eps
        self.qg = nn.Linear(dim, 2 * dim, bias=False)
        self.kv = nn.Linear(dim, 2 * dim, bias=False)
        self.power = nn.Parameter(torch.zeros(heads, 1, head_dim(dim, heads)))
        self.scale = nn.Parameter(torch.zeros(dim))
        self.position = nn.Parameter(torch.zeros(height * width, dim))
        self.local = _local(head_dim(dim, heads), kernel_size)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        _check_size(x, self.size)
        tokens = _tokens(x)  # (B, N, C)
        query, gate = self.qg(tokens).chunk(2, dim=-1)  # (B, N, C)
        key, value = self.kv(tokens).chunk(2, dim=-1)  # (B, N, C)
        positive, negative = self._signs(query)  # (B, heads, N, d)
        keys = torch.cat(self._signs(key + self.position), dim=-1)  # (B, heads, N, 2 d)
        same, opposite = split_heads(value, self.heads).chunk(2, dim=-1)  # (B, heads, N, d / 2)
        same = self._attend(torch.cat([positive, negative], dim=-1), keys, same)
        opposite = self._attend(torch.cat([negative, positive], dim=-1), keys, opposite)
        attended = merge_heads(torch.cat([same, opposite], dim=-1)) + _by_heads(self.local, value, x)  # (B, N, C)
        return _map(self.out(attended * gate), x)

    def _signs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        power = 1 + self.alpha * self.power.sigmoid()  # (heads, 1, d)
        scaled = split_heads(x / F.softplus(self.scale), self.heads)  # (B, heads, N, d)
        return scaled.relu() ** power, (-scaled).relu() ** power

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        attended, normaliser = _kernel_sums(query, key, value)
        return attended / (normaliser + self.eps / key.shape[2])


@attention(
    name="mlla",
    layout="bchw",
    complexity="N",
    memory="N",
    where={"d": "C // heads"},
    params="2*C**2 + 12*C",
    macs="B*(2*N*C**2 + 2*N*C*d + N*C + 9*N*C)",
    paper="Han et al. 2024, Demystify Mamba in Vision: A Linear Attention Perspective, arXiv:2405.16605",
    computes="approximation",
)
class MambaLikeLinearAttention(nn.Module):
    """Linear attention of MLLA: features rotated by position (RoPE), a local term (LePE), values unprojected.

    q, k = elu(W x) + 1; y_i = concat_h(R_i q_i sum_j (R_j k_j)^T x_j / (q_i . sum_j k_j + eps)) + DWConv3x3(x): the
    numerator sees rotated features, the denominator plain ones. R turns the pairs of channels over all heads together,
    the first half of them by the row times 10000^(-4 t / C), the second by the column; t counts the pairs of a half.
    (B, C, H, W) -> (B, C, H, W).

    Hyper-parameters: `eps`. dim % 4 must be 0.
    """

    def __init__(self, dim: int, heads: int, eps: float = 1e-6) -> None:
        super().__init__()
        head_dim(dim, heads)
        if dim % 4:
            raise ValueError(f"dim={dim} is not divisible by 4: rows and columns each turn pairs of channels")
        self.heads, self.eps = heads, eps
        self.qk = nn.Linear(dim, 2 * dim)
        self.lepe = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        tokens = _tokens(x)  # (B, N, C)
        query, key = (F.elu(self.qk(tokens)) + 1).chunk(2, dim=-1)  # (B, N, C)
        turns = _turns(x)  # (N, C / 2)
        turned_query, turned_key = (split_heads(_turned(each, turns), self.heads) for each in (query, key))
        context = turned_key.transpose(-2, -1) @ split_heads(tokens, self.heads) / tokens.shape[1]  # (B, heads, d, d)
        query, key = split_heads(query, self.heads), split_heads(key, self.heads)  # (B, heads, N, d)
        normaliser = query @ key.mean(dim=-2).unsqueeze(-1) + self.eps / tokens.shape[1]  # (B, heads, N, 1)
        attended = merge_heads(turned_query @ context / normaliser)  # (B, N, C)
        y: Tensor = _map(attended, x) + self.lepe(x)
        return y


def _turns(x: Tensor) -> Tensor:
    """The angles by which a map's pairs of channels are turned: (B, C, H, W) -> (H * W, C / 2)."""
    quarter, (height, width) = x.shape[1] // 4, x.shape[2:]
    speeds = 10000.0 ** (-_count(quarter, x) / quarter)  # (C / 4,)
    rows = (_count(height, x)[:, None] * speeds)[:, None].expand(-1, width, -1)  # (H, W, C / 4)
    columns = (_count(width, x)[:, None] * speeds)[None].expand(height, -1, -1)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1)


def _turned(x: Tensor, angles: Tensor) -> Tensor:
    """Channels 2 t and 2 t + 1 as a point in the plane, turned: (B, N, C), (N, C / 2) -> (B, N, C)."""
    cosine, sine = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x[..., ::2], x[..., 1::2]  # (B, N, C / 2)
    return torch.stack([first * cosine - second * sine, first * sine + second * cosine], dim=-1).flatten(-2)
