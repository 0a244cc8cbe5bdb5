"""Data is read as NumPy, Pillow and torchvision read it."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision import transforms

import tool

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
# Both resize by a triangle filter, but Pillow rounds to 8 bits between rows and columns.
RESIZED = 1.01 / 255


@pytest.fixture(scope="session")
def program() -> Path:
    """The newest build of the example, which `cargo test` and `cargo nextest run` make."""
    builds = [tool.ROOT / "target" / kind / "examples" / "batch" for kind in ("release", "debug")]
    found = [path for path in builds if path.is_file()]
    if not found:
        raise tool.ToolError("no `batch`: run `cargo build -p secateur-train --example batch`")
    return max(found, key=lambda path: path.stat().st_mtime)


def read(program: Path, data: Path, *settings: str) -> dict[str, np.ndarray]:
    out = data.parent / "out.npz"
    subprocess.run([program, data, out, *settings], check=True)
    with np.load(out) as arrays:
        return dict(arrays)


def picture(height: int, width: int, seed: int) -> Image.Image:
    """Smooth colors with noise."""
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [np.sin(rows / (3 + i) + seed) + np.cos(columns / (5 - i)) for i in range(3)]
    noise = np.random.default_rng(seed).normal(0, 0.3, (height, width, 3))
    pixels = 127 + 50 * (np.stack(waves, axis=-1) + noise)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("size", [(64, 64), (61, 97), (130, 50), (20, 33)])
@pytest.mark.parametrize("gray", [False, True])
def test_images_are_prepared_as_by_torchvision(
    program: Path, tmp_path: Path, size: tuple[int, int], gray: bool
) -> None:
    image = picture(*size, seed=1)
    (tmp_path / "data" / "a").mkdir(parents=True)
    image.save(tmp_path / "data" / "a" / "1.png")
    mean, std = ([0.5], [0.25]) if gray else (MEAN, STD)
    steps = [transforms.Resize(32), transforms.CenterCrop(27), transforms.ToTensor()]
    gray_steps = [transforms.Grayscale()] if gray else []
    expected = transforms.Compose([*gray_steps, *steps, transforms.Normalize(mean, std)])(image)
    settings = ["resize=32", "crop=27", f"mean={join(mean)}", f"std={join(std)}"]
    found = read(program, tmp_path / "data", *settings, *(["channels=gray"] if gray else []))
    assert found["y"].tolist() == [0]
    difference = np.abs(found["x0"][0] - expected.numpy()) * np.reshape(std, (-1, 1, 1))
    assert difference.max() <= RESIZED
    assert difference.mean() < 0.5 / 255


def join(values: list[float]) -> str:
    return ",".join(map(str, values))


@pytest.mark.parametrize("crop", [27, 28, 29, 30, 31, 32])
def test_crops_are_those_of_torchvision(program: Path, tmp_path: Path, crop: int) -> None:
    image = picture(32, 35, seed=2)
    (tmp_path / "data").mkdir()
    image.save(tmp_path / "data" / "1.png")
    expected = transforms.Compose([transforms.CenterCrop(crop), transforms.ToTensor()])(image)
    found = read(program, tmp_path / "data", f"crop={crop}")
    np.testing.assert_allclose(found["x0"][0], expected.numpy(), rtol=0, atol=1e-7)


def test_jpeg_files_are_decoded_as_by_pillow(program: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "1.jpg"
    picture(64, 48, seed=3).save(path, quality=90)
    expected = transforms.ToTensor()(Image.open(path)).numpy()
    difference = np.abs(read(program, tmp_path / "data")["x0"][0] - expected)
    # Decoders differ in how they round and how they enlarge colors.
    assert difference.max() <= 5 / 255
    assert difference.mean() <= 0.5 / 255


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_are_read_as_numpy_wrote_them(program: Path, tmp_path: Path, save: object) -> None:
    random = np.random.default_rng(4)
    types = ["<f4", ">f4", "<f2", "<f8", "|u1", "|i1", ">i2", "<u4", "<i8", "<u8", "?"]
    arrays = {
        f"input{i}": random.integers(0, 2, (5, i + 1, 2)).astype(dtype)
        for i, dtype in enumerate(types)
    }
    arrays["transposed"] = np.asfortranarray(random.random((5, 3, 4), dtype=np.float32))
    labels = np.array([3, 1, 4, 1, 5], dtype=np.uint8)
    save(tmp_path / "data.npz", **arrays, y=labels)
    found = read(program, tmp_path / "data.npz")
    np.testing.assert_array_equal(found["y"], labels)
    for i, array in enumerate(arrays.values()):
        # Bytes of three axes or more are pixels.
        pixels = array.dtype == np.uint8
        expected = array.astype(np.float32) / 255 if pixels else array
        np.testing.assert_array_equal(found[f"x{i}"], expected)
        assert found[f"x{i}"].dtype == {"f": "f4", "b": "?"}.get(expected.dtype.kind, "i8")


def test_a_single_array_is_read_as_numpy_wrote_it(program: Path, tmp_path: Path) -> None:
    array = np.random.default_rng(5).random((3, 2, 2))
    np.save(tmp_path / "data.npy", array)
    np.testing.assert_array_equal(
        read(program, tmp_path / "data.npy")["x0"], array.astype(np.float32)
    )
