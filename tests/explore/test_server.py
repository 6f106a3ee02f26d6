"""Who is answered, what is answered, and what the page is told when it cannot be."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from numbacnn import explain, nn
from numbacnn.explore import session as session_module
from numbacnn.explore.session import Session
from numbacnn.explore.uploads import MOST_BYTES
from tests.explore.conftest import ADDRESS, CLASSES, PORT, TOKEN, floats_of

pytest.importorskip("starlette")
from numbacnn.explore.server import application

OTHER = "http://127.0.0.1:9"


def shown(client: Any) -> int:
    """The number of a picture that the model was shown."""
    number: int = client.post("api/samples/0").json()["picture"]
    return number


def png_of(pixels: np.ndarray[Any, Any]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def test_the_page_and_its_files(client: Any) -> None:
    page = client.get("")
    assert page.status_code == 200 and "<h1>" in page.text
    for name, kind in (("main.js", "text/javascript"), ("style.css", "text/css"), ("icon.svg", "image/svg+xml")):
        found = client.get(name)
        assert found.status_code == 200 and found.headers["content-type"].startswith(kind)
        assert name in page.text
    for name in ("nothing.js", "..%2f__main__.py", "server.py", "api/nothing"):
        assert client.get(name).status_code == 404


@pytest.mark.parametrize("path", ["", "api/model", "nothing", "api/run"])
def test_every_answer_keeps_the_page_to_itself(client: Any, path: str) -> None:
    for headers in (client.get(path).headers, client.get(path, headers={"host": "evil.test"}).headers):
        assert headers["content-security-policy"].startswith("default-src 'self';")
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path", ["/", "/api/model", "/b-token/", "/b-token/api/model", f"/{TOKEN}", f"/{TOKEN}x/", "/é/"]
)
def test_nothing_without_the_token(client: Any, path: str) -> None:
    answer = client.get(f"{ADDRESS}{path}")
    assert answer.status_code == 403 and "token" in answer.text


@pytest.mark.parametrize("host", ["evil.test", f"evil.test:{PORT}", "127.0.0.1", "127.0.0.1:9", "", "localhost"])
def test_nothing_under_another_name(client: Any, host: str) -> None:
    assert client.get("api/model", headers={"host": host}).status_code == 403


def test_two_names_are_none(client: Any) -> None:
    hosts = [("host", f"127.0.0.1:{PORT}"), ("host", "evil.test")]
    assert client.get("api/model", headers=hosts).status_code == 403
    assert client.get("api/model", headers={"host": f"localhost:{PORT}"}).status_code == 200


@pytest.mark.parametrize("origin", [OTHER, "null", f"https://127.0.0.1:{PORT}", ""])
def test_only_the_page_posts(client: Any, origin: str) -> None:
    answer = client.post("api/samples/0", headers={"origin": origin})
    assert answer.status_code == 403 and "only the page" in answer.text
    assert client.post("api/samples/0").status_code == 200


def test_what_is_told_of_the_model(client: Any) -> None:
    model = client.get("api/model").json()
    assert model["title"] == "small" and model["note"] == "made for tests" and model["is_trained"] is True
    assert model["input"] == [3, 12, 12] and model["classes"] == list(CLASSES) and model["centres"] is False
    assert [layer["name"] for layer in model["layers"]] == ["", "0", "1", "2", "3", "4"]
    first = model["layers"][1]
    assert first == {
        "name": "0",
        "kind": "Conv2d",
        "detail": "3, 4, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1)",
        "depth": 1,
        "shape": [1, 4, 12, 12],
        "parameters": 112,
        "multiply_adds": 4 * 27 * 144,
        "field": [3, 3],
        "filters": [4, 3, 3, 3],
    }
    assert len(model["samples"]) == 3
    graph = client.get("api/graph")
    assert graph.headers["content-type"] == "image/svg+xml" and 'data-layer="4"' in graph.text


def test_an_image_file(client: Any, session: Session) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8)
    said = client.post("api/file?name=noise.png", content=png_of(pixels)).json()
    x = session.subject.preprocessing(pixels.transpose(2, 0, 1))
    scores = np.asarray(session.model.predict(x))[0].astype(float)
    expected = np.exp(scores) / np.exp(scores).sum()
    assert [one["name"] for one in said["classes"]] == list(CLASSES)
    np.testing.assert_allclose([one["probability"] for one in said["classes"]], expected, rtol=1e-5)
    assert said["first"] == expected.argmax()
    seen = np.asarray(Image.open(io.BytesIO(client.get(f"api/pictures/{said['picture']}.png").content)))
    np.testing.assert_array_equal(seen, pixels)


def test_a_drawing(client: Any, session: Session) -> None:
    drawing = np.zeros((24, 24), np.uint8)
    drawing[4:20, 10:14] = 255
    said = client.post("api/drawing?size=24&centre=0", content=drawing.tobytes()).json()
    seen = session.picture(said["picture"]).pixels
    assert seen.shape == (3, 12, 12) and (seen == seen[0]).all()
    assert seen[0, 6, 5:7].min() > 200 and seen[0, :, :4].max() == 0
    said = client.post("api/drawing?size=24&centre=1", content=np.roll(drawing, 9, 1).tobytes()).json()
    centred = session.picture(said["picture"]).pixels[0]
    rows, columns = np.nonzero(centred)
    assert abs((rows.min() + rows.max()) / 2 - 5.5) <= 0.5 and abs((columns.min() + columns.max()) / 2 - 5.5) <= 0.5
    assert rows.max() - rows.min() + 1 == round(12 * 20 / 28)


def test_samples(client: Any, session: Session) -> None:
    assert client.post("api/samples/2").status_code == 200
    samples = session.subject.samples
    assert samples is not None
    picture = np.asarray(Image.open(io.BytesIO(client.get("api/samples/2.png").content)))
    np.testing.assert_array_equal(picture.transpose(2, 0, 1), samples.images[2])


def test_what_layers_give(client: Any, session: Session) -> None:
    number = shown(client)
    outputs = nn.outputs(session.model, session.picture(number).x, ["1", "4"])
    answer = client.get(f"api/outputs?picture={number}&layer=1")
    np.testing.assert_array_equal(floats_of(answer), np.asarray(outputs["1"])[0])
    about = json.loads(answer.headers["x-about"])
    assert (about["of"], about["count"], about["first"]) == ([4, 12, 12], 4, 0)
    assert about["high"] == pytest.approx(np.asarray(outputs["1"]).max())
    np.testing.assert_array_equal(
        floats_of(client.get(f"api/outputs?picture={number}&layer=1&first=3")), np.asarray(outputs["1"])[0, 3:]
    )
    scores = client.get(f"api/outputs?picture={number}&layer=4")
    np.testing.assert_array_equal(floats_of(scores), np.asarray(outputs["4"]).reshape(1, 1, -1))
    assert json.loads(scores.headers["x-about"])["of"] == [2]


def test_large_layers_are_sent_in_parts(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "MOST_SHOWN", 300)
    answer = client.get(f"api/outputs?picture={shown(client)}&layer=0")
    assert floats_of(answer).shape == (2, 12, 12) and json.loads(answer.headers["x-about"])["count"] == 4
    monkeypatch.setattr(session_module, "MOST_SHOWN", 10)
    assert floats_of(client.get(f"api/outputs?picture={shown(client)}&layer=0")).shape == (1, 12, 12)


def test_filters(client: Any, session: Session) -> None:
    weight = np.asarray(session.layers["0"].weight.value)
    np.testing.assert_array_equal(floats_of(client.get("api/filters?layer=0&map=2")), weight[2])
    np.testing.assert_array_equal(floats_of(client.get("api/filters?layer=0&map=2&first=1")), weight[2, 1:])


def test_units(client: Any, session: Session) -> None:
    number = shown(client)
    x = session.picture(number).x
    unit = client.get(f"api/unit?picture={number}&layer=0&position=1,0,5").json()
    expected = explain.unit(session.model, x, "0", (1, 0, 5))
    assert unit["value"] == pytest.approx(expected.value) and unit["kind"] == "Conv2d"
    assert unit["field"] == [[0, 1], [4, 6]]
    assert expected.sum is not None and unit["sum"]["text"] == expected.sum.text(6)
    tables = unit["sum"]["tables"]
    assert len(tables) == 3 and all(not cell["inside"] for table in tables for cell in table["rows"][0])
    total = sum(cell["input"] * cell["weight"] for table in tables for row in table["rows"] for cell in row)
    bias = float(np.asarray(session.layers["0"].bias.value)[1])
    assert total + bias == pytest.approx(expected.value, rel=1e-5)

    linear = client.get(f"api/unit?picture={number}&layer=4&position=1").json()
    (table,) = linear["sum"]["tables"]
    assert len(table["rows"]) == 24 and linear["sum"]["rest"].startswith("120 inputs more make ")
    pooled = client.get(f"api/unit?picture={number}&layer=2&position=0,1,1").json()
    cells = [cell for row in pooled["sum"]["tables"][0]["rows"] for cell in row]
    assert len(cells) == 4
    (largest,) = (cell for cell in cells if cell.get("chosen"))
    assert largest["input"] == max(cell["input"] for cell in cells) == pytest.approx(pooled["value"])
    activation = client.get(f"api/unit?picture={number}&layer=1&position=0,1,1").json()
    assert activation["sum"]["text"].startswith("ReLU(") and activation["sum"]["tables"] == []


def test_where_it_saw(client: Any, session: Session) -> None:
    number = shown(client)
    heat = floats_of(client.get(f"api/gradcam?picture={number}&target=1"))
    np.testing.assert_array_equal(heat, explain.grad_cam(session.model, session.picture(number).x, 1))


def test_numbers_that_are_none(client: Any, session: Session) -> None:
    """JSON has none for NaN; pictures of maps have a colour."""
    number = shown(client)
    session.picture(number).x[:] = np.nan
    unit = client.get(f"api/unit?picture={number}&layer=0&position=0,5,5").json()
    assert unit["value"] is None
    answer = client.get(f"api/outputs?picture={number}&layer=0")
    assert np.isnan(floats_of(answer)).all()
    assert json.loads(answer.headers["x-about"])["low"] == 0


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("api/outputs?picture={n}&layer=9", 422, "'9' must be a layer of the model"),
        ("api/outputs?picture={n}&layer=0&first=4", 422, "first 4 must be in 0..3"),
        ("api/outputs?picture=99999&layer=0", 410, "picture 99999 is no longer kept: show it again"),
        ("api/outputs?picture=x&layer=0", 400, "picture 'x' must be a whole number"),
        ("api/outputs?picture=-1&layer=0", 400, "picture '-1' must be a whole number"),
        ("api/outputs?picture=1000000000000&layer=0", 400, "must be a whole number"),
        ("api/filters?layer=1&map=0", 422, "layer '1' must be a Conv2d to have filters"),
        ("api/filters?layer=0&map=4", 422, "map 4 must be in 0..3"),
        ("api/unit?picture={n}&layer=0&position=0,0,12", 422, "`position[2]` 12 must be"),
        ("api/unit?picture={n}&layer=0&position=0", 422, "`position` (0,) must have 3 numbers"),
        ("api/unit?picture={n}&layer=0&position=a,b", 400, "position 'a' must be a whole number"),
        ("api/unit?picture={n}&layer=0", 400, "position '' must be a whole number"),
        ("api/gradcam?picture={n}&target=2", 422, "`target` 2 must be"),
        ("api/pictures/99999.png", 410, "picture 99999 is no longer kept"),
        ("api/samples/3.png", 404, "there is no sample 3"),
    ],
)
def test_what_cannot_be_shown(client: Any, path: str, status: int, said: str) -> None:
    answer = client.get(path.format(n=shown(client)))
    assert answer.status_code == status
    assert said in answer.json()["error"]


@pytest.mark.parametrize(
    ("path", "content", "status", "said"),
    [
        ("api/file?name=x.png", b"", 422, "'x.png' is empty"),
        (
            "api/file?name=note.txt",
            b"only a text",
            422,
            "'note.txt' cannot be read as an image: it is none of JPEG, PNG",
        ),
        ("api/drawing?size=5", bytes(24), 400, "a drawing of 24 bytes must have size x size, which is 5"),
        ("api/drawing?size=0", b"", 400, "size x size"),
        ("api/drawing", bytes(4), 400, "size x size"),
        ("api/samples/3", b"", 404, "there is no sample 3"),
    ],
)
def test_what_cannot_be_taken(client: Any, path: str, content: bytes, status: int, said: str) -> None:
    answer = client.post(path, content=content)
    assert answer.status_code == status
    assert said in answer.json()["error"]


def test_too_many_bytes_are_not_read(client: Any) -> None:
    told = client.post("api/file?name=x.png", content=b"x", headers={"content-length": str(MOST_BYTES + 1)})
    assert told.status_code == 413 and "more than 32 MiB" in told.json()["error"]
    sent = 0

    def endless() -> Any:
        nonlocal sent
        while sent < 4 * MOST_BYTES:
            sent += 1 << 20
            yield bytes(1 << 20)

    untold = client.post("api/file?name=x.png", content=endless())
    assert untold.status_code == 413


def test_old_pictures_give_way(client: Any) -> None:
    first = shown(client)
    for _ in range(session_module.KEPT_PICTURES):
        last = shown(client)
    assert client.get(f"api/pictures/{first}.png").status_code == 410
    assert client.get(f"api/pictures/{last}.png").status_code == 200


def test_what_a_layer_gave_is_computed_once(client: Any, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    outputs = nn.outputs
    monkeypatch.setattr(nn, "outputs", lambda *of: calls.append(of[2]) or outputs(*of))
    number = shown(client)
    for first in (0, 1, 2):
        assert client.get(f"api/outputs?picture={number}&layer=0&first={first}").status_code == 200
    assert calls == [["0"]]


def test_without_enough_memory(client: Any, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(session.model, "predict", refuse)
    answer = client.post("api/samples/0")
    assert answer.status_code == 507 and "memory" in answer.json()["error"]


def test_a_run_that_is_watched(session: Session) -> None:
    from starlette.testclient import TestClient

    def state(seen: str | None) -> dict[str, Any]:
        return {"seen": seen, "loss": float("nan")}

    client = TestClient(application(session, TOKEN, PORT, state), f"{ADDRESS}/{TOKEN}/")
    assert client.get("api/model").json()["watches_run"] is True
    assert client.get("api/run").json() == {"seen": None, "loss": None}
    assert client.get("api/run?seen=3").json()["seen"] == "3"


def test_no_run_is_watched(client: Any) -> None:
    assert client.get("api/model").json()["watches_run"] is False
    assert client.get("api/run").status_code == 404
