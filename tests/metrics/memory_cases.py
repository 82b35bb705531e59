"""Subjects whose predicted peak is held against the allocator: built-in modules, torch's own layers, small networks."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.utils.checkpoint import checkpoint

from attnbench.core.case import Case
from attnbench.metrics.subject import Subject
from attnbench.targets.build import build
from attnbench.targets.catalogue import catalogue
from attnbench.targets.resolve import resolve

__all__ = ["LAYERS", "MODULES", "MODULE_MODES", "PREDICTED", "ROWS", "Layer", "has_weights", "layer_subject",
           "module_subject", "with_optimizer"]  # fmt: skip

MODULES = [spec.name for spec in catalogue() if spec.kind == "module"]
_SHAPE = {"B": 1, "N": 64, "H": 8, "W": 8, "C": 64, "dim": 64, "heads": 1, "n_head": 1, "seq_len": 64, "height": 8,
          "width": 8}  # fmt: skip
_WITHOUT_WEIGHTS = {spec.name for spec in catalogue() if not spec.params(**spec.symbols(**_SHAPE))}
_WITHOUT_BACKWARD = {"flex"}  # on the CPU, where torch has none for it
# One or two of each family stand for all in the modes that differ little: a forward alone, a backward alone (which is
# the step of both), a training step.
_SPREAD = ("self_attn", "sdpa", "linear_attn", "performer", "swin", "linformer", "gmlp", "retention", "gated_deltanet",
           "xca", "cbam_spatial", "bam")  # fmt: skip
_FORWARDS = [(name, "fwd") for name in MODULES]
_BACKWARDS = [(name, "fwd_bwd") for name in MODULES if name not in _WITHOUT_BACKWARD]
_OTHERS = [*((name, "bwd") for name in ("self_attn", "sdpa")), *((name, "train") for name in _SPREAD)]
MODULE_MODES = [*_BACKWARDS, *(each for each in _FORWARDS if each[0] in (*_SPREAD, *_WITHOUT_BACKWARD)), *_OTHERS]
# The prediction is for users' figures of a forward as much as for the guard's of a training step.
PREDICTED = [*((*each, "fp32") for each in (*_FORWARDS, *_BACKWARDS, *_OTHERS)),
             *((*each, "bf16") for each in (*_BACKWARDS, *_OTHERS))]  # fmt: skip
assert not set(_SPREAD) & _WITHOUT_WEIGHTS
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def module_subject(name: str, side: int, mode: str, dtype: str, where: str) -> Subject:
    """A built-in module on a map that is not square, two samples."""
    case = Case(name, height=side, width=side + 1, tokens=side * (side + 1), dim=64, batch_size=2, mode=mode,
                dtype=dtype)  # fmt: skip
    return build(resolve(case), where)


@dataclass(frozen=True)
class Layer:
    """A module made by `make` and the shapes of its inputs at a small and at a larger size."""

    make: Callable[[], nn.Module]
    small: tuple[tuple[int, ...], ...]
    large: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...] = ("fp32",)


def has_weights(layer: Layer) -> bool:
    """Whether there is anything to train."""
    return any(True for _ in layer.make().parameters())


def layer_subject(layer: Layer, shapes: tuple[tuple[int, ...], ...], mode: str, dtype: str, where: str) -> Subject:
    """The Subject of a layer; `where` is `fake` (inside a fake mode) or `cpu`."""
    torch.manual_seed(0)
    with unset_fake_temporarily():  # some constructors look at values
        module = layer.make()
    kind = _DTYPES[dtype]
    for owner in module.modules():
        for name, parameter in owner._parameters.items():
            if parameter is not None:
                owner._parameters[name] = nn.Parameter(torch.zeros(parameter.shape, dtype=kind))
        for name, buffer in owner._buffers.items():
            if buffer is not None:
                owner._buffers[name] = torch.zeros(buffer.shape, dtype=buffer.dtype)
    inputs = tuple(torch.randn(*shape, dtype=kind, requires_grad=mode != "fwd") for shape in shapes)
    module.train(mode != "fwd")
    case = Case("layer", batch_size=shapes[0][0], mode=mode, dtype=dtype)
    return with_optimizer(Subject(case, module, inputs, where))


def with_optimizer(subject: Subject) -> Subject:
    """The Subject, with AdamW in mode `train` as cases on the CPU have it."""
    if subject.case.mode == "train":
        subject.optimizer = torch.optim.AdamW(subject.module.parameters(), lr=0.0, foreach=False)
    return subject


class Apply(nn.Module):
    """A function as a module: its parts first, then the inputs."""

    def __init__(self, function: Callable[..., Tensor], *parts: nn.Module) -> None:
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(parts)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*self.parts, *inputs)


def _mix(x: Tensor) -> Tensor:
    return torch.fft.fft2(x.float()).real.to(x.dtype)


def _filtered(x: Tensor) -> Tensor:
    spectrum = torch.fft.rfft2(x, dim=(1, 2))
    return torch.fft.irfft2(spectrum * 2, s=x.shape[1:3], dim=(1, 2))


def _causal_linear(x: Tensor) -> Tensor:
    """phi(q) sum_{j <= i} phi(k_j) v_j^T with q = k = v, by a running sum of outer products."""
    features = F.elu(x) + 1
    state = (features.unsqueeze(-1) * x.unsqueeze(-2)).cumsum(dim=1)
    return (features.unsqueeze(-2) @ state).squeeze(-2)


def _masked(x: Tensor) -> Tensor:
    mask = torch.ones(x.shape[-2], x.shape[-2], dtype=torch.bool).tril()
    return F.scaled_dot_product_attention(x, x, x, attn_mask=mask)


def _vgg() -> nn.Module:
    def block(c: int, d: int) -> list[nn.Module]:
        return [nn.Conv2d(c, d, 3, padding=1), nn.BatchNorm2d(d), nn.ReLU(inplace=True), nn.MaxPool2d(2)]

    return nn.Sequential(*block(3, 32), *block(32, 64), *block(64, 128), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
                         nn.Linear(512, 10))  # fmt: skip


def _encoder(**settings: object) -> nn.Module:
    return nn.TransformerEncoderLayer(64, 4, 128, batch_first=True, dropout=0.0, **settings)  # type: ignore[arg-type]


def _vit() -> nn.Module:
    patches = nn.Conv2d(3, 64, 8, stride=8)
    return Apply(lambda p, a, b, x: b(a(p(x).flatten(2).transpose(1, 2))).mean(1), patches, _encoder(), _encoder())


def _heads(x: Tensor) -> Tensor:
    return x.unflatten(-1, (4, -1)).transpose(1, 2)


def _attention(weights: bool) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        return Apply(lambda m, x: m(x, x, x, need_weights=weights)[0], nn.MultiheadAttention(64, 4, batch_first=True))

    return make


_TOKENS = (((2, 100, 64),), ((2, 600, 64),))
_MAPS = (((2, 64, 12, 13),), ((2, 64, 56, 40),))
_IMAGES = (((2, 3, 32, 32),), ((2, 3, 96, 96),))
_HEADS = (((2, 4, 100, 16),), ((2, 4, 1000, 32),))

LAYERS: dict[str, Layer] = {
    "MultiheadAttention": Layer(_attention(False), *_TOKENS),
    "MultiheadAttention with weights": Layer(_attention(True), *_TOKENS),
    "TransformerEncoderLayer": Layer(_encoder, *_TOKENS),
    "TransformerEncoderLayer norm first": Layer(lambda: _encoder(norm_first=True, activation="gelu"), *_TOKENS),
    "LSTM": Layer(lambda: Apply(lambda m, x: m(x)[0], nn.LSTM(64, 64, batch_first=True)), ((2, 40, 64),),
                  ((4, 150, 64),)),
    "GRU": Layer(lambda: Apply(lambda m, x: m(x)[0], nn.GRU(64, 32, batch_first=True)), ((2, 20, 64),),
                 ((2, 60, 64),)),
    "FFT mixing": Layer(lambda: Apply(_mix), *_TOKENS),
    "global filter": Layer(lambda: Apply(_filtered), ((2, 12, 14, 64),), ((2, 64, 66, 64),)),
    "small VGG": Layer(_vgg, *_IMAGES),
    "small ViT": Layer(_vit, *_IMAGES),
    "SDPA": Layer(lambda: Apply(lambda x: F.scaled_dot_product_attention(x, x, x)), *_HEADS, ("fp32", "bf16")),
    "SDPA causal": Layer(lambda: Apply(lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True)), *_HEADS),
    "SDPA masked": Layer(lambda: Apply(_masked), *_HEADS),
    "SDPA of transposed heads": Layer(
        lambda: Apply(lambda x: F.scaled_dot_product_attention(_heads(x), _heads(x), _heads(x))), *_TOKENS),
    "linear causal by cumsum": Layer(lambda: Apply(_causal_linear), ((2, 50, 32),), ((2, 700, 32),)),
    "checkpointed MLP": Layer(
        lambda: Apply(lambda m, x: checkpoint(m, x, use_reentrant=False),
                      nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64))), *_TOKENS),
    "depth-wise convolution": Layer(
        lambda: nn.Sequential(nn.Conv2d(64, 64, 7, padding=3, groups=64), nn.Conv2d(64, 64, 1), nn.GELU()), *_MAPS),
    "strided convolution": Layer(lambda: nn.Conv2d(64, 128, 3, stride=2, padding=1), *_MAPS),
    "transposed convolution": Layer(lambda: nn.ConvTranspose2d(64, 32, 2, stride=2), *_MAPS),
    "1-d convolution": Layer(lambda: nn.Conv1d(64, 64, 3, padding=1), ((2, 64, 100),), ((2, 64, 5000),)),
    "norms": Layer(lambda: nn.Sequential(nn.GroupNorm(8, 64), nn.BatchNorm2d(64), nn.InstanceNorm2d(64)), *_MAPS),
    "upsampling": Layer(lambda: nn.Upsample(scale_factor=2, mode="bilinear"), *_MAPS),
    "unfold": Layer(lambda: nn.Unfold(3, padding=1), *_MAPS),
    "shifted windows": Layer(lambda: Apply(lambda x: x.roll((2, 2), (2, 3)) * 2), *_MAPS),
    "softmax over the tokens": Layer(lambda: Apply(lambda x: x.transpose(1, 2).softmax(-1) @ x), *_TOKENS,
                                     ("fp32", "bf16")),
    "logsumexp": Layer(lambda: Apply(lambda x: x.logsumexp(1)), *_TOKENS),
    "distances": Layer(lambda: Apply(lambda x: torch.cdist(x, x).softmax(-1)), *_TOKENS),
    "top-k": Layer(lambda: Apply(lambda x: (x @ x.mT).topk(8)[0]), *_TOKENS),
}  # fmt: skip

# What a linear layer of 16 channels is given: the input's shape, and how it is looked at. Torch makes the product and
# the bias together only of two dimensions, and of more that are contiguous.
ROWS: dict[str, tuple[tuple[int, ...], Callable[[Tensor], Tensor]]] = {
    "2-D": ((60, 16), lambda x: x),
    "2-D transposed": ((16, 60), lambda x: x.t()),
    "3-D": ((2, 60, 16), lambda x: x),
    "3-D transposed": ((2, 16, 50), lambda x: x.transpose(1, 2)),
    "3-D, every second row": ((2, 60, 16), lambda x: x[:, ::2]),
    "3-D expanded": ((1, 60, 16), lambda x: x.expand(4, -1, -1)),
    "tokens of a map": ((2, 16, 7, 9), lambda x: x.flatten(2).transpose(1, 2)),
    "4-D": ((2, 7, 9, 16), lambda x: x),
    "4-D, channels moved": ((2, 16, 7, 9), lambda x: x.movedim(1, -1)),
    "5-D, two axes exchanged": ((2, 5, 3, 4, 16), lambda x: x.transpose(1, 2)),
}  # fmt: skip
