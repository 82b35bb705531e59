"""What is asked of libraries' networks: sizes, settings, names that are none; each answer is one sentence."""

import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attnbench.commands.options import by_kind
from attnbench.core.case import Case
from attnbench.core.errors import AttnbenchError, OutOfMemoryError, UnsupportedError, UsageError
from attnbench.engine.measure import measure
from attnbench.engine.sweep import Sweep
from attnbench.metrics.metric import Options
from attnbench.targets.build import build
from attnbench.targets.names import canonical
from attnbench.targets.providers import PROVIDERS
from attnbench.targets.resolve import resolve
from attnbench.targets.sources import SOURCES, Target

SMALL_GPT2 = {"n_layer": 1, "n_embd": 32, "n_head": 2, "vocab_size": 100}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Whatever the libraries say of themselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def asked(name: str, **fields: Any) -> Case:
    library = PROVIDERS[name.partition(":")[0]].library
    pytest.importorskip(library, reason=f"{library} is not installed")
    params = tuple(sorted(fields.pop("params", {}).items()))
    return Case(name, kind="network", params=params, **fields)


IMAGE = {"height": 224, "width": 224}

REFUSED = [
    ("timm:resnet5O", IMAGE, "timm has no network 'resnet5O'. Did you mean 'resnet50'?"),
    ("torchvision:resnet5", IMAGE, "torchvision has no network 'resnet5'. Did you mean 'resnet50'?"),
    ("hf:gpt22", {}, "transformers has no network 'gpt22'. Did you mean 'gpt2'?"),
    ("hf:nope", {}, "transformers has no network 'nope'."),
    ("hf:google-bert/bert-base-uncased", {}, "Nothing is fetched: name the type, hf:bert, and give what differs"),
    ("hf:clip", {}, "hf:clip reads several kinds of input"),
    ("hf:whisper", {}, "hf:whisper reads neither tokens nor images"),
    ("hf:gpt2", {"height": 32, "width": 32}, "hf:gpt2 reads tokens: give --seq-len instead of --img-size."),
    ("hf:vit", {"tokens": 32}, "hf:vit reads images: give --img-size instead of --seq-len."),
    ("hf:gpt2", {"params": {"n_layers": 2}}, "the configuration of hf:gpt2 has no 'n_layers'. Did you mean 'n_layer'?"),
    ("hf:gpt2", {"params": {"n_layer": "two"}}, " refuses"),
    ("hf:gpt2", {"params": {"n_head": 7}}, "hf:gpt2(seq_len=512, n_head=7) refuses: ValueError: "),
    ("hf:bert", {"tokens": 64, "params": {"max_position_embeddings": 32}}, "positions for fewer than 64 tokens"),
    ("timm:resnet18", {**IMAGE, "params": {"depth": 3}}, "timm:resnet18(depth=3) refuses: TypeError: "),
    ("timm:resnet18", {**IMAGE, "params": {"pretrained": True}}, "--set pretrained: nothing is downloaded"),
    ("torchvision:resnet18", {**IMAGE, "params": {"weights": "DEFAULT"}}, "--set weights: nothing is downloaded"),
    ("torchvision:fasterrcnn_resnet50_fpn", IMAGE, "fasterrcnn_resnet50_fpn finds objects"),
    ("torchvision:r3d_18", IMAGE, "r3d_18 reads videos"),
    ("torchvision:raft_small", IMAGE, "raft_small compares two images"),
    ("torchvision:quantized_resnet18", IMAGE, "is quantized"),
    ("torchvision:vit_b_16", {"height": 224, "width": 192}, "reads square images"),
    ("timm:vit_tiny_patch16_224", {"height": 8, "width": 8}, "does not run at 8x8 (its library made it for 224x224): "),
    ("timm:sehalonet33ts", IMAGE, "does not run at 224x224 (its library made it for 256x256): AssertionError"),
    ("torchvision:maxvit_t", {"height": 100, "width": 100}, "torchvision:maxvit_t(input_size=(100, 100)) refuses: "),
]


@pytest.mark.parametrize(("name", "fields", "words"), REFUSED, ids=[f"{each[0]} {each[2][:9]}" for each in REFUSED])
def test_a_refusal_is_one_sentence(name: str, fields: dict[str, Any], words: str) -> None:
    case = asked(name, **fields)
    with pytest.raises(AttnbenchError) as caught:
        resolve(case)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("provider", ["timm", "torchvision", "hf"])
def test_a_name_is_needed(provider: str) -> None:
    with pytest.raises(UsageError, match=f"{provider}: names no network: write {provider}:NAME, like {provider}:"):
        canonical(f"{provider}:", "network")


@pytest.mark.parametrize("provider", ["timm", "torchvision", "hf"])
def test_a_library_that_is_not_installed(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, PROVIDERS[provider].library, None)
    with pytest.raises(UsageError, match=rf"which is not installed: pip install 'attnbench\[{provider}\]'."):
        canonical(f"{provider}:any", "network")


def test_a_network_is_no_module() -> None:
    pytest.importorskip("timm", reason="timm is not installed")
    with pytest.raises(UsageError, match=r"'timm:resnet18' is a network: give it with --network\."):
        canonical("timm:resnet18", "module")


def test_modules_and_networks_are_told_apart_by_their_names() -> None:
    names = ["self_attn", "vgg16", "timm:resnet18", "hf:gpt2", "my.py:Mine", "a.b:C", "my.py:Net+se", "~/my.py:Mine"]
    assert by_kind(names) == (["self_attn", "my.py:Mine", "a.b:C", "~/my.py:Mine"],
                              ["vgg16", "timm:resnet18", "hf:gpt2", "my.py:Net+se"])  # fmt: skip


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep asks whether the library is there, and nothing else."""
    monkeypatch.setattr("attnbench.targets.providers.find_spec", lambda name: object())


def sizes(sweep: Sweep) -> list[str]:
    return [f"{case.target} {case.size}" for case in sweep.cases()]


@pytest.mark.usefixtures("installed")
def test_each_network_takes_the_sizes_that_it_can_read() -> None:
    assert sizes(Sweep(networks=["timm:a", "hf:b"], img_size=["32", "64x48"])) == [
        "timm:a 32x32", "hf:b 32x32", "timm:a 64x48", "hf:b 64x48",
    ]  # fmt: skip
    assert sizes(Sweep(networks=["hf:b"], seq_len=["128", "1024"])) == ["hf:b 128", "hf:b 1024"]
    assert sizes(Sweep(networks=["timm:a", "vgg16"])) == ["timm:a 224x224", "vgg16 224x224"]


@pytest.mark.usefixtures("installed")
def test_only_its_library_tells_the_usual_size() -> None:
    (case,) = Sweep(networks=["hf:b"]).cases()
    assert (case.height, case.width, case.tokens) == (None, None, None)
    assert "--img-size" not in case.command()
    assert "--seq-len" not in case.command()


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("networks", "fields", "words"),
    [
        (["timm:a"], {"seq_len": ["5"]}, "timm:a reads images: give --img-size instead of --seq-len."),
        (["vgg16"], {"seq_len": ["5"]}, "vgg16 reads images"),
        (["hf:b"], {"seq_len": ["5"], "img_size": ["32"]}, "give --img-size or --seq-len, not both"),
    ],
)
def test_a_size_of_the_wrong_kind(networks: list[str], fields: dict[str, list[str]], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Sweep(networks=networks, **fields).cases()


@pytest.mark.usefixtures("installed")
def test_the_command_of_a_network_of_tokens() -> None:
    (case,) = Sweep(networks=["hf:gpt2"], seq_len=["128"], settings=["n_layer=2"], device="cpu").cases()
    assert case.with_(layout="ids").command() == (
        "attnbench run --network hf:gpt2 --seq-len 128 --batch-size 1 --dtype fp32 --device cpu --mode fwd --seed 0 "
        "--set n_layer=2"
    )


def test_the_usual_size_where_none_is_asked_for() -> None:
    case = resolve(asked("hf:gpt2", params=SMALL_GPT2))
    assert (case.layout, case.tokens, case.height) == ("ids", 512, None)
    few = resolve(asked("hf:blenderbot", params={"encoder_layers": 1, "decoder_layers": 1, "d_model": 32}))
    assert (few.layout, few.tokens) == ("ids_ids", 128)
    image = resolve(asked("hf:vit", params={"num_hidden_layers": 1}))
    assert (image.layout, image.height, image.width, image.tokens) == ("bchw", 224, 224, None)


@pytest.mark.parametrize(
    ("name", "tokens", "rows"),
    [("gpt2", 1024, 1024), ("gpt2", 1025, 1025), ("bert", 512, 512), ("roberta", 510, 512), ("roberta", 512, 514)],
)
def test_tables_of_positions_are_as_long_as_needed(name: str, tokens: int, rows: int) -> None:
    """Roberta counts from the number of the padding on."""
    case = asked(f"hf:{name}", tokens=tokens, layout="ids", params={"num_hidden_layers": 1})
    tables = [each.num_embeddings for each in build(case, "meta").module.modules() if isinstance(each, nn.Embedding)]
    assert rows in tables


@pytest.mark.parametrize("name", ["roberta", "bart", "t5"])
def test_it_runs_on_real_tensors_at_its_longest(name: str) -> None:
    """Without data a look-up beyond the end of a table goes unnoticed."""
    small = {"roberta": {"num_hidden_layers": 1}, "bart": {"encoder_layers": 1, "decoder_layers": 1},
             "t5": {"num_layers": 1, "num_decoder_layers": 1}}[name]  # fmt: skip
    case = resolve(asked(f"hf:{name}", tokens=40, params={"vocab_size": 60, **small}))
    positions = {} if name == "t5" else {"max_position_embeddings": 40 if name == "bart" else 42}
    case = case.with_(params=tuple(sorted({**dict(case.params), **positions}.items())))
    build(case, "cpu").forward()


def test_nothing_is_kept_for_a_next_step() -> None:
    subject = build(asked("hf:gpt2", tokens=8, layout="ids", params=SMALL_GPT2), "cpu")
    assert subject.module.config.use_cache is False
    assert getattr(subject.forward(), "past_key_values", None) is None


def test_token_numbers_are_below_the_vocabulary() -> None:
    (ids,) = build(asked("hf:gpt2", tokens=4096, layout="ids", params=SMALL_GPT2), "cpu").inputs
    assert ids.shape == (1, 4096)
    assert ids.dtype == torch.int64
    assert 90 < int(ids.max()) < 100
    assert int(ids.min()) >= 0


def test_without_data_no_mask_is_built_that_a_run_does_not_build() -> None:
    """A forward of transformers asks its inputs whether rows hold several sequences, and builds masks if in doubt."""
    from attnbench.metrics.counters.dispatch import dispatch_count

    case = asked("hf:gpt2", tokens=64, layout="ids", params=SMALL_GPT2)
    counts = [dispatch_count(build(case, where)) for where in ("meta", "cpu")]
    assert counts[0].macs == counts[1].macs > 0
    assert counts[0].masked == counts[1].masked > 0


def test_the_hub_is_never_asked() -> None:
    pytest.importorskip("transformers", reason="transformers is not installed")
    from huggingface_hub import constants

    from attnbench.targets.providers.hf import _silent_and_offline

    before = constants.HF_HUB_OFFLINE
    with _silent_and_offline():
        assert constants.HF_HUB_OFFLINE is True
    assert constants.HF_HUB_OFFLINE is before


class Wordy(nn.Module):
    """A language model of someone's own, with a table of 16 positions."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.words = nn.Embedding(50, width)
        self.pos_emb = nn.Embedding(16, width)

    def forward(self, idx: Tensor) -> Tensor:
        places = torch.arange(idx.shape[1], device=idx.device)
        return self.words(idx) + self.pos_emb(places)


@pytest.fixture
def wordy(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("attnbench.targets.resolve.locate", lambda name: Target(name, Wordy))
    monkeypatch.setattr("attnbench.targets.build.locate", lambda name: Target(name, Wordy))
    return "own.py:Wordy"


def test_a_network_of_ones_own_reads_tokens_when_asked_to(wordy: str) -> None:
    case = resolve(Case(wordy, kind="network", tokens=16))
    assert case.layout == "ids"
    build(case, "cpu").forward()


def test_more_tokens_than_positions_are_refused_without_data(wordy: str) -> None:
    with pytest.raises(UnsupportedError, match=r"has 16 positions \(pos_emb\): give --seq-len 16 or less"):
        resolve(Case(wordy, kind="network", tokens=17))


def test_constructors_may_read_numbers_off_a_range() -> None:
    """torchvision's RegNet rounds its widths in tensors, which have no values on the meta device."""
    case = asked("torchvision:regnet_y_400mf", **IMAGE, layout="bchw")
    subject = build(case, "meta")
    assert {weight.device.type for weight in subject.weights} == {"meta"}
    subject.forward()


def test_a_provider_is_a_source() -> None:
    assert set(PROVIDERS) <= set(SOURCES)


def test_weights_that_do_not_fit_are_never_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that cannot be counted without data is counted with them only where there is room."""
    monkeypatch.setattr("attnbench.engine.measure.free_bytes", lambda device: 10**6)
    case = resolve(asked("hf:longformer", tokens=64, params={"num_hidden_layers": 2, "attention_window": 32}))
    with pytest.raises(OutOfMemoryError, match="not started: it needs "):
        list(measure(case, Options(metrics=("macs",))))
