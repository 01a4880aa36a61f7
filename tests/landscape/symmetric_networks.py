"""Small networks of every kind, at random parameters and running statistics."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from geomprobe import Samples


def mlp(widths=(6, 8, 7, 3), activation=nn.ReLU):
    layers = []
    for below, above in pairwise(widths):
        layers += [nn.Linear(below, above), activation()]
    return nn.Sequential(*layers[:-1])


def cnn():
    """Convolutions, batch norm, and channels x places flattened."""
    return nn.Sequential(
        nn.Conv2d(2, 5, 3, padding=1),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(5, 4, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16, 6),
        nn.ReLU(),
        nn.Linear(6, 3),
    )


class Block(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.conv1 = nn.Conv2d(n, n, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(n)
        self.conv2 = nn.Conv2d(n, n, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(n)

    def forward(self, x):
        inside = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(x + inside)


class ResNet(nn.Module):
    """Two blocks, a shortcut that pads channels (option A), and another block."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.blocks = nn.Sequential(Block(4), Block(4))
        self.last = Block(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.blocks(F.relu(self.stem(x)))
        x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))
        return self.head(self.last(x).mean((2, 3)))


class Attention(nn.Module):
    """Its own attention, with one matrix for queries, keys and values."""

    def __init__(self, d=12, heads=3):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(d, 3 * d)
        self.out = nn.Linear(d, d)

    def forward(self, x):
        n, t, d = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).reshape(n, t, d))


class Transformer(nn.Module):
    """A class token, positions, attention of torch and of its own, and a gated perceptron."""

    def __init__(self, own=False, d=12):
        super().__init__()
        self.embed = nn.Linear(5, d)
        self.token = nn.Parameter(torch.zeros(1, 1, d))
        self.positions = nn.Parameter(torch.zeros(1, 5, d))
        self.norms = nn.ModuleList(nn.LayerNorm(d) for _ in range(3))
        self.own = own
        self.attention = Attention(d) if own else nn.MultiheadAttention(d, 3, batch_first=True)
        self.up, self.gate, self.down = nn.Linear(d, 7), nn.Linear(d, 7), nn.Linear(7, d)
        self.head = nn.Linear(d, 3)

    def forward(self, x):
        x = self.embed(x)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        y = self.norms[0](x)
        x = x + (self.attention(y) if self.own else self.attention(y, y, y)[0])
        y = self.norms[1](x)
        x = x + self.down(F.silu(self.gate(y)) * self.up(y))
        return self.head(self.norms[2](x[:, 0]))


class Language(nn.Module):
    """Embeddings tied to the output, and torch's own encoder."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(9, 12)
        layer = nn.TransformerEncoderLayer(12, 3, 10, batch_first=True, dropout=0.0)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x):
        return self.encoder(self.table(x)).mean(1) @ self.table.weight.T


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(5, 6, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


class Dense(nn.Module):
    """Channels put side by side, groups, and a group norm."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 6, 3, padding=1)
        self.norm = nn.GroupNorm(3, 6)
        self.grouped = nn.Conv2d(6, 6, 3, padding=1, groups=3)
        self.depth = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.last = nn.Conv2d(14, 5, 1)
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        y = F.relu(self.norm(self.first(x)))
        z = F.relu(self.depth(F.gelu(self.grouped(y))))
        return self.head(F.relu(self.last(torch.cat([y, x, z], 1))).mean((2, 3)))


IMAGES = (2, 8, 8)
NETWORKS = {
    "mlp": (mlp, (6,)),
    "tanh": (lambda: mlp(activation=nn.Tanh), (6,)),
    "cnn": (cnn, IMAGES),
    "resnet": (ResNet, IMAGES),
    "transformer": (Transformer, (4, 5)),
    "own attention": (lambda: Transformer(own=True), (4, 5)),
    "language": (Language, None),
    "lstm": (Recurrent, (4, 5)),
    "dense": (Dense, IMAGES),
}


def network(name, seed=0):
    """Return a network with random parameters and running statistics."""
    generator = torch.Generator().manual_seed(seed)
    model = NETWORKS[name][0]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))
        for name, buffer in model.named_buffers():
            if name.endswith(("mean", "var")):
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))
    return model


def data(name, n=24, seed=1):
    """Return inputs that a network takes, and classes."""
    generator = torch.Generator().manual_seed(seed)
    shape = NETWORKS[name][1]
    targets = torch.randint(0, 3, (n,), generator=generator)
    if shape is None:
        return Samples(torch.randint(0, 9, (n, 5), generator=generator), targets)
    return Samples(torch.randn(n, *shape, generator=generator), targets)
