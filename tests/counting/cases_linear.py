"""Attention whose cost grows with N and not with N²: kernels, low rank, memories, channels instead of positions."""

import torch
from hand_case import MAP, TOKENS, Sizes, case, merge, split
from torch import Tensor, nn
from torch.nn import functional as F


class Projected(nn.Module):
    """q, k, v and output: four Linear(C, C) without bias."""

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.h = s.h
        self.qkv, self.out = nn.Linear(s.C, 3 * s.C, bias=False), nn.Linear(s.C, s.C, bias=False)

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = (split(each, self.h) for each in self.qkv(x).chunk(3, -1))
        return q, k, v


def phi(x: Tensor) -> Tensor:
    return F.elu(x) + 1


LINEAR = "B * (4*N*C**2 + 2*N*C*d + N*C)"


@case("linear attention (elu + 1)", "matmul", TOKENS, macs=LINEAR, params="4*C**2", backward="2 * macs + B*N*C")
class LinearByMatmul(Projected):
    """4 N C² of projections; k^T v is (d, N) x (N, d) in h heads: N C d; q times it: N C d; q times the sum of
    keys, a product (N, d) x (d, 1) in h heads: N C.

    Backward: two gradients for each; and the gradient of a denominator is the sum of dy y over the d numbers that it
    divided: N C more.
    """

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.heads(x)
        q, k = phi(q), phi(k)
        summed = k.sum(2).unsqueeze(-1)
        return self.out(merge(q @ (k.transpose(-2, -1) @ v) / (q @ summed + 1e-6)))


@case("linear attention (elu + 1)", "einsum", TOKENS, macs=LINEAR, params="4*C**2", backward="2 * macs + B*N*C")
class LinearByEinsum(Projected):
    """Labels b h n d e with n summed: N C d; with d summed: N C d; b h n d with d summed: N C.

    Backward: two gradients for each; the weight of a token scales d numbers of each head, and its gradient is a sum
    over them: N C more.
    """

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.heads(x)
        q, k = phi(q), phi(k)
        state = torch.einsum("bhnd,bhne->bhde", k, v)
        weight = 1 / (torch.einsum("bhnd,bhd->bhn", q, k.sum(2)) + 1e-6)
        return self.out(merge(torch.einsum("bhnd,bhde,bhn->bhne", q, state, weight)))


@case("linear attention (elu + 1)", "causal, cumsum", TOKENS, macs=LINEAR, params="4*C**2")
class LinearByCumsum(Projected):
    """Outer products k_n v_n^T, d x d in h heads, accumulated over n: N C d; q_n times the state of its own n:
    N C d; q_n times the accumulated keys, a product that is summed over d: N C."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.heads(x)
        q, k = phi(q), phi(k)
        states = (k.unsqueeze(-1) * v.unsqueeze(-2)).cumsum(2)
        weight = (q * k.cumsum(2)).sum(-1, keepdim=True)
        return self.out(merge((q.unsqueeze(-2) @ states).squeeze(-2) / weight))


EFFICIENT = "B * (4*N*C**2 + 2*N*C*d)"


@case("efficient attention", "tokens, matmul", TOKENS, macs=EFFICIENT, params="4*C**2", backward="2 * macs")
class EfficientTokens(Projected):
    """4 N C²; the context softmax(k)^T v: N C d; softmax(q) times it: N C d."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.heads(x)
        return self.out(merge(q.softmax(-1) @ (k.softmax(-2).mT @ v)))


@case("efficient attention", "map, a loop over heads", MAP, macs=EFFICIENT, params="4*(C**2 + C)")
class EfficientMap(nn.Module):
    """Four 1x1 convolutions: 4 N C²; in each of h heads (d, N) x (N, d) and (d, d) x (d, N): 2 N d² h = 2 N C d."""

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.h = s.h
        self.q, self.k, self.v, self.out = (nn.Conv2d(s.C, s.C, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        parts = []
        triples = zip(*(layer(x).flatten(2).chunk(self.h, 1) for layer in (self.q, self.k, self.v)), strict=True)
        for q, k, v in triples:
            context = k.softmax(2) @ v.transpose(1, 2)
            parts.append(context.transpose(1, 2) @ q.softmax(1))
        return self.out(torch.cat(parts, 1).view_as(x)) + x


@case("random features (Performer)", "einsum", TOKENS, macs="B * (4*N*C**2 + 4*N*C*m + N*h*m)", params="4*C**2")
class RandomFeatures(Projected):
    """4 N C²; q and k to m features of each head: 2 N C m; k'^T v and q' times it: 2 N C m; q' times the sum of k'
    over m features in h heads: N h m. The projection (m, d) is a buffer."""

    def __init__(self, s: Sizes) -> None:
        super().__init__(s)
        self.register_buffer("features", torch.randn(s.m, s.d))

    def kernel(self, x: Tensor) -> Tensor:
        x = x * x.shape[-1] ** -0.25
        projected = torch.einsum("bhnd,md->bhnm", x, self.features)
        return torch.exp(projected - x.square().sum(-1, keepdim=True) / 2) + 1e-4

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.heads(x)
        q, k = self.kernel(q), self.kernel(k)
        weight = 1 / torch.einsum("bhnm,bhm->bhn", q, k.sum(2))
        state = torch.einsum("bhnm,bhne->bhme", k, v)
        return self.out(merge(torch.einsum("bhnm,bhme->bhne", q, state) * weight[..., None]))


LINFORMER = "B * (4*N*C**2 + 4*N*k*C)"


class Projections(Projected):
    """E and F make k tokens of N."""

    def __init__(self, s: Sizes) -> None:
        super().__init__(s)
        self.e, self.f = (nn.Parameter(torch.randn(s.N, s.k)) for _ in range(2))


@case("Linformer", "einsum", TOKENS, macs=LINFORMER, params="4*C**2 + 2*N*k", backward="2 * macs")
class LinformerByEinsum(Projections):
    """4 N C²; E and F make k tokens of N in all C channels: 2 N k C; N queries meet k keys: 2 N k C."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.heads(x)
        k, v = torch.einsum("bhnd,nk->bhkd", k, self.e), torch.einsum("bhnd,nk->bhkd", v, self.f)
        weights = torch.einsum("bhnd,bhkd->bhnk", q, k).softmax(-1)
        return self.out(merge(torch.einsum("bhnk,bhkd->bhnd", weights, v)))


@case("Linformer", "matmul with a broadcast matrix", TOKENS, macs=LINFORMER, params="4*C**2 + 2*N*k")
class LinformerByMatmul(Projections):
    """E^T (k, N) on the left of (B, h, N, d): h N k d = N k C; twice; and 2 N k C of attention."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.heads(x)
        k, v = self.e.T @ k, self.f.T @ v
        return self.out(merge((q @ k.mT).softmax(-1) @ v))


@case("Nyström attention", "pseudo-inverse by six iterations", TOKENS, params="4*C**2 + 33*h",
      macs="B * (4*N*C**2 + 4*N*m*C + m**2*C + 24*m**3*h + N*m**2*h + 33*N*C)")  # fmt: skip
class Nystrom(Projected):
    """4 N C²; m landmarks are means of tokens. q with landmarks and landmarks with k: 2 N m C; landmarks with
    themselves: m² C; six iterations of four products m x m x m in h heads: 24 m³ h; (N, m) x (m, m) in h heads:
    N m² h; (m, N) x (N, d) and (N, m) x (m, d) in h heads: 2 N m C; 33 taps at each value: 33 N C."""

    def __init__(self, s: Sizes) -> None:
        super().__init__(s)
        self.m = s.m
        self.conv = nn.Conv2d(s.h, s.h, (33, 1), padding=(16, 0), groups=s.h, bias=False)

    def landmarks(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(x, (self.m, x.shape[-1]))

    def inverse(self, a: Tensor) -> Tensor:
        z = a.mT / (a.abs().sum(-1).max() * a.abs().sum(-2).max())
        eye = torch.eye(self.m, device=a.device)
        for _ in range(6):
            az = a @ z
            z = z @ (13 * eye - az @ (15 * eye - az @ (7 * eye - az))) / 4
        return z

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.heads(x)
        ql, kl = self.landmarks(q), self.landmarks(k)
        left, middle, right = ((one @ other.mT).softmax(-1) for one, other in ((q, kl), (ql, kl), (ql, k)))
        return self.out(merge((left @ self.inverse(middle)) @ (right @ v) + self.conv(v)))


EXTERNAL = "B * 2*N*C*S"


@case("external attention", "two Linear", TOKENS, macs=EXTERNAL, params="2*C*S", backward="2 * macs + B*N*S")
class ExternalByLinear(nn.Module):
    """A memory of S keys, Linear(C, S), and of S values, Linear(S, C), at N tokens: 2 N C S.

    Backward: two gradients for each; and the gradient of a denominator sums over the S weights it divided: N S more.
    """

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.keys, self.values = nn.Linear(s.C, s.S, bias=False), nn.Linear(s.S, s.C, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.keys(x).softmax(1)
        return self.values(weights / weights.sum(-1, keepdim=True))


@case("external attention", "conv1d", TOKENS, macs=EXTERNAL, params="2*C*S")
class ExternalByConvolution(nn.Module):
    """The two memories as convolutions with a filter of one token: 2 N C S."""

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.keys, self.values = nn.Conv1d(s.C, s.S, 1, bias=False), nn.Conv1d(s.S, s.C, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.keys(x.transpose(1, 2)).softmax(2)
        return self.values(weights / weights.sum(1, keepdim=True)).transpose(1, 2)


@case("double attention (A²)", "bmm", MAP, macs="B * (N*C*4*m + 2*N*m*m)", params="3*(C*m + m) + m*C + C",
      backward="2 * macs")  # fmt: skip
class DoubleAttention(nn.Module):
    """A, B, V: three 1x1 convolutions C -> m, and one back: 4 N C m; gather A B^T: (m, N) x (N, m), N m²;
    distribute: (m, m) x (m, N), N m²."""

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.a, self.b, self.v = (nn.Conv2d(s.C, s.m, 1) for _ in range(3))
        self.out = nn.Conv2d(s.m, s.C, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b, v = (layer(x).flatten(2) for layer in (self.a, self.b, self.v))
        gathered = torch.bmm(a, b.softmax(2).transpose(1, 2))
        return self.out(torch.bmm(gathered, v.softmax(1)).unflatten(2, x.shape[2:]))


@case("cross-covariance attention (XCA)", "matmul", TOKENS, macs="B * (4*N*C**2 + 2*N*C*d)", params="4*C**2 + h")
class CrossCovariance(Projected):
    """4 N C²; the map is d x d: (d, N) x (N, d) in h heads, N C d, and (d, d) x (d, N), N C d."""

    def __init__(self, s: Sizes) -> None:
        super().__init__(s)
        self.temperature = nn.Parameter(torch.ones(s.h, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (each.mT for each in self.heads(x))
        scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT * self.temperature
        return self.out(merge((scores.softmax(-1) @ v).mT))
