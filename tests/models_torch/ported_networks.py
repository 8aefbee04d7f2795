"""Torch modules of the kinds that people have, for the tests to port."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

LENGTHS = torch.tensor([4, 6, 2])


class LSTMModel(nn.Module):
    """The forecaster that people write first."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 7, num_layers=2, batch_first=True, dropout=0.2)
        self.fc = nn.Linear(7, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h0 = torch.zeros(2, x.size(0), 7, device=x.device)
        c0 = torch.zeros(2, x.size(0), 7).to(x.device)
        out, _ = self.lstm(x, (h0, c0))
        return self.fc(F.dropout(out[:, -1, :], 0.3, self.training))


class Translator(nn.Module):
    """Encoder, attention and a decoder cell over a fixed horizon."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 6, padding_idx=0)
        self.encoder = nn.LSTM(6, 5, bidirectional=True, batch_first=True)
        self.decoder = nn.LSTMCell(11, 10)
        self.score = nn.Linear(20, 1, bias=False)  # softmax takes a bias away again
        self.head = nn.Linear(10, 1)
        self.horizon = 3

    def forward(self, source: Any, mask: Any, y: Any) -> Any:
        encoded, (h, c) = self.encoder(self.embedding(source))
        h, c = torch.cat([h[0], h[1]], -1), torch.cat((c[0], c[1]), dim=-1)
        outputs = []
        for _ in range(self.horizon):
            query = h.unsqueeze(1).expand(-1, encoded.size(1), -1)
            scores = self.score(torch.cat([encoded, query], -1)).squeeze(-1)
            weights = F.softmax(scores.masked_fill(mask == 0, -1e9), dim=1)
            context = torch.bmm(weights.unsqueeze(1), encoded).squeeze(1)
            h, c = self.decoder(torch.cat([context, y], 1), (h, c))
            y = self.head(h)
            outputs.append(y)
        return torch.stack(outputs, 1), weights


class Classifier(nn.Module):
    """Embeddings, packing, a GRU, masked pooling and a head in a Sequential."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 6)
        self.rnn = nn.GRU(6, 5, 2, bidirectional=True, batch_first=True, dropout=0.2)
        self.norm = nn.LayerNorm(10)
        self.head = nn.Sequential(
            nn.Linear(10, 8), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(8, 4)
        )

    def forward(self, tokens: Any, lengths: Any) -> Any:
        packed = pack_padded_sequence(
            self.embedding(tokens), lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        output, h = self.rnn(packed)
        output, sizes = pad_packed_sequence(output, batch_first=True)
        steps = torch.arange(output.size(1), device=output.device)
        mask = (steps[None, :] < sizes[:, None]).unsqueeze(-1)
        pooled = (output * mask).sum(1) / sizes.clamp(min=1).unsqueeze(1).float()
        return F.log_softmax(self.head(self.norm(pooled + torch.cat([h[-2], h[-1]], 1))), -1)


class ConvRecurrent(nn.Module):
    """Convolution, batch norm and pooling before an LSTM with learned states; several outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm1d(8)
        self.pool = nn.MaxPool1d(2)
        self.lstm = nn.LSTM(8, 5, batch_first=True)
        self.h0 = nn.Parameter(torch.randn(1, 1, 5))
        self.register_buffer("scale", torch.tensor(2.0))
        self.register_buffer("ramp", torch.arange(3.0), persistent=False)
        self.factors = torch.tensor([1.0, 2.0, 3.0])

    def forward(self, x: Any) -> Any:
        N, _, _ = x.shape
        z = F.relu(self.bn(self.conv(x.transpose(1, 2) * self.factors[:, None])))
        z = self.pool(z).permute(0, 2, 1).contiguous()
        c0 = torch.zeros_like(self.h0).repeat(1, N, 1)
        y, _ = self.lstm(z, (self.h0.expand(1, N, -1).contiguous(), c0))
        return {
            "mean": y.mean(dim=1) * self.scale,
            "rest": (y.max(dim=1)[0] + self.ramp.sum(), y.reshape(N, -1)[:, :4]),
        }


class TwoInputs(nn.Module):
    """A series and static features in, a forecast and its spread out."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(3, 6, nonlinearity="relu", batch_first=True)
        self.static = nn.Bilinear(6, 2, 5)
        self.heads = nn.ModuleDict({"mean": nn.Linear(5, 1), "spread": nn.Linear(5, 1)})

    def forward(self, series: Any, features: Any, scale: float = 0.5) -> Any:
        _, h = self.rnn(series)
        joint = torch.tanh(self.static(h[-1], features)) * scale
        return self.heads["mean"](joint), F.softplus(self.heads["spread"](joint))


class Tied(nn.Module):
    """A language model whose output layer is its embedding, with residual blocks in lists."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 6)
        self.lstm = nn.LSTM(6, 6)
        self.decoder = nn.Linear(6, 11)
        self.decoder.weight = self.embedding.weight
        self.gains = nn.ParameterList([nn.Parameter(torch.randn(6)) for _ in range(2)])
        self.blocks = nn.ModuleList([nn.Linear(6, 6) for _ in range(2)])
        self.act = nn.GELU()

    def forward(self, tokens: Any, state: Any = None) -> Any:
        y, state = self.lstm(self.embedding(tokens), state)
        for block, gain in zip(self.blocks, self.gains, strict=True):
            y = self.act(block(y)) * gain + y
        return self.decoder(y), state


class InPlace(nn.Module):
    """Tensors changed in place, whose later uses see the change; numbers that are not."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, x: Any) -> Any:
        y = self.fc(x)
        y += x
        y.mul_(2)
        y[:, 0] = 1.5
        y[:, 1:] *= 2
        n = x.size(0)
        m = n
        m += 1
        return F.relu_(y) * m, x * n


class Attending(nn.Module):
    """Self-attention over a recurrent layer's outputs, with a padding mask."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 8, batch_first=True)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)

    def forward(self, x: Any, padding: Any) -> Any:
        y, _ = self.lstm(x)
        attended, weights = self.attention(y, y, y, key_padding_mask=padding)
        return self.norm(y + attended), weights


class Branching(nn.Module):
    """Control flow that depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 3)
        self.lstm = nn.LSTM(3, 3)

    def forward(self, x: Any) -> Any:
        y = self.fc(x)
        if y.sum() > 0:
            y = -y
        return y


class AroundBranching(nn.Module):
    """A module that cannot be ported between others that can."""

    def __init__(self) -> None:
        super().__init__()
        self.branching = Branching()
        self.good = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
        self.weight = nn.Parameter(torch.ones(2))

    def forward(self, x: Any) -> Any:
        return self.good(self.branching(x))


class Spectral(nn.Module):
    """A function that no operation stands for."""

    def forward(self, x: Any) -> Any:
        return torch.fft.fft(x)


class Shared(nn.Module):
    """A view changed in place: its base changes too."""

    def forward(self, x: Any) -> Any:
        y = x * 2
        z = y[:, 0]
        z += 1
        return y + y[:, 1:2] * z[:, None]


class Noisy(nn.Module):
    """Other lines while training."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, x: Any) -> Any:
        if self.training:
            x = x + torch.randn_like(x)
        return self.fc(x)


def mask_of(N: int = 3, L: int = 5) -> torch.Tensor:
    """Return a padding mask with rows of different length."""
    return (torch.arange(L)[None] < torch.tensor([3, 5, 2])[:N, None]).long()


def draws(name: str) -> Any:
    """Return the function that draws a network's inputs."""

    def draw(seed: int) -> tuple[Any, ...]:
        g = torch.Generator().manual_seed(seed)

        def randn(*size: int) -> torch.Tensor:
            return torch.randn(*size, generator=g)

        def tokens(high: int, *size: int) -> torch.Tensor:
            return torch.randint(1, high, size, generator=g)

        made: dict[str, Any] = {
            "LSTMModel": lambda: (randn(4, 6, 3),),
            "Translator": lambda: (tokens(20, 3, 5), mask_of(), randn(3, 1)),
            "Classifier": lambda: (tokens(20, 3, 6), LENGTHS),
            "ConvRecurrent": lambda: (randn(2, 8, 3),),
            "TwoInputs": lambda: (randn(4, 5, 3), randn(4, 2)),
            "Tied": lambda: (tokens(11, 5, 2),),
            "InPlace": lambda: (randn(4, 3),),
            "Attending": lambda: (randn(3, 5, 4), mask_of() == 0),
        }
        return made[name]()

    return draw


NETWORKS: dict[str, Any] = {
    cls.__name__: cls
    for cls in (
        LSTMModel, Translator, Classifier, ConvRecurrent, TwoInputs, Tied, InPlace, Attending,
    )
}  # fmt: skip
