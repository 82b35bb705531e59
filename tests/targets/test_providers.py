"""Networks by the names of timm, torchvision and transformers: sixty of them are what their library builds."""

import warnings
from collections.abc import Iterator

import pytest
from sixty_networks import NAMES, as_the_library_builds, asked, parameters, reads_tokens

from attnbench.targets.build import build
from attnbench.targets.providers import PROVIDERS
from attnbench.targets.resolve import resolve
from attnbench.targets.sources import locate

# A size besides its own, where 288 is not one that it can be built for.
OTHER_SIZE = {"vit_small_patch14_dinov2": 252, "eva02_tiny_patch14_224": 252, "maxvit_t": 448,
              "maxvit_tiny_tf_224": 256}  # fmt: skip


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Whatever the libraries say of themselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def require(name: str) -> None:
    library = PROVIDERS[name.partition(":")[0]].library
    pytest.importorskip(library, reason=f"{library} is not installed")


def test_there_are_sixty_of_them() -> None:
    assert len(set(NAMES)) == 60


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_the_librarys_own_and_it_runs(name: str) -> None:
    require(name)
    layout = locate(name).layout
    assert layout is not None
    subject = build(asked(name).with_(layout=layout), "meta")
    subject.forward()
    assert parameters(subject.module) == parameters(as_the_library_builds(name))


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_at_another_size(name: str) -> None:
    require(name)
    short = name.partition(":")[2]
    size = 96 if reads_tokens(name) else OTHER_SIZE.get(short, 288)
    case = resolve(asked(name, size, **({"num_hidden_layers": 2} if reads_tokens(name) else {})))
    assert case.layout == ("bchw" if not reads_tokens(name) else "ids_ids" if short in ("t5", "bart") else "ids")
