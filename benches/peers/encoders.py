"""The families of encoders, as a user of PyTorch who cares for speed would write them, with the parameters that our
checkpoints name (docs/checkpoint-format.md). Shapes: B clips, N tokens, D width."""

import torch
from torch import nn

from layers import EPS, Block, CrossAttention, Mlp, SelfAttention, norm, sin_cos_table


def sizes(family: str, image_size: int, width: int, heads: int) -> dict:
    """The fields that all families' configs have."""
    tubes = dict(image_size=image_size, frames=16, channels=3, patch=16, tubelet=2)
    return dict(family=family, **tubes, width=width, heads=heads, hidden=4 * width, eps=EPS)


def vit(width: int, depth: int, heads: int, image_size: int = 224) -> dict:
    shape = sizes("videomae", image_size, width, heads)
    return dict(**shape, depth=depth, final_norm=True, position="sin-cos")


def lgi_former(width: int, depth: int, heads: int, image_size: int = 160) -> dict:
    shape = sizes("lgi-former", image_size, width, heads)
    return dict(**shape, depth=depth, regions=[4, 2, 1], features="tokens", final_norm=True)


def tpsbt(width: int, depths: list[int], heads: int, image_size: int = 160, bottleneck_hidden: int = 128) -> dict:
    shape = sizes("tpsbt", image_size, width, heads)
    return dict(**shape, depths=depths, bottlenecks=8, bottleneck_hidden=bottleneck_hidden)


# Those that `Families::preset` of mtcae-encoder gives by the same family and size.
PRESETS = {
    "videomae-tiny": vit(96, 4, 3, 112),
    "videomae-small": vit(384, 12, 6),
    "videomae-base": vit(768, 12, 12),
    "videomae-large": vit(1024, 24, 16),
    "lgi-former-tiny": lgi_former(96, 4, 3, 96),
    "lgi-former-base": lgi_former(512, 16, 8),
    "tpsbt-tiny": tpsbt(96, [4, 2, 1], 3, 112, 24),
    "tpsbt-small": tpsbt(384, [8, 4, 2], 6),
    "tpsbt-base": tpsbt(512, [12, 6, 3], 8),
}


def config(name: str) -> dict:
    """The encoder's part of a `config.json`: of a preset, or of `PRESET-PIXELS` at another frame size."""
    preset, _, pixels = name.rpartition("-")
    return {**PRESETS[preset], "image_size": int(pixels)} if pixels.isdecimal() else PRESETS[name]


def grid(c: dict) -> tuple[int, int, int]:
    """Tokens along time, height and width."""
    side = c["image_size"] // c["patch"]
    return c["frames"] // c["tubelet"], side, side


def tokens(c: dict) -> int:
    t, h, w = grid(c)
    return t * h * w


class Embedding(nn.Module):
    """Tubes (B, N, 1536) → tokens (B, N, D) with positions."""

    def __init__(self, c: dict):
        super().__init__()
        tube = c["channels"] * c["tubelet"] * c["patch"] ** 2
        self.patch_embed = nn.ModuleDict({"proj": nn.Linear(tube, c["width"])})
        self.register_buffer("positions", sin_cos_table(tokens(c), c["width"]), persistent=False)

    def embed(self, tubes):
        return self.patch_embed["proj"](tubes) + self.positions


class Vit(Embedding):
    def __init__(self, c: dict):
        super().__init__(c)
        self.blocks = nn.ModuleList(Block(c["width"], c["heads"], c["hidden"]) for _ in range(c["depth"]))
        self.norm = norm(c["width"])

    def forward(self, tubes):
        x = self.embed(tubes)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class LgBlock(nn.Module):
    """x (B·R, 1 + L, D): in each of R regions its messenger, then its L tokens."""

    def __init__(self, c: dict):
        super().__init__()
        width, heads = c["width"], c["heads"]
        self.first_attn_norm0, self.first_attn = norm(width), SelfAttention(width, heads)
        self.second_attn_norm0, self.second_attn = norm(width), SelfAttention(width, heads)
        self.third_attn_norm0, self.third_attn_norm1 = norm(width), norm(width)
        self.third_attn = CrossAttention(width, heads, width // heads)
        self.norm2, self.mlp = norm(width), Mlp(width, c["hidden"], width)

    def forward(self, x, regions: int):
        x = x + self.first_attn(self.first_attn_norm0(x))
        m = x[:, 0].unflatten(0, (-1, regions))
        m = m + self.second_attn(self.second_attn_norm0(m))
        y = x[:, 1:].unflatten(0, (-1, regions)).flatten(1, 2)
        y = y + self.third_attn(self.third_attn_norm0(y), self.third_attn_norm1(m))
        x = torch.cat([m.flatten(0, 1)[:, None], y.unflatten(1, (regions, -1)).flatten(0, 1)], 1)
        return x + self.mlp(self.norm2(x))


class LgiFormer(Embedding):
    def __init__(self, c: dict):
        super().__init__(c)
        (t, h, w), (rt, rh, rw) = grid(c), c["regions"]
        self.regions = rt * rh * rw
        # The grid by regions and places within them, in turns.
        self.split = (rt, t // rt, rh, h // rh, rw, w // rw)
        self.lg_region_tokens = nn.Parameter(torch.zeros(self.regions, c["width"]))
        self.blocks = nn.ModuleList(LgBlock(c) for _ in range(c["depth"]))
        self.norm = norm(c["width"])

    def forward(self, tubes):
        x = self.embed(tubes).unflatten(1, self.split).permute(0, 1, 3, 5, 2, 4, 6, 7)
        shape = x.shape
        m = self.lg_region_tokens.repeat(tubes.shape[0], 1)
        x = torch.cat([m[:, None], x.flatten(4, 6).flatten(0, 3)], 1)
        for block in self.blocks:
            x = block(x, self.regions)
        back = self.norm(x[:, 1:]).view(shape).permute(0, 1, 4, 2, 5, 3, 6, 7)
        return back.flatten(1, 6)


class CrossBlock(Block):
    def __init__(self, c: dict):
        super().__init__(c["width"], c["heads"], c["hidden"])
        self.cross_norm1, self.cross_norm2 = norm(c["width"]), norm(c["width"])
        self.cross_attn = CrossAttention(c["width"], c["heads"], c["width"] // c["heads"])

    def forward(self, x, context):
        return super().forward(x + self.cross_attn(self.cross_norm1(x), self.cross_norm2(context)))


class SpatialDownsample(nn.Module):
    """Slices (B, T, P, D) → G weighted means of each (B, T, G, D)."""

    def __init__(self, c: dict):
        super().__init__()
        self.norm, self.mlp = norm(c["width"]), Mlp(c["width"], c["bottleneck_hidden"], c["bottlenecks"])

    def forward(self, x):
        return self.mlp(self.norm(x)).softmax(2).transpose(2, 3) @ x


class Tpsbt(Embedding):
    def __init__(self, c: dict):
        super().__init__(c)
        (_, h, w), width = grid(c), c["width"]
        self.places = h * w
        self.first, *self.depths = c["depths"]
        self.blocks = nn.ModuleList(Block(width, c["heads"], c["hidden"]) for _ in range(self.first))
        self.blocks.extend(CrossBlock(c) for _ in range(sum(self.depths)))
        # Conv1d of kernel and stride 2 along time: a linear layer of pairs, by (channel, time).
        self.temporal_downsamples = nn.ModuleList(nn.Linear(2 * width, width) for _ in self.depths)
        self.spatial_downsamples = nn.ModuleList(SpatialDownsample(c) for _ in self.depths)

    def forward(self, tubes):
        x = self.embed(tubes)
        blocks = iter(self.blocks)
        for _ in range(self.first):
            x = next(blocks)(x)
        downsamples = zip(self.temporal_downsamples, self.spatial_downsamples)
        for depth, (temporal, spatial) in zip(self.depths, downsamples):
            x = x.unflatten(1, (-1, 2, self.places)).permute(0, 1, 3, 4, 2).flatten(3)
            x = temporal(x)
            z = spatial(x).flatten(1, 2)
            x = x.flatten(1, 2)
            for _ in range(depth - 1):
                z = next(blocks)(z, x)
            x = next(blocks)(x, z)
        return x


FAMILIES = {"videomae": Vit, "lgi-former": LgiFormer, "tpsbt": Tpsbt}


def build(c: dict) -> nn.Module:
    """The encoder of a config: tubes (B, N, 1536) → F (B, tokens, D)."""
    return FAMILIES[c["family"]](c)
