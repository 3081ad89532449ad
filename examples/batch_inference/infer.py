"""Batch inference on a Ray cluster: trains a small network on scikit-learn's digits, then reads many images with it.

The images are the data set itself, over and over, each copy with noise of its own. Every block is a task that makes
its images from their numbers, so a block that dies with its node is made again elsewhere. Sizes come from the
environment: REPEAT, how often the data set is read, and EPOCHS to train. The result goes into $BIVOUAC_RESULT:
predictions.parquet and summary.json.
"""

import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from sklearn.datasets import load_digits
from torch import nn

REPEAT = int(os.environ.get("REPEAT", "160"))
EPOCHS = int(os.environ.get("EPOCHS", "6"))
HELD_OUT = 5  # every fifth image is kept from the training
NOISE = 2.0  # pixels have values from 0 to 16
SEED = 4
Weights = dict[str, np.ndarray]
Batch = dict[str, Any]


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 4 * 4, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def tensor(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy((images / 16.0).astype(np.float32)).unsqueeze(1)


def train() -> Weights:
    """The weights after EPOCHS passes over the images that are not held out."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)  # the node has one core; more threads would only wait for each other
    images, labels = load_digits(return_X_y=True)
    chosen = np.arange(len(labels)) % HELD_OUT != 0
    inputs, targets = tensor(images[chosen].reshape(-1, 8, 8)), torch.from_numpy(labels[chosen])
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for epoch in range(EPOCHS):
        for part in torch.randperm(len(targets)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs[part]), targets[part]).backward()
            optimizer.step()
        print(f"training: epoch {epoch + 1} of {EPOCHS}", flush=True)
    return {name: value.numpy() for name, value in model.state_dict().items()}


def read_digits(batch: Batch, weights: Weights) -> Batch:
    """One block: images from their numbers, then what the network sees in them."""
    torch.set_num_threads(1)
    images, labels = load_digits(return_X_y=True)
    numbers = batch["id"]
    chosen = numbers % len(labels)
    noise = np.random.default_rng([SEED, int(numbers[0])]).normal(0, NOISE, (len(numbers), 8, 8))
    model = network()
    model.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in weights.items()})
    model.eval()
    with torch.inference_mode():
        seen = model(tensor(images[chosen].reshape(-1, 8, 8) + noise)).argmax(dim=1).numpy()
    node = ray.get_runtime_context().get_node_id()
    return {"id": numbers, "digit": seen, "truth": labels[chosen], "node": np.full(len(numbers), node)}


def infer(weights: Weights, rows: int, blocks: int) -> list[Batch]:
    """All blocks, read on whatever nodes the cluster has; progress is told as they come back."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    read = ray.data.range(rows, override_num_blocks=blocks).map_batches(
        read_digits,
        batch_size=None,
        fn_kwargs={"weights": weights},
        num_cpus=1,
    )
    # A task whose node dies is run again without end: Ray Data's own setting for tasks.
    done: list[Batch] = []
    images, began, percent = 0, time.monotonic(), 0
    for batch in read.iter_batches(batch_size=None, prefetch_batches=1):
        done.append(batch)
        images += len(batch["id"])
        before, percent = percent, 100 * images // rows
        if percent // 10 > before // 10 or len(done) == 1:
            pace = images / (time.monotonic() - began)
            nodes = len({block["node"][0] for block in done})
            print(f"inference: {images:,} of {rows:,} images, {pace:,.0f} images/s, {nodes} nodes so far", flush=True)
        if percent > before:
            print(f"progress {percent / 100:.2f}", flush=True)
    return done


def write(done: list[Batch], seconds: float, into: Path) -> dict[str, Any]:
    """Predictions in the order of their numbers, and what they amount to."""
    import pyarrow
    import pyarrow.parquet

    whole = {name: np.concatenate([part[name] for part in done]) for name in done[0]}
    order = np.argsort(whole["id"])
    whole = {name: values[order] for name, values in whole.items()}
    assert np.array_equal(whole["id"], np.arange(len(order))), "an image is missing or was read twice"
    into.mkdir(parents=True, exist_ok=True)
    columns = {name: whole[name] for name in ("id", "digit", "truth")}
    pyarrow.parquet.write_table(pyarrow.table(columns), into / "predictions.parquet")
    right = whole["digit"] == whole["truth"]
    unseen = whole["id"] % len(load_digits().target) % HELD_OUT == 0
    summary = {
        "images": len(order),
        "accuracy_unseen": round(float(right[unseen].mean()), 4),
        "accuracy": round(float(right.mean()), 4),
        "seconds": round(seconds, 2),
        "images_per_second": round(len(order) / seconds),
        "images_per_node": {node[:8]: count for node, count in Counter(whole["node"].tolist()).most_common()},
    }
    (into / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    return summary


def main() -> None:
    ray.init(ignore_reinit_error=True, log_to_driver=False, logging_level="ERROR")
    alive = [node for node in ray.nodes() if node["Alive"]]
    print(f"cluster: {len(alive)} nodes, {ray.cluster_resources().get('CPU', 0):.0f} CPUs", flush=True)
    weights = train()
    size = len(load_digits().target)
    began = time.monotonic()
    done = infer(weights, rows=REPEAT * size, blocks=REPEAT)
    summary = write(done, time.monotonic() - began, Path(os.environ.get("BIVOUAC_RESULT", "result")))
    print(f"result: {json.dumps(summary)}", flush=True)


if __name__ == "__main__":
    main()
