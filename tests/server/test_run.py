"""What a server says that cannot open its door."""

import asyncio
import ssl

import pytest
import trustme
from cryptography.hazmat.primitives import serialization as s

from peekserve.errors import InvalidConfiguration
from peekserve.server.run import HttpServer
from tests.server.test_patience import hello

pytestmark = pytest.mark.core


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    for name in ("one", "two"):
        issued = authority.issue_cert("localhost")
        issued.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
        issued.private_key_pem.write_to_path(folder / f"{name}.key")
    (folder / "text").write_text("no PEM")
    key = s.load_pem_private_key((folder / "one.key").read_bytes(), None)
    locked = key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.BestAvailableEncryption(b"secret"))
    (folder / "locked.key").write_bytes(locked)
    return folder


@pytest.mark.parametrize(
    ("certificate", "key"),
    [
        ("one.pem", "two.key"),
        ("text", "one.key"),
        ("one.pem", "text"),
        ("one.pem", "locked.key"),
        ("one.pem", "gone"),
    ],
)
async def test_files_that_are_no_certificate_with_its_key_are_named(files, certificate, key):
    pair = str(files / certificate), str(files / key)
    with pytest.raises(InvalidConfiguration, match=f"{certificate} and .*{key}: no certificate with its key"):
        await HttpServer(hello, port=0, certificate=pair).start()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_the_right_files_are_served_by_nothing_older_than_tls_1_2(files):
    server = HttpServer(hello, port=0, certificate=(str(files / "one.pem"), str(files / "one.key")))
    host, port = await server.start()
    for version, works in ((ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True)):
        context = ssl._create_unverified_context()
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = version
        try:
            _, writer = await asyncio.open_connection(host, port, ssl=context)
        except (ssl.SSLError, ConnectionError):
            assert not works
        else:
            assert works
            writer.close()
    await server.stop()
