"""U-Net and DCGAN in PyTorch, with the same weights; runs where PyTorch is."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.models.test_torch import check_against
from tests.models.variants import DCGANS, UNETS

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]  # PyTorch's own

nn = torch.nn


class DoubleConv(nn.Module):
    def __init__(self, inputs: int, outputs: int, inner: int, padding: int, norm: bool) -> None:
        super().__init__()
        layers: list[Any] = []
        for few, many in ((inputs, inner), (inner, outputs)):
            layers.append(nn.Conv2d(few, many, 3, padding=padding, bias=not norm))
            layers += [nn.BatchNorm2d(many), nn.ReLU()] if norm else [nn.ReLU()]
        self.double_conv = nn.Sequential(*layers)

    def forward(self, x: Any) -> Any:
        return self.double_conv(x)


class Down(nn.Module):
    def __init__(self, conv: Any) -> None:
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), conv)

    def forward(self, x: Any) -> Any:
        return self.maxpool_conv(x)


class Up(nn.Module):
    def __init__(self, up: Any, conv: Any) -> None:
        super().__init__()
        self.up, self.conv = up, conv

    def forward(self, x: Any, beside: Any) -> Any:
        x = self.up(x)
        rows, columns = (beside.shape[2] - x.shape[2]) // 2, (beside.shape[3] - x.shape[3]) // 2
        inner = beside[:, :, rows : rows + x.shape[2], columns : columns + x.shape[3]]
        return self.conv(torch.cat([inner, x], dim=1))


class Out(nn.Module):
    def __init__(self, conv: Any) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Any) -> Any:
        return self.conv(x)


class UNet(nn.Module):
    """Of depth 2 and width 2, after the package Pytorch-UNet."""

    def __init__(self, inputs: int, classes: int, norm: bool = False, bilinear: bool = False, padding: int = 1) -> None:
        super().__init__()

        def conv(few: int, many: int, inner: int | None = None) -> DoubleConv:
            return DoubleConv(few, many, inner or many, padding, norm)

        factor = 2 if bilinear else 1

        def up(channels: int) -> Any:
            if bilinear:
                return nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
            return nn.ConvTranspose2d(channels, channels // 2, 2, stride=2)

        self.inc, self.down1, self.down2 = conv(inputs, 2), Down(conv(2, 4)), Down(conv(4, 8 // factor))
        self.up1 = Up(up(8), conv(8, 4 // factor, 4 if bilinear else None))
        self.up2 = Up(up(4), conv(4, 2, 2))
        self.outc = Out(nn.Conv2d(2, classes, 1))

    def forward(self, x: Any) -> Any:
        x1 = self.inc(x)
        x2 = self.down1(x1)
        return self.outc(self.up2(self.up1(self.down2(x2), x2), x1))


class DCGAN(nn.Module):
    """Either half, for images of 16x16 pixels of two channels."""

    def __init__(self, *layers: Any) -> None:
        super().__init__()
        self.main = nn.Sequential(*layers)

    def forward(self, x: Any) -> Any:
        y = self.main(x)
        return y.reshape(-1, 1) if y.shape[1:] == (1, 1, 1) else y


def dcgan_generator() -> Any:
    convs = [nn.ConvTranspose2d(4, 2, 4, 2, 1, bias=False), nn.ConvTranspose2d(2, 2, 4, 2, 1, bias=False)]
    first = [nn.ConvTranspose2d(5, 4, 4, bias=False), nn.BatchNorm2d(4), nn.ReLU()]
    return DCGAN(*first, convs[0], nn.BatchNorm2d(2), nn.ReLU(), convs[1], nn.Tanh())


def dcgan_discriminator() -> Any:
    convs = [nn.Conv2d(2, 2, 4, 2, 1, bias=False), nn.Conv2d(2, 4, 4, 2, 1, bias=False), nn.Conv2d(4, 1, 4, bias=False)]
    return DCGAN(convs[0], nn.LeakyReLU(0.2), convs[1], nn.BatchNorm2d(4), nn.LeakyReLU(0.2), convs[2])


PEERS: dict[str, Callable[[], Any]] = {
    "unet": partial(UNet, 1, 3),
    "unet_bn": partial(UNet, 1, 3, norm=True),
    "unet_bilinear": partial(UNet, 2, 3, norm=True, bilinear=True),
    "unet_valid": partial(UNet, 1, 2, padding=0),
    "dcgan_generator": dcgan_generator,
    "dcgan_discriminator": dcgan_discriminator,
}


@pytest.mark.parametrize("name", [*UNETS, *DCGANS])
def test_logits_gradients_and_statistics(name: str) -> None:
    check_against(PEERS[name], name)
