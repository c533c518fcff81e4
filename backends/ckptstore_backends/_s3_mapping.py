"""Which storage options of s3fs can be said to obstore too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Those that describe the session are resolved by botocore and read from its client; the rest are of s3fs's file
# layer, which is not used.
_OPTIONS = frozenset({
    "anon", "endpoint_url", "key", "secret", "token", "username", "password", "profile", "session", "use_ssl",
    "client_kwargs", "config_kwargs", "s3_additional_kwargs", "requester_pays", "max_concurrency",
    "default_block_size", "default_fill_cache", "default_cache_type", "version_aware", "cache_regions",
    "fixed_upload_size", "local_expiry_check", "deadline_s", "atomic_create", "memory_bytes",
})  # fmt: skip
_CLIENT_KWARGS = frozenset({"region_name", "endpoint_url", "verify", "use_ssl", "aws_access_key_id",
                            "aws_secret_access_key", "aws_session_token"})  # fmt: skip
_CONFIG_KWARGS = frozenset({"region_name", "signature_version", "connect_timeout", "read_timeout", "retries",
                            "max_pool_connections", "tcp_keepalive", "s3", "user_agent", "user_agent_extra",
                            "user_agent_appid", "request_checksum_calculation",
                            "response_checksum_validation"})  # fmt: skip
_ENCRYPTION = {
    "ServerSideEncryption": "server_side_encryption",
    "SSEKMSKeyId": "sse_kms_key_id",
    "BucketKeyEnabled": "sse_bucket_key_enabled",
}


def unmapped(bucket: str, options: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the options that only s3fs can keep, by name; () where obstore may do the work."""
    config = options.get("config_kwargs") or {}
    found = [
        *sorted(set(options) - _OPTIONS),
        *(f"client_kwargs[{name!r}]" for name in sorted(set(options.get("client_kwargs") or {}) - _CLIENT_KWARGS)),
        *(f"config_kwargs[{name!r}]" for name in sorted(set(config) - _CONFIG_KWARGS)),
        *(f"config_kwargs['s3'][{name!r}]" for name in sorted(set(config.get("s3") or {}) - {"addressing_style"})),
        *(f"s3_additional_kwargs[{name!r}]" for name in _extra(options) if name not in _ENCRYPTION),
    ]
    if config.get("signature_version") not in {None, "s3v4"}:
        found.append("config_kwargs['signature_version']")
    if options.get("requester_pays"):
        found.append("requester_pays")
    if bucket.startswith("arn:") or bucket.endswith("--x-s3"):
        found.append("an access point or directory bucket")
    return tuple(found)


def encryption(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return obstore's settings for the encryption that the options ask for."""
    return {_ENCRYPTION[name]: value for name, value in _extra(options).items()}


def _extra(options: Mapping[str, Any]) -> Mapping[str, Any]:
    return options.get("s3_additional_kwargs") or {}
