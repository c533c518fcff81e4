"""Whether default credentials are worth asking google-auth for.

On a machine outside Google Cloud it asks for 12 s in vain. The order of its search:
https://cloud.google.com/docs/authentication/application-default-credentials
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

_CONNECT_LIMIT_S = 1.5  # the server is on the same host or the next
_ADDRESS = "169.254.169.254"
_PRODUCT = Path("/sys/class/dmi/id/product_name")
_IN_GOOGLE_CLOUD = ("K_SERVICE", "CLOUD_RUN_JOB", "APPENGINE_RUNTIME", "GAE_RUNTIME")
_FILE = "application_default_credentials.json"


def named_in_files() -> bool:
    """Whether there is a file of credentials, which google-auth looks at before it asks anybody."""
    return "GOOGLE_APPLICATION_CREDENTIALS" in os.environ or (_folder_of_gcloud() / _FILE).exists()


def _folder_of_gcloud() -> Path:
    if given := os.environ.get("CLOUDSDK_CONFIG"):
        return Path(given)
    if os.name == "nt":
        return Path(os.environ.get("APPDATA", "C:/")) / "gcloud"
    return Path("~/.config/gcloud").expanduser()


def metadata_server_answers() -> bool:
    """Whether there is a metadata server to ask, or should be: it may come up later than the machine."""
    if os.environ.get("NO_GCE_CHECK") == "true":
        return False
    return _in_google_cloud() or _connects()


def _in_google_cloud() -> bool:
    if any(name in os.environ for name in _IN_GOOGLE_CLOUD):
        return True
    with suppress(OSError):
        return _PRODUCT.read_text().startswith("Google")
    return False


def _connects() -> bool:
    # both are variables of google-auth, with or without a port
    given = os.environ.get("GCE_METADATA_HOST") or os.environ.get("GCE_METADATA_IP") or _ADDRESS
    host, _, port = given.partition(":")
    try:
        socket.create_connection((host, int(port or 80)), _CONNECT_LIMIT_S).close()
    except (OSError, ValueError):
        return False
    return True
