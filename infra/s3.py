"""The door to S3: a client, and what it raises turned into an error of Orchard's that says what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from models.common.errors import OrchardError

_MISSING = {"404", "NoSuchKey", "NotFound"}
_REFUSED_STATUS = {401, 403}
_WRITTEN_AT_ONCE_BYTES = 256 << 10
_REFUSED = {  # and what some servers say with another status
    "AccessDenied",
    "AuthorizationHeaderMalformed",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidBucketName",
    "InvalidToken",
    "NoSuchBucket",
    "PermanentRedirect",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
}


class NotThere(Exception):
    """There is no such object."""


@dataclass(frozen=True)
class Bucket:
    """A place in an S3-compatible store: `s3://bucket/prefix`, and the errors of one who uses it.

    refused: raised for what asking again does not mend: credentials, a bucket that is not there, an address.
    silent: raised where the server does not answer, or says that it cannot now.
    setting: the environment variable that names the place.
    """

    url: str
    endpoint: str | None
    refused: type[OrchardError]
    silent: type[OrchardError]
    setting: str

    @property
    def name(self) -> str:
        return urlsplit(self.url).netloc

    def key(self, key: str) -> str:
        """The key below the prefix as the server knows it."""
        return f"{urlsplit(self.url).path.strip('/')}/{key}".lstrip("/")

    def client(self, *, read_seconds: int, attempts: int = 2, connections: int = 10) -> Any:
        """A client of the server; it gives up after so many attempts."""
        from boto3.session import Session  # here, so that what needs no S3 does not pay for it
        from botocore.config import Config

        with self.explained("reach"):
            return Session().client(
                "s3",
                endpoint_url=self.endpoint,
                config=Config(
                    connect_timeout=4,
                    read_timeout=read_seconds,
                    max_pool_connections=connections,
                    retries={"total_max_attempts": attempts, "mode": "standard"},
                    # S3-compatible servers refuse the checksums that newer clients add by default.
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                    s3={"addressing_style": "path"} if self.endpoint else None,
                ),
            )

    @contextmanager
    def explained(self, verb: str) -> Iterator[None]:
        """Raises what botocore raises as one of Orchard's errors, with what to do about it, or as NotThere.

        An error of this machine's own files rises as it is: the store has no part in it.
        """
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
        from s3transfer import exceptions as of_downloads

        try:
            yield
        except ClientError as error:
            raise self._explanation(verb, error) from None
        except (Boto3Error, of_downloads.S3DownloadFailedError) as error:
            told = error.__context__  # what carries files puts what the server said into an error of its own
            if isinstance(told, ClientError):
                raise self._explanation(verb, told) from None
            raise self._silence(verb, error) from None
        except NoCredentialsError:
            raise self.refused(
                f"cannot {verb} {self._where}: there are no credentials\nfits: whatever AWS clients read\n"
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
            ) from None
        except (*_of_the_user(), ValueError) as error:
            raise self.refused(
                f"cannot {verb} {self._where}: {error}\nfits: whatever AWS clients read, and the address of a server\n"
                f"set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; see {self.setting} and "
                "ORCHARD_S3_ENDPOINT"
            ) from None
        except (BotoCoreError, of_downloads.RetriesExceededError, ConnectionError, TimeoutError) as error:
            raise self._silence(verb, error) from None

    def require_removed(self, answer: dict[str, Any]) -> None:
        """Raises what the answer to a removal says: it is one of success also where some objects were kept."""
        from botocore.exceptions import ClientError

        for kept in answer.get("Errors", []):
            with self.explained(f"remove {kept.get('Key')} in"):
                raise ClientError({"Error": kept}, "DeleteObjects")

    @property
    def _where(self) -> str:
        return f"{self.url} at {self.endpoint or 'AWS'}"

    def _explanation(self, verb: str, error: Any) -> Exception:
        told = error.response.get("Error", {})
        code = str(told.get("Code", "unknown"))
        if code in _MISSING:
            return NotThere(f"cannot {verb} {self._where}: there is no such object")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        kind = self.refused if code in _REFUSED or status in _REFUSED_STATUS else self.silent
        reason = f"{code}: {told.get('Message', '')}".rstrip(": ")
        return kind(
            f"cannot {verb} {self._where}: {reason}\nfits: a bucket that exists, and credentials that may use it\n"
            f"see AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, {self.setting} and ORCHARD_S3_ENDPOINT"
        )

    def _silence(self, verb: str, error: Exception) -> Exception:
        return self.silent(
            f"cannot {verb} {self._where}: {error}\nfits: the address of a running S3-compatible server\n"
            "see ORCHARD_S3_ENDPOINT, and whether the server runs"
        )


def in_parts(*, of_bytes: int, at_once: int) -> Any:
    """How a file goes: in parts of this size, so many at once, and no more than that of them in memory."""
    from boto3.s3.transfer import TransferConfig

    return TransferConfig(
        multipart_threshold=of_bytes,
        multipart_chunksize=of_bytes,
        max_concurrency=at_once,
        max_io_queue=at_once * of_bytes // _WRITTEN_AT_ONCE_BYTES,
        io_chunksize=_WRITTEN_AT_ONCE_BYTES,
    )


def _of_the_user() -> tuple[type[Exception], ...]:
    """What botocore raises for settings that are wrong."""
    from botocore import exceptions

    return (
        exceptions.PartialCredentialsError,
        exceptions.ConfigParseError,
        exceptions.ProfileNotFound,
        exceptions.ParamValidationError,
    )
