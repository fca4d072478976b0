"""Loading and unloading by hand: the protocol's repository extension, at both doors.

To unload an application is to offer none of its variants: requests are told that it is not ready, and its weights go
when the last row is settled. To load it offers all of them again and answers when they are resident, as far as they
fit. Files that come along make a revision, which is checked, profiled and swapped in before the answer
(docs/registration.md).
"""

import asyncio
import binascii
from base64 import b64decode
from collections.abc import Mapping

import msgspec

from peekserve.domain.application import Application
from peekserve.errors import InvalidRequest, NotOffered, NotReady, UnknownApplication
from peekserve.live.editions import BY_HAND, everything
from peekserve.live.registering import FILE, Registrar, Wanted
from peekserve.live.serving import Drives, trouble_of
from peekserve.registry.archives import check_path
from peekserve.server.calls import Scalar
from peekserve.state.registrations import UNDER_WAY, Life

Parameters = Mapping[str, Scalar | bytes]

# After so long a client is told how it stands; the work goes on.
PATIENCE_S = 120.0
_FILE = "file:"


class ControlJson(msgspec.Struct, gc=False):
    """The request object of load and unload; an empty body means the same as {}."""

    parameters: dict[str, Scalar] = {}


def read_control(body: bytes) -> Parameters:
    """Raises InvalidRequest."""
    try:
        return msgspec.json.decode(body or b"{}", type=ControlJson).parameters
    except RecursionError:
        raise InvalidRequest("the request body is JSON nested too deeply") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidRequest(
            f'the body of this request is {{}} or {{"parameters": {{...}}}}: {error}'
        ) from None


class ByHand:
    """Raises UnknownApplication or UnknownVariant for names that nothing has."""

    def __init__(
        self, driver: Drives, registrar: Registrar | None = None, patience_s: float = PATIENCE_S
    ) -> None:
        self._driver = driver
        self._registrar = registrar
        self._patience_s = patience_s

    async def load(self, name: str, parameters: Parameters) -> None:
        """Returns when it serves. Raises NotReady where it does not load, InvalidRequest with what is wrong with files
        that came along."""
        files = files_of(parameters)
        if files:
            await self._replace(name, files)
            return
        application = self._find(name)
        variant = _version(application, parameters)
        await self._offer(application, self._without(application) - {variant} if variant else frozenset())

    async def unload(self, name: str, parameters: Parameters) -> None:
        """Returns when its weights are gone."""
        application = self._find(name)
        variant = _version(application, parameters)
        without = {variant} | self._without(application) if variant else everything(application)
        await self._offer(application, frozenset(without))

    def _without(self, application: Application) -> frozenset[str]:
        """What is unloaded. The driver knows: a swap offers everything again."""
        name = application.name
        return frozenset(v for v in everything(application) if self._driver.state(name, v)[1] == BY_HAND)

    async def _offer(self, application: Application, without: frozenset[str]) -> None:
        variants = tuple(name for name in everything(application) if name not in without)
        done = self._driver.offer(application.key, variants)
        try:
            async with asyncio.timeout(self._patience_s):
                trouble = await asyncio.shield(done)
        except TimeoutError:
            raise NotReady(
                f"{application.name!r} is not done after {self._patience_s:g} s; the repository index says where it is"
            ) from None
        if trouble:
            raise NotReady(f"{application.name!r}: {trouble_of(trouble)}")

    async def _replace(self, name: str, files: dict[str, bytes]) -> None:
        if self._registrar is None:
            raise NotOffered("this server takes no files: it serves what lies in its repository")
        one = await self._registrar.amend(name, dict(files), Wanted(False, 0))
        ended = await self._registrar.settled(name, one.revision)
        if ended.state in UNDER_WAY:
            raise NotReady(f"the server is being stopped; the next one takes revision {one.revision} up")
        if ended.state is not Life.ACTIVE:
            said = "; ".join(str(fault) for fault in ended.faults if fault.severity == "error")
            raise InvalidRequest(f"revision {one.revision} is {ended.state}: {said or ended.why}")

    def _find(self, name: str) -> Application:
        found = self._driver.applications.get(name)
        if found is None:
            known = ", ".join(sorted(self._driver.applications)) or "none"
            raise UnknownApplication(f"there is no application {name[:80]!r}; there are: {known}")
        return found


def files_of(parameters: Parameters) -> dict[str, bytes]:
    """The files among the parameters, by path: `file:PATH`, in base64 where they came as text, and an application.yaml
    as `config`. A configuration in Triton's own JSON says nothing here that the models do not, and is passed over.
    Raises InvalidRequest."""
    files: dict[str, bytes] = {}
    for name, value in parameters.items():
        if name == "config":
            if not isinstance(value, str):
                raise InvalidRequest("parameter config is a text")
            if value.strip() and not value.lstrip().startswith("{"):
                files[FILE] = value.encode()
        elif name.startswith(_FILE):
            path = check_path(name.removeprefix(_FILE)).as_posix()
            files[path] = _content(name, value)
    return files


def _content(name: str, value: Scalar | bytes) -> bytes:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise InvalidRequest(f"parameter {name[:80]!r} is a file's content in base64")
    try:
        return b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(f"parameter {name[:80]!r} is no base64: {error}") from None


def _version(application: Application, parameters: Parameters) -> str:
    """The one variant that is meant; empty for all of them."""
    version = parameters.get("version")
    if version is None or version == "":
        return ""
    if not isinstance(version, str):
        raise InvalidRequest(f"parameter version is the name of a variant, not {version!r:.40}")
    return application.variant(version).name
