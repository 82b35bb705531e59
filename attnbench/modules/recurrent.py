"""Recurrent attention: a state of fixed size is carried over the tokens; here by chunks of them, in parallel."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.modules.parts.arguments import head_dim
from attnbench.modules.parts.chunked import chunked, decayed_linear, exact, sums_before
from attnbench.modules.parts.delta import delta_rule, gated_delta_rule
from attnbench.modules.parts.gated import BLOCK, gated_linear
from attnbench.modules.parts.heads import merge_heads, split_heads
from attnbench.modules.spec import attention

__all__ = ["SSD", "Based", "DeltaNet", "GatedDeltaNet", "GatedLinearAttention", "LightningAttention", "Retention"]


@attention(
    name="retention",
    aliases=("retnet",),
    layout="bnc",
    complexity="N",
    memory="N",
    where={"v": "value_dim or C", "c": "min(chunk, N)", "P": "(N + c - 1)//c*c"},
    params="2*C**2 + 3*C*v",
    macs="B*(N*(2*C**2 + 3*C*v) + P*c*(C + v) + 2*P*C*v//heads)",
    paper="Sun et al. 2023, Retentive Network: A Successor to Transformer for Large Language Models, arXiv:2307.08621",
    causal="always",
)
class Retention(nn.Module):
    """Multi-scale retention: linear attention in which each head forgets at a fixed rate of its own.

    S_i = gamma_h S_{i-1} + k_i^T v_i, o_i = q_i S_i with gamma_h = 1 - 2^(-5-h), queries and keys turned by their
    positions, keys scaled by d^-1/2; y = W_o(silu(W_g x) * rms_h(o)). No biases. (B, N, C) -> (B, N, C).
    In chunks of c tokens, N c (C + v) + 2 N C v / h products beyond the projections; P is N with the padding.

    Hyper-parameters: `value_dim` over all heads (dim; the paper's language models take 2 * dim), `chunk`, `eps` of the
    normalisation. A head's queries need an even number of channels.
    """

    def __init__(self, dim: int, heads: int, value_dim: int | None = None, chunk: int = 64, eps: float = 1e-6) -> None:
        super().__init__()
        value_dim = value_dim or dim
        head_dim(value_dim, heads)
        if head_dim(dim, heads) % 2:
            raise ValueError(f"a head has {dim // heads} channels, an odd number: they are turned in pairs")
        self.heads, self.chunk, self.eps = heads, chunk, eps
        self.query = nn.Linear(dim, dim, bias=False)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, value_dim, bias=False)
        self.gate = nn.Linear(dim, value_dim, bias=False)
        self.out = nn.Linear(value_dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (split_heads(layer(x), self.heads) for layer in (self.query, self.key, self.value))
        query, key = _turned(query), _turned(key * key.shape[-1] ** -0.5)  # (B, h, N, d)
        heads = torch.arange(self.heads, device=x.device, dtype=torch.promote_types(x.dtype, torch.float32))
        log_gamma = torch.log1p(-torch.exp2(-5 - heads))[None, :, None]  # (1, h, 1)
        retained = decayed_linear(query * self._scale(log_gamma, query), key, value, log_gamma, self.chunk)
        normed = F.rms_norm(retained, retained.shape[-1:], eps=self.eps)  # (B, h, N, e)
        y: Tensor = self.out(F.silu(self.gate(x)) * merge_heads(normed))  # (B, N, C)
        return y

    @staticmethod
    def _scale(log_gamma: Tensor, query: Tensor) -> Tensor:
        """1 / sqrt(sum_{j<=i} gamma^(i-j)), as in the paper: the normalisation undoes it, half precision needs it."""
        steps = torch.arange(1, query.shape[2] + 1, device=query.device, dtype=log_gamma.dtype)
        weight = torch.expm1(log_gamma * steps) / torch.expm1(log_gamma)  # (1, h, N)
        return weight.rsqrt().unsqueeze(-1).to(query.dtype)


def _turned(x: Tensor) -> Tensor:
    """Each pair of channels turned by the position times its own angle, 1 down to 1/10000: (B, h, N, d)."""
    tokens, dim = x.shape[2:]
    dtype = torch.promote_types(x.dtype, torch.float32)
    angle = 10_000 ** -torch.linspace(0, 1, dim // 2, device=x.device, dtype=dtype)
    position = torch.arange(tokens, device=x.device, dtype=dtype)
    turn = (position[:, None] * angle).repeat_interleave(2, dim=1)  # (N, d)
    first, second = torch.unflatten(x, -1, (-1, 2)).unbind(-1)  # (B, h, N, d/2)
    crossed = torch.stack((-second, first), -1).flatten(-2)  # (B, h, N, d)
    return x * turn.cos().to(x.dtype) + crossed * turn.sin().to(x.dtype)


@attention(
    name="gla",
    aliases=("gated_linear_attn",),
    layout="bnc",
    complexity="N",
    memory="N",
    where={
        "k": "key_dim or C//2",
        "v": "value_dim or C",
        "r": "gate_low_rank_dim",
        "c": "min(chunk, (N + 15)//16*16)",
        "P": "(N + c - 1)//c*c",
    },
    params="C*(2*k + 3*v) + r*(C + k) + k + v//heads",
    macs="B*(N*(C*(2*k + 3*v) + r*(C + k)) + P*c*(k + v) + 2*P*k*v//heads)",
    paper="Yang et al. 2023, Gated Linear Attention Transformers with Hardware-Efficient Training, arXiv:2312.06635",
    causal="always",
)
class GatedLinearAttention(nn.Module):
    """Gated linear attention: every feature of the keys is forgotten at a rate that the token itself decides.

    S_i = diag(exp g_i) S_{i-1} + k_i^T v_i, o_i = d_k^-1/2 q_i S_i, g = logsigmoid(W_2 W_1 x + b) / 16;
    y = W_o(rms_h(o) * silu(W_g x)). (B, N, C) -> (B, N, C). In chunks of c tokens, with the gates in log space and
    the paper's secondary chunks of 16; a gate below 4.5e-5 counts as that. c is at least 16: shorter inputs are padded.

    Hyper-parameters: `key_dim` (dim / 2) and `value_dim` (dim) over all heads, `gate_low_rank_dim` between W_1 and
    W_2, `gate_logit_normalizer`, `chunk` (a multiple of 16), `eps` of the normalisation.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        key_dim: int | None = None,
        value_dim: int | None = None,
        gate_low_rank_dim: int = 16,
        gate_logit_normalizer: float = 16.0,
        chunk: int = 64,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        if chunk % BLOCK:
            raise ValueError(f"chunk={chunk} is no multiple of {BLOCK}, the length of the blocks within a chunk")
        key_dim, value_dim = key_dim or dim // 2, value_dim or dim
        head_dim(key_dim, heads)
        self.heads, self.normalizer, self.chunk = heads, gate_logit_normalizer, chunk
        self.query = nn.Linear(dim, key_dim, bias=False)
        self.key = nn.Linear(dim, key_dim, bias=False)
        self.value = nn.Linear(dim, value_dim, bias=False)
        self.forget = nn.Sequential(
            nn.Linear(dim, gate_low_rank_dim, bias=False), nn.Linear(gate_low_rank_dim, key_dim)
        )
        self.gate = nn.Linear(dim, value_dim, bias=False)
        self.norm = nn.RMSNorm(head_dim(value_dim, heads), eps=eps)
        self.out = nn.Linear(value_dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (split_heads(layer(x), self.heads) for layer in (self.query, self.key, self.value))
        log_decay = F.logsigmoid(exact(split_heads(self.forget(x), self.heads))) / self.normalizer  # (B, h, N, d_k)
        attended = gated_linear(query * query.shape[-1] ** -0.5, key, value, log_decay, self.chunk)  # (B, h, N, d_v)
        y: Tensor = self.out(merge_heads(self.norm(attended)) * F.silu(self.gate(x)))  # (B, N, C)
        return y


class _CausalConvolution(nn.Conv1d):
    """A filter for each channel over the last `kernel_size` tokens: (B, N, C) -> (B, N, C)."""

    def __init__(self, channels: int, kernel_size: int, bias: bool) -> None:
        super().__init__(channels, channels, kernel_size, groups=channels, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x.transpose(1, 2), (self.kernel_size[0] - 1, 0))  # (B, C, k - 1 + N)
        return super().forward(padded).transpose(1, 2)


@torch.no_grad()
def _time_step_bias(heads: int) -> Tensor:
    """What softplus makes a step of 0.001 to 0.1, log-uniform: (h,). Gu and Dao 2023, Mamba, arXiv:2312.00752."""
    step = torch.exp(torch.rand(heads) * math.log(0.1 / 0.001) + math.log(0.001))
    return step + torch.log(-torch.expm1(-step))


@attention(
    name="ssd",
    aliases=("mamba2",),
    layout="bnc",
    complexity="N",
    memory="N",
    where={
        "E": "expand*C",
        "s": "groups*state_size",
        "c": "min(chunk, N)",
        "P": "(N + c - 1)//c*c",
    },
    params="C*(2*E + 2*s + heads) + (E + 2*s)*(conv_kernel + 1) + 3*heads + E + E*C",
    macs="B*(N*(C*(2*E + 2*s + heads) + (E + 2*s)*conv_kernel + E*C) + P*c*(s + E) + 2*P*E*state_size)",
    paper="Dao and Gu 2024, Transformers are SSMs: Generalized Models and Efficient Algorithms Through Structured "
    "State Space Duality, arXiv:2405.21060",
    causal="always",
)
class SSD(nn.Module):
    """Structured state space duality, the whole block of Mamba-2: projections, short convolution, scan, gate.

    [z, xBC, dt] = W_in x; x, B, C = silu(conv(xBC)); dt = softplus(dt + b);
    S_i = exp(-dt_i e^A) S_{i-1} + dt_i B_i^T x_i, o_i = C_i S_i + D x_i; y = W_o rms(o * silu(z)).
    (B, N, C) -> (B, N, C). Queries C and keys B belong to a group of heads: their scores are computed once for the
    group, N c s products for s = groups * state_size. The states go from chunk to chunk by a scan of log2(N / c)
    steps, and not by the (N / c + 1)^2 products of the short published program, which are quadratic in N.

    Hyper-parameters: `expand` (inner width over dim), `state_size`, `groups`, `conv_kernel`, `chunk` (the published
    block takes 256), `eps` of the normalisation.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        expand: int = 2,
        state_size: int = 128,
        groups: int = 1,
        conv_kernel: int = 4,
        chunk: int = 64,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        inner, shared = expand * dim, groups * state_size
        head_dim(inner, heads)
        if heads % groups:
            raise ValueError(f"heads={heads} is not divisible by groups={groups}")
        self.heads, self.groups, self.chunk, self.eps = heads, groups, chunk, eps
        self.widths = [inner, inner + 2 * shared, heads]
        self.inner = [inner, shared, shared]
        self.project = nn.Linear(dim, sum(self.widths), bias=False)
        self.convolution = _CausalConvolution(inner + 2 * shared, conv_kernel, bias=True)
        self.step_bias = nn.Parameter(_time_step_bias(heads))
        self.log_rate = nn.Parameter(torch.log(torch.arange(1, heads + 1).float()))
        self.skip = nn.Parameter(torch.ones(heads))
        self.scale = nn.Parameter(torch.ones(inner))
        self.out = nn.Linear(inner, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, mixed, step = torch.split(self.project(x), self.widths, dim=2)
        value, key, query = torch.split(F.silu(self.convolution(mixed)), self.inner, dim=2)
        query, key, value = (split_heads(each, parts) for each, parts in
                             ((query, self.groups), (key, self.groups), (value, self.heads)))  # fmt: skip
        scanned = self._scan(query, key, value, step)
        gated = torch.unflatten(merge_heads(scanned) * F.silu(gate), 2, (self.groups, -1))  # (B, N, g, E/g)
        normed = F.rms_norm(gated, gated.shape[-1:], eps=self.eps).flatten(2) * self.scale  # (B, N, E)
        y: Tensor = self.out(normed)  # (B, N, C)
        return y

    def _scan(self, query: Tensor, key: Tensor, value: Tensor, step: Tensor) -> Tensor:
        """(B, g, N, s), (B, g, N, s), (B, h, N, P), (B, N, h) -> (B, h, N, P)."""
        step = F.softplus(exact(step + self.step_bias)).transpose(1, 2)  # (B, h, N)
        log_decay = -exact(self.log_rate).exp()[:, None] * step  # (B, h, N)
        written = value * step.unsqueeze(-1).to(value.dtype)  # (B, h, N, P)
        # Each group is a sample of its own, with one query and one key for all of its heads.
        query, key, written, log_decay = (
            torch.unflatten(x, 1, (self.groups, -1)).flatten(0, 1) for x in (query, key, written, log_decay)
        )
        states = decayed_linear(query, key, written, log_decay, self.chunk)  # (B*g, h/g, N, P)
        return torch.unflatten(states, 0, (-1, self.groups)).flatten(1, 2) + self.skip[:, None, None] * value


@attention(
    name="deltanet",
    aliases=("delta_net", "delta_rule"),
    layout="bnc",
    complexity="N",
    memory="N",
    where={
        "d": "C//heads",
        "c": "min(chunk, 2**bit_length(N - 1))",
        "P": "(N + c - 1)//c*c",
        "n": "2**bit_length(P//c - 1)",
    },
    params="4*C**2 + C*heads + 3*C*conv_size",
    macs="B*(N*(4*C**2 + C*heads + 3*C*conv_size) + P*C*(5*c + 4*d) + P*heads*(c**2 - 1)//3 + max(n - 2, 0)*3*C*d**2)",
    paper="Schlag et al. 2021, Linear Transformers Are Secretly Fast Weight Programmers, arXiv:2102.11174; "
    "Yang et al. 2024, Parallelizing Linear Transformers with the Delta Rule over Sequence Length, arXiv:2406.06484",
    causal="always",
)
class DeltaNet(nn.Module):
    """Linear attention by the delta rule: what the state already knows of a key is taken out before it is written.

    S_i = S_{i-1} + beta_i k_i^T (v_i - k_i S_{i-1}), o_i = d^-1/2 q_i S_i; q, k, v = silu(W x), q and k of length one,
    beta = sigmoid(W_b x); y = W_o rms_h(o). (B, N, C) -> (B, N, C). The recurrence needs 3 N C d products; in chunks
    of c tokens it takes N C (5 c + 4 d) + N h (c^2 - 1) / 3, the last for a triangular inverse, and to compose the
    chunks 3 C d^2 (N / c - 2), where the published kernel goes over them in a loop, without this and with 3 d for 4 d.
    c and N / c are padded to powers of two.

    Hyper-parameters: `conv_size` of a causal convolution on q, k and v (0: none; the language models of Yang et al.
    have 4), `chunk` (a power of two), `eps` of the normalisation.
    """

    def __init__(self, dim: int, heads: int, conv_size: int = 0, chunk: int = 64, eps: float = 1e-5) -> None:
        super().__init__()
        head_dim(dim, heads)
        _power_of_two(chunk)
        self.heads, self.chunk, self.eps = heads, chunk, eps
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.convolution = _CausalConvolution(3 * dim, conv_size, bias=False) if conv_size else nn.Identity()
        self.beta = nn.Linear(dim, heads, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        qkv = F.silu(self.convolution(self.qkv(x))).chunk(3, dim=2)
        query, key, value = (split_heads(each, self.heads) for each in qkv)  # (B, h, N, d)
        query, key = F.normalize(query, dim=-1) * query.shape[-1] ** -0.5, F.normalize(key, dim=-1)
        beta = self.beta(x).sigmoid().transpose(1, 2)  # (B, h, N)
        attended = delta_rule(query, key, value, beta, self.chunk)  # (B, h, N, d)
        y: Tensor = self.out(merge_heads(F.rms_norm(attended, attended.shape[-1:], eps=self.eps)))  # (B, N, C)
        return y


def _power_of_two(chunk: int) -> None:
    if chunk < 1 or chunk & (chunk - 1):
        raise ValueError(f"chunk={chunk} is no power of two: the triangular inverse within a chunk goes by halves")


@attention(
    name="gated_deltanet",
    aliases=("gated_delta_net", "gated_delta_rule", "gdn"),
    layout="bnc",
    complexity="N",
    memory="N",
    where={
        "k": "key_dim or C",
        "v": "value_dim or C",
        "w": "2*k + v",
        "c": "min(chunk, 2**bit_length(N - 1))",
        "P": "(N + c - 1)//c*c",
        "n": "2**bit_length(P//c - 1)",
    },
    params="C*w + w*conv_size + 2*C*heads + 2*heads + 2*C*v + v//heads",
    macs="B*(N*(C*w + w*conv_size + 2*C*heads + 2*C*v) + P*c*(3*k + 2*v)"
    " + P*k*(k + 3*v)//heads + P*heads*(c**2 - 1)//3 + max(n - 2, 0)*k**2*(k + 2*v)//heads**2)",
    may_be_zero=("conv_size",),
    paper="Yang et al. 2024, Gated Delta Networks: Improving Mamba2 with Delta Rule, arXiv:2412.06464",
    causal="always",
)
class GatedDeltaNet(nn.Module):
    """The delta rule with a state that also fades as a whole, at a rate that the token decides.

    S_i = a_i S_{i-1} + beta_i k_i^T (v_i - a_i k_i S_{i-1}), o_i = d_k^-1/2 q_i S_i; q, k, v = silu(conv(W x)), q and
    k of length one, beta = sigmoid(W_b x), a = exp(-e^A softplus(W_a x + b)); y = W_o(rms_h(o) * silu(W_g x)).
    (B, N, C) -> (B, N, C). Chunks, inverse and composition as in `deltanet`.

    Hyper-parameters: `key_dim` and `value_dim` over all heads (dim; the paper's models have 3/4 and 3/2 of dim),
    `conv_size` (0: none), `chunk` (a power of two), `eps` of the normalisation.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        key_dim: int | None = None,
        value_dim: int | None = None,
        conv_size: int = 4,
        chunk: int = 64,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        key_dim, value_dim = key_dim or dim, value_dim or dim
        head_dim(key_dim, heads)
        _power_of_two(chunk)
        self.heads, self.chunk = heads, chunk
        self.widths = [key_dim, key_dim, value_dim]
        self.qkv = nn.Linear(dim, sum(self.widths), bias=False)
        self.convolution = _CausalConvolution(sum(self.widths), conv_size, bias=False) if conv_size else nn.Identity()
        self.beta = nn.Linear(dim, heads, bias=False)
        self.step = nn.Linear(dim, heads, bias=False)
        self.step_bias = nn.Parameter(_time_step_bias(heads))
        self.log_rate = nn.Parameter(torch.empty(heads).uniform_(1, 16).log())
        self.gate = nn.Linear(dim, value_dim, bias=False)
        self.norm = nn.RMSNorm(head_dim(value_dim, heads), eps=eps)
        self.out = nn.Linear(value_dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        qkv = torch.split(F.silu(self.convolution(self.qkv(x))), self.widths, dim=2)
        query, key, value = (split_heads(each, self.heads) for each in qkv)  # (B, h, N, d_k or d_v)
        query, key = F.normalize(query, dim=-1) * query.shape[-1] ** -0.5, F.normalize(key, dim=-1)
        beta = self.beta(x).sigmoid().transpose(1, 2)  # (B, h, N)
        step = F.softplus(exact(self.step(x) + self.step_bias))  # (B, N, h)
        log_decay = (-exact(self.log_rate).exp() * step).transpose(1, 2)  # (B, h, N)
        attended = gated_delta_rule(query, key, value, beta, log_decay, self.chunk)  # (B, h, N, d_v)
        y: Tensor = self.out(merge_heads(self.norm(attended)) * F.silu(self.gate(x)))  # (B, N, C)
        return y


@attention(
    name="lightning",
    aliases=("lightning_attn",),
    layout="bnc",
    complexity="N",
    memory="N",
    where={"d": "C//heads", "c": "min(chunk, N)", "P": "(N + c - 1)//c*c"},
    params="5*C**2 + C",
    macs="B*(5*N*C**2 + 2*P*c*C + 2*P*C*d)",
    paper="Qin et al. 2024, Various Lengths, Constant Speed: Efficient Language Modeling with Lightning Attention, "
    "arXiv:2405.17381; MiniMax 2025, MiniMax-01, arXiv:2501.08313",
    causal="always",
)
class LightningAttention(nn.Module):
    """Lightning attention as in MiniMax-01: linear attention without a normaliser, and a fixed decay for each head.

    S_i = exp(-s_h) S_{i-1} + k_i^T v_i, o_i = q_i S_i, q, k, v = silu(W x); s_h = 2^(-8 (h + 1) / heads) times
    1 - l / (L - 1 + 1e-5) + 1e-5 in layer l of L, heads from 0; y = W_o(sigmoid(W_g x) * rms(o)), the norm over all of
    C. No biases. (B, N, C) -> (B, N, C).

    Hyper-parameters: `layer` and `layers`, l and L, `chunk` (256 in the published block), `eps` of the normalisation.
    """

    def __init__(
        self, dim: int, heads: int, layer: int = 0, layers: int = 32, chunk: int = 64, eps: float = 1e-6
    ) -> None:
        super().__init__()
        head_dim(dim, heads)
        self.heads, self.chunk = heads, chunk
        self.fraction = 1 - layer / (layers - 1 + 1e-5) + 1e-5
        self.query = nn.Linear(dim, dim, bias=False)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim, bias=False)
        self.gate = nn.Linear(dim, dim, bias=False)
        self.norm = nn.RMSNorm(dim, eps=eps)
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        layers = (self.query, self.key, self.value)
        query, key, value = (split_heads(F.silu(layer(x)), self.heads) for layer in layers)  # (B, h, N, d)
        dtype = torch.promote_types(x.dtype, torch.float32)
        head = torch.arange(1, self.heads + 1, device=x.device, dtype=dtype)
        log_decay = -torch.exp2(-8 / self.heads * head) * self.fraction  # (h,)
        attended = decayed_linear(query, key, value, log_decay[None, :, None], self.chunk)  # (B, h, N, d)
        y: Tensor = self.out(self.gate(x).sigmoid() * self.norm(merge_heads(attended)))  # (B, N, C)
        return y


@attention(
    name="based",
    aliases=("taylor",),
    layout="bnc",
    complexity="N",
    memory="N",
    where={
        "f": "projected_dim",
        "D": "1 + f + f**2",
        "e": "C + heads",
        "c": "min(chunk, N)",
        "P": "(N + c - 1)//c*c",
    },
    params="2*C*heads*f + 2*C**2",
    macs="B*(N*(2*C*heads*f + 2*C**2) + (P*c*(heads*f + e) + 2*P*D*e if causal else 2*N*D*e))",
    paper="Arora et al. 2024, Simple Linear Attention Language Models Balance the Recall-Throughput Tradeoff, "
    "arXiv:2402.18668",
    computes="approximation",
    causal="flag",
)
class Based(nn.Module):
    """Linear attention of Based: the exponential of the softmax by the first three terms of its Taylor series.

    y_i = W_o concat_h(sum_j w_ij v_j / sum_j w_ij), w = 1 + s + s^2/2 = phi(q) . phi(k), s = q . k / sqrt(f),
    phi(x) = [1, x, x (x) x / sqrt(2)] with q / sqrt(f): 1 + f + f^2 features. No biases. (B, N, C) -> (B, N, C).
    Causal, the scores within a chunk of c tokens are the polynomial itself; between chunks, as without `causal`, it is
    phi, of N (1 + f + f^2) numbers for each head. The weights are summed as one more value beside the d of a head.

    Hyper-parameters: `projected_dim`, f; `causal`; `chunk`.
    """

    def __init__(self, dim: int, heads: int, projected_dim: int = 16, causal: bool = True, chunk: int = 64) -> None:
        super().__init__()
        head_dim(dim, heads)
        self.heads, self.causal, self.chunk = heads, causal, chunk
        self.query = nn.Linear(dim, heads * projected_dim, bias=False)
        self.key = nn.Linear(dim, heads * projected_dim, bias=False)
        self.value = nn.Linear(dim, dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (split_heads(layer(x), self.heads) for layer in (self.query, self.key, self.value))
        query = query * query.shape[-1] ** -0.5  # (B, h, N, f)
        # The sums of weights are a column of their own; N^-1/2 cancels, and keeps sums over N within float16.
        value = F.pad(value, (0, 1), value=1.0) * value.shape[2] ** -0.5  # (B, h, N, d + 1)
        sums = self._causal(query, key, value) if self.causal else _taylor(query) @ (_taylor(key).mT @ value)
        # The weights are ((1 + s)^2 + 1) / 2: their sum is no zero.
        y: Tensor = self.out(merge_heads(sums[..., :-1] / sums[..., -1:]))  # (B, N, C)
        return y

    def _causal(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        tokens = query.shape[2]
        query, key, value = (chunked(each, min(self.chunk, tokens)) for each in (query, key, value))
        scores = query @ key.mT  # (B, h, n, c, c)
        within = torch.addcmul(1 + scores, scores, scores, value=0.5).tril() @ value  # (B, h, n, c, d + 1)
        before = _taylor(query) @ sums_before(_taylor(key).mT @ value)  # (B, h, n, c, d + 1)
        return (within + before).flatten(2, 3)[:, :, :tokens]


def _taylor(x: Tensor) -> Tensor:
    """[1, x, x (x) x / sqrt(2)]: (..., f) -> (..., 1 + f + f^2)."""
    squares = torch.addcmul(x.new_zeros(()), x.unsqueeze(-1), x.unsqueeze(-2), value=0.5**0.5)  # (..., f, f)
    return torch.cat((torch.ones_like(x[..., :1]), x, squares.flatten(-2)), -1)
