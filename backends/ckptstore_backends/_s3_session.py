"""What an s3fs filesystem has made of options, environment and profile files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ckptstore.errors import StoreError


@dataclass(frozen=True, slots=True)
class Session:
    """What botocore made of options, environment and profile files.

    Attributes:
        endpoint: with its scheme.
        region: where requests are signed for.
        anonymous: whether requests are not signed.
        addressing_style: "path", "virtual" or "auto".
        attempts: how often a request is sent at most; None where nobody said.
        connect_timeout_s: for a connection to be made.
        verify: as botocore takes it: False, or a file of certificates, or None for the usual ones.
    """

    endpoint: str
    region: str
    anonymous: bool
    addressing_style: str
    attempts: int | None
    connect_timeout_s: float
    verify: bool | str | None

    @property
    def authorities(self) -> str | None:
        """The file of certificates that botocore goes by; None where it trusts everybody."""
        from botocore.httpsession import get_cert_path

        wanted: Any = True if self.verify is None else self.verify  # a path too, whatever its stubs say
        found = get_cert_path(wanted)
        return str(found) if found else None

    @property
    def trust(self) -> dict[str, Any]:
        """The same in obstore's words."""
        if self.verify is False:
            return {"allow_invalid_certificates": True}
        return {"root_certificate": Path(self.verify).read_bytes()} if isinstance(self.verify, str) else {}


async def connected(filesystem: Any) -> Any:
    """Return the botocore client of a filesystem; makes no request to the store.

    Raises:
        StoreError: options, environment and profile do not make one.
    """
    try:
        return await filesystem.set_session()
    except (ValueError, TypeError) as error:
        if isinstance(error, _botocore_error()):
            raise
        raise StoreError(
            f"options, environment and profile make no client ({type(error).__name__}); check the options, "
            "AWS_ENDPOINT_URL, AWS_REGION and the profile"
        ) from error


def _botocore_error() -> type[BaseException]:
    from botocore.exceptions import BotoCoreError

    error: type[BaseException] = BotoCoreError
    return error


async def session_of(filesystem: Any, options: Mapping[str, Any]) -> Session:
    """Return the settings of a filesystem; connects it, without a request to the store."""
    client = await connected(filesystem)
    config, region = client.meta.config, client.meta.region_name
    given = (options.get("client_kwargs") or {}).get("verify")
    verify = given if given is not None else filesystem.session.get_config_variable("ca_bundle")
    if isinstance(verify, str) and not Path(verify).exists():
        raise StoreError(f"AWS_CA_BUNDLE, or the profile, names the file {verify!r}, which does not exist")
    return Session(
        endpoint=client.meta.endpoint_url,
        region="us-east-1" if region == "aws-global" else region,
        anonymous=bool(options.get("anon")),
        addressing_style=(config.s3 or {}).get("addressing_style") or "auto",
        attempts=(config.retries or {}).get("total_max_attempts"),
        connect_timeout_s=config.connect_timeout,
        verify=verify,
    )


async def keys_of(filesystem: Any, options: Mapping[str, Any]) -> Any:
    """Return the credentials in effect, refreshed when they expire soon, as botocore has them.

    Raises:
        BotoCoreError: there are none.
    """
    from botocore.credentials import ReadOnlyCredentials
    from botocore.exceptions import CredentialRetrievalError, NoCredentialsError

    await connected(filesystem)
    given = options.get("client_kwargs") or {}
    if key := filesystem.key or given.get("aws_access_key_id"):
        secret = filesystem.secret or given.get("aws_secret_access_key")
        return ReadOnlyCredentials(key, secret, filesystem.token or given.get("aws_session_token"))
    found = await filesystem.session.get_credentials()
    if found is None:
        raise NoCredentialsError
    try:
        return await found.get_frozen_credentials()
    except RuntimeError as error:  # what botocore raises for new credentials that have expired already
        raise CredentialRetrievalError(provider=found.method, error_msg="they have expired") from error
