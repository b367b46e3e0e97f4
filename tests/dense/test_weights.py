import pickle
import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from sparserefine.dense.weights import load_weights, read_weights, save_weights


class CreatesFile:
    """Unpickling it makes a file: what an attacker's checkpoint would do, harmless."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


class Net(nn.Module):
    def __init__(self, hidden: int = 4, classes: int = 19) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, hidden, 1)
        self.head = nn.Conv2d(hidden, classes, 1)


@pytest.fixture
def state() -> dict[str, Tensor]:
    return {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(3)}


def assert_same(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert got.keys() == expected.keys()
    for name, tensor in expected.items():
        assert got[name].dtype == tensor.dtype
        assert torch.equal(got[name], tensor)


def test_safetensors_gives_back_what_was_saved(tmp_path: Path, state: dict[str, Tensor]):
    path = tmp_path / "new" / "net.safetensors"
    save_weights(state, path, {"source": "here"})
    assert_same(read_weights(path), state)
    with safe_open(path, framework="pt") as file:
        assert file.metadata()["source"] == "here"


def test_strided_and_shared_tensors_are_saved(tmp_path: Path):
    matrix = torch.arange(6.0).view(2, 3)
    state = {"transposed": matrix.T, "tied": matrix, "learned": nn.Parameter(matrix)}
    save_weights(state, tmp_path / "net.safetensors")
    assert_same(read_weights(tmp_path / "net.safetensors"), state)


def test_a_failed_save_leaves_the_old_file(
    tmp_path: Path, state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "net.safetensors"
    save_weights(state, path)

    def write_half(tensors: dict[str, Tensor], file: Path, **_: object) -> None:
        Path(file).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("sparserefine.dense.weights.save_file", write_half)
    with pytest.raises(OSError, match="disk full"):
        save_weights({"c": torch.zeros(1)}, path)
    assert_same(read_weights(path), state)
    assert [file.name for file in tmp_path.iterdir()] == ["net.safetensors"]


def test_saved_file_is_as_readable_as_any_other(tmp_path: Path, state: dict[str, Tensor]):
    plain = tmp_path / "plain.txt"
    plain.touch()
    save_weights(state, tmp_path / "net.safetensors")
    assert (tmp_path / "net.safetensors").stat().st_mode == plain.stat().st_mode


def test_save_wants_the_safetensors_suffix(tmp_path: Path, state: dict[str, Tensor]):
    with pytest.raises(ValueError, match=r"suffix '\.pth', expected \.safetensors\. Rename it"):
        save_weights(state, tmp_path / "net.pth")


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".ckpt", ".PTH"])
def test_a_pickle_is_refused_unless_allowed(tmp_path: Path, state: dict[str, Tensor], suffix: str):
    path = tmp_path / f"net{suffix}"
    torch.save(state, path)
    with pytest.raises(ValueError, match=r"is a pickle, expected .*pass allow_pickle=True"):
        read_weights(path)
    assert_same(read_weights(path, allow_pickle=True), state)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
@pytest.mark.parametrize("allow_pickle", [False, True])
def test_code_in_a_pickle_never_runs(tmp_path: Path, writer: str, allow_pickle: bool):
    trace, path = tmp_path / "executed", tmp_path / "net.pth"
    content = {"a": CreatesFile(trace)}
    if writer == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(
        ValueError, match=r"is a pickle|is not a whole file of tensors|holds a dict with a"
    ):
        read_weights(path, allow_pickle=allow_pickle)
    assert not trace.exists()
    # The file is armed: without the guard it does run.
    torch.load(path, weights_only=False) if writer == "torch" else pickle.loads(path.read_bytes())
    assert trace.exists()


def test_a_pickle_named_safetensors_is_no_way_around(tmp_path: Path):
    trace, path = tmp_path / "executed", tmp_path / "net.safetensors"
    path.write_bytes(pickle.dumps({"a": CreatesFile(trace)}))
    with pytest.raises(ValueError, match="is not a whole safetensors file"):
        read_weights(path)
    assert not trace.exists()


@pytest.mark.parametrize("kept", [0, 4, 40, -1])
def test_a_truncated_safetensors_file_is_named(tmp_path: Path, state: dict[str, Tensor], kept: int):
    path = tmp_path / "net.safetensors"
    save_weights(state, path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(
        ValueError, match=r"net\.safetensors is (empty|not a whole) .*Download or export"
    ):
        read_weights(path)


@pytest.mark.parametrize("kept", [0, 4, 200, -1])
def test_a_truncated_pickle_is_named(tmp_path: Path, state: dict[str, Tensor], kept: int):
    path = tmp_path / "net.pth"
    torch.save(state, path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"net\.pth is (empty|not a whole file of tensors) \("):
        read_weights(path, allow_pickle=True)


@pytest.mark.parametrize(
    ("content", "held"),
    [
        pytest.param({"epoch": 3, "model": {}}, "a dict with epoch, model", id="checkpoint"),
        pytest.param({0: torch.zeros(1)}, "a dict with 0", id="numbers_for_names"),
        pytest.param(torch.zeros(1), "a Tensor", id="tensor"),
    ],
)
def test_a_file_without_a_state_dict_is_named(tmp_path: Path, content: object, held: str):
    path = tmp_path / "net.pth"
    torch.save(content, path)
    with pytest.raises(ValueError, match=f"holds {held}, expected a dict from name to tensor"):
        read_weights(path, allow_pickle=True)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"no weights file at .*gone\.safetensors"):
        read_weights(tmp_path / "gone.safetensors")


def test_an_unknown_suffix_is_named(tmp_path: Path):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"weights")
    with pytest.raises(ValueError, match=r"suffix '\.onnx', expected \.safetensors"):
        read_weights(path)


def test_load_copies_every_tensor():
    source, target = Net(), Net()
    load_weights(target, source.state_dict())
    assert_same(target.state_dict(), source.state_dict())


def test_missing_and_unexpected_names_are_listed():
    state = Net().state_dict()
    state["neck.weight"] = state.pop("body.weight")
    message = (
        "weights do not fit Net, which expects 4 tensors and got 4: "
        "1 missing (body.weight); 1 unexpected (neck.weight). "
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        load_weights(Net(), state)


def test_only_the_first_few_names_are_listed():
    with pytest.raises(ValueError, match=r"4 missing \(body\.weight, body\.bias, head\.weight, …"):
        load_weights(Net(), {})


def test_other_shapes_are_listed():
    message = r"3 of another shape \(body\.weight 8×3×1×1 instead of 4×3×1×1, body\.bias 8 inst"
    with pytest.raises(ValueError, match=message):
        load_weights(Net(hidden=4), Net(hidden=8).state_dict())


def test_another_number_of_classes_is_said_so():
    message = r"weights have 12 outputs \(at head\.bias\), Net expects 19: .* number of classes"
    with pytest.raises(ValueError, match=message):
        load_weights(Net(classes=19), Net(classes=12).state_dict())


def test_a_misfit_changes_nothing():
    model = Net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match="number of classes"):
        load_weights(model, Net(classes=12).state_dict())
    assert_same(model.state_dict(), before)
