#!/opt/venv/bin/python
"""`mc ready local` and `mc mb --ignore-existing ALIAS/BUCKET`, as the compose file calls them."""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.parse
import urllib.request


def main(words: list[str]) -> int:
    if words == ["ready", "local"]:
        urllib.request.urlopen("http://127.0.0.1:9000/minio/health/live", timeout=10)
        return 0
    command, option, where = words
    assert (command, option) == ("mb", "--ignore-existing")
    alias, _, bucket = where.partition("/")
    address = urllib.parse.urlsplit(os.environ[f"MC_HOST_{alias}"])
    assert address.password, "the secret was not read"
    request = urllib.request.Request(f"http://{address.hostname}:{address.port}/{bucket}", method="PUT")
    request.add_header(
        "Authorization", f"AWS4-HMAC-SHA256 Credential={address.username}/20260101/us-east-1/s3/aws4_request"
    )
    try:
        urllib.request.urlopen(request, timeout=30)
    except urllib.error.HTTPError as error:
        if error.code != 409:
            raise
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
