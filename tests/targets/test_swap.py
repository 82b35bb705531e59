"""An attention in the place of a network's own: softmax for softmax changes nothing, and what is lost is said."""

import ast
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor

from attnbench.core.case import Case
from attnbench.core.errors import UnsupportedError, UsageError
from attnbench.metrics.counters.flop_counter import torch_macs
from attnbench.metrics.subject import Subject, tensors_in
from attnbench.targets.build import build
from attnbench.targets.catalogue import catalogue
from attnbench.targets.resolve import resolve

HOSTS = Path(__file__).with_name("tiny_hosts.py")
SIDES = {"pvt_v2": 64}

# Hosts whose attention is softmax and nothing else: all of its weights can be kept. How many attentions each has.
EXACT = {
    "vit": 2, "vit_register": 2, "deit": 2, "dinov2": 2, "beit_without_bias": 2, "eva": 2, "maxvit": 4, "vit_b": 2,
    "torch_encoder": 2, "torch_encoder_token_first": 2, "causal_encoder": 2, "decoder": 2, "hf_bert": 2,
    "hf_roberta": 2, "hf_distilbert": 2, "hf_gpt2": 2, "hf_gpt2_eager": 2, "hf_llama_without_rope": 2,
    "hf_neox_without_rope": 2, "hf_bart": 2, "hf_vit": 2, "own": 2,
}  # fmt: skip

# Hosts whose attention is more, or other, than that: how many there are, and what the notes must name.
INEXACT = {
    "vit_qk_norm": (2, "q_norm, k_norm"),
    "beit": (2, "relative_position_bias_table"),
    "eva_rope": (2, "rope"),
    "cait": (2, "proj_l, proj_w"),
    "xcit": (2, "temperature"),
    "swin": (4, "mask"),
    "pvt_v2": (4, "sr"),
    "twins": (5, "looks at 16 of 64 tokens"),
    "davit": (4, "in the place of 4 attentions"),
    "nest": (3, "in the place of 3 attentions"),  # its heads leave it in another order than they entered
    "mvit": (1, "pool_q"),
    "torchvision_swin": (4, "looks at 16 of 64 tokens"),
    "hf_llama": (2, "position_embeddings"),
    "hf_llama_shared_keys": (2, "q_proj, k_proj, v_proj"),
}


def host(name: str, swap: str | None = None, **fields: object) -> Case:
    side = SIDES.get(name, 32)
    size = {"height": side, "width": side, "batch_size": 2}
    return Case(f"{HOSTS}:{name}", kind="network", layout="bchw", swap=swap, **{**size, **fields})


def need(name: str) -> None:
    """Skip where the library of the host is not installed."""
    library = {"hf": "transformers", "vit_b": "torchvision", "torchvision": "torchvision"}
    ours = ("torch_encoder", "causal_encoder", "decoder", "own")
    if not name.startswith(ours):
        pytest.importorskip(next((lib for start, lib in library.items() if name.startswith(start)), "timm"))


def output(subject: Subject) -> Tensor:
    return next(tensors_in(subject.forward()))


def off(name: str, swap: str, **fields: object) -> tuple[float, Subject]:
    """The largest change of the network's output, as a fraction of its largest value; and the Subject."""
    need(name)
    plain, swapped = build(host(name), "cpu"), build(host(name, swap, **fields), "cpu")
    swapped.inputs = plain.inputs
    before, after = output(plain), output(swapped)
    assert before.abs().max() > 0.01
    return float((before - after).abs().max() / before.abs().max()), swapped


def said(subject: Subject) -> str:
    return "\n".join(note.text for note in subject.notes)


@pytest.mark.parametrize("name", EXACT)
def test_softmax_for_softmax_leaves_the_output_unchanged(name: str) -> None:
    error, subject = off(name, "sdpa")
    assert error < 1e-5
    assert len(subject.swapped) == EXACT[name]
    assert "query, key, value, out are the network's own" in said(subject)
    assert "left behind" not in said(subject)


@pytest.mark.parametrize("swap", ["mhsa", "mha"])
@pytest.mark.parametrize("name", ["vit", "torch_encoder", "hf_bert", "hf_vit"])
def test_whatever_form_of_softmax_it_is(name: str, swap: str) -> None:
    assert off(name, swap)[0] < 1e-5


@pytest.mark.parametrize("name", INEXACT)
def test_what_cannot_be_kept_changes_the_output_and_is_named(name: str) -> None:
    swaps, named = INEXACT[name]
    error, subject = off(name, "sdpa")
    assert error > 1e-4
    assert len(subject.swapped) == swaps
    assert named in said(subject)


@pytest.mark.parametrize("name", ["vit", "torch_encoder", "hf_bert", "hf_gpt2"])
def test_another_attention_changes_the_output(name: str) -> None:
    """Else the old one would still run: torch's encoder has a path that calls no module at all."""
    error, subject = off(name, "linear_attn")
    assert error > 1e-4
    assert "query, key, value, out are the network's own" in said(subject)


def test_the_output_projection_of_bert_is_there_once() -> None:
    """It stands behind the module that is replaced, and moves into the attention."""
    pytest.importorskip("transformers")
    plain, swapped = (build(host("hf_bert", swap), "meta") for swap in (None, "sdpa"))
    count = [sum(p.numel() for p in subject.module.parameters()) for subject in (plain, swapped)]
    assert count[0] == count[1]
    assert torch_macs(plain) == torch_macs(swapped)


def test_the_macs_of_the_same_attention_are_the_same() -> None:
    pytest.importorskip("timm")
    plain, swapped = (build(host("vit", swap), "meta") for swap in (None, "sdpa"))
    assert torch_macs(plain) == torch_macs(swapped)
    assert swapped.expected is None  # no formula of the whole is known


def test_a_causal_host_and_an_attention_that_is_not() -> None:
    pytest.importorskip("transformers")
    assert "looks ahead" not in said(build(host("hf_gpt2", "sdpa"), "meta"))
    assert "causal, and mha looks ahead" in said(build(host("hf_gpt2", "mha"), "meta"))
    error, subject = off("hf_gpt2", "sdpa", params=(("swap.causal", False),))
    assert error > 1e-4
    assert "causal, and sdpa looks ahead" in said(subject)
    assert "sdpa is causal, and the network's attention is not" in said(
        build(host("hf_vit", "sdpa", params=(("swap.causal", True),)), "meta")
    )


# What gives another number of channels than it takes cannot stand where a network's own attention stood.
CHANGES_SHAPE = {"gmlp"}

SEEN = """
import torch
from torch import nn
SEEN = []
class OverMap(nn.Module):
    def __init__(self, dim, height, width):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(dim, 1, 1))
        self.sides = height, width
    def forward(self, x):
        SEEN.append((self.sides, tuple(x.shape)))
        return 0 * x * self.scale, x
class Tokens(nn.Module):
    def __init__(self, dim, n):
        super().__init__()
        self.mix = nn.Linear(n, n)
    def forward(self, x):
        b, n, c = x.shape
        return self.mix(x.transpose(1, 2)).transpose(1, 2)
class NeedsSides(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, 3, padding=1)
    def forward(self, x, H, W):
        b, n, c = x.shape
        return self.conv(x.transpose(1, 2).reshape(b, c, H, W)).flatten(2).transpose(1, 2)
class Bare(nn.Module):
    def forward(self, q, k, v):
        b, h, n, d = q.shape
        return (q @ k.transpose(-1, -2)).softmax(-1) @ v
class Wrong(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.proj = nn.Linear(dim, dim + 1)
    def forward(self, x):
        b, n, c = x.shape
        return self.proj(x)
"""


@pytest.fixture
def own_file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(SEEN)
    return path


@pytest.mark.parametrize(("name", "prefix"), [("vit", 1), ("deit", 2), ("dinov2", 5), ("vit_b", 1), ("hf_vit", 1)])
def test_tokens_that_are_no_patches_pass_by_an_attention_over_maps(name: str, prefix: int, own_file: Path) -> None:
    need(name)
    subject = build(host(name, f"{own_file}:OverMap"), "cpu")
    assert f"the first {prefix} token(s)" in said(subject)
    place = subject.module.get_submodule(next(iter(subject.swapped)))
    x = torch.randn(2, 16 + prefix, 32)
    y = next(tensors_in(place(x)))
    assert torch.equal(y[:, :prefix], x[:, :prefix])
    assert not y[:, prefix:].any()


def test_the_sides_of_the_map_are_found_where_it_is_not_square(own_file: Path) -> None:
    subject = build(host("own", f"{own_file}:OverMap", height=16, width=64, batch_size=1), "cpu")
    subject.forward()
    import sys

    seen = sys.modules["attnbench_user_mine"].SEEN
    assert seen[-1] == ((2, 8), (1, 32, 2, 8))


@pytest.mark.parametrize("kind", ["Tokens", "NeedsSides", "Bare"])
def test_a_users_own_attention_of_any_layout(kind: str, own_file: Path) -> None:
    pytest.importorskip("timm")
    subject = build(host("vit", f"{own_file}:{kind}"), "cpu")
    assert output(subject).shape == (2, 5)
    assert len(subject.swapped) == 2


def test_an_attention_of_another_width_is_refused_in_a_sentence(own_file: Path) -> None:
    pytest.importorskip("timm")
    with pytest.raises(UnsupportedError, match=r"~.*Wrong does not run at 32x32"):
        resolve(host("vit", f"{own_file}:Wrong"))


def test_a_map_where_there_is_none() -> None:
    pytest.importorskip("transformers")
    case = Case("hf:gpt2", kind="network", tokens=16, swap="efficient_attn", params=(("num_hidden_layers", 1),))
    with pytest.raises(UnsupportedError, match=r"efficient_attn reads feature maps, and the 16 tokens of h\.0\.attn"):
        resolve(case)


def test_no_attention_is_no_baseline() -> None:
    with pytest.raises(UsageError, match=r"vgg16 has no attention that could be swapped\. Looked for in one forward"):
        resolve(Case("vgg16", kind="network", height=32, width=32, swap="linear_attn"))


@pytest.mark.parametrize(
    ("name", "why"),
    [("parallel_vit", "more in it than an attention"), ("hf_albert", "adds its input and ends in LayerNorm")],
)
def test_a_module_that_does_more_is_not_replaced(name: str, why: str) -> None:
    need(name)
    with pytest.raises(UsageError, match=why):
        resolve(host(name, "linear_attn"))


def test_attentions_that_stay_are_named() -> None:
    pytest.importorskip("timm")
    assert "2 ClassAttn left as found (blocks_token_only.0.attn" in said(build(host("cait", "linear_attn"), "meta"))
    assert "from one sequence to another" in said(build(host("decoder", "linear_attn"), "meta"))


def test_places_by_hand() -> None:
    assert list(build(host("own", "linear_attn", at="body.1"), "meta").swapped) == ["body.1.mixer"]
    subject = build(host("own", "linear_attn", at="body.*.mixer"), "meta")
    assert list(subject.swapped) == ["body.0.mixer", "body.1.mixer"]
    with pytest.raises(UsageError, match=r"--at 'body.7' matches no place in .*There are: body.0.mixer, body.1.mixer"):
        build(host("own", "linear_attn", at="body.7"), "meta")


def test_settings_and_heads_are_the_swapped_attentions() -> None:
    subject = build(host("own", "linear_attn", heads=2, params=(("swap.eps", 0.5),)), "meta")
    attention = subject.module.get_submodule("body.0.mixer").attention
    assert (attention.eps, attention.heads) == (0.5, 2)
    with pytest.raises(UsageError, match="linear_attn has no parameter 'espilon'"):
        build(host("own", "linear_attn", params=(("swap.espilon", 0.5),)), "meta")


def test_swap_and_insert_together() -> None:
    pytest.importorskip("timm")
    subject = build(host("maxvit", "linear_attn", insert="se"), "meta")
    assert (len(subject.swapped), len(subject.inserted)) == (4, 2)
    assert subject.forward().shape == (2, 5)


@pytest.mark.parametrize("name", ["vit", "torch_encoder", "hf_bert", "swin"])
@pytest.mark.parametrize("mode", ["fwd_bwd", "train"])
def test_a_step_with_a_backward(name: str, mode: str) -> None:
    need(name)
    subject = build(host(name, "linear_attn", mode=mode), "cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        subject.step()


@pytest.mark.parametrize("name", ["torch_encoder", "hf_bert"])
def test_it_compiles_as_one_graph(name: str) -> None:
    need(name)
    subject = build(host(name, "linear_attn"), "cpu")
    compiled = torch.compile(subject.module, backend="eager", fullgraph=name != "hf_bert")
    with torch.no_grad():
        assert torch.allclose(next(tensors_in(compiled(*subject.inputs))), output(subject), atol=1e-5)
    torch.compiler.reset()


@pytest.mark.parametrize("spec", [s for s in catalogue() if s.kind == "module"], ids=lambda spec: spec.name)
def test_every_attention_stands_in_a_network_or_says_why_not(spec) -> None:
    """A forward on the meta device; a module that gives another shape than it takes is refused in one sentence."""
    try:
        resolved = resolve(host("own", spec.name))
    except UnsupportedError as error:
        assert spec.name in CHANGES_SHAPE, error
        return
    assert build(resolved, "meta").forward().shape == (2, 16, 32)


def test_every_host_of_the_file_is_tested() -> None:
    named = {node.name for node in ast.parse(HOSTS.read_text()).body if isinstance(node, ast.FunctionDef)
             and not node.args.args and not node.args.kwarg}  # fmt: skip
    assert named == {*EXACT, *INEXACT, "parallel_vit", "hf_albert"}


def test_a_copy_of_the_network_holds_copies_of_its_attentions() -> None:
    from copy import deepcopy

    subject = build(host("own", "linear_attn"), "cpu")
    copied = deepcopy(subject.module)
    with torch.no_grad():
        for parameter in subject.module.parameters():
            parameter.zero_()
    assert copied.get_submodule("body.0.mixer.attention.query").weight.any()
