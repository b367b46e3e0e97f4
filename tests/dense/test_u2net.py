"""U²-Net and IS-Net: against the authors' definition, onnxruntime, and files of all kinds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import sparserefine as sr
from sparserefine.dense.u2net import TABLES
from sparserefine.dense.weights import save_weights

STAGES = ("stage1", "stage2", "stage3", "stage4", "stage5", "stage6")


def published(kind: str) -> dict[str, Tensor]:
    """Random weights under the authors' names, batch norms apart."""
    generator = torch.Generator().manual_seed(0)
    table = TABLES[kind]
    state: dict[str, Tensor] = {}

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    def conv(name: str, c_in: int, c_out: int, side: int = 3) -> None:
        state[f"{name}.weight"] = draw(c_out, c_in, side, side) / (side * c_in**0.5)
        state[f"{name}.bias"] = 0.1 * draw(c_out)

    def step(name: str, c_in: int, c_out: int) -> None:
        conv(f"{name}.conv_s1", c_in, c_out)
        norm = {"weight": 1 + 0.2 * draw(c_out), "bias": 0.1 * draw(c_out)}
        norm |= {"running_mean": 0.1 * draw(c_out), "running_var": 0.5 + draw(c_out) ** 2}
        state.update({f"{name}.bn_s1.{part}": value for part, value in norm.items()})

    def block(name: str, widths: tuple[int, int, int], height: int) -> None:
        c_in, inner, out = widths
        step(f"{name}.rebnconvin", c_in, out)
        for level in range(1, height + 1):
            step(f"{name}.rebnconv{level}", out if level == 1 else inner, inner)
        for level in range(height - 1, 0, -1):
            step(f"{name}.rebnconv{level}d", 2 * inner, out if level == 1 else inner)

    if table.stem:
        conv("conv_in", 3, table.stem)
    heights = (7, 6, 5, 4, 4, 4)
    for stage, widths, height in zip(STAGES, table.down, heights, strict=True):
        block(stage, widths, height)
    for stage, widths, height in zip(STAGES[4::-1], table.up, heights[4::-1], strict=True):
        block(f"{stage}d", widths, height)
    outputs = [*(widths[2] for widths in reversed(table.up)), table.down[-1][2]]
    for side, width in enumerate(outputs, 1):
        conv(f"side{side}", width, 1)
    if table.combines:
        conv("outconv", 6, 1, side=1)
    return state


def by_definition(kind: str, state: dict[str, Tensor], x: Tensor) -> Tensor:
    """The authors' forward pass, step by step, with batch norms, from tensors by name."""

    def conv(name: str, x: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        padding = dilation * (weight.shape[2] // 2)
        return F.conv2d(x, weight, bias, stride=stride, padding=padding, dilation=dilation)

    def step(name: str, x: Tensor, dilation: int = 1) -> Tensor:
        names = ("running_mean", "running_var", "weight", "bias")
        norm = [state[f"{name}.bn_s1.{part}"] for part in names]
        return F.relu(F.batch_norm(conv(f"{name}.conv_s1", x, dilation=dilation), *norm))

    def pool(x: Tensor) -> Tensor:
        return F.max_pool2d(x, 2, 2, ceil_mode=True)

    def up(x: Tensor, like: Tensor) -> Tensor:
        return F.interpolate(x, like.shape[2:], mode="bilinear")

    def rsu(name: str, x: Tensor, height: int) -> Tensor:
        entry = step(f"{name}.rebnconvin", x)
        kept = [step(f"{name}.rebnconv1", entry)]
        for level in range(2, height):
            kept.append(step(f"{name}.rebnconv{level}", pool(kept[-1])))
        y = step(f"{name}.rebnconv{height}", kept[-1], 2)
        for level in range(height - 1, 0, -1):
            skip = kept[level - 1]
            y = step(f"{name}.rebnconv{level}d", torch.cat((up(y, skip), skip), 1))
        return y + entry

    def rsu4f(name: str, x: Tensor) -> Tensor:
        entry = step(f"{name}.rebnconvin", x)
        one = step(f"{name}.rebnconv1", entry)
        two = step(f"{name}.rebnconv2", one, 2)
        three = step(f"{name}.rebnconv3", two, 4)
        y = step(f"{name}.rebnconv4", three, 8)
        y = step(f"{name}.rebnconv3d", torch.cat((y, three), 1), 4)
        y = step(f"{name}.rebnconv2d", torch.cat((y, two), 1), 2)
        return step(f"{name}.rebnconv1d", torch.cat((y, one), 1)) + entry

    table, images = TABLES[kind], x
    x = (x - torch.tensor(table.mean).view(3, 1, 1)) / torch.tensor(table.std).view(3, 1, 1)
    if table.stem:
        x = conv("conv_in", x, stride=2)
    maps = [rsu("stage1", x, 7)]
    for stage, height in ((2, 6), (3, 5), (4, 4)):
        maps.append(rsu(f"stage{stage}", pool(maps[-1]), height))
    for stage in (5, 6):
        maps.append(rsu4f(f"stage{stage}", pool(maps[-1])))
    y = maps[5]
    found = [y]
    for stage in (5, 4, 3, 2, 1):
        joined = torch.cat((up(y, maps[stage - 1]), maps[stage - 1]), 1)
        name = f"stage{stage}d"
        y = rsu4f(name, joined) if stage == 5 else rsu(name, joined, (7, 6, 5, 4)[stage - 1])
        found.insert(0, y)
    first = conv("side1", found[0])
    if not table.combines:
        return up(first, images)
    sides = [first, *(up(conv(f"side{k}", found[k - 1]), first) for k in range(2, 7))]
    return conv("outconv", torch.cat(sides, 1))


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        ("u2netp", (64, 64)),
        ("u2netp", (45, 70)),
        ("isnet", (64, 96)),
        pytest.param("u2net", (64, 64), marks=pytest.mark.slow),
        pytest.param("isnet", (101, 131), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_it_is_the_authors_network(kind: str, size: tuple[int, int], tmp_path: Path) -> None:
    state, images = published(kind), torch.rand(1, 3, *size)
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, tmp_path / "net.pth")
    model = sr.dense.create(kind, tmp_path / "net.pth", allow_pickle=True)
    logits = model(images)
    assert bool((logits[:, 0] == 0).all())
    found = F.interpolate(logits, size, mode="bilinear")[:, 1:].sigmoid()
    expected = by_definition(kind, state, images).sigmoid()
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert float(expected.std()) > 1e-3


@pytest.mark.parametrize("kind", TABLES)
def test_parameters_are_the_published_ones(kind: str) -> None:
    millions = {"u2netp": 1.13, "u2net": 43.98, "isnet": 44.02}[kind]
    model = sr.dense.create(kind, device="meta")
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.01)


def test_the_shipped_weights_come_with_the_name() -> None:
    model = sr.dense.create("u2netp")
    assert "Apache-2.0" in model.preset.license
    assert (model.preset.dense_size, model.preset.fit) == ((320, 320), "stretch")
    assert model.preset.class_names == ("background", "foreground")
    images = torch.zeros(1, 3, 64, 64)
    images[:, :, 16:48, 16:48] = torch.tensor([0.9, 0.5, 0.1]).view(3, 1, 1)  # an orange square
    foreground = model(images).softmax(1)[0, 1]
    assert float(foreground[24:40, 24:40].mean()) > float(foreground[:8].mean()) + 0.3


def test_it_agrees_with_onnxruntime_on_the_file(shared: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    file = shared / "dense" / "u2netp" / "u2netp.onnx"
    model = sr.dense.create("u2netp", file)
    images = torch.rand(1, 3, 320, 320)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    assert isinstance(model, sr.dense.U2Net)
    expected = session.run(None, {"input.1": model.normalize(images).numpy()})[0]
    found = model(images)[:, 1:].sigmoid()
    torch.testing.assert_close(found, torch.from_numpy(expected), atol=1e-3, rtol=0)


@pytest.mark.parametrize("half", [False, True])
def test_an_onnx_file_is_read_by_the_order_of_its_convolutions(half: bool, tmp_path: Path) -> None:
    file, model = write_onnx(tmp_path / "net.onnx", "u2netp", half=half)
    again = sr.dense.create("u2netp", file)
    images = torch.rand(1, 3, 48, 48)
    difference = (again(images) - model(images)).abs().max()
    assert float(difference) <= (0.1 if half else 0)


def write_onnx(file: Path, kind: str, *, half: bool = False) -> tuple[Path, nn.Module]:
    """A file with the convolutions of a network in their order, names lost, as exporters do."""
    onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
    model = sr.dense.create(kind)
    nodes, tensors = [], []
    convs = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    for index, conv in enumerate(convs):
        for part in ("weight", "bias"):
            array = getattr(conv, part).detach().numpy()
            name = f"{2000 + index}{part[0]}"
            array = array.astype("float16") if half else array
            tensors.append(onnx.numpy_helper.from_array(array, name))
            if half:  # as files of mixed precision have it
                cast = onnx.helper.make_node("Cast", [name], [f"{name}c"], to=1)
                nodes.append(cast)
        last = "c" if half else ""
        inputs = [f"x{index}", f"{2000 + index}w{last}", f"{2000 + index}b{last}"]
        nodes.append(onnx.helper.make_node("Conv", inputs, [f"x{index + 1}"]))
    graph = onnx.helper.make_graph(nodes, "net", [], [], tensors)
    onnx.save(onnx.helper.make_model(graph), str(file))
    return file, model


def test_files_of_another_network_are_named(tmp_path: Path) -> None:
    state = published("u2netp")
    save_weights(state, tmp_path / "u2netp.safetensors")
    with pytest.raises(ValueError, match=r"has the shape .* of 'u2net'\. Check which"):
        sr.dense.create("u2net", tmp_path / "u2netp.safetensors")
    with pytest.raises(ValueError, match=r"lacks 'conv_in.weight', so it is not one of 'isnet'"):
        sr.dense.create("isnet", tmp_path / "u2netp.safetensors")
    file, _ = write_onnx(tmp_path / "net.onnx", "u2netp")
    with pytest.raises(ValueError, match=r"number 2 with weights .* 'isnet' has 119, that one"):
        sr.dense.create("isnet", file)
    (tmp_path / "broken.onnx").write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"is not an ONNX file .*Copy it again"):
        sr.dense.create("u2netp", tmp_path / "broken.onnx")
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(ValueError, match=r"is a pickle, expected"):
        sr.dense.create("u2netp", tmp_path / "net.pth")


def test_photos_are_squashed_to_the_trained_square(monkeypatch: pytest.MonkeyPatch) -> None:
    model = sr.SparseRefiner(
        sr.dense.create("u2netp"), extractor=sr.SparseUNet(2, widths=(4,), blocks=1)
    )
    for size in ((100, 50), (40, 700), (320, 320)):
        assert model.dense_size.resized(size) == (320, 320)
    images = torch.randint(256, (1, 3, 90, 200), dtype=torch.uint8)
    seen = []
    assert isinstance(model.dense, sr.dense.U2Net)
    monkeypatch.setattr(model.dense, "forward", lambda x: (seen.append(x), x[:, :2])[1])
    assert model(images).labels.shape == (1, 90, 200)
    squashed = F.interpolate(images / 255, (320, 320), mode="bilinear", antialias=True)
    torch.testing.assert_close(seen[0], squashed)
    assert model.describe(weights=False)["dense"]["fit"] == "stretch"


def test_the_fit_belongs_to_the_preset() -> None:
    network = nn.Conv2d(3, 2, 3, padding=1)
    for fit, expected in (("keep", (16, 64)), ("stretch", (64, 64))):
        preset = sr.dense.Preset(dense_size=(64, 64), fit=fit)
        dense = sr.dense.from_callable(network, "logits", 2, preset=preset)
        model = sr.SparseRefiner(dense, extractor=sr.SparseUNet(2, widths=(4,), blocks=1))
        assert model.dense_pass(torch.rand(1, 3, 50, 200)).size == expected
