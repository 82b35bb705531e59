"""Whole networks built in, into which an attention can be inserted."""

from collections.abc import Iterator

from torch import Tensor, nn

from attnbench.modules.spec import network

__all__ = ["VGG16"]

# Configuration D of the paper: (channels, convolutions) of each block; every block ends in a 2x2 max pooling.
_BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


@network(
    name="vgg16",
    layout="bchw",
    complexity="N",
    memory="N",
    where={
        "conv_weights": "9*(3*64 + 64*64 + 64*128 + 128**2 + 128*256 + 2*256**2 + 256*512 + 5*512**2)",
        "conv_biases": "2*64 + 2*128 + 3*256 + 6*512",
        "head_weights": "7*7*512*4096 + 4096**2 + 4096*num_classes",
        "head_biases": "2*4096 + num_classes",
    },
    params="conv_weights + conv_biases + head_weights + head_biases",
    macs=(
        "B*(9*(3*64 + 64*64)*H*W"
        " + 9*(64*128 + 128**2)*(H//2)*(W//2)"
        " + 9*(128*256 + 2*256**2)*(H//4)*(W//4)"
        " + 9*(256*512 + 2*512**2)*(H//8)*(W//8)"
        " + 9*3*512**2*(H//16)*(W//16)"
        " + head_weights)"
    ),
    paper="Simonyan & Zisserman 2014, Very Deep Convolutional Networks, arXiv:1409.1556",
)
class VGG16(nn.Module):
    """VGG16, configuration D: thirteen 3x3 convolutions in five blocks, and three dense layers.

    The inputs are images (B, 3, H, W), H and W at least 32; the outputs are logits (B, num_classes). The last map is
    pooled to 7x7, as torchvision does, so that the dense layers fit every size; so do the names of the parameters.

    Hyper-parameters: `num_classes`; `dropout` after the first two dense layers.
    """

    def __init__(self, num_classes: int = 1000, dropout: float = 0.5) -> None:
        super().__init__()
        self.features = nn.Sequential(*_layers())
        self.avgpool = nn.AdaptiveAvgPool2d((7, 7))
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(4096, num_classes),
        )
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.avgpool(self.features(x))  # (B, 3, H, W) -> (B, 512, H/32, W/32) -> (B, 512, 7, 7)
        logits: Tensor = self.classifier(maps.flatten(1))  # (B, num_classes)
        return logits

    def attention_sites(self) -> list[tuple[nn.Module, str]]:
        """Where an attention goes: behind (parent, child name) of the last convolution of each of the five blocks."""
        sites: list[tuple[nn.Module, str]] = []
        start = 0
        for _, depth in _BLOCKS:
            sites.append((self.features, str(start + 2 * (depth - 1))))
            start += 2 * depth + 1  # a convolution and a ReLU each, then the pooling
        return sites


def _layers() -> Iterator[nn.Module]:
    width = 3
    for channels, depth in _BLOCKS:
        for _ in range(depth):
            yield nn.Conv2d(width, channels, 3, padding=1)
            yield nn.ReLU(inplace=True)
            width = channels
        yield nn.MaxPool2d(2)


def _initialise(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(layer, nn.Linear):
        nn.init.normal_(layer.weight, std=0.01)
    if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
        nn.init.zeros_(layer.bias)
