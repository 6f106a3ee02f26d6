"""Where the time of a model goes, layer by layer, beside what this machine can do: ``python -m bench.profile``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numbacnn as nc
from numbacnn import backends, nn

from .ceilings import last_cache_bytes
from .command import UserError, exit_code_with_threads, say, whole_number
from .drawn import model_name, named, network_of
from .machine import examine
from .train_contenders import MODELS

__all__ = ["main"]


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.profile",
        description="The layers of a model: time, algorithm, layout, rates, and their share of what the machine can "
        "do, the larger of operations over peak and bytes over bandwidth, where the caches do not hold them.",
    )
    add = parser.add_argument
    add("--model", type=model_name(MODELS), default="lenet", metavar="NAME",
        help=f"{', '.join(MODELS)}, or a drawn network, as separable-0.1 (default: lenet)")  # fmt: skip
    add("--batch-size", type=whole_number, metavar="N", default=1, help="default: 1")
    add("--training", action="store_true", help="a training step; without it, a session's pass of the folded model")
    add("--rounds", type=whole_number, metavar="N", default=20, help="of which medians count (default: 20)")
    add("--backend", choices=backends.NAMES, default="cpu", help="default: cpu")
    add("--threads", type=whole_number, metavar="N", help="on the CPU (default: all)")
    return parser.parse_args(argv)


def run(arguments: argparse.Namespace) -> None:
    """Everything that the command does once its options are read."""
    try:
        backend = backends.get(arguments.backend)
    except (RuntimeError, ImportError) as error:
        raise UserError(str(error)) from error
    computer = examine(backend)
    say(f"{computer.title}\n{computer.limits}")
    with nc.use_backend(backend.name):
        model, image_shape = _model_of(arguments.model)
    if not arguments.training:
        model = nn.fold_batch_norm(model.eval())
    shape = (arguments.batch_size, *image_shape)
    say(
        str(
            nc.profile(
                model,
                shape,
                training=arguments.training,
                rounds=arguments.rounds,
                peak_gflops=computer.peak,
                bandwidth_gbytes=computer.bandwidth,
                cache_bytes=0 if backend.asynchronous else last_cache_bytes(),
            )
        )
    )


def _model_of(name: str) -> tuple[nn.Layer, tuple[int, int, int]]:
    if name in MODELS:
        return MODELS[name].ours(), MODELS[name].image_shape
    drawn = named(name)
    return network_of(drawn.text), drawn.image_shape


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = parse(argv)
    return exit_code_with_threads(arguments, run)


if __name__ == "__main__":
    sys.exit(main())
