"""YOLO detectors of size n, as Ultralytics describes them, with the head in export mode."""

from modelzoo.model import Built, Family, Model, image

SIZE = 160
NAMES = ("yolov8n", "yolov5n", "yolov9t", "yolov10n", "yolo11n")  # `yolov5n` has the head of v5u


def detector(name: str) -> Built:
    from ultralytics.nn.tasks import DetectionModel

    model = DetectionModel(f"{name}.yaml", verbose=False)
    head = model.model[-1]
    head.export, head.format = True, "onnx"
    return model, image(SIZE, batch=1)


def _entry(name: str) -> Model:
    return Model(name, Family.YOLO, lambda: detector(name), dynamic=False)


MODELS: tuple[Model, ...] = tuple(map(_entry, NAMES))
