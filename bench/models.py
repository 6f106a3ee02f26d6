"""Training and inference of the models, beside PyTorch and ONNX Runtime: ``python -m bench.models --help``."""

from __future__ import annotations

import argparse
import datetime
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numba

from numbacnn import backends
from numbacnn.backends import Backend

from . import machine, peers
from .command import UserError, WrongResultError, exit_code, say, seconds, whole_number
from .model_contenders import (
    inference_flops,
    inference_makers,
    largest_difference,
    training_flops,
)
from .report import PLOT_MISSING, Table, geometric_mean, plot_bars, significant, write_json
from .timing import interleave
from .train_contenders import MODELS, Ours, Task, TorchCompiled, TorchEager

__all__ = ["best_ratios", "main"]

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parent.parent
TASKS = ("train", "infer", "memory", "start", "threads")
PEERS = ("torch", "torch.compile", "onnxruntime")
BATCHES = (1, 16)
LENET_BATCHES = (1, 256)
# Of logits, which are sums of thousands of rounded products after twenty layers.
BOUND = 1e-3
FIRST_STEP = """
import time
import numpy as np
import numbacnn as nc
from numbacnn import nn, optim
from numbacnn.training import TrainingStep
model = nc.models.lenet()
model.train()
step = TrainingStep(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), 0.1))
step(np.zeros((256, 1, 28, 28), np.float32), np.zeros(256, np.int64))
step.totals()
"""


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options; exits with code 2 for values that cannot be used."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.models",
        description="Measure a training step and the inference of models in float32, on a batch that stays in memory.",
    )
    add = parser.add_argument
    add("--models", nargs="+", choices=MODELS, default=list(MODELS), metavar="NAME",
        help=f"of {', '.join(MODELS)} (default: all)")  # fmt: skip
    add("--task", nargs="+", choices=TASKS, default=list(TASKS[:3]),
        help="memory is the peak of a training step; start is a process until its first LeNet step is done, with an "
        "empty and with a full cache of kernels; threads is LeNet's training step with 1, 2, ... of them (default: "
        f"{' '.join(TASKS[:3])})")  # fmt: skip
    add("--peer", nargs="+", action="extend", choices=PEERS, default=[],
        help="other libraries to measure in the same rounds; torch.compile takes minutes to compile")  # fmt: skip
    add("--batch-size", type=whole_number, metavar="N", help="of training steps (default: the recipe's)")
    add("--backend", choices=backends.NAMES, default="cpu", help="default: cpu")
    add("--budget", type=seconds, default=10.0, metavar="SECONDS", help="for each row (default: 10)")
    add("--output-dir", type=Path, metavar="DIR", default=RESULTS,
        help="folder for models-BACKEND.json and models-BACKEND.png (default: bench/results)")  # fmt: skip
    return parser.parse_args(argv)


def run(arguments: argparse.Namespace) -> None:
    """Everything that the command does once its options are read."""
    try:
        backend = backends.get(arguments.backend)
        libraries = {name: _import(name, backend) for name in dict.fromkeys(arguments.peer)}
    except (RuntimeError, ImportError) as error:
        raise UserError(str(error)) from error
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    computer = machine.examine(backend)
    versions = machine.versions(*sorted({name.partition(".")[0] for name in libraries}))
    say(f"{computer.title}; {', '.join(f'{name} {version}' for name, version in versions.items())}")
    table = Table([("task", -8), ("model", -10), ("batch", 5), ("contender", -18), ("threads", 7), ("ms", 9),
                   ("GFLOP/s", 8), ("MiB", 7), ("over ours", 9)])  # fmt: skip
    say(table.header())
    rows: list[dict[str, Any]] = []
    for task in TASKS:
        if task in arguments.task:
            for row in _MEASURES[task](arguments, backend, libraries):
                rows.append(row)
                say(table.line(cells_of(row)))
    for task, ratios in best_ratios(rows).items():
        say(f"{task}: the best peer takes {geometric_mean(list(ratios.values())):.2f} times our time, geometric mean")
    name = f"models-{backend.name}"
    content = {
        "benchmark": "models",
        "measured": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": computer.facts,
        "versions": versions,
        "settings": {"backend": backend.name, "dtype": "float32", "peers": list(libraries), "budget": arguments.budget},
        "rows": rows,
    }
    write_json(arguments.output_dir / f"{name}.json", content)
    say(f"written: {arguments.output_dir / name}.json")
    if best_ratios(rows):
        try:
            draw(arguments.output_dir / f"{name}.png", rows, computer.title)
        except ImportError:
            say(PLOT_MISSING)


def _import(name: str, backend: Backend) -> Any:
    if name == "onnxruntime":
        try:
            import onnx  # noqa: F401 - the models are handed over as its graphs
            import onnxruntime
        except ImportError as error:
            raise ImportError(f"peer onnxruntime cannot be imported ({error}): pip install onnx onnxruntime") from error
        return onnxruntime
    return peers.import_torch(numba.get_num_threads(), "cuda" if backend.name == "cuda" else "cpu")


def measure_training(
    arguments: argparse.Namespace, backend: Backend, libraries: dict[str, Any], threads: int | None = None
) -> Iterator[dict[str, Any]]:
    """A step of each model."""
    for name in arguments.models:
        batch = arguments.batch_size or MODELS[name].batch_size
        task = Task(MODELS[name], batch, batch)
        contenders: dict[str, Any] = {"numbacnn": Ours(task, backend)}
        device = "cuda" if backend.name == "cuda" else "cpu"
        for kind in (TorchEager, TorchCompiled):
            if kind.name in libraries:
                contenders[kind.name] = kind(libraries[kind.name], task, device)
        steps = {}
        for who, contender in contenders.items():
            x, y = next(iter(contender.batches(0)))
            steps[who] = lambda contender=contender, x=x, y=y: contender.step(x, y)
        waits = {who: contender.wait for who, contender in contenders.items()} if backend.asynchronous else {}
        timings = interleave(steps, budget=arguments.budget, waits=waits)
        yield from _rows("train", name, batch, timings, training_flops(task), threads or _threads(backend))


def measure_inference(
    arguments: argparse.Namespace, backend: Backend, libraries: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """The logits of a batch; WrongResultError where contenders disagree."""
    torch = libraries.get("torch") or libraries.get("torch.compile")
    for name in arguments.models:
        for batch in LENET_BATCHES if name == "lenet" else BATCHES:
            task = Task(MODELS[name], batch, batch)
            makers = inference_makers(task, backend, torch, libraries.get("onnxruntime"), numba.get_num_threads())
            wanted = {"numbacnn", "numbacnn folded", *libraries}
            contenders = {who: make() for who, make in makers.items() if who in wanted}
            logits = {who: contender.to_numpy(contender.run()) for who, contender in contenders.items()}
            for who, values in logits.items():
                difference = largest_difference(values, logits["numbacnn"])
                if not difference <= BOUND:
                    raise WrongResultError(f"{name}: logits of {who} differ by {difference:.1e} of our largest")
            timings = interleave(
                {who: contender.run for who, contender in contenders.items()},
                budget=arguments.budget / 2,
                waits={who: contender.wait for who, contender in contenders.items() if contender.wait},
            )
            yield from _rows("infer", name, batch, timings, inference_flops(task), _threads(backend))


def measure_memory(
    arguments: argparse.Namespace, backend: Backend, libraries: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """The most memory of a training step, each in a process of its own."""
    for name in arguments.models:
        batch = arguments.batch_size or MODELS[name].batch_size
        ours = None
        for who in ("numbacnn", *(["torch"] if "torch" in libraries else [])):
            command = [sys.executable, "-m", "bench.peak_memory", name, who, str(batch)]
            peak = int(_output_of(command, {}))
            ours = ours or peak
            yield {
                "task": "memory", "model": name, "batch": batch, "contender": who, "threads": _threads(backend),
                "peak_bytes": peak, "over_ours": peak / ours,
            }  # fmt: skip


def measure_start(
    arguments: argparse.Namespace, backend: Backend, libraries: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Seconds of a process that makes LeNet and trains it on a batch of 256."""
    import time

    with tempfile.TemporaryDirectory() as cache:
        for contender in ("empty cache", "full cache"):
            start = time.perf_counter()
            _output_of([sys.executable, "-c", FIRST_STEP], {"XDG_CACHE_HOME": cache})
            yield {
                "task": "start", "model": "lenet", "batch": 256, "contender": contender, "threads": _threads(backend),
                "milliseconds": 1e3 * (time.perf_counter() - start),
            }  # fmt: skip


def measure_threads(
    arguments: argparse.Namespace, backend: Backend, libraries: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """LeNet's training step with fewer threads."""
    most = numba.get_num_threads()
    lenet = argparse.Namespace(**{**vars(arguments), "models": ["lenet"]})
    try:
        for threads in range(1, most + 1):
            numba.set_num_threads(threads)
            if "torch" in libraries:
                libraries["torch"].set_num_threads(threads)
            for row in measure_training(lenet, backend, libraries, threads):
                yield {**row, "task": "threads"}
    finally:
        numba.set_num_threads(most)
        if "torch" in libraries:
            libraries["torch"].set_num_threads(most)


_MEASURES: dict[str, Callable[..., Iterator[dict[str, Any]]]] = {
    "train": measure_training,
    "infer": measure_inference,
    "memory": measure_memory,
    "start": measure_start,
    "threads": measure_threads,
}


def _threads(backend: Backend) -> int | None:
    return None if backend.name == "cuda" else numba.get_num_threads()


def _output_of(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UserError(f"{' '.join(command[1:3])} failed: {done.stderr.strip()[-300:]}")
    return done.stdout


def _rows(
    task: str, model: str, batch: int, timings: dict[str, Any], flops: int, threads: int | None
) -> Iterator[dict[str, Any]]:
    ours = timings["numbacnn"].median
    for who, timing in timings.items():
        yield {
            "task": task,
            "model": model,
            "batch": batch,
            "contender": who,
            "threads": threads,
            "algorithm": "auto" if who.startswith("numbacnn") else None,
            "milliseconds": 1e3 * timing.median,
            "quartiles": [1e3 * quartile for quartile in timing.quartiles],
            "rounds": len(timing.samples),
            "examples_per_second": batch / timing.median,
            "gflops": flops / timing.median / 1e9,
            "over_ours": timing.median / ours,
        }


def best_ratios(rows: Sequence[dict[str, Any]]) -> dict[str, dict[tuple[str, int], float]]:
    """By task and then by model and batch: the time of the best peer over that of our best."""
    times: dict[str, dict[tuple[str, int], dict[bool, float]]] = {}
    for row in rows:
        if row["task"] in ("train", "infer"):
            best = times.setdefault(row["task"], {}).setdefault((row["model"], row["batch"]), {})
            ours = row["contender"].startswith("numbacnn")
            best[ours] = min(best.get(ours, row["milliseconds"]), row["milliseconds"])
    found = {
        task: {key: best[False] / best[True] for key, best in of_task.items() if False in best}
        for task, of_task in times.items()
    }
    return {task: ratios for task, ratios in found.items() if ratios}


def draw(path: Path, rows: Sequence[dict[str, Any]], title: str) -> None:
    """The best peer's time over ours, for each model and batch."""
    panels = {
        f"{task}: best peer's time over ours": {
            f"{model}, {batch}": [("ratio", ratio)] for (model, batch), ratio in ratios.items()
        }
        for task, ratios in best_ratios(rows).items()
    }
    for heading, groups in panels.items():
        plot_bars(
            path.with_stem(f"{path.stem}-{heading.partition(':')[0]}"), {heading: groups}, title=title,
            unit="times ours", ceiling=1.0, ceiling_label="as fast as ours",
        )  # fmt: skip


def cells_of(row: dict[str, Any]) -> list[str]:
    """A row as the table shows it."""
    return [
        row["task"],
        row["model"],
        str(row["batch"]),
        row["contender"],
        "" if row["threads"] is None else str(row["threads"]),
        significant(row["milliseconds"]) if "milliseconds" in row else "",
        significant(row["gflops"]) if "gflops" in row else "",
        significant(row["peak_bytes"] / 2**20) if "peak_bytes" in row else "",
        significant(row["over_ours"]) if "over_ours" in row else "",
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 1 for a wrong result, 2 for what the user can put right."""
    arguments = parse_arguments(argv)
    return exit_code(lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
