"""The recurrent family: hyper-parameters to vary, MACs derived by hand, references and mistakes."""

import inspect
import warnings
from typing import Any

import torch
import torch.nn.functional as F
from comparisons import Comparison, control, reference, weighted
from module_numerics import Oracle, Weights, filled, noise
from torch import Tensor

from attnbench.modules.recurrent import (
    SSD,
    Based,
    DeltaNet,
    GatedDeltaNet,
    GatedLinearAttention,
    LightningAttention,
    Retention,
)

Shape = tuple[int, int, int, int, int]  # B, C, heads, H, W

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "retention": [{"value_dim": 24}, {"chunk": 8}],
    "gla": [{"key_dim": 48}, {"value_dim": 24, "gate_low_rank_dim": 5}, {"chunk": 16}],
    "ssd": [{"expand": 1, "state_size": 5}, {"conv_kernel": 3, "chunk": 8}],
    "deltanet": [{"conv_size": 4}, {"chunk": 8}],
    "gated_deltanet": [{"key_dim": 24}, {"value_dim": 96, "conv_size": 0}, {"conv_size": 3, "chunk": 8}],
    "lightning": [{"layer": 3, "layers": 5}, {"chunk": 8}],
    "based": [{"projected_dim": 3}, {"chunk": 8}, {"causal": False, "projected_dim": 5}],
}

# (name, hyper-parameters, shape, MACs), each product written as it was derived on paper.
BY_HAND: list[tuple[str, dict[str, Any], Shape, int]] = [
    # N = 1024, 16 chunks of 64, d = 16: five projections of 1024*64*64 = 4,194,304; scores and their product with the
    # values 1024*64*64 each; k^T v and q S 1024*64*16 = 1,048,576 each
    ("retention", {}, (1, 64, 4, 32, 32), 5 * 4_194_304 + 2 * 4_194_304 + 2 * 1_048_576),
    # N = 35, one chunk of 35: 35*64*64 = 143,360 five times; 35*35*64 = 78,400 twice; 35*64*16 = 35,840 twice
    ("retention", {}, (1, 64, 4, 5, 7), 5 * 143_360 + 2 * 78_400 + 2 * 35_840),
    # N = 70 is padded to 128: 70*64*64 = 286,720; 128*64*64 = 524,288; 128*64*16 = 131,072
    ("lightning", {}, (1, 64, 4, 7, 10), 5 * 286_720 + 2 * 524_288 + 2 * 131_072),
    # d_k = 8, d_v = 16: q, k 1024*64*32 = 2,097,152; v, gate, out 4,194,304; forget 1024*16*(64 + 32) = 1,572,864;
    # in chunks 1024*64*(32 + 64); states twice 1024*4*8*16 = 524,288
    ("gla", {}, (1, 64, 4, 32, 32), 2 * 2_097_152 + 3 * 4_194_304 + 1_572_864 + 6_291_456 + 2 * 524_288),
    # E = 128, s = 128, P = 32: in 1024*64*(128 + 128 + 256 + 4) = 33,816,576; conv 1024*384*4 = 1,572,864; out
    # 1024*128*64 = 8,388,608; scores once, 1024*64*128, times values 1024*64*128; states twice 1024*128*128
    ("ssd", {}, (1, 64, 4, 32, 32), 33_816_576 + 1_572_864 + 8_388_608 + 2 * 8_388_608 + 2 * 16_777_216),
    # four projections, beta 1024*64*4 = 262,144; q k^T, k k^T, and the inverse times k and v, scores times v: five of
    # 1024*64*64; four of 1024*64*16; inverse 16 chunks, 4 heads, (64^3 - 64)/3 = 87,360; 16 chunks in pairs: 8 + 4 + 2
    # times 4 heads, three products of 16^3
    ("deltanet", {}, (1, 64, 4, 32, 32),
     9 * 4_194_304 + 262_144 + 4 * 1_048_576 + 64 * 87_360 + 14 * 4 * 3 * 4_096),
    # five projections, beta and step, convolution 1024*192*4 = 786,432; the rest as above
    ("gated_deltanet", {}, (1, 64, 4, 32, 32),
     10 * 4_194_304 + 2 * 262_144 + 786_432 + 4 * 1_048_576 + 64 * 87_360 + 14 * 4 * 3 * 4_096),
    # f = 16: four projections; scores 1024*64*64, times values and weights 1024*64*68; features 1 + 16 + 256 = 273,
    # twice 1024*273*68 = 19,009,536
    ("based", {}, (1, 64, 4, 32, 32), 4 * 4_194_304 + 4_194_304 + 4_456_448 + 2 * 19_009_536),
]  # fmt: skip


def heads_of(x: Tensor, heads: int) -> Tensor:
    """(B, N, h*d) -> (B, h, N, d)."""
    return x.reshape(*x.shape[:2], heads, -1).movedim(2, 1)


def tokens_of(x: Tensor) -> Tensor:
    """(B, h, N, d) -> (B, N, h*d)."""
    return x.movedim(1, 2).reshape(x.shape[0], x.shape[2], -1)


def rms(x: Tensor, eps: float) -> Tensor:
    return x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt()


def recurrence(query: Tensor, key: Tensor, value: Tensor, decay: Tensor | None = None, beta: Tensor | None = None,
               late: bool = False, decay_after: bool = False) -> Tensor:  # fmt: skip
    """One token after the other: forget, take out what is known of the key (with beta), write, read.

    decay is (B, h, N, d) or (B, h, N, 1), the factor itself; beta (B, h, N). Mistakes: `late`, to read before writing;
    `decay_after`, to let what was just written fade at once.
    """
    state = torch.zeros(*value.shape[:2], key.shape[3], value.shape[3], dtype=torch.float64)
    outputs = []
    for i in range(query.shape[2]):
        q, k, v = query[:, :, i], key[:, :, i], value[:, :, i]
        before = state
        fading = 1 if decay is None else decay[:, :, i, :, None]
        state = state if decay_after else state * fading
        if beta is not None:
            v = beta[:, :, i, None] * (v - torch.einsum("bhd,bhde->bhe", k, state))
        state = state + torch.einsum("bhd,bhe->bhde", k, v)
        state = state * fading if decay_after else state
        outputs.append(torch.einsum("bhd,bhde->bhe", q, before if late else state))
    return torch.stack(outputs, 2)


# retention


def rotated(x: Tensor) -> Tensor:
    """Pairs of channels as complex numbers times exp(i position angle)."""
    dim = x.shape[-1]
    angle = torch.tensor([10_000 ** -(j / max(dim // 2 - 1, 1)) for j in range(dim // 2)], dtype=torch.float64)
    turn = torch.polar(torch.ones(x.shape[2], dim // 2, dtype=torch.float64), torch.arange(x.shape[2])[:, None] * angle)
    return torch.view_as_real(torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2)) * turn).flatten(-2)


def retention_oracle(heads: int, gammas: int = 5, turn: bool = True, gated: bool = True) -> Oracle:
    def oracle(w: Weights, x: Tensor) -> Tensor:
        query, key, value = (heads_of(x @ w[f"{name}.weight"].T, heads) for name in ("query", "key", "value"))
        if turn:
            query, key = rotated(query), rotated(key)
        gamma = torch.tensor([1 - 2.0 ** -(gammas + h) for h in range(heads)], dtype=torch.float64)
        out = recurrence(query, key / key.shape[-1] ** 0.5, value, gamma[:, None, None].expand(*query.shape[:3], 1))
        # The published scaling by 1 / sqrt(sum of decays) stands inside the normalisation.
        steps = torch.arange(1, x.shape[1] + 1)
        weight = torch.stack([sum(g**j for j in range(int(n))) for n in steps for g in gamma]).reshape(-1, heads).T
        y = tokens_of(rms(out / weight[:, :, None].sqrt(), 1e-6))
        return (F.silu(x @ w["gate.weight"].T) * y if gated else y) @ w["out.weight"].T

    return oracle


def retention_published(heads: int) -> Oracle:
    """torchscale's parallel form; its own scaling by the scores' sums is undone by the normalisation, up to eps."""

    def oracle(w: Weights, x: Tensor) -> Tensor:
        from types import SimpleNamespace

        from torchscale.component.multiscale_retention import MultiScaleRetention

        value_dim, dim = w["value.weight"].shape
        args = SimpleNamespace(multiway=False, layernorm_eps=1e-6)
        module = MultiScaleRetention(args, dim, value_dim, heads)
        names = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "g_proj": "gate", "out_proj": "out"}
        tokens, d = x.shape[1], dim // heads
        index = torch.arange(tokens, dtype=torch.float64)
        angle = (1.0 / (10000 ** torch.linspace(0, 1, d // 2, dtype=torch.float64))).repeat_interleave(2)
        decay = torch.log(1 - 2 ** (-5 - torch.arange(heads, dtype=torch.float64)))
        mask = torch.exp((index[:, None] - index) * decay[:, None, None]).tril()
        mask = mask / mask.sum(-1, keepdim=True).sqrt()
        position = ((torch.sin(index[:, None] * angle), torch.cos(index[:, None] * angle)), mask)
        return weighted(module, {f"{a}.weight": w[f"{b}.weight"] for a, b in names.items()}, x, position)

    return oracle


@reference("retention", "own oracle: recurrence in float64, rotation by complex numbers")
def retention() -> Comparison:
    # With another seed one head's output is nearly zero, and its normalisation magnifies float32's rounding.
    return Comparison(filled(Retention(32, 4, chunk=8)), retention_oracle(4), (noise(2, 19, 32, seed=2),))


@reference("retention", "own oracle: recurrence, wider values, shorter than a chunk")
def retention_short() -> Comparison:
    return Comparison(filled(Retention(24, 2, value_dim=48)), retention_oracle(2), (noise(1, 13, 24),))


@reference("retention", "torchscale MultiScaleRetention", "torchscale")
def retention_torchscale() -> Comparison:
    module = filled(Retention(32, 4, value_dim=64, chunk=8))
    return Comparison(module, retention_published(4), (noise(2, 19, 32),), in_float32=True)


@control("retention", "every head forgets as slowly as the next one")
def retention_gammas() -> Comparison:
    return Comparison(filled(Retention(32, 4, chunk=8)), retention_oracle(4, gammas=6), (noise(2, 19, 32),))


@control("retention", "queries and keys are not turned")
def retention_unturned() -> Comparison:
    return Comparison(filled(Retention(32, 4, chunk=8)), retention_oracle(4, turn=False), (noise(2, 19, 32),))


# gla


def gla_oracle(heads: int, normalizer: float = 16, **mistakes: bool) -> Oracle:
    def oracle(w: Weights, x: Tensor) -> Tensor:
        query, key, value = (heads_of(x @ w[f"{name}.weight"].T, heads) for name in ("query", "key", "value"))
        logits = x @ w["forget.0.weight"].T @ w["forget.1.weight"].T + w["forget.1.bias"]
        decay = heads_of(torch.sigmoid(logits) ** (1 / normalizer), heads)
        out = recurrence(query / query.shape[-1] ** 0.5, key, value, decay, **mistakes)
        return (tokens_of(rms(out, 1e-5) * w["norm.weight"]) * F.silu(x @ w["gate.weight"].T)) @ w["out.weight"].T

    return oracle


def forgetful(module: GatedLinearAttention) -> GatedLinearAttention:
    """Gates down to exp(-8): what is far back is gone, and its inverse would overflow if it were ever formed."""
    with torch.no_grad():
        module.forget[1].bias.copy_(torch.linspace(-8 * module.normalizer, 0, module.forget[1].bias.numel()))
    return module


@reference("gla", "own oracle: recurrence in float64")
def gla() -> Comparison:
    return Comparison(filled(GatedLinearAttention(32, 2, chunk=32)), gla_oracle(2), (noise(2, 71, 32),))


@reference("gla", "own oracle: recurrence, shorter than a block, other widths")
def gla_short() -> Comparison:
    module = filled(GatedLinearAttention(24, 3, key_dim=24, value_dim=12, gate_low_rank_dim=5))
    return Comparison(module, gla_oracle(3), (noise(1, 7, 24),))


@reference("gla", "own oracle: recurrence, gates down to exp(-8)")
def gla_forgetful() -> Comparison:
    module = forgetful(filled(GatedLinearAttention(32, 2, chunk=64)))
    return Comparison(module, gla_oracle(2), (noise(1, 67, 32),))


@reference("gla", "fla naive_recurrent_gla", "fla")
def gla_published() -> Comparison:
    def oracle(w: Weights, x: Tensor) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns that there is no GPU
            from fla.ops.gla.naive import naive_recurrent_gla
        query, key, value = (heads_of(x @ w[f"{n}.weight"].T, 2).transpose(1, 2) for n in ("query", "key", "value"))
        logits = x @ w["forget.0.weight"].T @ w["forget.1.weight"].T + w["forget.1.bias"]
        gates = heads_of(F.logsigmoid(logits) / 16, 2).transpose(1, 2)
        out, _ = naive_recurrent_gla(query, key, value, gates)
        return ((rms(out, 1e-5) * w["norm.weight"]).flatten(2) * F.silu(x @ w["gate.weight"].T)) @ w["out.weight"].T

    return Comparison(filled(GatedLinearAttention(32, 2)), oracle, (noise(2, 19, 32),), in_float32=True)


@control("gla", "a token's gate dims what the token itself writes")
def gla_decay_after() -> Comparison:
    oracle = gla_oracle(2, decay_after=True)
    return Comparison(filled(GatedLinearAttention(32, 2, chunk=32)), oracle, (noise(2, 71, 32),))


@control("gla", "the gates' logarithms are not divided by 16")
def gla_unnormalised() -> Comparison:
    oracle = gla_oracle(2, normalizer=1)
    return Comparison(filled(GatedLinearAttention(32, 2, chunk=32)), oracle, (noise(2, 71, 32),))


# ssd


def causal_convolution(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Channel by channel over the last tokens, one tap after the other: (B, N, C), (C, 1, k) -> (B, N, C)."""
    taps = weight.shape[-1]
    out = torch.zeros_like(x) if bias is None else torch.zeros_like(x) + bias
    for back in range(min(taps, x.shape[1])):
        shifted = torch.cat((torch.zeros_like(x[:, :back]), x[:, : x.shape[1] - back]), 1)
        out = out + shifted * weight[:, 0, taps - 1 - back]
    return out


def ssd_oracle(heads: int, groups: int, state_size: int, step_in: bool = True, **mistakes: bool) -> Oracle:
    def oracle(w: Weights, x: Tensor) -> Tensor:
        inner, shared = w["scale"].numel(), groups * state_size
        z, mixed, step = (x @ w["project.weight"].T).split((inner, inner + 2 * shared, heads), 2)
        mixed = F.silu(causal_convolution(mixed, w["convolution.weight"], w["convolution.bias"]))
        value, key, query = mixed.split((inner, shared, shared), 2)
        step = torch.log1p(torch.exp(step + w["step_bias"])).movedim(2, 1)  # (B, h, N)
        decay = torch.exp(-step * torch.exp(w["log_rate"])[:, None])[..., None]
        each = [heads_of(e, groups).repeat_interleave(heads // groups, 1) for e in (query, key)]
        value = heads_of(value, heads)
        out = recurrence(*each, value * step[..., None] if step_in else value, decay, **mistakes)
        y = tokens_of(out + w["skip"][:, None, None] * value) * F.silu(z)
        y = rms(y.reshape(*y.shape[:2], groups, -1), 1e-5).flatten(2) * w["scale"]
        return y @ w["out.weight"].T

    return oracle


def ssd_published(heads: int, groups: int, state_size: int) -> Oracle:
    def oracle(w: Weights, x: Tensor) -> Tensor:
        from transformers import Mamba2Config
        from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

        dim, inner = w["out.weight"].shape
        config = Mamba2Config(
            num_heads=heads, head_dim=inner // heads, hidden_size=dim, state_size=state_size, expand=inner // dim,
            n_groups=groups, chunk_size=8, num_hidden_layers=1,
        )  # fmt: skip
        names = {
            "in_proj.weight": "project.weight", "conv1d.weight": "convolution.weight",
            "conv1d.bias": "convolution.bias", "dt_bias": "step_bias", "A_log": "log_rate", "D": "skip",
            "norm.weight": "scale", "out_proj.weight": "out.weight",
        }  # fmt: skip
        return weighted(Mamba2Mixer(config, 0), {theirs: w[ours] for theirs, ours in names.items()}, x)

    return oracle


@reference("ssd", "own oracle: recurrence in float64")
def ssd() -> Comparison:
    module = filled(SSD(16, 4, state_size=6, chunk=8))
    return Comparison(module, ssd_oracle(4, 1, 6), (noise(2, 27, 16),))


@reference("ssd", "own oracle: recurrence, two groups, one chunk")
def ssd_groups() -> Comparison:
    module = filled(SSD(16, 4, state_size=5, groups=2, conv_kernel=3, expand=1))
    return Comparison(module, ssd_oracle(4, 2, 5), (noise(1, 11, 16),))


@reference("ssd", "transformers Mamba2Mixer", "transformers")
def ssd_transformers() -> Comparison:
    module = filled(SSD(16, 4, state_size=6, groups=2, chunk=8))
    return Comparison(module, ssd_published(4, 2, 6), (noise(2, 27, 16),), in_float32=True)


@control("ssd", "the step does not scale what is written")
def ssd_without_step() -> Comparison:
    module = filled(SSD(16, 4, state_size=6, chunk=8))
    return Comparison(module, ssd_oracle(4, 1, 6, step_in=False), (noise(2, 27, 16),))


# deltanet, gated_deltanet


def unit(x: Tensor) -> Tensor:
    return x / x.pow(2).sum(-1, keepdim=True).sqrt()


def convolved(w: Weights, x: Tensor) -> Tensor:
    qkv = x @ w["qkv.weight"].T
    return F.silu(causal_convolution(qkv, w["convolution.weight"]) if "convolution.weight" in w else qkv)


def deltanet_oracle(heads: int, known: bool = True, length_one: bool = True) -> Oracle:
    def oracle(w: Weights, x: Tensor) -> Tensor:
        query, key, value = (heads_of(each, heads) for each in convolved(w, x).chunk(3, 2))
        query, key = unit(query), unit(key) if length_one else key
        beta = torch.sigmoid(x @ w["beta.weight"].T).movedim(2, 1)
        value = value if known else value * beta[..., None]
        out = recurrence(query / query.shape[-1] ** 0.5, key, value, beta=beta if known else None)
        return tokens_of(rms(out, 1e-5)) @ w["out.weight"].T

    return oracle


@reference("deltanet", "own oracle: recurrence in float64")
def deltanet() -> Comparison:
    return Comparison(filled(DeltaNet(32, 4, chunk=8)), deltanet_oracle(4), (noise(2, 19, 32),))


@reference("deltanet", "own oracle: recurrence, with convolution, shorter than a chunk")
def deltanet_convolved() -> Comparison:
    return Comparison(filled(DeltaNet(24, 2, conv_size=4)), deltanet_oracle(2), (noise(1, 13, 24),))


@reference("deltanet", "transformers torch_recurrent_gated_delta_rule, no decay", "transformers")
def deltanet_transformers() -> Comparison:
    def oracle(w: Weights, x: Tensor) -> Tensor:
        query, key, value = (heads_of(each, 4) for each in convolved(w, x).chunk(3, 2))
        beta = torch.sigmoid(x @ w["beta.weight"].T)
        out = published_delta_rule(unit(query), unit(key), value, beta, torch.zeros_like(beta))
        return rms(out, 1e-5).flatten(2) @ w["out.weight"].T

    return Comparison(filled(DeltaNet(32, 4, chunk=8)), oracle, (noise(2, 19, 32),), in_float32=True)


def published_delta_rule(query: Tensor, key: Tensor, value: Tensor, beta: Tensor, log_decay: Tensor) -> Tensor:
    """Of transformers, in float32: (B, h, N, d) and (B, N, h) -> (B, N, h, d)."""
    from transformers.models.qwen3_next.modeling_qwen3_next import torch_recurrent_gated_delta_rule

    each = [x.transpose(1, 2) for x in (query, key, value)]
    # Where fla is installed, transformers would call its kernel for a GPU instead.
    out, _ = inspect.unwrap(torch_recurrent_gated_delta_rule)(*each, log_decay, beta)
    return out


@control("deltanet", "what the state knows of a key is not taken out")
def deltanet_hebbian() -> Comparison:
    return Comparison(filled(DeltaNet(32, 4, chunk=8)), deltanet_oracle(4, known=False), (noise(2, 19, 32),))


@control("deltanet", "keys of any length")
def deltanet_length() -> Comparison:
    return Comparison(filled(DeltaNet(32, 4, chunk=8)), deltanet_oracle(4, length_one=False), (noise(2, 19, 32),))


def gated_parts(w: Weights, x: Tensor, heads: int) -> tuple[list[Tensor], Tensor, Tensor]:
    """Query, key and value (B, h, N, d); beta and the logarithm of the decay (B, N, h)."""
    value_dim = w["gate.weight"].shape[0]
    key_dim = (w["qkv.weight"].shape[0] - value_dim) // 2
    query, key, value = (heads_of(each, heads) for each in convolved(w, x).split((key_dim, key_dim, value_dim), 2))
    beta = torch.sigmoid(x @ w["beta.weight"].T)
    log_decay = -torch.exp(w["log_rate"]) * torch.log1p(torch.exp(x @ w["step.weight"].T + w["step_bias"]))
    return [unit(query), unit(key), value], beta, log_decay


def gated_out(w: Weights, x: Tensor, out: Tensor) -> Tensor:
    return ((rms(out, 1e-5) * w["norm.weight"]).flatten(2) * F.silu(x @ w["gate.weight"].T)) @ w["out.weight"].T


def gated_deltanet_oracle(heads: int, **mistakes: bool) -> Oracle:
    def oracle(w: Weights, x: Tensor) -> Tensor:
        (query, key, value), beta, log_decay = gated_parts(w, x, heads)
        decay = log_decay.movedim(2, 1).exp()[..., None]
        query = query / query.shape[-1] ** 0.5
        return gated_out(w, x, recurrence(query, key, value, decay, beta.movedim(2, 1), **mistakes).movedim(1, 2))

    return oracle


@reference("gated_deltanet", "own oracle: recurrence in float64")
def gated_deltanet() -> Comparison:
    return Comparison(filled(GatedDeltaNet(32, 4, chunk=8)), gated_deltanet_oracle(4), (noise(2, 19, 32),))


@reference("gated_deltanet", "own oracle: recurrence, other widths, no convolution, shorter than a chunk")
def gated_deltanet_short() -> Comparison:
    module = filled(GatedDeltaNet(24, 2, key_dim=12, value_dim=36, conv_size=0))
    return Comparison(module, gated_deltanet_oracle(2), (noise(1, 13, 24),))


@reference("gated_deltanet", "transformers torch_recurrent_gated_delta_rule", "transformers")
def gated_deltanet_transformers() -> Comparison:
    def oracle(w: Weights, x: Tensor) -> Tensor:
        qkv, beta, log_decay = gated_parts(w, x, 4)
        return gated_out(w, x, published_delta_rule(*qkv, beta, log_decay))

    return Comparison(filled(GatedDeltaNet(32, 4, chunk=8)), oracle, (noise(2, 19, 32),), in_float32=True)


@control("gated_deltanet", "the state fades after it was written")
def gated_deltanet_after() -> Comparison:
    oracle = gated_deltanet_oracle(4, decay_after=True)
    return Comparison(filled(GatedDeltaNet(32, 4, chunk=8)), oracle, (noise(2, 19, 32),))


# lightning


def lightning_oracle(heads: int, fraction: float, first: int = 1, late: bool = False) -> Oracle:
    def oracle(w: Weights, x: Tensor) -> Tensor:
        query, key, value = (heads_of(F.silu(x @ w[f"{n}.weight"].T), heads) for n in ("query", "key", "value"))
        slopes = torch.tensor([2 ** (-8 * (h + first) / heads) * fraction for h in range(heads)], dtype=torch.float64)
        decay = torch.exp(-slopes)[:, None, None].expand(*query.shape[:3], 1)
        out = rms(tokens_of(recurrence(query, key, value, decay, late=late)), 1e-6) * w["norm.weight"]
        return (torch.sigmoid(x @ w["gate.weight"].T) * out) @ w["out.weight"].T

    return oracle


def lightning_published(heads: int, layer: int, layers: int) -> Oracle:
    def oracle(w: Weights, x: Tensor) -> Tensor:
        from transformers import MiniMaxConfig
        from transformers.models.minimax.modeling_minimax import MiniMaxLightningAttention

        dim = x.shape[2]
        config = MiniMaxConfig(
            hidden_size=dim, num_attention_heads=heads, num_key_value_heads=heads, head_dim=dim // heads,
            num_hidden_layers=layers, block_size=8, layer_types=["linear_attention"] * layers,
        )  # fmt: skip
        # Theirs holds query, key and value of one head side by side.
        qkv = [w[f"{name}.weight"].reshape(heads, -1, dim) for name in ("query", "key", "value")]
        weights = {"qkv_proj.weight": torch.cat(qkv, 1).flatten(0, 1), "norm.weight": w["norm.weight"]}
        weights |= {"out_proj.weight": w["out.weight"], "output_gate.weight": w["gate.weight"]}
        nothing = (torch.zeros(()), torch.zeros(()))
        return weighted(MiniMaxLightningAttention(config, layer), weights, x, nothing, None)

    return oracle


@reference("lightning", "own oracle: recurrence in float64")
def lightning() -> Comparison:
    return Comparison(filled(LightningAttention(32, 4, chunk=8)), lightning_oracle(4, 1 + 1e-5), (noise(2, 19, 32),))


@reference("lightning", "own oracle: recurrence, shorter than a chunk, a later layer")
def lightning_short() -> Comparison:
    module = filled(LightningAttention(24, 3, layer=2, layers=5))
    return Comparison(module, lightning_oracle(3, 1 - 2 / (4 + 1e-5) + 1e-5), (noise(1, 13, 24),))


@reference("lightning", "transformers MiniMaxLightningAttention", "transformers")
def lightning_transformers() -> Comparison:
    module = filled(LightningAttention(32, 4, layer=1, layers=4, chunk=16))
    return Comparison(module, lightning_published(4, 1, 4), (noise(2, 19, 32),), in_float32=True)


@control("lightning", "slopes of heads counted from 0")
def lightning_slopes() -> Comparison:
    oracle = lightning_oracle(4, 1 + 1e-5, first=0)
    return Comparison(filled(LightningAttention(32, 4, chunk=8)), oracle, (noise(2, 19, 32),))


@control("lightning", "a token does not see itself")
def lightning_late() -> Comparison:
    oracle = lightning_oracle(4, 1 + 1e-5, late=True)
    return Comparison(filled(LightningAttention(32, 4, chunk=8)), oracle, (noise(2, 19, 32),))


# based


def based_oracle(heads: int, causal: bool = True, half: float = 0.5) -> Oracle:
    def oracle(w: Weights, x: Tensor) -> Tensor:
        query, key, value = (heads_of(x @ w[f"{name}.weight"].T, heads) for name in ("query", "key", "value"))
        scores = torch.einsum("bhid,bhjd->bhij", query, key) / query.shape[-1] ** 0.5
        weights = 1 + scores + half * scores**2
        if causal:
            weights = weights * torch.ones(x.shape[1], x.shape[1], dtype=torch.float64).tril()
        out = torch.einsum("bhij,bhje->bhie", weights / weights.sum(-1, keepdim=True), value)
        return tokens_of(out) @ w["out.weight"].T

    return oracle


@reference("based", "own oracle: the polynomial of all pairs, dense mask")
def based() -> Comparison:
    return Comparison(filled(Based(32, 4, projected_dim=5, chunk=8)), based_oracle(4), (noise(2, 19, 32),))


@reference("based", "own oracle: the polynomial of all pairs, dense mask, shorter than a chunk")
def based_short() -> Comparison:
    return Comparison(filled(Based(24, 2)), based_oracle(2), (noise(1, 13, 24),))


@reference("based", "own oracle: the polynomial of all pairs, not causal")
def based_both_ways() -> Comparison:
    module = filled(Based(24, 3, projected_dim=7, causal=False))
    return Comparison(module, based_oracle(3, causal=False), (noise(2, 13, 24),))


@reference("based", "fla naive_parallel_based", "fla")
def based_published() -> Comparison:
    def oracle(w: Weights, x: Tensor) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns that there is no GPU
            from fla.ops.based.naive import naive_parallel_based
        query, key, value = (heads_of(x @ w[f"{name}.weight"].T, 4) for name in ("query", "key", "value"))
        return tokens_of(naive_parallel_based(query, key, value)) @ w["out.weight"].T

    # Its normaliser has an eps of 1e-6, ours needs none.
    return Comparison(filled(Based(32, 4, chunk=8)), oracle, (noise(2, 19, 32),), in_float32=True)


@control("based", "the square is not halved")
def based_whole_square() -> Comparison:
    return Comparison(filled(Based(32, 4, projected_dim=5, chunk=8)), based_oracle(4, half=1.0), (noise(2, 19, 32),))


@control("based", "later tokens are seen")
def based_not_causal() -> Comparison:
    return Comparison(
        filled(Based(32, 4, projected_dim=5, chunk=8)), based_oracle(4, causal=False), (noise(2, 19, 32),)
    )
