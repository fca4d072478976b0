"""Registration, loading and unloading through the doors; a scripted process and driver behind them."""

import asyncio
import base64
import errno
import io
import json
import zipfile

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peekserve.errors import InvalidRequest
from peekserve.registry.archives import unpack
from peekserve.server.by_hand import ByHand, files_of, read_control
from peekserve.server.http_api import make_app
from peekserve.server.registrations import UploadLimits
from peekserve.state.registrations import Life
from tests.live.registered import BOTH, Stage, lay_out
from tests.server.scripted import Doors, ScriptedBackend

BASE = "/api/v1/admin/applications/plain"
ZIP = {"content-type": "application/zip"}


def either(archive, folder):
    """A real archive, or a word that stands for one."""
    (unpack if archive.read_bytes()[:2] == b"PK" else lay_out)(archive, folder)


class Admin:
    """The doors with a registrar behind them."""

    def __init__(self, tmp_path, limits=None, **stage) -> None:
        self.stage = Stage(tmp_path, **{"unpack": either} | stage)
        self.doors = Doors(ScriptedBackend())
        self.doors.descriptions.by_hand = ByHand(self.stage.driver, self.stage.registrar, 0.05)
        self.app = make_app(
            self.doors.desk,
            self.doors.accounts,
            self.doors.descriptions,
            registrar=self.stage.registrar,
            uploads=limits or UploadLimits(),
        )

    async def ask(self, method: str, path: str, **told) -> httpx.Response:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return await client.request(method, path, **told)

    async def send(self, word: str = "good", query: str = "?shadow=0", **told) -> httpx.Response:
        headers = told.pop("headers", ZIP)
        return await self.ask("POST", f"{BASE}/revisions{query}", content=word.encode(), headers=headers)

    async def settled(self, answer: httpx.Response):
        assert answer.status_code == 202, answer.text
        return await self.stage.registrar.settled("plain", answer.json()["revision"])

    async def close(self) -> None:
        await self.stage.registrar.stop()


@pytest.fixture
async def admin(tmp_path):
    made = Admin(tmp_path)
    yield made
    await made.close()


async def test_a_revision_comes_in_and_is_looked_after(admin):
    answer = await admin.send()
    told = answer.json()
    assert (answer.status_code, told["application"], told["state"]) == (202, "plain", "uploaded")
    place = answer.headers["location"]
    assert place == f"{BASE}/revisions/{told['revision']}"
    await admin.settled(answer)
    shown = (await admin.ask("GET", place)).json()
    assert (shown["state"], shown["why"], shown["parent"]) == ("active", "it is served", "repository")
    assert shown["profile"] == {"small": {"accuracy": 0.9}}
    assert shown["shadow"] == {"skipped": "none was asked for"}
    listed = (await admin.ask("GET", f"{BASE}/revisions")).json()
    assert (listed["serving"], [one["state"] for one in listed["revisions"]]) == (
        told["revision"],
        ["active"],
    )
    back = await admin.ask("POST", f"{BASE}/rollback")
    assert (back.status_code, back.json()) == (200, {"application": "plain", "serving": "repository"})
    again = await admin.ask("POST", f"{place}/swap")
    assert (again.status_code, again.json()["state"]) == (200, "active")
    own = await admin.ask("POST", f"{BASE}/revisions/repository/swap")
    assert own.json() == {"application": "plain", "revision": "repository", "state": "active"}
    assert (await admin.ask("DELETE", place)).status_code == 204
    assert (await admin.ask("GET", place)).json()["code"] == "revision_not_found"
    assert (await admin.ask("DELETE", BASE)).status_code == 204
    assert (await admin.ask("DELETE", BASE)).status_code == 404


async def test_what_is_wrong_is_told_by_file_and_line(admin):
    one = await admin.settled(await admin.send("wrong"))
    shown = (await admin.ask("GET", f"{BASE}/revisions/{one.revision}")).json()
    assert shown["state"] == "invalid"
    assert (shown["problems"][0]["file"], shown["problems"][0]["line"]) == ("application.yaml", 3)
    answer = await admin.ask("POST", f"{BASE}/revisions/{one.revision}/swap")
    assert (answer.status_code, answer.json()["code"]) == (409, "wrong_state")


@pytest.mark.parametrize(
    ("told", "status", "code"),
    [
        ({"word": "bad"}, 400, "invalid_request"),
        ({"query": "?swap=later"}, 400, "invalid_request"),
        ({"query": "?shadow=-1"}, 400, "invalid_request"),
        ({"query": "?shadow=1e9"}, 400, "invalid_request"),
        ({"query": "?shade=1"}, 400, "invalid_request"),
        ({"headers": {"content-type": "application/json"}}, 415, "unsupported_media_type"),
        ({"headers": {}}, 415, "unsupported_media_type"),
        ({"headers": {**ZIP, "content-encoding": "gzip"}}, 415, "unsupported_media_type"),
        ({"word": "x" * 101}, 413, "too_large"),
    ],
)
async def test_what_is_not_taken(tmp_path, told, status, code):
    admin = Admin(tmp_path, UploadLimits(100))
    answer = await admin.send(**told)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    uploads = tmp_path / "state" / "uploads"
    assert not uploads.exists() or not list(uploads.iterdir())
    await admin.close()


async def test_an_upload_that_never_announced_its_size_is_cut_where_the_limit_is(tmp_path):
    admin = Admin(tmp_path, UploadLimits(100))
    sent = 0

    async def endless():
        nonlocal sent
        while True:
            sent += 40
            yield b"x" * 40

    answer = await admin.ask("POST", f"{BASE}/revisions", content=endless(), headers=ZIP)
    assert answer.status_code == 413
    assert sent <= 160
    await admin.close()


async def test_who_sends_nothing_more_is_not_waited_for(tmp_path):
    admin = Admin(tmp_path, UploadLimits(100, wait_s=0.01))

    async def stuck():
        yield b"x"
        await asyncio.Event().wait()

    answer = await admin.ask("POST", f"{BASE}/revisions", content=stuck(), headers=ZIP)
    assert (answer.status_code, answer.json()["code"]) == (408, "too_slow")
    await admin.close()


async def test_who_is_refused_may_send_it_all_and_read_why(admin):
    """Many clients read nothing while they send: those whose body is small are not cut off."""
    sent = []

    async def body(pieces):
        for _ in range(pieces):
            sent.append(1)
            yield b"x" * 10

    for announced, taken in ((40, 4), (1 << 40, 0)):
        sent.clear()
        headers = {**ZIP, "content-length": str(announced)}
        path = "/api/v1/admin/applications/NoName/revisions"
        answer = await admin.ask("POST", path, content=body(4), headers=headers)
        assert (answer.status_code, len(sent)) == (400, taken)


async def test_an_upload_ends_with_the_server(admin):
    begun = asyncio.Event()

    async def slow():
        yield b"x"
        begun.set()
        await asyncio.Event().wait()

    coming = asyncio.ensure_future(admin.ask("POST", f"{BASE}/revisions", content=slow(), headers=ZIP))
    await begun.wait()
    await admin.stage.registrar.stop()
    assert (await coming).status_code == 503
    late = await admin.send()
    assert (late.status_code, "being stopped" in late.json()["error"]) == (503, True)
    assert not list((admin.stage.state / "uploads").iterdir())


async def test_files_that_came_along_are_not_called_bad_when_the_server_ends(admin):
    admin.stage.looks.gate.clear()
    coming = asyncio.ensure_future(by_hand(admin, "load", config="good"))
    while not admin.stage.looks.asked:
        await asyncio.sleep(0)
    await admin.stage.registrar.stop()
    status, told = await coming
    assert (status, "the next one takes revision" in told["error"]) == (503, True)


async def test_an_application_that_never_was_has_no_way_back(admin):
    answer = await admin.ask("POST", "/api/v1/admin/applications/nobody/rollback")
    assert (answer.status_code, answer.json()["code"]) == (404, "model_not_found")


async def test_where_nothing_is_registered_it_is_said_why(tmp_path):
    admin = Admin(tmp_path, refused="its plan is made before")
    asked = [("POST", f"{BASE}/{what}") for what in ("revisions", "revisions/repository/swap", "rollback")]
    for method, path in (*asked, ("PUT", f"{BASE}/files/m.onnx"), ("DELETE", BASE)):
        answer = await admin.ask(method, path, content=b"x", headers=ZIP)
        assert (answer.status_code, answer.json()["code"]) == (501, "not_offered")
        assert "its plan is made before" in answer.json()["error"]
    await admin.close()
    answer = await Nobody().ask("POST", f"{BASE}/rollback")
    assert (answer.status_code, answer.json()["code"]) == (501, "not_offered")


class Nobody(Admin):
    def __init__(self) -> None:
        self.app = Doors(ScriptedBackend()).app


async def test_one_file_is_put_in_place(admin):
    headers = {"content-type": "application/octet-stream"}
    answer = await admin.ask(
        "PUT", f"{BASE}/files/application.yaml?shadow=0&swap=manual", content=b"good", headers=headers
    )
    assert (await admin.settled(answer)).state is Life.READY
    for path, status in (("../x", 400), ("a.pkl", 400), ("%2Fetc%2Fx", 400)):
        answer = await admin.ask("PUT", f"{BASE}/files/{path}", content=b"x", headers=headers)
        assert answer.status_code in (status, 404)
    answer = await admin.ask("PUT", BASE.replace("plain", "nobody") + "/files/x", content=b"x")
    assert (answer.status_code, answer.json()["code"]) == (404, "model_not_found")


# ---- by hand ---------------------------------------------------------------------------------------------------


async def by_hand(admin, word, model="plain", **parameters):
    body = {"parameters": parameters} if parameters else {}
    answer = await admin.ask("POST", f"/v2/repository/models/{model}/{word}", json=body)
    return answer.status_code, answer.json()


async def test_unload_offers_nothing_and_load_everything_again(admin):
    told = admin.stage.driver.told
    assert await by_hand(admin, "unload", unload_dependents=False) == (200, {})
    assert told.pop() == ("offer", "plain")
    assert await by_hand(admin, "load") == (200, {})
    assert told.pop() == ("offer", "plain", *BOTH)
    assert await by_hand(admin, "unload", version="small") == (200, {})
    assert told.pop() == ("offer", "plain", "large")
    await by_hand(admin, "unload", version="large")
    assert told.pop() == ("offer", "plain")
    await by_hand(admin, "load", version="small")
    assert told.pop() == ("offer", "plain", "small")


async def test_a_swap_forgets_what_was_unloaded_before_it(admin):
    """Loading one variant takes away no other that a swap has brought back meanwhile."""
    await by_hand(admin, "unload", version="large")
    one = await admin.settled(await admin.send())
    await admin.ask("POST", f"{BASE}/rollback")
    assert await by_hand(admin, "load", version="small") == (200, {})
    assert admin.stage.driver.told.pop() == ("offer", "plain", *BOTH)
    assert one.state is Life.ACTIVE


async def test_what_does_not_load_is_not_ready(admin):
    admin.stage.driver.trouble = {"w-small": "it needs 3 GiB"}
    status, told = await by_hand(admin, "load")
    assert (status, told["code"]) == (503, "model_not_ready")
    assert "3 GiB" in told["error"]
    admin.stage.driver.offer = lambda *_: asyncio.get_running_loop().create_future()
    status, told = await by_hand(admin, "load")
    assert (status, told["code"]) == (503, "model_not_ready")


@pytest.mark.parametrize(
    ("parameters", "status", "words"),
    [
        ({"version": "huge"}, 404, "no variant"),
        ({"version": 3}, 400, "name of a variant"),
        ({"config": 3}, 400, "text"),
        ({"file:../x": ""}, 400, "path"),
        ({"file:m.onnx": "?"}, 400, "base64"),
        ({"file:m.onnx": 3}, 400, "base64"),
        ({"file:m.pt": ""}, 400, "models are data"),
    ],
)
async def test_parameters_that_cannot_be(admin, parameters, status, words):
    found, told = await by_hand(admin, "load", **parameters)
    assert found == status
    assert words in told["error"]


async def test_a_model_that_nobody_has(admin):
    for word in ("load", "unload"):
        assert (await by_hand(admin, word, "nobody"))[1]["code"] == "model_not_found"


async def test_files_that_come_along_make_a_revision(admin):
    model = base64.b64encode(b"m").decode()
    assert await by_hand(admin, "load", config="good", **{"file:1/model.onnx": model}) == (200, {})
    assert admin.stage.driver.applications["plain"].edition
    status, told = await by_hand(admin, "load", config="wrong")
    assert (status, told["code"]) == (400, "invalid_request")
    assert "application.yaml:3: no such key" in told["error"]
    # Triton's own configuration says nothing that the files do not.
    assert await by_hand(admin, "load", config='{"name": "plain"}') == (200, {})


async def test_a_real_archive_from_end_to_end(admin):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("plain/application.yaml", "good")
    answer = await admin.ask("POST", f"{BASE}/revisions?shadow=0", content=out.getvalue(), headers=ZIP)
    assert (await admin.settled(answer)).state is Life.ACTIVE


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
NAMES = st.sampled_from(["config", "version", "file:a", "file:"]) | st.text(max_size=12)


@settings(max_examples=200)
@given(st.dictionaries(NAMES, SCALARS, max_size=4) | st.binary(max_size=40))
def test_whatever_comes_is_read_or_refused(told):
    body = told if isinstance(told, bytes) else json.dumps({"parameters": told}).encode()
    try:
        files = files_of(read_control(body))
    except InvalidRequest:
        return
    assert all(".." not in name and not name.startswith("/") for name in files)


async def test_a_full_disk_is_said_and_nothing_is_left(tmp_path):
    def full(archive, folder):
        (folder / "half").write_bytes(b"x")
        raise OSError(errno.ENOSPC, "No space left on device")

    admin = Admin(tmp_path, unpack=full)
    answer = await admin.send()
    assert (answer.status_code, answer.json()["code"]) == (503, "no_room")
    assert not list(tmp_path.rglob("half"))
    await admin.close()


async def test_an_upload_that_trickles_does_not_keep_its_place(tmp_path):
    admin = Admin(tmp_path, UploadLimits(wait_s=0.01))

    async def drops():
        while True:
            yield b"x"
            await asyncio.sleep(0)

    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(admin.app, raise_app_exceptions=False), base_url="http://x"
    ) as client:
        answer = await client.post(f"{BASE}/revisions", content=drops(), headers=ZIP)
    assert (answer.status_code, answer.json()["code"]) == (408, "too_slow")
    await admin.close()
