"""Train the network of `edges` on crops.

    python benchmarks/edges/train.py CROPS ... --out FILE.safetensors [--steps 4000]

CROPS are folders that crops.py wrote. Writes the weights, their facts as JSON, and the refiner as
it ships, a folder for sr.load. Some 0.4 s a step of 8 crops on one core. The held-out crops
are the last of each folder.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

import sparserefine as sr
from sparserefine.environment import Environment
from sparserefine.refinement.edge_extractor import EdgeExtractor
from sparserefine.refinement.edge_net import EdgeNet, edge_features, with_context
from sparserefine.sparse import ActivePixels

LEARNING_RATE, WEIGHT_DECAY, WARM_UP = 2e-3, 0.01, 100
HELD, MOST_HELD = 0.05, 240
REPORT_EVERY = 100
RIGHT_ERROR = 0.03
NAMES = ("rgb", "planes", "sides")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("crops", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 32, 64, 96])
    parser.add_argument("--init", type=Path, help="weights to go on from, instead of closed form")
    parser.add_argument("--rate", type=float, default=LEARNING_RATE)
    parser.add_argument(
        "--transparent", type=float, default=0.0, help="how much more half transparent pixels count"
    )
    parser.add_argument(
        "--at-edge",
        type=float,
        default=0.0,
        help="how much more pixels count next to the true edge",
    )
    parser.add_argument(
        "--keep-statistics", action="store_true", help="normalize as --init does, not by each step"
    )
    parser.add_argument(
        "--right", type=float, default=1.0, help="how often a crop is drawn whose mask is right"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    crops, is_held = read_crops(options.crops)
    trained, held = (~is_held).nonzero()[0], is_held.nonzero()[0]
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    net = EdgeNet(options.widths)
    if options.init is not None:
        net.load_state_dict(with_all_outputs(load_file(options.init), net))
    elif options.keep_statistics:
        parser.error("--keep-statistics keeps those of --init, which is not given")
    start = time.perf_counter()
    mean = {}
    worth = np.where(is_right(crops["planes"][trained]), options.right, 1.0)
    for state in training(net, crops, trained, Recipe.of(options), rng, worth):
        mean = state.mean
        if state.step % (10 * REPORT_EVERY) == 0 or state.step == REPORT_EVERY:
            score = held_out(mean, options.widths, crops, held)
            print(state.step, f"{state.done:.0%}", f"{state.loss:.4f}", score, flush=True)
            save_file(mean, options.out)
    save_file(mean, options.out)
    document = {
        "crops": len(trained),
        "steps": options.steps,
        "minutes": round((time.perf_counter() - start) / 60, 1),
        "seed": options.seed,
        "init": None if options.init is None else options.init.name,
        "rate": options.rate,
        "transparent": options.transparent,
        "at_edge": options.at_edge,
        "keep_statistics": options.keep_statistics,
        "right": options.right,
        "widths": options.widths,
        "held_out": held_out(mean, options.widths, crops, held),
        "environment": Environment.current().to_json(),
    }
    options.out.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")
    save_refiner(options.out)
    print(json.dumps(document["held_out"]), options.out)


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        steps: How many, unless time ends before.
        batch: Crops a step.
        rate: Highest learning rate.
        transparent: How much more a pixel counts that is half transparent.
        at_edge: How much more a pixel counts next to the true edge.
        keep_statistics: Normalize by the statistics that the network has, as it does when it is
            used; in a step of few crops they are others.
        seconds: When to end; the learning rate falls with whichever ends first. None: never.
    """

    steps: int
    batch: int = 8
    rate: float = LEARNING_RATE
    transparent: float = 0.0
    at_edge: float = 0.0
    keep_statistics: bool = False
    seconds: float | None = None

    @classmethod
    def of(cls, options: argparse.Namespace) -> Recipe:
        """That of the command line."""
        return cls(
            steps=options.steps,
            batch=options.batch,
            rate=options.rate,
            transparent=options.transparent,
            at_edge=options.at_edge,
            keep_statistics=options.keep_statistics,
        )


@dataclass(frozen=True, eq=False)
class Step:
    """Where a training is.

    Attributes:
        step: Number of steps so far.
        done: Share of all of them.
        loss: Mean of the last ones.
        mean: Weights: the mean of the last some hundred steps errs less than any of them.
    """

    step: int
    done: float
    loss: float
    mean: dict[str, Tensor]


def training(
    net: EdgeNet,
    crops: dict[str, UInt8[np.ndarray, "N C h w"]],
    trained: Int[np.ndarray, " n"],
    recipe: Recipe,
    rng: np.random.Generator,
    worth: Float[np.ndarray, " n"] | None = None,
) -> Iterator[Step]:
    """Train a network where it is, a step at a time.

    Args:
        net: The network.
        crops: All of them.
        trained: The numbers of those to train on.
        recipe: How.
        rng: Draws crops and changes them.
        worth: How often each of those is drawn; None: all alike.
    """
    chances = None if worth is None else worth / worth.sum()
    device = next(net.parameters()).device
    optimizer = torch.optim.AdamW(net.parameters(), lr=recipe.rate, weight_decay=WEIGHT_DECAY)
    mean = {name: value.clone() for name, value in net.state_dict().items()}
    start, losses, step, done = time.perf_counter(), [], 0, 0.0
    while done < 1:
        step += 1
        done = step / recipe.steps
        if recipe.seconds is not None:
            done = max(done, min(1.0, (time.perf_counter() - start) / recipe.seconds))
        rate = recipe.rate * min(1, step / WARM_UP) * (0.51 + 0.49 * math.cos(math.pi * done))
        optimizer.param_groups[0]["lr"] = rate
        pick = np.sort(rng.choice(trained, recipe.batch, replace=False, p=chances))
        rows = augmented({name: crops[name][pick] for name in NAMES}, rng, device)
        net.train(not recipe.keep_statistics)
        loss = loss_of(net, rows, recipe.transparent, recipe.at_edge)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        losses = [*losses[1 - REPORT_EVERY :], loss.item()]
        decay = min(0.998, step / (step + 10))
        for name, value in net.state_dict().items():
            if value.dtype.is_floating_point:
                mean[name].lerp_(value, 1 - decay)
            else:
                mean[name].copy_(value)
        yield Step(step, done, float(np.mean(losses)), mean)


def with_all_outputs(weights: dict[str, Tensor], net: EdgeNet) -> dict[str, Tensor]:
    """Weights of a network that may have had fewer outputs; further ones start as in a new one."""
    own = net.state_dict()
    for name in ("unet.head.weight", "unet.head.bias"):
        own[name][: len(weights[name])] = weights[name]
    return weights | {name: own[name] for name in ("unet.head.weight", "unet.head.bias")}


def save_refiner(weights: Path) -> None:
    """Write the refiner of some weights as it ships, into the folder of their name."""
    settings = json.loads(weights.with_suffix(".json").read_text())
    extractor = EdgeExtractor(2, widths=settings["widths"])
    extractor.net.load_state_dict(load_file(weights))
    model = sr.SparseRefiner(None, num_classes=2, extractor=extractor)
    model.save_pretrained(weights.with_suffix(""))


def read_crops(
    folders: Sequence[Path],
) -> tuple[dict[str, UInt8[np.ndarray, "N C h w"]], Bool[np.ndarray, " N"]]:
    """All crops of some folders, files in the order of their names, and which are held out."""
    counts, paths = [], []
    for folder in folders:
        files = sorted(folder.glob("*.npz"))
        if not files:
            raise SystemExit(f"no crops in {folder}. Make some with benchmarks/edges/crops.py.")
        paths += files
        counts.append(sum(len(np.load(path)["sides"]) for path in files))
    crops: dict[str, np.ndarray] = {}
    at = 0
    for path in paths:  # one file at a time: twice as much would not fit into memory
        with np.load(path) as file:
            for name in NAMES:
                values = file[name]
                if name not in crops:
                    crops[name] = np.empty((sum(counts), *values.shape[1:]), np.uint8)
                crops[name][at : at + len(values)] = values
            at += len(values)
    is_held = np.zeros(sum(counts), bool)
    for count, end in zip(counts, np.cumsum(counts), strict=True):
        is_held[end - min(int(HELD * count), MOST_HELD) : end] = True
    return crops, is_held


def is_right(planes: UInt8[np.ndarray, "N 6 h w"]) -> Bool[np.ndarray, " N"]:
    """Which crops have a mask that was right as it was given: mean error in the band below 0.03."""
    found = []
    for truth, *_, band, given in planes:
        error = np.abs(given.astype(np.int16) - truth)[band > 127]
        found.append(error.size > 0 and error.mean() < RIGHT_ERROR * 255)
    return np.array(found)


def augmented(
    crops: dict[str, np.ndarray], rng: np.random.Generator, device: torch.device
) -> dict[str, Tensor]:
    """Flipped and transposed; colors changed alike of all that has any: closed form stays."""
    found = as_floats(crops, device)
    if rng.random() < 0.5:
        found = {name: values.flip(-1) for name, values in found.items()}
    if rng.random() < 0.5:
        found = {name: values.transpose(-1, -2) for name, values in found.items()}
    each = (len(found["rgb"]), 3, 1, 1)
    gain = torch.from_numpy(rng.uniform(0.8, 1.25, each)).float().to(device)
    shift = torch.from_numpy(rng.uniform(-0.1, 0.1, each)).float().to(device)
    order = torch.from_numpy(rng.permutation(3)) if rng.random() < 0.3 else torch.arange(3)
    found["rgb"] = ((found["rgb"] * gain + shift).clamp(0, 1))[:, order]
    front, back = found["sides"].split(3, 1)
    sides = [((one * gain + shift).clamp(0, 1))[:, order] for one in (front, back)]
    found["sides"] = torch.cat(sides, 1)
    return found


def as_floats(crops: dict[str, np.ndarray], device: torch.device) -> dict[str, Tensor]:
    """Crops as numbers from 0 to 1, on a device."""
    return {
        name: torch.from_numpy(values).to(device).float() / 255 for name, values in crops.items()
    }


@dataclass(frozen=True, eq=False)
class Seen:
    """The pixels that the network sees of some crops, and what it says of them.

    Attributes:
        alpha: Alpha by the network.
        truth: True alpha.
        closed_form: Closed form's.
        inside: True in the band.
        at_edge: True next to where true alpha crosses one half.
        contrast: How far the colors of both sides are apart, mean of the channels.
        crop: Number of the crop.
    """

    alpha: Float[Tensor, " N"]
    truth: Float[Tensor, " N"]
    closed_form: Float[Tensor, " N"]
    inside: Bool[Tensor, " N"]
    at_edge: Bool[Tensor, " N"]
    contrast: Float[Tensor, " N"]
    crop: Int[Tensor, " N"]

    @classmethod
    def of(cls, net: EdgeNet, crops: dict[str, Tensor]) -> Seen:
        """Run the network on crops."""
        truth, coarse, closed, guided, band, given = crops["planes"].unbind(1)
        sides = F.interpolate(crops["sides"], truth.shape[1:], mode="bilinear")
        inside = band > 0.5
        pixels = ActivePixels.from_mask(with_context(inside))
        at = tuple(pixels.coords.long().unbind(1))
        colors, both = (part.permute(0, 2, 3, 1)[at] for part in (crops["rgb"], sides))
        front, back = both.split(3, 1)
        mine = (coarse[at], given[at], closed[at], guided[at])
        features = edge_features(colors, *mine, front, back)
        alpha = net(features, closed[at], pixels)
        contrast = (front - back).abs().mean(1)
        at_edge = next_to_edge(truth)[at]
        return cls(alpha, truth[at], closed[at], inside[at], at_edge, contrast, at[0])


def next_to_edge(alpha: Float[Tensor, "B h w"]) -> Bool[Tensor, "B h w"]:
    """The pixels that have one on the other side of one half among their eight neighbors."""
    inside = (alpha > 0.5).float()
    near = [F.max_pool2d(side, 3, stride=1, padding=1) for side in (inside, 1 - inside)]
    return (near[0] * near[1]) > 0


def loss_of(
    net: EdgeNet, crops: dict[str, Tensor], transparent: float = 0.0, at_edge: float = 0.0
) -> Tensor:
    """Of alpha, of what is seen of it, of its side, and of its steps between neighbors.

    Crops with a wide band have more pixels, but are not worth as much more.

    Args:
        net: The network.
        crops: Some crops.
        transparent: How much more a pixel counts that is half transparent in truth.
        at_edge: How much more a pixel counts next to the true edge: the band is mostly farther off,
            and there a network learns plateaus of doubt by heart instead.
    """
    seen = Seen.of(net, crops)
    counts = torch.bincount(seen.crop[seen.inside], minlength=len(crops["rgb"])).clamp(min=1)
    worth = counts.float().rsqrt()[seen.crop] * seen.inside
    worth = worth * (1 + transparent * 4 * seen.truth * (1 - seen.truth))
    worth = worth * (1 + at_edge * seen.at_edge)
    worth = worth / worth.sum()
    difference = (seen.alpha - seen.truth).abs()
    side = F.binary_cross_entropy(seen.alpha.clamp(1e-3, 1 - 1e-3), seen.truth, reduction="none")
    # Rows follow the pixels of a line: neighbors in it are neighbors here, but for its end.
    steps = (seen.alpha.diff() - seen.truth.diff()).abs().clamp(max=1)
    both = worth[1:] * seen.inside[:-1]
    alike = (3 + 2 * seen.contrast) * difference + 0.5 * side
    return (worth * alike).sum() + (both * steps).sum()


@torch.no_grad()
def held_out(
    state: dict[str, Tensor],
    widths: list[int],
    crops: dict[str, np.ndarray],
    held: Int[np.ndarray, " N"],
) -> dict[str, float]:
    """Mean absolute error and the share on the wrong side of 0.5, of unseen crops.

    Both in the band, and the latter also next to the true edge.
    """
    device = state["unet.head.weight"].device
    net = EdgeNet(widths).to(device)
    net.load_state_dict(state)
    net.eval()
    sums, wrong_at_edge = np.zeros(5), np.zeros(3)
    for first in range(0, len(held), 8):
        rows = {name: crops[name][held[first : first + 8]] for name in NAMES}
        seen = Seen.of(net, as_floats(rows, device))
        for place, one in enumerate((seen.alpha, seen.closed_form)):
            difference = (one - seen.truth).abs()
            wrong = (one > 0.5) != (seen.truth > 0.5)
            sums[2 * place] += float(difference[seen.inside].sum())
            sums[2 * place + 1] += int(wrong[seen.inside].sum())
            wrong_at_edge[place] += int((wrong & seen.at_edge)[seen.inside].sum())
        sums[4] += int(seen.inside.sum())
        wrong_at_edge[2] += int(seen.at_edge[seen.inside].sum())
    names = ("mae", "wrong", "mae_closed_form", "wrong_closed_form")
    values = [*sums[:4] / sums[4], *wrong_at_edge[:2] / max(wrong_at_edge[2], 1)]
    names = (*names, "wrong_at_edge", "wrong_at_edge_closed_form")
    return {name: round(float(value), 5) for name, value in zip(names, values, strict=True)}


if __name__ == "__main__":
    main()
