"""Everything that an SDK does with an S3 server at the address given, one line a step: its name, `ok`
and what came of it, or `error` and its status. What differs between two servers is left out."""

import datetime
import hashlib
import http.client
import io
import json
import sys
import urllib.parse

import boto3
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ClientError

ENDPOINT = sys.argv[1]
HOST = urllib.parse.urlsplit(ENDPOINT).netloc
BUCKET = "bucket"
KEYS = ("access", "secret-secret")
NAMES = [
    "plain", "with space", "a+b", "percent%41", "am&eq=", "(1)[2]{3}", "~tilde!$',;:@", "d/e/e/p",
    "umlaut-\u00e4-\u4e2d", "double//slash", "trailing.", "quote\"'", "hash#question?",
]


def client(secret=KEYS[1], **options):
    config = Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"},
                    signature_version="s3v4",
                    # The server gives the whole's checksum with a part of it.
                    response_checksum_validation="when_required", **options)
    return boto3.client("s3", endpoint_url=ENDPOINT, region_name="us-east-1", config=config,
                        aws_access_key_id=KEYS[0], aws_secret_access_key=secret)


S3 = client()


def sha(content):
    return hashlib.sha256(content).hexdigest()[:16]


def step(name, action):
    try:
        result = action()
        print(name, "ok", json.dumps(result, sort_keys=True, default=str), flush=True)
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        print(name, "error", status, error.response["Error"].get("Code"), flush=True)
    except (BotoCoreError, http.client.HTTPException) as error:
        print(name, "error", type(error).__name__, flush=True)


def status(answer, *fields):
    kept = {field: answer.get(field) for field in fields}
    # When it was written is no part of what was written.
    kept.get("Metadata", {}).pop("Mtime", None)
    return [answer["ResponseMetadata"]["HTTPStatusCode"], kept]


def put(key, body, **more):
    return status(S3.put_object(Bucket=BUCKET, Key=key, Body=body, **more), "ETag")


def get(key, **more):
    answer = S3.get_object(Bucket=BUCKET, Key=key, **more)
    body = answer["Body"].read()
    return status(answer, "ETag", "ContentLength", "ContentType", "ContentRange", "Metadata") + [
        len(body), sha(body)]


def keys(**more):
    answer = S3.list_objects_v2(Bucket=BUCKET, **more)
    found = [(entry["Key"], entry["Size"]) for entry in answer.get("Contents", [])]
    return [found, [entry["Prefix"] for entry in answer.get("CommonPrefixes", [])],
            answer["IsTruncated"]]


class Pattern(io.RawIOBase):
    """So many bytes, made as they are read."""

    BLOCK = bytes(range(251)) * 4096

    def __init__(self, length):
        self.length, self.at = length, 0

    def readable(self):
        return True

    def seekable(self):
        return True

    def tell(self):
        return self.at

    def seek(self, offset, whence=0):
        self.at = offset + [0, self.at, self.length][whence]
        return self.at

    def read(self, size=-1):
        left = self.length - self.at
        size = left if size is None or size < 0 else min(size, left)
        begin = self.at % 251
        block = self.BLOCK[begin:begin + size]
        self.at += len(block)
        if len(block) < size:
            return block + self.read(size - len(block))
        return block


def raw(method, target, fields=(), body=None):
    connection = http.client.HTTPConnection(HOST, timeout=30)
    connection.request(method, target, body=body, headers=dict(fields))
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return [answer.status, len(content) if answer.status >= 300 else sha(content)]


def presigned(method, key, client_method, body=None, spoil=False):
    url = S3.generate_presigned_url(client_method, Params={"Bucket": BUCKET, "Key": key})
    target = url[len(ENDPOINT):]
    if spoil:
        target = target[:-4] + ("0000" if target[-4:] != "0000" else "1111")
    return raw(method, target, body=body)


def multipart():
    upload = S3.create_multipart_upload(Bucket=BUCKET, Key="parts", ContentType="x/y")["UploadId"]
    done = []
    for number, length in enumerate([5 << 20, 5 << 20, 12345], 1):
        part = Pattern(length)
        answer = S3.upload_part(Bucket=BUCKET, Key="parts", UploadId=upload, PartNumber=number, Body=part.read())
        done.append({"PartNumber": number, "ETag": answer["ETag"]})
    answer = S3.complete_multipart_upload(Bucket=BUCKET, Key="parts", UploadId=upload,
                                          MultipartUpload={"Parts": done})
    return status(answer, "ETag")


def aborted():
    upload = S3.create_multipart_upload(Bucket=BUCKET, Key="never")["UploadId"]
    S3.upload_part(Bucket=BUCKET, Key="never", UploadId=upload, PartNumber=1, Body=b"x")
    return status(S3.abort_multipart_upload(Bucket=BUCKET, Key="never", UploadId=upload))


def large(length):
    whole = hashlib.sha256()
    body = S3.get_object(Bucket=BUCKET, Key="large")["Body"]
    total = 0
    for block in body.iter_chunks(1 << 20):
        whole.update(block)
        total += len(block)
    wanted = hashlib.sha256()
    source = Pattern(length)
    while block := source.read(1 << 20):
        wanted.update(block)
    return [total, whole.hexdigest() == wanted.hexdigest()]


class ChunkedAuth(S3SigV4Auth):
    """Signs the head of a body whose chunks are signed one by one."""

    KIND = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"

    def payload(self, request):
        return self.KIND

    def _inject_signature_to_request(self, request, signature):
        self.seed, self.time = signature, request.context["timestamp"]
        self.chunk_scope = self.credential_scope(request)
        return super()._inject_signature_to_request(request, signature)


def chunked_signature(content):
    """A PUT in aws-chunked, as SDKs send it when they do not know the digest beforehand."""
    credentials = Credentials(*KEYS)
    auth = ChunkedAuth(credentials, "s3", "us-east-1")
    sizes = [min(65536, len(content) - at) for at in range(0, len(content), 65536)] + [0]
    overhead = sum(len(f"{size:x}") + len(";chunk-signature=") + 64 + 4 for size in sizes)
    request = AWSRequest("PUT", ENDPOINT + "/bucket/chunked", headers={
        "Content-Encoding": "aws-chunked",
        "X-Amz-Decoded-Content-Length": str(len(content)),
        "Content-Length": str(len(content) + overhead),
        "X-Amz-Content-SHA256": ChunkedAuth.KIND,
    })
    auth.add_auth(request)
    previous, out, at = auth.seed, [], 0
    for size in sizes:
        piece = content[at:at + size]
        at += size
        text = "\n".join(["AWS4-HMAC-SHA256-PAYLOAD", auth.time, auth.chunk_scope, previous,
                          hashlib.sha256(b"").hexdigest(), hashlib.sha256(piece).hexdigest()])
        previous = auth.signature(text, request)
        out.append(f"{size:x};chunk-signature={previous}\r\n".encode() + piece + b"\r\n")
    return raw("PUT", "/bucket/chunked", dict(request.headers), b"".join(out))[:1]


step("create", lambda: status(S3.create_bucket(Bucket=BUCKET)))
step("create again", lambda: status(S3.create_bucket(Bucket=BUCKET)))
step("buckets", lambda: [bucket["Name"] for bucket in S3.list_buckets()["Buckets"]])
step("head bucket", lambda: status(S3.head_bucket(Bucket=BUCKET)))
step("head no bucket", lambda: status(S3.head_bucket(Bucket="none")))
step("put small", lambda: put("small", b"hello, shard", ContentType="a/b", Metadata={"one": "1"}))
step("get small", lambda: get("small"))
step("head small", lambda: status(S3.head_object(Bucket=BUCKET, Key="small"), "ETag", "ContentLength"))
step("get none", lambda: get("none"))
step("head none", lambda: status(S3.head_object(Bucket=BUCKET, Key="none")))
step("put empty", lambda: put("empty", b""))
step("get empty", lambda: get("empty"))
step("range", lambda: get("small", Range="bytes=0-4"))
step("range to the end", lambda: get("small", Range="bytes=7-"))
step("last bytes", lambda: get("small", Range="bytes=-5"))
step("no such range", lambda: get("small", Range="bytes=100-"))
etag = S3.head_object(Bucket=BUCKET, Key="small")["ETag"]
step("if match", lambda: get("small", IfMatch=etag))
step("if match fails", lambda: get("small", IfMatch='"x"'))
step("if none match", lambda: get("small", IfNoneMatch=etag))
for at, name in enumerate(NAMES):
    step(f"name {at} put", lambda: put(name, name.encode()))
    step(f"name {at} get", lambda: get(name))
step("list", lambda: keys())
step("list folders", lambda: keys(Delimiter="/"))
step("list prefix", lambda: keys(Prefix="d/"))
step("list page", lambda: keys(MaxKeys=2))
step("copy", lambda: status(S3.copy_object(Bucket=BUCKET, Key="copied", CopySource="bucket/small")))
step("get copied", lambda: get("copied"))
step("multipart", multipart)
step("multipart get", lambda: get("parts"))
step("multipart range", lambda: get("parts", Range="bytes=5242870-5242890"))
step("aborted", aborted)
step("get aborted", lambda: get("never"))
step("managed upload", lambda: S3.upload_fileobj(Pattern(20 << 20), BUCKET, "managed"))
step("managed get", lambda: get("managed"))
LARGE = 110_000_001
step("large put", lambda: put("large", Pattern(LARGE)))
step("large get", lambda: large(LARGE))
step("presigned get", lambda: presigned("GET", "small", "get_object"))
step("presigned put", lambda: presigned("PUT", "by url", "put_object", body=b"by url"))
step("presigned get back", lambda: get("by url"))
step("presigned spoilt", lambda: presigned("GET", "small", "get_object", spoil=True))
step("wrong secret", lambda: status(client(secret="wrong").list_buckets()))
step("chunked signature", lambda: chunked_signature(Pattern(200_000).read()))
step("chunked signature get", lambda: get("chunked"))
step("delete", lambda: status(S3.delete_object(Bucket=BUCKET, Key="small")))
step("get deleted", lambda: get("small"))
step("delete many", lambda: sorted(
    entry["Key"] for entry in S3.delete_objects(
        Bucket=BUCKET, Delete={"Objects": [{"Key": name} for name in NAMES[:4]]}).get("Deleted", [])))
step("list after", lambda: keys())
step("delete full bucket", lambda: status(S3.delete_bucket(Bucket=BUCKET)))
