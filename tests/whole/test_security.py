"""Keys, TLS and hostile clients, on a real server."""

import shutil
import ssl
import subprocess
import sys
import time

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http
import trustme
from tritonclient.utils import InferenceServerException

from peekserve.cli.launch import ServerProcess
from peekserve.errors import NotReady
from peekserve.experiments import attacks_grpc, attacks_uploads
from peekserve.experiments.attacks import ATTACKS, run

pytestmark = pytest.mark.whole


def keys(repository, state, *words):
    command = [sys.executable, "-m", "peekserve.cli.main", "keys", *words[:1], str(repository), *words[1:]]
    return subprocess.run(
        [*command, "--state", str(state)], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def state(repository, tmp_path):
    """A state folder of its own: keys made here are asked for by no other test's server."""
    folder = tmp_path / "state"
    folder.mkdir()
    for file in (repository / ".peekserve").glob("state.sqlite*"):
        shutil.copy(file, folder)
    return folder


def test_every_attack_gets_what_it_should_and_the_server_stands(repository):
    # The others are waited for ten seconds, which tests/server/test_patience.py does with less.
    quick = [attack for attack in ATTACKS if attack.kind != "slow clients" or "half" in attack.what]
    assert len(quick) > 35
    wrong = [f for f in run(repository, quick) if not (f.held and f.stands)]
    assert not wrong


def test_every_attack_at_the_grpc_door_gets_what_it_should_and_the_server_stands(repository):
    # The others are waited for seconds: for a handshake, or for what never comes.
    slow = ("slow clients", "frames", "too much")
    quick = [attack for attack in attacks_grpc.ATTACKS if attack.kind not in slow]
    assert len(quick) > 18
    wrong = [f for f in attacks_grpc.run(repository, quick) if not (f.held and f.stands)]
    assert not wrong


def test_every_hostile_upload_gets_what_it_should_and_leaves_nothing(repository):
    # Those that are looked at in a process of their own take their time; one of each kind is enough.
    longer = ("models", "pickle", "YAML", "data", "slow clients")
    seen, some = set(), []
    for attack in attacks_uploads.ATTACKS:
        large = attack.kind == "archive bombs" and ("zeros" in attack.what or "70,000" in attack.what)
        if not large and (attack.kind not in longer or attack.kind not in seen):
            some.append(attack)
        seen.add(attack.kind)
    assert len(some) > 60
    wrong = [f for f in attacks_uploads.run(repository, some) if not (f.held and f.stands)]
    assert not wrong


def an_image(module):
    tensor = module.InferInput("image", [1, 8, 8], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, 8, 8), np.float32))
    return [tensor]


def test_keys_and_tls_at_both_doors_with_other_peoples_clients(repository, state, tmp_path):
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    for name, parts in (
        ("ca.pem", [authority.cert_pem]),
        ("server.pem", certificate.cert_chain_pems),
        ("server.key", [certificate.private_key_pem]),
    ):
        (tmp_path / name).write_bytes(b"".join(part.bytes() for part in parts))
    key = keys(repository, state, "add", "ward", "--scopes", "infer")
    settings = {
        "state": str(state),
        "grpc": "127.0.0.1:0",
        "tls.certificate": str(tmp_path / "server.pem"),
        "tls.key": str(tmp_path / "server.key"),
        "log": "info",
    }
    log = tmp_path / "server.log"
    with ServerProcess(repository, settings, log) as server:
        trusted = {
            "verify": ssl.create_default_context(cafile=str(tmp_path / "ca.pem")),
            "base_url": f"https://{server.http}",
        }
        with httpx.Client(**trusted) as anyone:
            assert anyone.get("/v2/health/ready").status_code == 200
            told = anyone.get("/v2/models/digits")
            assert (told.status_code, told.json()["code"]) == (401, "unauthenticated")
            assert told.headers["www-authenticate"].startswith("Bearer")
            assert anyone.get("/v2/models/digits", headers={"x-api-key": key}).status_code == 200

        http = over_http.InferenceServerClient(
            server.http, ssl=True, ssl_options={"ca_certs": str(tmp_path / "ca.pem")}, insecure=False
        )
        headers = {"Authorization": f"Bearer {key}"}
        assert http.infer("digits", an_image(over_http), headers=dict(headers)).as_numpy("label").shape == (
            1,
        )
        with pytest.raises(InferenceServerException, match="this needs a key"):
            http.infer("digits", an_image(over_http))

        calls = over_grpc.InferenceServerClient(
            str(server.told["grpc"]), ssl=True, root_certificates=str(tmp_path / "ca.pem")
        )
        assert calls.is_server_ready()
        answer = calls.infer("digits", an_image(over_grpc), headers={"authorization": f"Bearer {key}"})
        assert answer.as_numpy("label").shape == (1,)
        with pytest.raises(InferenceServerException, match="this needs a key") as refused:
            calls.infer("digits", an_image(over_grpc))
        assert refused.value.status() == str(grpc.StatusCode.UNAUTHENTICATED)

        keys(repository, state, "revoke", "ward")
        with httpx.Client(**trusted, headers=headers) as late:
            since = time.monotonic()
            while late.get("/v2/models/digits").status_code == 200:
                assert time.monotonic() < since + 2.0, "a revoked key still opens the door"
                time.sleep(0.05)
    written = log.read_text()
    assert "unauthenticated" in written
    assert key not in written
    assert key.split("_", 2)[2] not in written


def test_a_client_that_asks_too_often_is_told_so_and_others_are_served(repository, state, tmp_path):
    one, two = (keys(repository, state, "add", name) for name in ("one", "two"))
    settings = {"state": str(state), "limits.rate": "0.01", "limits.burst": "2"}
    with (
        ServerProcess(repository, settings, tmp_path / "server.log") as server,
        httpx.Client(base_url=f"http://{server.http}") as client,
    ):
        statuses = [client.get("/v2", headers={"x-api-key": one}) for _ in range(3)]
        assert [told.status_code for told in statuses] == [200, 200, 429]
        assert statuses[-1].json()["code"] == "rate_limited"
        assert int(statuses[-1].headers["retry-after"]) > 10
        assert client.get("/v2", headers={"x-api-key": two}).status_code == 200
        assert client.get("/v2/health/live", headers={"x-api-key": one}).status_code == 200


def test_nobody_serves_the_world_by_accident(repository, state, tmp_path):
    for settings, why in (
        ({"http": "0.0.0.0:0"}, "others can reach this server, and it has no keys"),
        ({"access": "keys"}, "there are none: make one with peekserve keys add"),
    ):
        with (
            pytest.raises(NotReady, match=why),
            ServerProcess(repository, {"state": str(state), **settings}, tmp_path / "log"),
        ):
            pass
