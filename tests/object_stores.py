"""A real S3-compatible server for tests: in this process, on a free port, empty at first."""

import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import s3fs
from moto.server import ThreadedMotoServer

KEYS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests", "AWS_DEFAULT_REGION": "us-east-1"}


@contextmanager
def s3() -> Iterator[dict[str, str]]:
    """Yield the environment variables by which everybody finds the server."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield KEYS | {"AWS_ENDPOINT_URL": f"http://{host}:{port}"}
    finally:
        server.stop()
        s3fs.S3FileSystem.clear_instance_cache()  # fsspec would go on to ask this one


def new_bucket(variables: dict[str, str]) -> str:
    """Return the address of an artifacts' folder in a bucket of its own."""
    bucket = uuid.uuid4().hex
    urllib.request.urlopen(urllib.request.Request(f"{variables['AWS_ENDPOINT_URL']}/{bucket}", method="PUT")).close()
    return f"s3://{bucket}/artifacts"
