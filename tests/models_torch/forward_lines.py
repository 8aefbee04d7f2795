"""Forwards of a few lines each, that ask, loop, index and change things in all the ways of Python.

``@line("x", "x s")``: what it is called with, one letter for each argument: ``x`` a batch of
sequences, ``u`` one sequence, ``i`` tokens, ``l`` lengths, ``s`` a state of two, ``h`` one state,
``m`` a mask, ``d`` a dictionary with a batch in it. The style is their authors', not this
repository's.
"""
# ruff: noqa

from __future__ import annotations

import math
import random
from functools import reduce
from typing import Any

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.lstm = nn.Linear(3, 3), nn.LSTM(3, 3, batch_first=True)
        self.cell, self.emb, self.bn = nn.LSTMCell(3, 3), nn.Embedding(10, 3), nn.BatchNorm1d(3)
        self.register_buffer("buf", torch.arange(3.0))
        self.p = nn.Parameter(torch.randn(3))
        self.plain = torch.tensor([[1.0, -2.0, 0.5]])


LINES: dict[str, tuple[Any, tuple[str, ...], str | None]] = {}


def line(*calls: str, refused: str | None = None) -> Any:
    def register(forward: Any) -> Any:
        LINES[forward.__name__] = (forward, calls, refused)
        return forward

    return register


@line("x", "u")
def is_tensor(self, x):
    if isinstance(x, torch.Tensor):
        return self.fc(x)
    return x


@line("x")
def is_tensor2(self, x):
    if not torch.is_tensor(x):
        x = torch.tensor(x)
    return self.fc(x)


@line("x", "x x")
def opt_mask(self, x, mask=None):
    return self.fc(x) if mask is None else self.fc(x) * mask


@line("x", "x s")
def opt_state(self, x, state=None):
    y, _ = self.lstm(x, state)
    return y


@line("x")
def truthy(self, x, state=None):
    state = state or None
    return self.lstm(x, state)[0]


@line("x", refused="x.sum() > 0")
def datadep(self, x):
    if x.sum() > 0:
        return x
    return -x


@line("x", refused="while")
def whiledep(self, x):
    while x.abs().max() > 1:
        x = x / 2
    return x


@line("x", "u")
def ranks(self, x):
    if x.dim() == 2:
        x = x[None]
    if len(x.shape) == 3 and x.size(-1) == 3:
        x = self.fc(x)
    return x


@line("x")
def sizecond(self, x):
    if x.size(1) > 4:
        x = x[:, :4]
    elif x.shape[1] < 3:
        x = F.pad(x, (0, 0, 0, 1))
    return self.fc(x)


@line("x")
def starshape(self, x):
    *lead, d = x.shape
    return (
        self.fc(x).view(*lead, 1, d),
        x.new_zeros(*x.shape[:2], 2),
        torch.zeros((x.shape[0],) + (2,)),
        x.reshape((-1,) + x.shape[2:]),
    )


@line("x")
def loopn(self, x):
    h = torch.zeros(x.size(0), 3)
    c = h.clone()
    out = x.new_empty(x.size(0), x.size(1), 3)
    for t in range(x.size(1)):
        h, c = self.cell(x[:, t], (h, c))
        out[:, t, :] = h
    return out


@line("x")
def loop_enum(self, x):
    outs = []
    for t, (a) in enumerate(x.unbind(1)):
        outs.append(self.fc(a) * t)
    return torch.stack(outs, 1)


@line("x x")
def loop_zip(self, x, y):
    tot = 0
    for a, b in zip(x.unbind(1), torch.unbind(y, dim=1)):
        tot = tot + self.fc(a) * b
    return tot


@line("x")
def loop_comp(self, x):
    return torch.stack([self.fc(a) for a in x.transpose(0, 1)], dim=1)


@line("x", refused="while t")
def loop_while(self, x):
    t = 0
    outs = []
    while t < x.size(1):
        outs.append(self.fc(x[:, t]))
        t += 1
    return torch.stack(outs, 1)


@line("x")
def loop_step2(self, x):
    o = []
    for t in range(0, x.size(1), 2):
        o.append(self.fc(x[:, t : t + 2].sum(1)))
    return torch.stack(o)


@line("x")
def loop_prev(self, x):
    prev = x[:, 0]
    o = []
    for t in range(1, x.size(1)):
        cur = x[:, t]
        o.append(cur - prev)
        prev = cur
    return torch.stack(o, 1)


@line("x")
def loop_if_first(self, x):
    h = None
    o = []
    for t in range(x.size(1)):
        if h is None:
            h = self.fc(x[:, t])
        else:
            h = torch.tanh(self.fc(x[:, t]) + h)
        o.append(h)
    return torch.stack(o, 1)


@line("x")
def loop_if_t0(self, x):
    o = []
    for t in range(x.size(1)):
        v = self.fc(x[:, t])
        if t > 0:
            v = v + o[-1]
        o.append(v)
    return torch.stack(o, 1)


@line("x")
def loop_lists(self, x):
    h = [torch.zeros(x.size(0), 3)] * 2
    c = [torch.zeros(x.size(0), 3)] * 2
    for t in range(x.shape[1]):
        for k in range(2):
            h[k], c[k] = self.cell(x[:, t] if k == 0 else h[k - 1], (h[k], c[k]))
    return h[-1], torch.stack(c)


@line("x")
def loop_catgrow(self, x):
    out = torch.zeros(x.size(0), 0, 3)
    for t in range(x.size(1)):
        out = torch.cat([out, self.fc(x[:, t : t + 1])], dim=1)
    return out


@line("x")
def loop_two(self, x):
    o = []
    for t in range(x.size(1)):
        o.append(self.fc(x[:, t]))
    p = []
    for t in range(x.size(1)):
        p.append(o[t] * 2)
    return torch.stack(p, 1)


@line("x", refused="one inside another")
def loop_nested(self, x):
    rows = []
    for i in range(x.size(0)):
        acc = torch.zeros(3)
        for t in range(x.size(1)):
            acc = acc + self.fc(x[i, t])
        rows.append(acc)
    return torch.stack(rows)


@line("x")
def loop_window(self, x):
    o = []
    for t in range(2, x.size(1)):
        o.append(self.fc(x[:, t - 2 : t + 1].mean(1)))
    return torch.stack(o, 1)


@line("x")
def loop_reversed_setitem(self, x):
    out = torch.zeros_like(x)
    h = torch.zeros(x.size(0), 3)
    for t in range(x.size(1) - 1, -1, -1):
        h = torch.tanh(self.fc(x[:, t]) + h)
        out[:, t] = h
    return out


@line("x", refused="chance")
def rnd(self, x):
    if random.random() < 0.5:
        return x
    return -x


@line("x", refused="")
def nprnd(self, x):
    if np.random.rand() < 0.5:
        return x
    return -x


@line("x")
def nograd(self, x):
    with torch.no_grad():
        y = self.fc(x)
    return y + x


@line("d")
def dictionary(self, d):
    if "b" in d:
        return d["a"] + d["b"]
    return self.fc(d["a"])


@line("x")
def intdiv(self, x):
    h = int(x.size(1) / 2)
    k = x.size(1) // 2
    f = float(x.size(1))
    return self.fc(x[:, :h]) / f, x[:, k:] * math.sqrt(x.size(-1))


@line("x")
def minmax(self, x):
    n = min(x.size(1), 4)
    m = max(2, x.size(0))
    return x[:, :n] * m


@line("x")
def dtypes(self, x):
    if x.dtype != torch.int64:
        x = x * 2
    mask = torch.ones(x.shape[:2], dtype=torch.bool)
    mask[:, -1] = False
    return (
        self.fc(x).masked_fill(~mask.unsqueeze(-1), torch.finfo(x.dtype).min).softmax(1),
        x.long(),
        x.type(torch.float16),
        x.bool(),
    )


@line("i")
def tokens(self, i):
    e = self.emb(i)
    lens = (i != 0).sum(1)
    m = (i != 0).float()
    return (e * m.unsqueeze(2)).sum(1) / lens.unsqueeze(1).clamp(min=1), lens


@line("x")
def inpl(self, x):
    y = self.fc(x)
    y[y > 0] = 0.0
    y[:, 1:3].add_(1.0)
    y.clamp_(min=-1)
    y /= 2
    y[..., 0] *= 3
    return y


@line("x")
def inpl_mask(self, x):
    y = self.fc(x)
    y[x < 0] = -1
    y[:, :2][y[:, :2] < -0.5] = 0
    return y


@line("x")
def einops(self, x):
    return (
        torch.einsum("b l d -> b d l", x),
        torch.einsum("bld,d->bl", x, self.p),
        torch.einsum("...d,ed->...e", x, self.fc.weight),
        torch.tensordot(x, self.fc.weight, dims=([2], [1])),
        torch.baddbmm(x @ x.transpose(1, 2), x, x.mT),
        torch.addmm(self.p, x[0], self.fc.weight),
    )


@line("x")
def reductions(self, x):
    v, i = x.max(1)
    w, j = torch.min(x, dim=-1, keepdim=True)
    m = x.median(1)
    return (
        v,
        i,
        w,
        j,
        x.mean((0, 1)),
        x.std(1),
        x.var(-1, unbiased=False),
        x.norm(dim=-1),
        x.norm(2, -1, True),
        x.prod(-1),
        x.argmin(1),
        x.logsumexp(1),
        torch.cummax(x, 1)[0],
        m[0],
    )


@line("x")
def misc(self, x):
    return (
        x.repeat_interleave(2, 1),
        x.roll(1, 1),
        x.flip(-1),
        x.tril(),
        torch.triu(x),
        x.cumsum(1),
        x.diff(dim=1),
        torch.outer(self.p, self.p),
        x.abs().sqrt(),
        x.sign(),
        x.round(),
        torch.clamp(x, -1, 1),
        x.clamp_max(0.5),
        torch.lerp(x, -x, 0.3),
        x.addcmul(x, x, value=2),
        x.expm1(),
        x.erf(),
        x.frac(),
        x.trunc(),
        torch.addcdiv(x, x, x.abs() + 1),
    )


@line("x")
def more(self, x):
    return (
        torch.meshgrid(self.p, self.p, indexing="ij")[0],
        torch.cdist(x, x),
        x.kthvalue(2, dim=1)[0],
        torch.kron(self.p, self.p),
        torch.isclose(x, x),
        x.unfold(1, 2, 1),
        x.new_full((2,), 3.0),
        torch.stack(x.unbind(0)),
        torch.vstack([x[0], x[1]]),
        torch.hstack([x, x]),
        torch.dstack([x, x]),
        x.argsort(1),
        x.sort(-1, descending=True)[0],
        x.ne(0),
        x.eq(0).any(),
        x.all(),
        x.numel(),
        x.size(),
    )


@line("x")
def losses(self, x):
    y = self.fc(x)
    return (
        F.mse_loss(y, x),
        F.l1_loss(y, x),
        F.smooth_l1_loss(y, x),
        F.cross_entropy(y.transpose(1, 2), x.argmax(-1)),
        F.nll_loss(F.log_softmax(y[:, 0], 1), x[:, 0].argmax(-1)),
        F.binary_cross_entropy_with_logits(y, torch.sigmoid(x)),
        F.kl_div(F.log_softmax(y, -1), F.softmax(x, -1), reduction="batchmean"),
        F.huber_loss(y, x),
    )


@line("x")
def interp(self, x):
    return F.interpolate(x, scale_factor=2, mode="linear"), F.interpolate(x, size=6, mode="nearest")


@line("x")
def fpool(self, x):
    return (
        F.max_pool1d(x, 2),
        F.avg_pool1d(x, 2),
        F.adaptive_avg_pool1d(x, 2),
        F.adaptive_max_pool1d(x, 1),
        F.pad(x, (1, 1), "replicate"),
        F.pad(x, (1, 1), "reflect"),
        F.pad(x, (0, 0, 2, -1)),
    )


@line("x")
def facts(self, x):
    return (
        F.gelu(x, approximate="tanh"),
        F.logsigmoid(x),
        F.hardswish(x),
        torch.sigmoid_(x.clone()),
        F.softmax(x, -1, dtype=torch.float32),
        F.one_hot(x.argmax(-1), 3),
        F.normalize(x, dim=-1),
        F.glu(x[..., :2], -1),
        F.relu_(x.clone()),
        x.tanh_() if False else x,
    )


@line("x")
def bnorm(self, x):
    return self.bn(x.transpose(1, 2)).transpose(1, 2)


@line("x")
def lambdas(self, x):
    f = lambda v: self.fc(v)
    fs = [f, torch.tanh, nn.functional.relu]
    for g in fs:
        x = g(x)
    return sum([x, x]), reduce(lambda a, b: a + b, [x, x, x])


@line("x")
def seqouts(self, x):
    y, (h, c) = self.lstm(x)
    st = tuple(v.detach() for v in (h, c))
    o = [v * 2 for v in st]
    y2, st2 = self.lstm(x, st)
    assert len(st2) == 2
    return y2, *o, dict(a=st2)


@line("x s")
def hid(self, x, hidden):
    hidden = tuple(h.detach() for h in hidden)
    h, c = hidden
    return self.lstm(x, hidden)[0] + h[-1][:, None], [v * 2 for v in hidden]


@line("x s", "x h")
def repack(self, x, h):
    def rp(h):
        if isinstance(h, torch.Tensor):
            return h.detach()
        else:
            return tuple(rp(v) for v in h)

    h = rp(h)
    if isinstance(h, tuple):
        return self.lstm(x, h)[0]
    return self.lstm(x, (h, h))[0]


@line("x")
def scalarmod(self, x):
    return (
        x**2,
        2 ** x.abs(),
        x // 0.5,
        x % 0.7,
        -x,
        +x,
        ~(x > 0),
        (x > 0) & (x < 1),
        (x > 0) | (x < -1),
        (x > 0) ^ (x > 1),
        1 / x,
        1 - x,
        x @ x.mT,
    )


@line("x")
def tensorcreate(self, x):
    return (
        torch.arange(x.size(1), device=x.device).float(),
        torch.linspace(0, 1, 5),
        torch.eye(3)[None].expand(x.size(0), -1, -1),
        torch.full_like(x, 2.0),
        torch.tensor([1.0, 2.0]),
        torch.ones(x.size(0), 1, dtype=x.dtype),
        torch.zeros(*x.size()),
        torch.zeros(x.size()),
        torch.arange(0, 6, 2),
        x.new([1.0, 2.0]),
        torch.FloatTensor([1.0, 2.0]),
        torch.zeros(x.shape[0], device="cpu"),
        torch.as_tensor(3.0),
        torch.from_numpy(np.ones(3, np.float32)),
    )


@line("x", refused="type()")
def typename(self, x):
    if type(x) == torch.Tensor:
        return x
    return -x


@line("x", refused="")
def tolist(self, x):
    return torch.tensor([sum(r) for r in x.sum(-1).tolist()])


@line("x")
def dropout_branch(self, x):
    if self.training:
        x = F.dropout(x, 0.0)
    return self.fc(x) if self.lstm.num_layers == 1 else x


@line("x", refused="")
def numpyx(self, x):
    return torch.from_numpy(x.detach().numpy() * 2)


@line("i l")
def packeds(self, i, l):
    e = self.emb(i)
    p = nn.utils.rnn.pack_padded_sequence(e, l.cpu(), batch_first=True, enforce_sorted=False)
    o, (h, c) = self.lstm(p)
    d = p.data
    o2, n = nn.utils.rnn.pad_packed_sequence(o, batch_first=True, padding_value=-1.0)
    return (
        o2,
        n,
        h,
        nn.utils.rnn.PackedSequence(
            self.fc(o.data), o.batch_sizes, o.sorted_indices, o.unsorted_indices
        ).data,
    )


@line("x")
def nestedfn(self, x):
    @torch.jit.ignore
    def g(a, *, k=1):
        return a * k

    return g(self.fc(x), k=2)


@line("x")
def tril_mask(self, x):
    L = x.size(1)
    m = torch.tril(torch.ones((L, L))).view(1, L, L)
    m = m.float().masked_fill(m == 0, float("-inf")).masked_fill(m == 1, float(0.0))
    return torch.softmax(x @ x.mT + m, -1)


@line("x")
def sdpa(self, x):
    return F.scaled_dot_product_attention(
        x[:, None], x[:, None], x[:, None], is_causal=True
    ), torch.nn.functional.linear(x, self.fc.weight, self.fc.bias)


@line("x")
def condexpr(self, x, reverse: bool = False, k: int = 2):
    return self.fc(x.flip(1) if reverse else x) * k


@line("x", refused="")
def nonz(self, x):
    idx = (x[:, 0, 0] > 0).nonzero().squeeze(-1)
    return x[idx]


@line("x")
def detachitem(self, x):
    return x * self.p.detach().sum().item() if False else x * self.p.data.sum()


@line("x")
def bufidx(self, x):
    return (
        x * self.buf[None, None],
        x[..., self.buf.long()],
        self.buf.to(x.device, x.dtype) + x,
        self.buf.expand_as(x),
        self.buf.view(1, 1, -1),
    )


@line("x")
def retnone(self, x):
    return self.fc(x), None


@line("x")
def strs(self, x, mode="sum"):
    return getattr(torch, mode)(x, 1), getattr(x, "mean")(1)


@line("x")
def tryexc(self, x):
    try:
        return self.fc(x)
    except RuntimeError:
        return x


@line("x")
def plain_attribute(self, x):
    return x * self.plain, self.plain.repeat(x.size(0), 1), self.plain[0, 1]


@line("x")
def torch_modules_without_a_front_end(self, x):
    x = nn.ZeroPad2d((0, 0, 1, 2))(x)
    return nn.Upsample(scale_factor=2)(x), nn.Softmax2d()(x[None]), nn.MSELoss()(x, x * 2)


@line("x m")
def losses_with_targets(self, x, m):
    y, t = self.fc(x), x.argmax(-1)
    t = t.masked_fill(~m, -1)
    return (
        F.cross_entropy(y.transpose(1, 2), t, ignore_index=-1, weight=self.buf + 1),
        F.cross_entropy(y.transpose(1, 2), t, ignore_index=-1, reduction="none"),
        F.cross_entropy(y.transpose(1, 2), t, ignore_index=-1, label_smoothing=0.1),
        F.cross_entropy(y.transpose(1, 2), y.transpose(1, 2).softmax(1)),
        F.gaussian_nll_loss(y, x, x.exp()),
        F.binary_cross_entropy(torch.sigmoid(y), torch.sigmoid(x), reduction="sum"),
    )


@line("x")
def looped_lists(self, x):
    ahead, back = [], []
    h = g = torch.zeros(x.size(0), 3)
    for t in range(x.size(1)):
        h = torch.tanh(self.fc(x[:, t]) + h)
        ahead.append(h)
    for t in range(x.size(1)):
        g = torch.tanh(self.fc(x[:, x.size(1) - 1 - t]) - g)
        back.append(g)
    pairs = []
    for t in range(x.size(1)):
        pairs.append(torch.cat([ahead[t], back[-1 - t]], -1))
    return torch.stack(pairs, 1), ahead[0], back[-1], torch.stack(back[::-1])


@line("x")
def interpolated(self, x):
    y = x.transpose(1, 2)
    return (
        F.interpolate(y, size=x.size(1) + 2, mode="linear", align_corners=True),
        F.interpolate(y, scale_factor=1.5, mode="linear"),
        F.interpolate(y, scale_factor=0.7, mode="nearest"),
        F.interpolate(y[:, None], scale_factor=(2, 3), mode="bilinear"),
        F.interpolate(y[:, None], size=(4, 5)),
    )


@line("x")
def views_in_place(self, x):
    y = self.fc(x)
    y[:, 0].mul_(3)
    y[..., 1:].clamp_(min=-0.5)
    y[:, -1, :2] += x[:, 0, :2]
    z = torch.zeros(x.size(0), x.size(1) + 1, 3)
    z[:, 1:].copy_(y)
    z[:, :, 0].fill_(0.5)
    return z, y


@line("x")
def half_written_lists(self, x):
    out = [None] * 2
    for k, f in enumerate((torch.tanh, torch.sigmoid)):
        out[k] = f(self.fc(x))
    return out, {"a": out[0]}


@line("x")
def modules_made_in_forward(self, x):
    return nn.Softmax(dim=-1)(nn.Tanh()(x)), nn.Dropout(0.5)(x), nn.Sequential(nn.ReLU())(x)
