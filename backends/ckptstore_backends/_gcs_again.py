"""Uploads that came to nothing are begun again, as long as what was given can be sent once more."""

from __future__ import annotations

from collections.abc import Callable

from ckptstore.objects import ObjectInfo
from ckptstore_backends._gcs_errors import UploadLost
from ckptstore_backends._replay import Replay
from ckptstore_backends._retries import Patience, RetryPolicy
from ckptstore_backends._transfer import Damaged


def begun_again(views: Replay, upload: Callable[[Replay], ObjectInfo], policy: RetryPolicy) -> ObjectInfo:
    """Upload until it succeeds, fails for good, or patience ends."""
    patience = Patience(policy)
    while True:
        try:
            return upload(views)
        except (Damaged, UploadLost) as error:
            if not views.possible:
                raise
            patience.sleep(error)
