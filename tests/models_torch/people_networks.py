"""Torch modules in the many ways in which people write the models that LSTMs live in.

Each class has ``draw(rng, N, L)``: its inputs for a batch of N and a length of L; it may have
``example``, for ``port``, and ``draws``, how many inputs to draw. The style is
theirs, not this repository's.
"""
# ruff: noqa: A001, A002, B007, B009, B905, C408, C416, E501, RUF007, RUF059
# ruff: noqa: UP032, UP045

from __future__ import annotations

import math
import random
from collections import OrderedDict, namedtuple
from typing import Any, NamedTuple, Optional

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Variable
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

Forecast = namedtuple("Forecast", ["mean", "scale"])


class Drawer:
    """Random inputs."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def randn(self, *size: int) -> Tensor:
        return torch.randn(*size, generator=self.generator)

    def tokens(self, high: int, *size: int) -> Tensor:
        return torch.randint(1, high, size, generator=self.generator)

    def lengths(self, N: int, L: int) -> Tensor:
        found = torch.randint(1, L + 1, (N,), generator=self.generator)
        found[N // 2] = L
        return found


def series(width: int) -> Any:
    return staticmethod(lambda rng, N, L: (rng.randn(N, L, width),))


def words(high: int, batch_first: bool = True) -> Any:
    return staticmethod(lambda rng, N, L: (rng.tokens(high, *((N, L) if batch_first else (L, N))),))


NETWORKS: dict[str, Any] = {}


def network(cls: Any) -> Any:
    NETWORKS[cls.__name__] = cls
    return cls


@network
class RNNModel(nn.Module):
    """The language model of torch's own examples."""

    draw = staticmethod(
        lambda rng, N, L: (rng.tokens(11, L, N), (rng.randn(2, N, 6), rng.randn(2, N, 6)))
    )

    def __init__(self, ntoken=11, ninp=6, nhid=6, nlayers=2, dropout=0.5, tie_weights=True):
        super().__init__()
        self.ntoken = ntoken
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.Embedding(ntoken, ninp)
        self.rnn = getattr(nn, "LSTM")(ninp, nhid, nlayers, dropout=dropout)
        self.decoder = nn.Linear(nhid, ntoken)
        if tie_weights:
            self.decoder.weight = self.encoder.weight
        self.nhid, self.nlayers = nhid, nlayers

    def forward(self, input, hidden):
        emb = self.drop(self.encoder(input))
        output, hidden = self.rnn(emb, hidden)
        output = self.drop(output)
        decoded = self.decoder(output)
        decoded = decoded.view(-1, self.ntoken)
        return F.log_softmax(decoded, dim=1), hidden


@network
class OwnHidden(nn.Module):
    """``init_hidden`` from the first parameter's type, called in forward."""

    draw = words(11, batch_first=False)

    def __init__(self):
        super().__init__()
        self.encoder = nn.Embedding(11, 4)
        self.rnn = nn.LSTM(4, 5, 2)
        self.nhid, self.nlayers = 5, 2

    def init_hidden(self, bsz):
        weight = next(self.parameters())
        return (
            weight.new_zeros(self.nlayers, bsz, self.nhid),
            weight.new(self.nlayers, bsz, self.nhid).zero_(),
        )

    def forward(self, tokens, hidden=None):
        if hidden is None:
            hidden = self.init_hidden(tokens.size(1))
        out, hidden = self.rnn(self.encoder(tokens), hidden)
        return out[-1], hidden[0]


@network
class OldVariable(nn.Module):
    """Code from before torch 0.4."""

    draw = series(3)

    def __init__(self):
        super().__init__()
        self.hidden_size, self.num_layers = 5, 2
        self.lstm = nn.LSTM(3, 5, 2, batch_first=True)
        self.fc = nn.Linear(5, 2)

    def forward(self, x):
        h_0 = Variable(torch.zeros(self.num_layers, x.size(0), self.hidden_size))
        c_0 = torch.autograd.Variable(torch.zeros(self.num_layers, x.size(0), self.hidden_size))
        if torch.cuda.is_available() and x.is_cuda:
            h_0 = h_0.cuda()
        _, (h_out, _) = self.lstm(x, (h_0, c_0))
        h_out = h_out.view(-1, self.hidden_size)[-x.size(0) :]
        return self.fc(h_out)


@network
class StockLSTM(nn.Module):
    """Zeros on the input's device with gradients asked for, detached."""

    draw = series(3)

    def __init__(self):
        super().__init__()
        self.hidden_dim, self.num_layers = 5, 2
        self.lstm = nn.LSTM(3, 5, 2, batch_first=True)
        self.fc = nn.Linear(5, 1)

    def forward(self, x):
        h0 = torch.zeros(self.num_layers, x.size(0), self.hidden_dim).requires_grad_()
        c0 = torch.zeros(self.num_layers, x.size(0), self.hidden_dim).requires_grad_()
        out, (hn, cn) = self.lstm(x, (h0.detach(), c0.detach()))
        return self.fc(out[:, -1, :])


@network
class SineSequence(nn.Module):
    """torch's time_sequence_prediction: cells over ``input.split``."""

    draw = staticmethod(lambda rng, N, L: (rng.randn(N, L),))

    def __init__(self):
        super().__init__()
        self.lstm1 = nn.LSTMCell(1, 5)
        self.lstm2 = nn.LSTMCell(5, 4)
        self.linear = nn.Linear(4, 1)

    def forward(self, input, future=3):
        outputs = []
        h_t = torch.zeros(input.size(0), 5, dtype=input.dtype)
        c_t = torch.zeros(input.size(0), 5, dtype=input.dtype)
        h_t2 = torch.zeros(input.size(0), 4, dtype=input.dtype)
        c_t2 = torch.zeros(input.size(0), 4, dtype=input.dtype)
        for input_t in input.split(1, dim=1):
            h_t, c_t = self.lstm1(input_t, (h_t, c_t))
            h_t2, c_t2 = self.lstm2(h_t, (h_t2, c_t2))
            output = self.linear(h_t2)
            outputs += [output]
        for i in range(future):
            h_t, c_t = self.lstm1(output, (h_t, c_t))
            h_t2, c_t2 = self.lstm2(h_t, (h_t2, c_t2))
            output = self.linear(h_t2)
            outputs += [output]
        return torch.cat(outputs, dim=1)


@network
class CellLoop(nn.Module):
    """A cell over ``range(x.size(1))``, outputs written in place."""

    draw = series(3)

    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(3, 5)
        self.out = nn.Linear(5, 2)

    def forward(self, x):
        batch, seq_len, _ = x.size()
        h = x.new_zeros(batch, 5)
        result = torch.zeros(batch, seq_len, 2, device=x.device)
        for t in range(seq_len):
            h = self.cell(x[:, t, :], h)
            result[:, t] = self.out(h)
        return result, h


@network
class BackwardLoop(nn.Module):
    """Both directions by hand."""

    draw = series(3)

    def __init__(self):
        super().__init__()
        self.forward_cell = nn.LSTMCell(3, 4)
        self.backward_cell = nn.LSTMCell(3, 4)

    def forward(self, x):
        x = x.transpose(0, 1)
        state = None
        ahead, back = [], []
        for step in x:
            state = self.forward_cell(step, state)
            ahead.append(state[0])
        h = torch.zeros(x.size(1), 4)
        c = torch.zeros_like(h)
        for t in reversed(range(x.size(0))):
            h, c = self.backward_cell(x[t], (h, c))
            back.insert(0, h)
        return torch.cat([torch.stack(ahead), torch.stack(back)], dim=-1)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(12, 6)
        self.dropout = nn.Dropout(0.3)
        self.rnn = nn.GRU(6, 5, bidirectional=True)
        self.fc = nn.Linear(10, 5)

    def forward(self, src, src_len):
        embedded = self.dropout(self.embedding(src))
        packed = pack_padded_sequence(embedded, src_len.to("cpu"), enforce_sorted=False)
        packed_outputs, hidden = self.rnn(packed)
        outputs, _ = pad_packed_sequence(packed_outputs)
        hidden = torch.tanh(self.fc(torch.cat((hidden[-2, :, :], hidden[-1, :, :]), dim=1)))
        return outputs, hidden


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = nn.Linear(15, 5)
        self.v = nn.Linear(5, 1, bias=False)

    def forward(self, hidden, encoder_outputs, mask):
        src_len = encoder_outputs.shape[0]
        hidden = hidden.unsqueeze(1).repeat(1, src_len, 1)
        encoder_outputs = encoder_outputs.permute(1, 0, 2)
        energy = torch.tanh(self.attn(torch.cat((hidden, encoder_outputs), dim=2)))
        attention = self.v(energy).squeeze(2)
        attention = attention.masked_fill(mask == 0, -1e10)
        return F.softmax(attention, dim=1)


class Decoder(nn.Module):
    def __init__(self, attention):
        super().__init__()
        self.output_dim = 12
        self.attention = attention
        self.embedding = nn.Embedding(12, 6)
        self.rnn = nn.GRU(16, 5)
        self.fc_out = nn.Linear(21, 12)

    def forward(self, input, hidden, encoder_outputs, mask):
        input = input.unsqueeze(0)
        embedded = self.embedding(input)
        a = self.attention(hidden, encoder_outputs, mask).unsqueeze(1)
        weighted = torch.bmm(a, encoder_outputs.permute(1, 0, 2)).permute(1, 0, 2)
        output, hidden = self.rnn(torch.cat((embedded, weighted), dim=2), hidden.unsqueeze(0))
        embedded, output, weighted = embedded.squeeze(0), output.squeeze(0), weighted.squeeze(0)
        prediction = self.fc_out(torch.cat((output, weighted, embedded), dim=1))
        return prediction, hidden.squeeze(0), a.squeeze(1)


@network
class Seq2Seq(nn.Module):
    """Encoder, attention and a decoder that is taught by the target or by itself."""

    example = {"teacher_forcing_ratio": 0}  # noqa: RUF012
    draws = 3  # of up to 8 steps: over more, one rounding decides whose error is the larger

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = Encoder(), Decoder(Attention())
        self.src_pad_idx = 0

    @staticmethod
    def draw(rng, N, L):
        lengths = rng.lengths(N, L)
        src = rng.tokens(12, L, N)
        src[torch.arange(L)[:, None] >= lengths[None]] = 0
        return src, lengths, rng.tokens(12, L + 1, N)

    def create_mask(self, src):
        return (src != self.src_pad_idx).permute(1, 0)

    def forward(self, src, src_len, trg, teacher_forcing_ratio=0.5):
        batch_size = src.shape[1]
        trg_len = trg.shape[0]
        outputs = torch.zeros(trg_len, batch_size, self.decoder.output_dim)
        encoder_outputs, hidden = self.encoder(src, src_len)
        input = trg[0, :]
        mask = self.create_mask(src)
        for t in range(1, trg_len):
            output, hidden, _ = self.decoder(input, hidden, encoder_outputs, mask)
            outputs[t] = output
            teacher_force = random.random() < teacher_forcing_ratio
            top1 = output.argmax(1)
            input = trg[t] if teacher_force else top1
        return outputs


@network
class Taught(Seq2Seq):
    example = {"teacher_forcing_ratio": 1.0}  # noqa: RUF012
    draws = 6


@network
class EmissionCRF(nn.Module):
    """BiLSTM emissions and the CRF's forward algorithm over the length."""

    @staticmethod
    def draw(rng, N, L):
        return rng.tokens(9, L, N), torch.ones(L, N)

    def __init__(self):
        super().__init__()
        self.embeds = nn.Embedding(9, 4)
        self.lstm = nn.LSTM(4, 3, num_layers=1, bidirectional=True)
        self.hidden2tag = nn.Linear(6, 4)
        self.transitions = nn.Parameter(torch.randn(4, 4))

    def forward(self, sentence, mask):
        feats = self.hidden2tag(self.lstm(self.embeds(sentence))[0])
        score = feats[0]
        for i in range(1, feats.size(0)):
            next_score = score.unsqueeze(2) + self.transitions + feats[i].unsqueeze(1)
            next_score = torch.logsumexp(next_score, dim=1)
            score = torch.where(mask[i].unsqueeze(1) > 0, next_score, score)
        return torch.logsumexp(score, dim=1), feats


@network
class PackedClassifier(nn.Module):
    """Sorted by hand before packing."""

    @staticmethod
    def draw(rng, N, L):
        return rng.tokens(9, N, L), rng.lengths(N, L)

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(9, 4, padding_idx=0)
        self.lstm = nn.LSTM(4, 5, 2, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(10, 3)

    def forward(self, text, lengths):
        lengths, perm = lengths.sort(0, descending=True)
        embedded = self.embedding(text[perm])
        packed = pack_padded_sequence(embedded, lengths.cpu(), batch_first=True)
        out, (hidden, cell) = self.lstm(packed)
        hidden = torch.cat((hidden[-2], hidden[-1]), dim=1)
        _, unperm = perm.sort(0)
        padded, out_lengths = pad_packed_sequence(out, batch_first=True, total_length=text.size(1))
        return self.fc(hidden)[unperm], padded.max(1).values[unperm], out_lengths


@network
class CNNLSTM(nn.Module):
    """Frames through a CNN, then an LSTM: time folded into the batch."""

    draw = staticmethod(lambda rng, N, L: (rng.randn(N, L, 1, 8, 6),))

    def __init__(self):
        super().__init__()
        self.cnn = nn.Sequential(
            OrderedDict(
                [
                    ("conv", nn.Conv2d(1, 4, kernel_size=3, padding=1)),
                    ("bn", nn.BatchNorm2d(4)),
                    ("relu", nn.ReLU(inplace=True)),
                    ("pool", nn.MaxPool2d(2)),
                    ("adapt", nn.AdaptiveAvgPool2d((2, 2))),
                ]
            )
        )
        self.rnn = nn.LSTM(16, 5, batch_first=True)
        self.linear = nn.Linear(5, 2)

    def forward(self, x):
        batch_size, timesteps, C, H, W = x.size()
        c_in = x.view(batch_size * timesteps, C, H, W)
        c_out = self.cnn(c_in)
        r_in = c_out.view(batch_size, timesteps, -1)
        r_out, (h_n, h_c) = self.rnn(r_in)
        return F.log_softmax(self.linear(r_out[:, -1, :]), dim=1)


class ConvLSTMCell(nn.Module):
    def __init__(self, input_dim, hidden_dim, kernel_size, bias):
        super().__init__()
        self.hidden_dim = hidden_dim
        padding = kernel_size[0] // 2, kernel_size[1] // 2
        self.conv = nn.Conv2d(
            in_channels=input_dim + hidden_dim,
            out_channels=4 * hidden_dim,
            kernel_size=kernel_size,
            padding=padding,
            bias=bias,
        )

    def forward(self, input_tensor, cur_state):
        h_cur, c_cur = cur_state
        combined = torch.cat([input_tensor, h_cur], dim=1)
        combined_conv = self.conv(combined)
        cc_i, cc_f, cc_o, cc_g = torch.split(combined_conv, self.hidden_dim, dim=1)
        i, f, o = torch.sigmoid(cc_i), torch.sigmoid(cc_f), torch.sigmoid(cc_o)
        g = torch.tanh(cc_g)
        c_next = f * c_cur + i * g
        h_next = o * torch.tanh(c_next)
        return h_next, c_next

    def init_hidden(self, batch_size, image_size):
        height, width = image_size
        return (
            torch.zeros(batch_size, self.hidden_dim, height, width, device=self.conv.weight.device),
            torch.zeros(batch_size, self.hidden_dim, height, width, device=self.conv.weight.device),
        )


@network
class ConvLSTM(nn.Module):
    """The ConvLSTM that people copy: lists of cells, a loop over time in a loop over layers."""

    draw = staticmethod(lambda rng, N, L: (rng.randn(N, L, 2, 4, 3),))

    def __init__(self):
        super().__init__()
        self.num_layers, self.batch_first, self.return_all_layers = 2, True, False
        self.cell_list = nn.ModuleList(
            [ConvLSTMCell(2, 3, (3, 3), True), ConvLSTMCell(3, 3, (3, 3), True)]
        )

    def forward(self, input_tensor, hidden_state=None):
        if not self.batch_first:
            input_tensor = input_tensor.permute(1, 0, 2, 3, 4)
        b, _, _, h, w = input_tensor.size()
        if hidden_state is not None:
            raise NotImplementedError()
        hidden_state = self._init_hidden(batch_size=b, image_size=(h, w))
        layer_output_list, last_state_list = [], []
        seq_len = input_tensor.size(1)
        cur_layer_input = input_tensor
        for layer_idx in range(self.num_layers):
            h, c = hidden_state[layer_idx]
            output_inner = []
            for t in range(seq_len):
                h, c = self.cell_list[layer_idx](
                    input_tensor=cur_layer_input[:, t, :, :, :], cur_state=[h, c]
                )
                output_inner.append(h)
            layer_output = torch.stack(output_inner, dim=1)
            cur_layer_input = layer_output
            layer_output_list.append(layer_output)
            last_state_list.append([h, c])
        if not self.return_all_layers:
            layer_output_list = layer_output_list[-1:]
            last_state_list = last_state_list[-1:]
        return layer_output_list, last_state_list

    def _init_hidden(self, batch_size, image_size):
        return [cell.init_hidden(batch_size, image_size) for cell in self.cell_list]


@network
class TacotronStep(nn.Module):
    """One step of a decoder with location-sensitive attention and a prenet."""

    @staticmethod
    def draw(rng, N, L):
        return (
            rng.randn(N, 4),
            (rng.randn(N, 6), rng.randn(N, 6)),
            rng.randn(N, L, 5),
            F.softmax(rng.randn(N, L), -1),
            torch.arange(L)[None] >= rng.lengths(N, L)[:, None],
        )

    def __init__(self):
        super().__init__()
        self.prenet = nn.ModuleList([nn.Linear(4, 6, bias=False), nn.Linear(6, 6, bias=False)])
        self.attention_rnn = nn.LSTMCell(11, 6)
        self.query = nn.Linear(6, 7, bias=False)
        self.memory = nn.Linear(5, 7, bias=False)
        self.location_conv = nn.Conv1d(1, 3, 5, padding=2, bias=False)
        self.location = nn.Linear(3, 7, bias=False)
        self.v = nn.Linear(7, 1, bias=False)
        self.projection = nn.Linear(11, 4)
        self.gate = nn.Linear(11, 1)
        self.p = 0.5
        self.score_mask_value = -float("inf")

    def forward(self, frame, state, memory, weights, mask):
        x = frame
        for linear in self.prenet:
            x = F.dropout(F.relu(linear(x)), p=self.p, training=self.training)
        context = torch.bmm(weights.unsqueeze(1), memory).squeeze(1)
        h, c = self.attention_rnn(torch.cat((x, context), -1), state)
        h = F.dropout(h, self.p, self.training)
        location = self.location(self.location_conv(weights.unsqueeze(1)).transpose(1, 2))
        energies = self.v(torch.tanh(self.query(h.unsqueeze(1)) + self.memory(memory) + location))
        energies = energies.squeeze(-1)
        energies.data.masked_fill_(mask, self.score_mask_value)
        weights = F.softmax(energies, dim=1)
        context = torch.bmm(weights.unsqueeze(1), memory).squeeze(1)
        both = torch.cat((h, context), 1)
        return self.projection(both), self.gate(both), (h, c), weights


@network
class DeepAR(nn.Module):
    """Mean and spread from all layers' last states, and a forecast window."""

    @staticmethod
    def draw(rng, N, L):
        return rng.randn(L, N, 3), rng.tokens(5, N), rng.randn(2, N, 6), rng.randn(2, N, 6)

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.lstm = nn.LSTM(7, 6, num_layers=2, bias=True, batch_first=False, dropout=0.1)
        for names in self.lstm._all_weights:
            for name in filter(lambda n: "bias" in n, names):
                bias = getattr(self.lstm, name)
                n = bias.size(0)
                bias.data[n // 4 : n // 2].fill_(1.0)
        self.distribution_mu = nn.Linear(12, 1)
        self.distribution_presigma = nn.Linear(12, 1)
        self.distribution_sigma = nn.Softplus()

    def forward(self, x, idx, hidden, cell):
        onehot_embed = self.embedding(idx.unsqueeze(0)).expand(x.size(0), -1, -1)
        lstm_input = torch.cat((x, onehot_embed), dim=2)
        output, (hidden, cell) = self.lstm(lstm_input, (hidden, cell))
        hidden_permute = hidden.permute(1, 2, 0).contiguous().view(hidden.shape[1], -1)
        pre_sigma = self.distribution_presigma(hidden_permute)
        mu = self.distribution_mu(hidden_permute)
        sigma = self.distribution_sigma(pre_sigma)
        return torch.squeeze(mu), torch.squeeze(sigma), hidden, cell


class GLU(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(size, size), nn.Linear(size, size)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x):
        return torch.mul(self.sigmoid(self.linear1(x)), self.linear2(x))


class GRN(nn.Module):
    """Gated residual network with an optional context."""

    def __init__(self, inp, hid, out, context=None):
        super().__init__()
        self.out, self.inp, self.context = out, inp, context
        if self.inp != out:
            self.skip_layer = nn.Linear(inp, out)
        self.fc1 = nn.Linear(inp, hid)
        self.elu1 = nn.ELU()
        if context is not None:
            self.context_fc = nn.Linear(context, hid, bias=False)
        self.fc2 = nn.Linear(hid, out)
        self.gate = GLU(out)
        self.norm = nn.LayerNorm(out)

    def forward(self, x, context=None):
        residual = self.skip_layer(x) if self.inp != self.out else x
        x = self.fc1(x)
        if context is not None:
            x = x + self.context_fc(context)
        x = self.fc2(self.elu1(x))
        return self.norm(self.gate(x) + residual)


@network
class SmallTFT(nn.Module):
    """Variable selection, LSTM encoder and decoder, static enrichment, masked attention."""

    @staticmethod
    def draw(rng, N, L):
        return (
            {"past": rng.randn(N, L, 3), "future": rng.randn(N, 3, 2), "static": rng.randn(N, 2)},
        )

    def __init__(self):
        super().__init__()
        H = 6
        self.past = nn.ModuleDict({f"x{k}": nn.Linear(1, H) for k in range(3)})
        self.future = nn.Linear(2, H)
        self.select = GRN(3 * H, H, 3, context=H)
        self.static = GRN(2, H, H)
        self.encoder, self.decoder = (
            nn.LSTM(H, H, batch_first=True),
            nn.LSTM(H, H, batch_first=True),
        )
        self.enrich = GRN(H, H, H, context=H)
        self.attention = nn.MultiheadAttention(H, 2, batch_first=True)
        self.head = nn.Linear(H, 3)

    def forward(self, batch):
        static = self.static(batch["static"])
        parts = [layer(batch["past"][..., k : k + 1]) for k, layer in enumerate(self.past.values())]
        flat = torch.cat(parts, dim=-1)
        weights = self.select(flat, static.unsqueeze(1)).softmax(dim=-1).unsqueeze(2)
        past = (torch.stack(parts, dim=-1) * weights).sum(-1)
        encoded, state = self.encoder(past, (static[None], torch.zeros_like(static)[None]))
        decoded, _ = self.decoder(self.future(batch["future"]), state)
        y = torch.cat((encoded, decoded), dim=1)
        y = self.enrich(y, static.unsqueeze(1).expand(-1, y.size(1), -1))
        L = y.size(1)
        causal = torch.triu(torch.ones(L, L, dtype=torch.bool), diagonal=1)
        attended, _ = self.attention(y, y, y, attn_mask=causal)
        return {
            "prediction": self.head(attended[:, -decoded.size(1) :]),
            "weights": weights.squeeze(2),
        }


@network
class CharRNN(nn.Module):
    """One-hot characters in, a hidden state that may be missing."""

    draw = staticmethod(
        lambda rng, N, L: (
            F.one_hot(rng.tokens(7, N, L), 7).float(),
            (rng.randn(2, N, 5), rng.randn(2, N, 5)),
        )
    )

    def __init__(self):
        super().__init__()
        self.n_hidden = 5
        self.lstm = nn.LSTM(7, 5, 2, dropout=0.5, batch_first=True)
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(5, 7)

    def forward(self, x, hidden=None):
        r_output, hidden = self.lstm(x, hidden)
        out = self.dropout(r_output)
        out = out.contiguous().view(-1, self.n_hidden)
        return self.fc(out), hidden


@network
class Autoencoder(nn.Module):
    """The last state repeated for as many steps as came in, decoded backwards."""

    draw = series(3)

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential()
        self.encoder_rnn = nn.LSTM(3, 8, batch_first=True)
        self.encoder_rnn2 = nn.LSTM(8, 4, batch_first=True)
        self.decoder_rnn = nn.LSTM(4, 8, batch_first=True)
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        L = x.shape[1]
        y, (_, _) = self.encoder_rnn(x)
        _, (code, _) = self.encoder_rnn2(y)
        z = code[-1].unsqueeze(1).repeat(1, L, 1)
        z, _ = self.decoder_rnn(z)
        return self.out(z).flip(1), code.squeeze(0)


@network
class SpeechModel(nn.Module):
    """Convolutions over a spectrogram with masks of the lengths, then recurrent layers."""

    @staticmethod
    def draw(rng, N, L):
        return rng.randn(N, 1, 9, 2 * L), rng.lengths(N, L) * 2

    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(1, 3, kernel_size=(5, 3), stride=(2, 2), padding=(2, 1)),
            nn.BatchNorm2d(3),
            nn.Hardtanh(0, 20, inplace=True),
        )
        self.rnns = nn.Sequential(*[nn.Sequential(nn.LayerNorm(15), nn.GELU()), nn.Dropout(0.1)])
        self.lstm = nn.LSTM(15, 6, bidirectional=True)
        self.fc = nn.Linear(6, 5, bias=False)

    def forward(self, x, lengths):
        output_lengths = torch.div(lengths + 1, 2, rounding_mode="floor")
        x = self.conv(x)
        mask = torch.arange(x.size(3)).unsqueeze(0) >= output_lengths.unsqueeze(1)
        x = x.masked_fill(mask[:, None, None, :], 0)
        sizes = x.size()
        x = x.view(sizes[0], sizes[1] * sizes[2], sizes[3])
        x = x.transpose(1, 2).transpose(0, 1).contiguous()
        x = self.rnns(x)
        x, _ = self.lstm(x)
        x = x.view(x.size(0), x.size(1), 2, -1).sum(2).view(x.size(0), x.size(1), -1)
        return F.softmax(self.fc(x).transpose(0, 1), dim=-1), output_lengths


@network
class CharCNN(nn.Module):
    """ELMo-like: characters to words by convolutions of several widths, highways, projected LSTM."""

    draws = 16  # of gradients that are single numbers: a lucky rounding must not decide

    draw = staticmethod(lambda rng, N, L: (rng.tokens(9, N, L, 7),))

    def __init__(self):
        super().__init__()
        self.chars = nn.Embedding(9, 4)
        self.filters = [(1, 3), (2, 4), (3, 5)]
        for i, (width, num) in enumerate(self.filters):
            self.add_module(f"char_conv_{i}", nn.Conv1d(4, num, kernel_size=width, bias=True))
        self.highway = nn.ModuleList([nn.Linear(12, 24) for _ in range(2)])
        self.projection = nn.Linear(12, 6)
        self.lstm = nn.LSTM(6, 8, 2, batch_first=True, bidirectional=True, proj_size=5)
        self.scalars = nn.ParameterList([nn.Parameter(torch.tensor([0.3 * k])) for k in range(3)])
        self.gamma = nn.Parameter(torch.tensor([1.0]))

    def forward(self, inputs):
        max_chars = inputs.size(-1)
        characters = self.chars(inputs.view(-1, max_chars)).transpose(1, 2)
        convs = []
        for i in range(len(self.filters)):
            conv = getattr(self, "char_conv_{}".format(i))
            convolved, _ = torch.max(conv(characters), dim=-1)
            convs.append(F.relu(convolved))
        token = torch.cat(convs, dim=-1)
        for layer in self.highway:
            nonlinear, gate = layer(token).chunk(2, dim=-1)
            gate = torch.sigmoid(gate)
            token = gate * token + (1 - gate) * F.relu(nonlinear)
        batch_size, sequence_length, _ = inputs.size()
        token = self.projection(token).view(batch_size, sequence_length, -1)
        y, _ = self.lstm(token)
        weights = F.softmax(torch.cat([p for p in self.scalars]), dim=0)
        weights = torch.split(weights, split_size_or_sections=1)
        layers = [token.repeat(1, 1, 2)[..., :10], y, y * 0.5]
        return self.gamma * sum(w * t for w, t in zip(weights, layers))


@network
class ReturnsNamedTuple(nn.Module):
    """A namedtuple out, parts of h and c by direction."""

    draw = series(3)

    def __init__(self):
        super().__init__()
        self.num_layers, self.hidden = 2, 4
        self.gru = nn.GRU(3, 4, 2, bidirectional=True, batch_first=True)
        self.mean, self.scale = nn.Linear(8, 1), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Forecast:
        _, h = self.gru(x)
        h = h.view(self.num_layers, 2, -1, self.hidden)[-1]
        h = torch.cat(tuple(h.unbind(0)), dim=-1)
        return Forecast(self.mean(h), F.softplus(self.scale(h)) + 1e-3)


class Outcome(NamedTuple):
    logits: Any
    states: Any


@network
class AnyRank(nn.Module):
    """One sequence or a batch of them; lists, tuples or tensors as states."""

    draw = series(3)

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)
        self.fc = nn.Linear(4, 2)

    def forward(self, x, state: Optional[Any] = None, return_state: bool = True):
        squeeze = False
        if x.dim() == 2:
            x, squeeze = x.unsqueeze(0), True
        assert x.dim() == 3, "a batch"
        if state is not None:
            if isinstance(state, (tuple, list)):
                h, c = state
            else:
                h, c = state, torch.zeros_like(state)
            state = (h, c)
        y, state = self.lstm(x, state)
        y = self.fc(y)
        if squeeze:
            y = y.squeeze(0)
        return Outcome(y, state) if return_state else y


@network
class MaybePacked(nn.Module):
    """Takes packed sequences as well as tensors."""

    draw = series(3)

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(8, 2)

    def forward(self, x):
        is_packed = isinstance(x, PackedSequence)
        y, (h, _) = self.lstm(x)
        if is_packed:
            y, _ = pad_packed_sequence(y, batch_first=True)
        return self.fc(y), h


@network
class SelfAttention(nn.Module):
    """Heads by views, scores by matmul, a mask that may be missing."""

    draw = staticmethod(lambda rng, N, L: (rng.randn(N, L, 6), rng.randn(N, L) > -1))

    def __init__(self):
        super().__init__()
        self.heads, self.width = 2, 3
        self.lstm = nn.LSTM(6, 6, batch_first=True)
        self.qkv = nn.Linear(6, 18)
        self.out = nn.Linear(6, 6)
        self.register_buffer("scale", torch.tensor(3.0).sqrt())

    def forward(self, x, mask=None):
        x = self.lstm(x)[0]
        B, T, _ = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, self.heads, self.width).permute(2, 0, 3, 1, 4)
        scores = torch.matmul(q, k.transpose(-2, -1)) / self.scale
        if mask is not None:
            mask = mask.clone()
            mask[:, 0] = True
            scores = scores.masked_fill(~mask[:, None, None, :], float("-inf"))
        attended = scores.softmax(-1) @ v
        attended = attended.transpose(1, 2).reshape(*x.shape[:-1], -1)
        return x + self.out(attended)


@network
class PositionalEncoding(nn.Module):
    """A buffer cut to the length, before and after recurrent layers."""

    draw = staticmethod(lambda rng, N, L: (rng.randn(L, N, 6),))

    def __init__(self, d_model=6, max_len=50):
        super().__init__()
        self.dropout = nn.Dropout(p=0.1)
        position = torch.arange(max_len).unsqueeze(1)
        div_term = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
        pe = torch.zeros(max_len, 1, d_model)
        pe[:, 0, 0::2] = torch.sin(position * div_term)
        pe[:, 0, 1::2] = torch.cos(position * div_term)
        self.register_buffer("pe", pe)
        self.rnn = nn.RNN(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = x * math.sqrt(x.size(-1)) + self.pe[: x.size(0)]
        return self.rnn(self.dropout(x))[0]


@network
class ResidualStack(nn.Module):
    """Residual LSTMs in a ModuleList, with different widths and norms, zip and enumerate."""

    draw = series(4)

    def __init__(self):
        super().__init__()
        widths = [4, 5, 5]
        self.rnns = nn.ModuleList(
            nn.LSTM(a, b, batch_first=True) for a, b in zip(widths, widths[1:])
        )
        self.norms = nn.ModuleList([nn.LayerNorm(5) for _ in range(2)])
        self.heads = nn.ModuleDict(dict(a=nn.Linear(5, 1), b=nn.Linear(5, 2)))
        self.bias = nn.ParameterDict({"a": nn.Parameter(torch.zeros(1))})

    def forward(self, x):
        states = []
        for i, (rnn, norm) in enumerate(zip(self.rnns, self.norms)):
            y, (h, _) = rnn(x)
            states.append(h)
            y = norm(y)
            x = x + y if i > 0 and x.size(-1) == y.size(-1) else y
        found = {name: head(x) for name, head in self.heads.items()}
        found["a"] = found["a"] + self.bias["a"]
        return found, torch.cat(states)


@network
class SharedEncoder(nn.Module):
    """Siamese: one encoder twice, distances between its outputs."""

    draw = staticmethod(lambda rng, N, L: (rng.randn(N, L, 3), rng.randn(N, L + 1, 3)))

    def __init__(self):
        super().__init__()
        self.encoder = nn.LSTM(3, 5, batch_first=True, bidirectional=True)
        self.same = self.encoder

    def forward(self, a, b):
        ya, yb = self.encoder(a)[0].max(dim=1)[0], self.same(b)[0].mean(1)
        distance = torch.exp(-torch.norm(ya - yb, p=1, dim=1, keepdim=True))
        return distance, F.cosine_similarity(ya, yb), F.pairwise_distance(ya, yb)


@network
class Pointer(nn.Module):
    """Scatter, gather, topk and argmax over attention."""

    @staticmethod
    def draw(rng, N, L):
        return rng.tokens(9, N, L), rng.tokens(9, N, 1)

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(9, 4)
        self.lstm = nn.LSTM(4, 5, batch_first=True)
        self.vocab = nn.Linear(5, 9)
        self.gate = nn.Linear(5, 1)

    def forward(self, source, target):
        y, (h, _) = self.lstm(self.embedding(source))
        query = h[-1]
        attention = torch.einsum("bld,bd->bl", y, query).softmax(1)
        p_vocab = self.vocab(query).softmax(-1)
        p_gen = torch.sigmoid(self.gate(query))
        final = torch.zeros_like(p_vocab).scatter_add(1, source, attention)
        final = p_gen * p_vocab + (1 - p_gen) * final
        best, places = attention.topk(2, dim=-1)
        picked = y[torch.arange(y.size(0)), attention.argmax(-1)]
        return final.gather(1, target).clamp(min=1e-8).log(), best, places, picked


@network
class Indexing(nn.Module):
    """Every way to index: negative, ellipsis, None, steps, lists, tensors."""

    draw = staticmethod(lambda rng, N, L: (rng.randn(N, L, 6), rng.lengths(N, L)))

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(6, 6, batch_first=True)
        self.register_buffer("order", torch.tensor([3, 1, 0]))

    def forward(self, x, lengths):
        y, _ = self.lstm(x)
        last = y[torch.arange(y.shape[0]), lengths - 1]
        also = y.gather(1, (lengths - 1).view(-1, 1, 1).expand(-1, 1, y.size(2))).squeeze(1)
        z = y[..., None, ::2] * y[:, -1:, None, 1::2]
        z = z[..., 0, :].cumsum(dim=1).flip([1])
        return (
            last + also,
            z,
            y[..., self.order],
            y[:, [0, -1]],
            y[0, 0, -1],
            y.index_select(-1, self.order),
        )


@network
class Decomposition(nn.Module):
    """A moving average with replicated ends; pools, pads and reductions."""

    draw = series(3)

    def __init__(self):
        super().__init__()
        self.kernel = 3
        self.avg = nn.AvgPool1d(3, stride=1, padding=0)
        self.lstm = nn.LSTM(3, 4, batch_first=True)
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        front = x[:, 0:1, :].repeat(1, (self.kernel - 1) // 2, 1)
        end = x[:, -1:, :].repeat(1, self.kernel // 2, 1)
        trend = self.avg(torch.cat([front, x, end], dim=1).permute(0, 2, 1)).permute(0, 2, 1)
        season = x - trend
        mean = season.mean(1, keepdim=True).detach()
        std = torch.sqrt(torch.var(season, dim=1, keepdim=True, unbiased=False) + 1e-5)
        y = self.fc(self.lstm((season - mean) / std)[0]) * std + mean
        y = F.pad(y, (0, 0, 1, 0))[:, :-1] + trend
        return y, (y**2).sum(dim=(1, 2)).sqrt(), y.amin(1), y.abs().max()


@network
class Frozen(nn.Module):
    """A part under no_grad."""

    draw = series(3)

    def __init__(self):
        super().__init__()
        self.features = nn.Linear(3, 4)
        self.lstm = nn.LSTM(4, 5, batch_first=True)

    def forward(self, x):
        with torch.no_grad():
            z = torch.tanh(self.features(x))
        return self.lstm(z)[0]


@network
class Statistics(nn.Module):
    """Keeps its attention for looking at, and asks about itself."""

    draw = series(4)

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(4, 6, batch_first=True)
        self.score = nn.Linear(6, 1, bias=False)
        self.dropout = None

    def forward(self, x):
        y, h = self.rnn(x)
        if isinstance(h, tuple):
            h = h[0]
        if isinstance(self.rnn, nn.LSTM) or self.dropout is not None:
            raise ValueError("not here")
        a = torch.softmax(self.score(y).squeeze(-1), dim=-1)
        self.last_attention = a.detach()
        return (a.unsqueeze(-1) * y).sum(dim=1) + h[-1]


@network
class Quantiles(nn.Module):
    """torch.where, comparisons and types, arithmetic with sizes."""

    draw = staticmethod(lambda rng, N, L: (rng.randn(N, L, 3), rng.randn(N, 1)))

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)
        self.heads = nn.ModuleList([nn.Linear(4, 1) for _ in range(3)])

    def forward(self, x, y):
        n = x.shape[0] * x.shape[1]
        half = x.size(1) // 2 + 1
        z, _ = self.lstm(x[:, -half:])
        q = torch.cat([head(z[:, -1]) for head in self.heads], dim=1)
        error = y.type_as(q) - q
        levels = torch.tensor([0.1, 0.5, 0.9]).to(x)
        loss = torch.max((levels - 1) * error, levels * error)
        weights = torch.where(error > 0, torch.ones_like(error), torch.full_like(error, 2.0))
        return (
            q,
            (loss * weights).sum() / n,
            (q[:, 1:] >= q[:, :-1]).all(dim=1),
            q.new_tensor([1.0, 2.0]) * q[:, :2],
        )


@network
class Mixture(nn.Module):
    """A mixture density network's outputs as lists and dictionaries."""

    draw = series(3)

    def __init__(self):
        super().__init__()
        self.K = 2
        self.rnn = nn.LSTM(3, 6, batch_first=True)
        self.fc = nn.Linear(6, 2 * 3)

    def forward(self, x):
        y = self.fc(self.rnn(x)[0])
        y = y.view(y.shape[0], y.shape[1], 3, self.K)
        pi, mu, sigma = [p.squeeze(2) for p in torch.split(y, 1, dim=2)]
        pi = pi - torch.logsumexp(pi, dim=-1, keepdim=True)
        return {"pi": pi, "parts": [mu, torch.exp(sigma).clamp(1e-4, 1e4)]}


@network
class ScheduledNoise(nn.Module):
    """Lines for training only, that compute no random numbers."""

    draw = series(3)

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)
        self.fc = nn.Linear(4, 1)
        self.aux = nn.Linear(4, 2)

    def forward(self, x):
        y, _ = self.lstm(x)
        if self.training:
            return self.fc(y), self.aux(y.mean(dim=1))
        return self.fc(y)


@network
class Hierarchical(nn.Module):
    """Words to sentences to documents, with sizes folded and unfolded."""

    draw = staticmethod(lambda rng, N, L: (rng.tokens(9, N, 3, L),))

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(9, 4)
        self.word = nn.GRU(4, 3, bidirectional=True, batch_first=True)
        self.sentence = nn.GRU(6, 3, bidirectional=True, batch_first=True)
        self.context = nn.Parameter(torch.randn(6))
        self.fc = nn.Linear(6, 2)

    def attend(self, y):
        return (y * F.softmax(torch.matmul(y, self.context), dim=-1).unsqueeze(-1)).sum(-2)

    def forward(self, docs):
        n, s, w = docs.size()
        words, _ = self.word(self.embed(docs.view(n * s, w)))
        sentences, _ = self.sentence(self.attend(words).view(n, s, -1))
        return self.fc(self.attend(sentences))


@network
class BeamScores(nn.Module):
    """A greedy decoder that feeds its choice back, for a fixed number of steps."""

    draw = words(9)

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(9, 4)
        self.encoder = nn.LSTM(4, 5, 2, batch_first=True)
        self.decoder = nn.LSTM(4, 5, 2, batch_first=True)
        self.out = nn.Linear(5, 9)
        self.max_length = 4

    def forward(self, source):
        _, state = self.encoder(self.embed(source))
        token = torch.full((source.size(0), 1), 1, dtype=torch.long, device=source.device)
        scores = []
        for _ in range(self.max_length):
            y, state = self.decoder(self.embed(token), state)
            logits = self.out(y[:, -1])
            _, token = logits.topk(1)
            token = token.detach()
            scores.append(F.log_softmax(logits, -1))
        return torch.stack(scores, dim=1), token


@network
class ManualLSTM(nn.Module):
    """An LSTM from parameters, as tutorials write it."""

    draw = series(3)

    def __init__(self, input_sz=3, hidden_sz=4):
        super().__init__()
        self.hidden_size = hidden_sz
        self.W = nn.Parameter(torch.Tensor(input_sz, hidden_sz * 4))
        self.U = nn.Parameter(torch.Tensor(hidden_sz, hidden_sz * 4))
        self.bias = nn.Parameter(torch.Tensor(hidden_sz * 4))

    def forward(self, x, init_states=None):
        bs, seq_sz, _ = x.size()
        hidden_seq = []
        if init_states is None:
            h_t, c_t = (
                torch.zeros(bs, self.hidden_size).to(x.device),
                torch.zeros(bs, self.hidden_size).to(x.device),
            )
        else:
            h_t, c_t = init_states
        HS = self.hidden_size
        for t in range(seq_sz):
            x_t = x[:, t, :]
            gates = x_t @ self.W + h_t @ self.U + self.bias
            i_t, f_t, g_t, o_t = (
                torch.sigmoid(gates[:, :HS]),
                torch.sigmoid(gates[:, HS : HS * 2]),
                torch.tanh(gates[:, HS * 2 : HS * 3]),
                torch.sigmoid(gates[:, HS * 3 :]),
            )
            c_t = f_t * c_t + i_t * g_t
            h_t = o_t * torch.tanh(c_t)
            hidden_seq.append(h_t.unsqueeze(0))
        hidden_seq = torch.cat(hidden_seq, dim=0)
        hidden_seq = hidden_seq.transpose(0, 1).contiguous()
        return hidden_seq, (h_t, c_t)


@network
class StackedCells(nn.Module):
    """Cells of several layers in one loop over time, states in lists."""

    draw = series(3)

    def __init__(self):
        super().__init__()
        self.cells = nn.ModuleList([nn.LSTMCell(3, 4), nn.LSTMCell(4, 4)])
        self.drop = nn.Dropout(0.2)
        self.fc = nn.Linear(4, 1)

    def forward(self, x):
        N, L = x.shape[:2]
        h = [x.new_zeros(N, 4) for _ in self.cells]
        c = [x.new_zeros(N, 4) for _ in self.cells]
        outputs = []
        for t in range(L):
            y = x[:, t]
            for k, cell in enumerate(self.cells):
                h[k], c[k] = cell(y, (h[k], c[k]))
                y = self.drop(h[k])
            outputs.append(self.fc(y))
        return torch.stack(outputs, 1), torch.stack(h), torch.stack(c)


@network
class InterpolatedImputation(nn.Module):
    """BRITS-like: masked values imputed by what was predicted, decays, a loss summed over time."""

    @staticmethod
    def draw(rng, N, L):
        return rng.randn(N, L, 3), (rng.randn(N, L, 3) > 0).float(), rng.randn(N, L, 3).abs()

    def __init__(self):
        super().__init__()
        self.rnn_cell = nn.LSTMCell(6, 5)
        self.hist_reg = nn.Linear(5, 3)
        self.decay = nn.Linear(3, 5)

    def forward(self, values, masks, deltas):
        h = torch.zeros(values.size()[0], 5)
        c = torch.zeros(values.size()[0], 5)
        x_loss = 0.0
        imputations = []
        for t in range(values.size()[1]):
            x, m, d = values[:, t, :], masks[:, t, :], deltas[:, t, :]
            gamma = torch.exp(-F.relu(self.decay(d)))
            h = h * gamma
            x_h = self.hist_reg(h)
            x_c = m * x + (1 - m) * x_h
            x_loss += torch.sum(torch.abs(x - x_h) * m) / (torch.sum(m) + 1e-5)
            h, c = self.rnn_cell(torch.cat([x_c, m], dim=1), (h, c))
            imputations.append(x_c.unsqueeze(dim=1))
        return x_loss / values.size(1), torch.cat(imputations, dim=1)
