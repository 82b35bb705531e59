"""Modules as blog posts have them: the signatures that people really paste into a file of their own."""

import numpy as np
import torch
from torch import Tensor, nn


class SelfAttn(nn.Module):
    """SAGAN's layer as it is copied around: it returns the map too, and an argument is never used."""

    def __init__(self, in_dim, activation):
        super().__init__()
        self.chanel_in = in_dim
        self.activation = activation
        self.query_conv = nn.Conv2d(in_channels=in_dim, out_channels=in_dim // 8, kernel_size=1)
        self.key_conv = nn.Conv2d(in_channels=in_dim, out_channels=in_dim // 8, kernel_size=1)
        self.value_conv = nn.Conv2d(in_channels=in_dim, out_channels=in_dim, kernel_size=1)
        self.gamma = nn.Parameter(torch.zeros(1))
        self.softmax = nn.Softmax(dim=-1)

    def forward(self, x: Tensor):
        batch, channels, width, height = x.size()
        query = self.query_conv(x).view(batch, -1, width * height).permute(0, 2, 1)
        attention = self.softmax(torch.bmm(query, self.key_conv(x).view(batch, -1, width * height)))
        out = torch.bmm(self.value_conv(x).view(batch, -1, width * height), attention.permute(0, 2, 1))
        return self.gamma * out.view(batch, channels, width, height) + x, attention


class ScaledDotProductAttention(nn.Module):
    """Wants queries, keys and values; `h` are its heads; numpy scales the scores."""

    def __init__(self, d_model, d_k, d_v, h, dropout=0.1):
        super().__init__()
        self.fc_q, self.fc_k = nn.Linear(d_model, h * d_k), nn.Linear(d_model, h * d_k)
        self.fc_v, self.fc_o = nn.Linear(d_model, h * d_v), nn.Linear(h * d_v, d_model)
        self.dropout = nn.Dropout(dropout)
        self.d_k, self.d_v, self.h = d_k, d_v, h

    def forward(self, queries, keys, values, attention_mask=None, attention_weights=None):
        b_s, nq = queries.shape[:2]
        nk = keys.shape[1]
        q = self.fc_q(queries).view(b_s, nq, self.h, self.d_k).permute(0, 2, 1, 3)
        k = self.fc_k(keys).view(b_s, nk, self.h, self.d_k).permute(0, 2, 3, 1)
        v = self.fc_v(values).view(b_s, nk, self.h, self.d_v).permute(0, 2, 1, 3)
        att = torch.matmul(q, k) / np.sqrt(self.d_k)
        if attention_mask is not None:
            att = att.masked_fill(attention_mask, -np.inf)
        att = self.dropout(torch.softmax(att, -1))
        out = torch.matmul(att, v).permute(0, 2, 1, 3).contiguous().view(b_s, nq, self.h * self.d_v)
        return self.fc_o(out)


class FixedLength(nn.Module):
    """(B, N, C) with a table for N = 49 positions, which is the default and not the input's length."""

    def __init__(self, d_model, n=49, simple=False):
        super().__init__()
        self.fc_q, self.fc_k, self.fc_v = (nn.Linear(d_model, d_model) for _ in range(3))
        self.position_biases = torch.zeros((n, n)) if simple else nn.Parameter(torch.ones((n, n)))

    def forward(self, x: Tensor):
        bs, n, dim = x.shape
        k, v = self.fc_k(x).view(1, bs, n, dim), self.fc_v(x).view(1, bs, n, dim)
        weights = torch.exp(k + self.position_biases.view(n, 1, -1, 1))
        return torch.sigmoid(self.fc_q(x)) * (torch.sum(weights * v, 2) / torch.sum(weights, 2)).permute(1, 0, 2)


class PooledHeads(nn.Module):
    """`h` heads beside the sides `H` and `W` of a map that the tokens are folded into."""

    def __init__(self, d_model, d_k, d_v, h, H=7, W=7, ratio=3):
        super().__init__()
        self.H, self.W, self.h, self.d_k, self.d_v = H, W, h, d_k, d_v
        self.fc_q, self.fc_k = nn.Linear(d_model, h * d_k), nn.Linear(d_model, h * d_k)
        self.fc_v, self.fc_o = nn.Linear(d_model, h * d_v), nn.Linear(h * d_v, d_model)
        self.pool = nn.Conv2d(d_model, d_model, ratio, stride=ratio, padding=ratio // 2, groups=d_model)

    def forward(self, queries, keys, values):
        b, n, c = queries.shape
        pooled = self.pool(keys.transpose(1, 2).reshape(b, c, self.H, self.W)).flatten(2).transpose(1, 2)
        q = self.fc_q(queries).view(b, n, self.h, self.d_k).transpose(1, 2)
        k = self.fc_k(pooled).view(b, -1, self.h, self.d_k).permute(0, 2, 3, 1)
        v = self.fc_v(pooled).view(b, -1, self.h, self.d_v).transpose(1, 2)
        out = (torch.softmax(q @ k / self.d_k**0.5, -1) @ v).transpose(1, 2).reshape(b, n, -1)
        return self.fc_o(out)
