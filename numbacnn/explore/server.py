"""The page and what it asks for, over HTTP, for one browser on this machine."""

from __future__ import annotations

import io
import json
import math
import secrets
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..command_line import one_line
from .answers import Answers
from .session import NoLongerKept, Session
from .uploads import MOST_BYTES, UploadError

__all__ = ["Guard", "application"]


MOST_DIGITS = 9
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class Guard:
    """Lets through what has the token as the first part of its path, and takes that off.

    Other pages in the same browser can send requests to this machine. They do not know the token; a name of theirs that
    leads here does not pass the check of ``Host``, and what they post that of ``Origin``.
    """

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self._app = app
        self._token = token.encode()
        self._hosts = {f"{name}:{port}".encode() for name in ("127.0.0.1", "localhost")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name for name, _ in message["headers"]}
                more = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *(pair for pair in more if pair[0] not in given)]
            await send(message)

        if scope["type"] != "http":
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send_with_headers)
            return
        rest = scope["path"].partition("/")[2].partition("/")[2]
        await self._app({**scope, "path": f"/{rest}"}, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        def given(wanted: bytes) -> list[bytes]:
            return [value for name, value in scope["headers"] if name == wanted]

        hosts = given(b"host")
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            return PlainTextResponse("this address is no name of the server", 403)
        first, slash, _ = scope["path"].removeprefix("/").partition("/")
        if not secrets.compare_digest(first.encode("utf-8", "surrogateescape"), self._token) or not slash:
            return PlainTextResponse("the address must have the token that was printed when the server started", 403)
        if scope["method"] not in ("GET", "HEAD"):
            origins = given(b"origin")
            if len(origins) != 1 or origins[0] not in {b"http://" + host for host in self._hosts}:
                return PlainTextResponse("only the page itself may send this", 403)
        return None


RunState = Callable[[str | None], dict[str, Any]]


def application(session: Session, token: str, port: int, run_state: RunState | None = None) -> ASGIApp:
    """What answers the browser.

    Args:
        session: the model.
        token: the first part of every path.
        port: that of the server on 127.0.0.1.
        run_state: what there is to be told of a training, if one is watched, to a page that has seen a version of it.
    """
    answers = Answers(session, run_state is not None)
    page = _page()

    async def show_page(request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        if name not in page:
            raise HTTPException(404)
        return Response(page[name], media_type=TYPES[name[name.rindex(".") :]])

    async def show_model(request: Request) -> Response:
        return _json(await run_in_threadpool(answers.model))

    async def show_graph(request: Request) -> Response:
        return Response(session.graph, media_type="image/svg+xml")

    async def take_file(request: Request) -> Response:
        content = await _body(request, MOST_BYTES)
        name = request.query_params.get("name", "")
        return _json(await run_in_threadpool(answers.file, content, name))

    async def take_drawing(request: Request) -> Response:
        size, centre = _number(request, "size"), _number(request, "centre")
        content = await _body(request, MOST_BYTES)
        return _json(await run_in_threadpool(answers.drawing, content, size, bool(centre)))

    async def take_sample(request: Request) -> Response:
        return _json(await run_in_threadpool(answers.sample, request.path_params["number"]))

    async def show_sample(request: Request) -> Response:
        return await run_in_threadpool(lambda: _png(answers.sample_pixels(request.path_params["number"])))

    async def show_picture(request: Request) -> Response:
        return await run_in_threadpool(lambda: _png(session.picture(request.path_params["number"]).pixels))

    async def show_outputs(request: Request) -> Response:
        of = _number(request, "picture"), request.query_params.get("layer", ""), _number(request, "first")
        return _floats(*await run_in_threadpool(answers.outputs, *of))

    async def show_filters(request: Request) -> Response:
        of = request.query_params.get("layer", ""), _number(request, "map"), _number(request, "first")
        return _floats(*await run_in_threadpool(answers.filters, *of))

    async def show_unit(request: Request) -> Response:
        asked = request.query_params
        of = _number(request, "picture"), asked.get("layer", ""), _numbers(asked.get("position", ""))
        return _json(await run_in_threadpool(answers.unit, *of))

    async def show_heat(request: Request) -> Response:
        of = _number(request, "picture"), _number(request, "target")
        return _floats(*await run_in_threadpool(answers.heat, *of))

    async def show_run(request: Request) -> Response:
        if run_state is None:
            raise HTTPException(404)
        return _json(await run_in_threadpool(run_state, request.query_params.get("seen")))

    routes = [
        Route("/api/model", show_model),
        Route("/api/graph", show_graph),
        Route("/api/file", take_file, methods=["POST"]),
        Route("/api/drawing", take_drawing, methods=["POST"]),
        Route("/api/samples/{number:int}", take_sample, methods=["POST"]),
        Route("/api/samples/{number:int}.png", show_sample),
        Route("/api/pictures/{number:int}.png", show_picture),
        Route("/api/outputs", show_outputs),
        Route("/api/filters", show_filters),
        Route("/api/unit", show_unit),
        Route("/api/gradcam", show_heat),
        Route("/api/run", show_run),
        Route("/", show_page),
        Route("/{name}", show_page),
    ]
    # What is asked for may not be there, or not be computable of this model: the page says so.
    handlers: dict[Any, Any] = {
        UploadError: lambda _, error: _refused(error, error.status),
        NoLongerKept: lambda _, error: _refused(error, 410),
        ValueError: lambda _, error: _refused(error, 422),
        TypeError: lambda _, error: _refused(error, 422),
        NotImplementedError: lambda _, error: _refused(error, 422),
        ImportError: lambda _, error: _refused(error, 422),
        MemoryError: lambda _, error: _refused(UploadError("there is not enough memory for this"), 507),
    }
    return Guard(Starlette(routes=routes, exception_handlers=handlers), token, port)


def _page() -> dict[str, bytes]:
    """The files of the page by their names."""
    folder = files(__package__).joinpath("page")
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name.endswith(tuple(TYPES))}


def _refused(error: Exception, status: int) -> Response:
    return JSONResponse({"error": one_line(error)}, status)


def _number(request: Request, name: str) -> int:
    """A whole number of the query, 0 where it is not given."""
    return _whole(name, request.query_params.get(name, "0"))


def _numbers(text: str) -> list[int]:
    """Whole numbers with commas between."""
    return [_whole("position", part) for part in text.split(",")]


def _whole(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > MOST_DIGITS:
        raise UploadError(f"{name} {text[:40]!r} must be a whole number", 400)
    return int(text)


async def _body(request: Request, most: int) -> bytes:
    """What is sent, which is given up as soon as it is known to be too much."""
    too_much = UploadError(f"the file has more than {most >> 20} MiB, the most that is taken", 413)
    told = request.headers.get("content-length", "0")
    if not told.isdigit() or int(told) > most:
        raise too_much
    parts, count = [], 0
    async for part in request.stream():
        count += len(part)
        if count > most:
            raise too_much
        parts.append(part)
    return b"".join(parts)


def _json(value: Any) -> Response:
    """JSON, which has no number for NaN and infinity: null stands for them."""
    return Response(json.dumps(_plain(value), allow_nan=False, ensure_ascii=False), media_type="application/json")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _floats(values: np.ndarray[Any, Any], told: dict[str, Any]) -> Response:
    """Numbers as little-endian float32, and in a header what they are."""
    about = json.dumps(_plain({"shape": values.shape, **told}), allow_nan=False)
    content = np.ascontiguousarray(values, dtype="<f4").tobytes()
    return Response(content, media_type="application/octet-stream", headers={"x-about": about})


def _png(pixels: np.ndarray[Any, Any]) -> Response:
    """Pixels (c, h, w) uint8 as a file."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(stream, "PNG")
    return Response(stream.getvalue(), media_type="image/png")
