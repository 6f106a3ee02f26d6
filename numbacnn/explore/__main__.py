"""``python -m numbacnn.explore``: serves the page, and opens it."""

from __future__ import annotations

import argparse
import secrets
import socket
import sys
import threading
import webbrowser
from collections.abc import Sequence
from functools import partial

from ..backends import Backend
from ..cli.backend import add_backend_option, run_on
from ..cli.classifiers import IMAGENET
from ..cli.networks import NAMES
from ..command_line import Parser, UserError, number, path, say, sizes
from .loading import subject_of
from .runs import state_of
from .session import Session

__all__ = ["main", "new_parser"]

HOST = "127.0.0.1"
LAST_PORT = 65535
TOKEN_BYTES = 16
POLL_SECONDS = 0.2
SECONDS_TO_END = 2.0


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > LAST_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number in 0..{LAST_PORT}")
    return int(text)


def new_parser(program: str) -> Parser:
    """The options."""
    parser = Parser(
        program,
        "A page in the browser: what a network makes of an image that is drawn or dropped, layer by layer.",
    )
    add = parser.add_argument
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--model", metavar="NAME",
        help="a folder with a saved model, such as the output folder of numbacnn train, or one of "
        f"{', '.join(NAMES)} (default: that of --run, else LeNet, which is trained for some seconds)")  # fmt: skip
    which.add_argument("--onnx", type=path, metavar="FILE", help="an ONNX file")
    which.add_argument("--pretrained", action="store_true", help=f"{IMAGENET}, as it was trained on ImageNet")
    add("--weights", type=path, metavar="FILE", help="weights of the model that --model names")
    add("--classes", metavar="NAMES",
        help="where neither model nor file tells them: names with commas between, a file with one on each line, "
        "imagenet, or how many there are")  # fmt: skip
    add("--shape", type=sizes, metavar="N,C,H,W", help="of the input, where neither model nor file tells it")
    add("--mean", type=number(), nargs="+", metavar="M",
        help="taken away from pixels of 0..1, where the model does not tell it (default: 0)")  # fmt: skip
    add("--std", type=number(), nargs="+", metavar="S", help="that these are then divided by (default: 1)")
    add("--run", type=path, metavar="FOLDER", help="the output folder of a training, to watch as it goes on")
    add("--port", type=_port, default=0, metavar="N", help=f"of {HOST}; 0 is any that is free")
    add("--no-browser", dest="browser", action="store_false", default=True, help="print the address and open nothing")
    add_backend_option(parser)
    return parser


def listening(port: int) -> socket.socket:
    """A socket that takes connections from this machine alone."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":  # where it would let two servers have one port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((HOST, port))
        sock.listen()
    except OSError as error:
        sock.close()
        raise UserError(f"--port {port}: {error.strerror or error}") from error
    return sock


def serve(arguments: argparse.Namespace, backend: Backend) -> None:
    """Everything that the command does once its options are read; it ends by Ctrl-C."""
    try:
        import uvicorn

        from .server import application
    except ImportError as error:
        raise UserError(f'explore needs Starlette and uvicorn: pip install "numbacnn[explore]" ({error})') from error
    if arguments.run and not arguments.run.is_dir():
        raise UserError(f"--run {arguments.run}: there is no such folder")
    sock = listening(arguments.port)
    with sock:
        session = Session(subject_of(arguments))
        port, token = sock.getsockname()[1], secrets.token_urlsafe(TOKEN_BYTES)
        app = application(session, token, port, partial(state_of, arguments.run) if arguments.run else None)
        config = uvicorn.Config(
            app, loop="asyncio", http="h11", ws="none", lifespan="off", log_level="error", access_log=False,
            server_header=False, timeout_graceful_shutdown=1,
        )  # fmt: skip
        server = uvicorn.Server(config)
        # The main thread waits for Ctrl-C, which the server would else take a while to heed.
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
        thread.start()
        try:
            while thread.is_alive() and not server.started:
                thread.join(POLL_SECONDS / 10)
            address = f"http://{HOST}:{port}/{token}/"
            say(f"{session.subject.title}: {address}\nCtrl-C ends it")
            if arguments.browser:
                webbrowser.open(address)
            while thread.is_alive():
                thread.join(POLL_SECONDS)
        finally:
            server.should_exit = server.force_exit = True
            thread.join(SECONDS_TO_END)
    raise UserError("the server has stopped by itself")


def main(argv: Sequence[str] | None = None, program: str = "python -m numbacnn.explore") -> int:
    """Run the command and return its exit code."""
    arguments = new_parser(program).parse_args(argv)
    return run_on(arguments.backend, lambda backend: serve(arguments, backend), "ended")


if __name__ == "__main__":
    sys.exit(main())
