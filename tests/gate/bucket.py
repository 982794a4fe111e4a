"""Puts a policy on a bucket, then reads with another key: each object and each listing that is asked for.
Prints the status of each. Signs requests itself, so that no client is in between.
"""

import datetime
import hashlib
import hmac
import json
import sys
import urllib.error
import urllib.parse
import urllib.request

asked = json.load(sys.stdin)


def ask(method, path, query, access, secret, body=b""):
    place = asked["endpoint"] + urllib.parse.quote(path) + ("?" + query if query else "")
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    content = hashlib.sha256(body).hexdigest()
    host = urllib.parse.urlsplit(place).netloc
    headers = {"host": host, "x-amz-content-sha256": content, "x-amz-date": now}
    names = ";".join(headers)
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    canonical = "\n".join([method, urllib.parse.quote(path), query, lines, names, content])
    scope = f"{now[:8]}/{asked['region']}/s3/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join(["AWS4-HMAC-SHA256", now, scope, digest])
    key = ("AWS4" + secret).encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={access}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    request = urllib.request.Request(place, data=body or None, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


bucket = "/" + asked["bucket"]
owner, reader = asked["owner"], asked["reader"]
found = {"objects": {}, "listings": {}}
if asked["policy"]:
    policy = json.dumps(asked["policy"]).encode()
    found["put"] = ask("PUT", bucket, "policy=", *owner, policy)
for path in asked["objects"]:
    found["objects"][path] = ask("GET", f"{bucket}/{path}", "", *reader)
for path in asked["listings"]:
    query = "list-type=2&prefix=" + urllib.parse.quote(path, safe="")
    found["listings"][path] = ask("GET", bucket, query, *reader)
if asked["policy"]:
    found["removed"] = ask("DELETE", bucket, "policy=", *owner)
print(json.dumps(found))
