"""Settings of the doors that cannot be meant."""

import pytest

from peekserve.errors import InvalidConfiguration
from peekserve.registry.doors import Drain, Tls
from peekserve.registry.settings import read_settings

pytestmark = pytest.mark.core


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("limits: {burst: 5}", "limits: burst without a rate limits nobody"),
        ("limits: {rate: 5, burst: 0.5}", "limits: a burst of 0.5 lets nobody ask"),
        ("limits: {rate: -1}", "limits.rate: -1 is not 0 or more"),
        ("limits: {body_wait: 0s}", "limits.body_wait: 0s is not above zero"),
        ("access: key", "access: unknown kind of access 'key'; did you mean 'keys'?"),
        ("tls: {certificate: gone.pem, key: gone.key}", "/gone.pem; write the path of a PEM file"),
        ("tls: {certificate: gone.pem}", "tls: needs the key 'key'"),
        ("tls: server.pem", "tls: must be a mapping"),
        ("drain: {delay: 5}", "drain.delay: "),
        ("drain: {delays: 5s}", "drain: unknown key 'delays'"),
    ],
)
def test_each_mistake_is_named(tmp_path, text, message):
    (tmp_path / "peekserve.yaml").write_text(text)
    with pytest.raises(InvalidConfiguration) as raised:
        read_settings(tmp_path)
    assert message in str(raised.value)


def test_what_is_right_is_read(tmp_path):
    pair = tmp_path / "server.pem", tmp_path / "server.key"
    for file in pair:
        file.touch()
    lines = [f"tls: {{certificate: {pair[0]}, key: {pair[1]}}}", "limits: {rate: 5}", "access: keys"]
    lines.append("drain: {delay: 1500ms, at_most: 20s}")
    (tmp_path / "peekserve.yaml").write_text("\n".join(lines))
    settings, _ = read_settings(tmp_path)
    assert settings.drain == Drain(1.5, 20.0)
    assert settings.tls == Tls(str(pair[0]), str(pair[1]))
    assert (settings.limits.rate, settings.limits.burst, settings.access) == (5.0, 0.0, "keys")
