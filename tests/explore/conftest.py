"""A small model that is explored, and a client that asks the server as the page does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from numbacnn import data, nn, use_backend
from numbacnn.explore.session import Session, Subject

TOKEN, PORT = "a-token", 8123
ADDRESS = f"http://127.0.0.1:{PORT}"
CLASSES = ("left", "right")


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium that the system has; none is downloaded."""
    playwright = pytest.importorskip("playwright.sync_api")
    if BROWSER is None:
        pytest.skip("needs Chromium")
    with playwright.sync_playwright() as started:
        # The root of a container has no sandbox to give.
        browser = started.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


def small_model() -> nn.Sequential:
    """For images of 3x12x12 pixels; what it says depends on all of them."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 6 * 6, len(CLASSES))
    )


@pytest.fixture(scope="session")
def subject() -> Iterator[Subject]:
    preprocessing = data.Preprocessing(12, mean=0.5, std=0.25)
    with use_backend("reference"):
        nn.init.manual_seed(0)
        model = small_model()
        samples = data.shapes("test", 3, 12, 3)
    yield Subject("small", "made for tests", True, model, CLASSES, preprocessing, samples)


@pytest.fixture
def session(subject: Subject) -> Session:
    return Session(subject)


@pytest.fixture
def client(session: Session) -> Any:
    """Sends what the page sends."""
    testclient = pytest.importorskip("starlette.testclient")
    from numbacnn.explore.server import application

    app = application(session, TOKEN, PORT)
    return testclient.TestClient(app, f"{ADDRESS}/{TOKEN}/", headers={"origin": ADDRESS})


def floats_of(response: Any) -> np.ndarray[Any, Any]:
    """The numbers in an answer, in their shape."""
    assert response.status_code == 200, response.text
    return np.frombuffer(response.content, "<f4").reshape(json.loads(response.headers["x-about"])["shape"])
