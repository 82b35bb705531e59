"""The mixings in other forms, in float64: dense weights for each channel, matrices of cosines, loops."""

import math
from functools import partial
from typing import Any

import torch
from comparisons import weighted
from module_numerics import Weights
from torch import Tensor
from torch.nn import functional as F

__all__ = ["aft_dense", "fourier_matrices", "gating_by_loops", "published_aft", "published_fnet", "published_gating",
           "published_gmlp"]  # fmt: skip


def published_aft(weights: Weights, x: Tensor, kind: str, seq_len: int) -> Tensor:
    import aft_pytorch

    ours = {"query": "to_q", "key": "to_k", "value": "to_v", "out": "project"}
    theirs = {}
    for name, each in weights.items():
        layer, _, part = name.partition(".")
        theirs["wbias" if name == "position" else f"{ours[layer]}.{part}"] = each
    published = getattr(aft_pytorch, kind)(seq_len, x.shape[-1], len(weights["query.weight"]))
    return weighted(published, theirs, x)


def aft_dense(weights: Weights, x: Tensor, causal: bool = False, over: int = 2) -> Tensor:
    """A softmax over j of k_j + w_ij, written down for every pair and channel; without w it is AFT-simple."""
    tokens = x.shape[1]
    query, key, value = (_linear(weights, name, x) for name in ("query", "key", "value"))
    scores = key[:, None].expand(-1, tokens, -1, -1)  # (B, i, j, hidden)
    if "position" in weights:
        scores = scores + weights["position"][None, :tokens, :tokens, None]
    if causal:
        later = torch.arange(tokens)[None] > torch.arange(tokens)[:, None]
        scores = scores.masked_fill(later[None, :, :, None], -math.inf)
    shares = scores.exp() / scores.exp().sum(over, keepdim=True)
    mean = torch.einsum("bijc,bjc->bic", shares, value)
    return _linear(weights, "out", mean / (1 + torch.exp(-query)))


def _linear(weights: Weights, name: str, x: Tensor) -> Tensor:
    return torch.einsum("bnc,oc->bno", x, weights[f"{name}.weight"]) + weights[f"{name}.bias"]


def published_gating(weights: Weights, x: Tensor) -> Tensor:
    from timm.models.mlp_mixer import SpatialGatingUnit

    theirs = {name.replace("spatial", "proj"): each for name, each in weights.items()}
    return weighted(SpatialGatingUnit(x.shape[2], x.shape[1]), theirs, x)


def published_gmlp(weights: Weights, x: Tensor) -> Tensor:
    """timm's MLP around its gating unit."""
    from timm.layers import GatedMlp
    from timm.models.mlp_mixer import SpatialGatingUnit

    ours = {"norm": "gate.norm", "spatial": "gate.proj", "widen.0": "fc1", "out": "fc2"}
    theirs = {}
    for name, each in weights.items():
        layer, _, part = name.rpartition(".")
        theirs[f"{ours[layer]}.{part}"] = each
    gate: Any = partial(SpatialGatingUnit, seq_len=x.shape[1])
    return weighted(GatedMlp(x.shape[2], len(weights["widen.0.weight"]), gate_layer=gate), theirs, x)


def gating_by_loops(weights: Weights, x: Tensor, causal: bool = False, mistake: str = "") -> Tensor:
    """Position by position: what gates it is summed from those that it may see."""
    if "widen.0.weight" in weights:
        wide = _linear(weights, "widen.0", x)
        gated = gating_by_loops(_unit(weights), wide * (1 + torch.erf(wide / math.sqrt(2))) / 2, causal, mistake)
        return _linear(weights, "out", gated)
    half = x.shape[2] // 2
    kept, gate = (x[..., half:], x[..., :half]) if mistake == "halves exchanged" else (x[..., :half], x[..., half:])
    if mistake != "no norm":
        centred = gate - gate.mean(-1, keepdim=True)
        gate = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        gate = gate * weights["norm.weight"] + weights["norm.bias"]
    rows = []
    for i in range(x.shape[1]):
        seen = range(i + 1) if causal else range(x.shape[1])
        mixed = sum(weights["spatial.weight"][i, j] * gate[:, j] for j in seen) + weights["spatial.bias"][i]
        rows.append(kept[:, i] * mixed)
    return torch.stack(rows, dim=1)


def _unit(weights: Weights) -> Weights:
    return {name: each for name, each in weights.items() if name.startswith(("norm", "spatial"))}


def published_fnet(weights: Weights, x: Tensor) -> Tensor:
    from transformers import FNetConfig
    from transformers.models.fnet.modeling_fnet import FNetBasicFourierTransform

    output: Tensor = FNetBasicFourierTransform(FNetConfig(hidden_size=x.shape[2]))(x)[0]
    return output


def fourier_matrices(weights: Weights, x: Tensor, mistake: str = "") -> Tensor:
    """cos(a + b) = cos a cos b - sin a sin b, with matrices of cosines and sines along each axis."""
    (cos_n, sin_n), (cos_c, sin_c) = (_waves(length) for length in x.shape[1:])
    if mistake == "tokens only":
        return F.linear(x.mT, cos_n).mT
    if mistake == "imaginary part":
        return -(sin_n @ x @ cos_c + cos_n @ x @ sin_c)
    return cos_n @ x @ cos_c - sin_n @ x @ sin_c


def _waves(length: int) -> tuple[Tensor, Tensor]:
    places = torch.arange(length, dtype=torch.float64)
    angles = 2 * math.pi * torch.outer(places, places) / length
    return angles.cos(), angles.sin()
