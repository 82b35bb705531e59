"""VGG16 against the published counts, against torchvision, and with an attention inserted at each of its sites."""

import pytest
import torch
from module_numerics import noise, relative_error
from torch import nn

from attnbench.modules.softmax import SelfAttention2d
from attnbench.targets.catalogue import find
from attnbench.targets.networks import VGG16


def on_meta(**hyper: int) -> VGG16:
    with torch.device("meta"):
        return VGG16(**hyper).eval()


@pytest.fixture(scope="module")
def network() -> VGG16:
    torch.manual_seed(0)
    return VGG16().eval()


def test_the_published_counts() -> None:
    shape = {"B": 1, "N": 224 * 224, "H": 224, "W": 224, "C": 3, "dim": 3}
    spec = find("vgg16")
    assert sum(p.numel() for p in on_meta().parameters()) == 138_357_544
    assert spec.params(**spec.symbols(**shape)) == 138_357_544
    assert spec.macs(**spec.symbols(**shape)) == 15_470_264_320


def test_an_image_of_32_gives_finite_logits(network: VGG16) -> None:
    logits = network(noise(1, 3, 32, 47))
    assert logits.shape == (1, 1000)
    assert logits.isfinite().all()


def test_gradients_reach_every_parameter(network: VGG16) -> None:
    parameters = list(network.parameters())
    gradients = torch.autograd.grad(network(noise(1, 3, 32, 32)).square().sum(), parameters)
    assert all(gradient.isfinite().all() and gradient.any() for gradient in gradients)


def test_the_variance_of_the_maps_survives_the_depth(network: VGG16) -> None:
    """Kaiming initialisation: with a smaller one the signal is gone after thirteen layers."""
    with torch.no_grad():
        assert 0.05 < network.features(noise(1, 3, 64, 64)).std() < 5


def test_dropout_acts_only_in_training(network: VGG16) -> None:
    x = noise(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(network(x), network(x))
        assert not torch.equal(network.train()(x), network(x))
    network.eval()


@pytest.mark.parametrize("size", [(32, 32), (224, 224), (45, 63)])
def test_the_shapes_on_the_meta_device(size: tuple[int, int]) -> None:
    assert on_meta(num_classes=10)(torch.empty(2, 3, *size, device="meta")).shape == (2, 10)


def test_the_attention_sites_are_the_last_convolutions_of_the_blocks() -> None:
    sites = on_meta().attention_sites()
    convolutions = [parent.get_submodule(name) for parent, name in sites]
    assert [name for _, name in sites] == ["2", "7", "14", "21", "28"]
    assert all(isinstance(convolution, nn.Conv2d) for convolution in convolutions)
    assert [convolution.out_channels for convolution in convolutions] == [64, 128, 256, 512, 512]


def test_every_block_ends_after_its_site() -> None:
    network = on_meta()
    for _, name in network.attention_sites():
        kinds = [type(network.features[int(name) + offset]) for offset in range(3)]
        assert kinds == [nn.Conv2d, nn.ReLU, nn.MaxPool2d]


def test_an_attention_fits_at_every_site_and_leaves_the_sites_where_they_are() -> None:
    network = on_meta()
    sites = network.attention_sites()
    for parent, name in sites:
        convolution = parent.get_submodule(name)
        assert isinstance(convolution, nn.Conv2d)
        with torch.device("meta"):
            setattr(parent, name, nn.Sequential(convolution, SelfAttention2d(convolution.out_channels)))
    assert network.attention_sites() == sites
    assert network(torch.empty(1, 3, 64, 64, device="meta")).shape == (1, 1000)
    added = sum(10 * (c // 8) * c // 5 + c // 4 + c * c + c + 1 for c in (64, 128, 256, 512, 512))
    assert sum(p.numel() for p in network.parameters()) == 138_357_544 + added


def test_torchvision_loads_strictly_and_gives_the_same_logits(network: VGG16) -> None:
    models = pytest.importorskip("torchvision.models")
    with torch.device("meta"):
        reference = models.vgg16(weights=None).eval()
    assert [(n, p.shape) for n, p in reference.named_parameters()] == [
        (n, p.shape) for n, p in network.named_parameters()
    ]
    reference.load_state_dict(network.state_dict(), strict=True, assign=True)
    x = noise(1, 3, 64, 96)
    with torch.no_grad():
        assert relative_error(network(x), reference(x)) < 1e-5
