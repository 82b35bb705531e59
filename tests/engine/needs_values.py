"""Attentions that look at values, so that neither meta nor fake tensors can run them; their costs are known by hand."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Quadratic(nn.Module):
    """(B, N, C) -> (B, N, C): two products of N^2 C each, B = 1: 2 N^2 C. It asks for the largest score."""

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        scores = x @ x.transpose(1, 2)
        if scores.amax().item() > 1e30:
            scores = scores * 0
        return scores.softmax(-1) @ x


class Orthogonal(nn.Module):
    """Random orthogonal features as in Performer: its constructor takes a QR and looks whether it came out well.

    (B, N, C): q, k -> features N C^2 each, k^T v and q (k^T v) N C^2 each: 4 N C^2.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        features = torch.linalg.qr(torch.randn(dim, dim))[0]
        if not torch.allclose(features @ features.T, torch.eye(dim), atol=1e-4):
            raise ValueError("not orthogonal")
        self.register_buffer("features", features)

    def forward(self, x: Tensor) -> Tensor:
        query, key = (x @ self.features).exp(), (x @ self.features).exp()
        return query @ (key.transpose(1, 2) @ x)


class TokenLoop(nn.Module):
    """A recurrence, token by token, that stops at a value: N products of C x C: N C^2."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.step = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        state, out = torch.zeros_like(x[:, 0]), []
        for token in x.unbind(1):
            state = self.step(state + token).tanh()
            if state.abs().max().item() > 1e6:
                break
            out.append(state)
        return torch.stack(out, 1)


class Windows(nn.Module):
    """(B, C, H, W), windows of 8 x 8, padded: ceil(H/8) ceil(W/8) windows, each 2 * 64^2 * C."""

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        batch, dim, height, width = x.shape
        x = F.pad(x, (0, -width % 8, 0, -height % 8))
        windows = F.unfold(x, 8, stride=8).view(batch, dim, 64, -1).permute(0, 3, 2, 1)  # (B, windows, 64, C)
        scores = windows @ windows.transpose(2, 3)
        if scores.amax().item() > 1e30:
            scores = scores * 0
        y = (scores.softmax(-1) @ windows).permute(0, 3, 2, 1).reshape(batch, dim * 64, -1)
        return F.fold(y, x.shape[2:], 8, stride=8)[:, :, :height, :width]


class Halves(nn.Module):
    """(B, C, H, W): attention within rows, H rows of 2 W^2 C; it asks for a value."""

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        rows = x.permute(0, 2, 3, 1)  # (B, H, W, C)
        scores = rows @ rows.transpose(2, 3)
        if scores.amax().item() > 1e30:
            scores = scores * 0
        return (scores.softmax(-1) @ rows).permute(0, 3, 1, 2)


class Pyramid(nn.Module):
    """log2 N levels of N C^2 each: no polynomial."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.level = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(x.shape[1].bit_length() - 1):
            x = self.level(x)
        return x if x.amax().item() < 1e30 else x * 0


class OnlyAt64(nn.Module):
    """Takes maps of 64 x 64 alone; 2 N C multiply-accumulates."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weigh = nn.Conv2d(dim, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:] != (64, 64):
            raise ValueError("64x64 only")
        return self.weigh(x) if x.amax().item() < 1e30 else x


class Broken(nn.Module):
    """Runs nowhere."""

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        if x.sum().item() > -1e30:
            raise ValueError("I am broken")
        return x
