"""ASiC-E containers with CAdES (ETSI EN 319 162-1 section 4.4): files and a signature over their digests, in one zip.

    mimetype                        application/vnd.etsi.asic-e+zip; the first entry, stored
    …                               the files
    META-INF/ASiCManifest.xml       names every file with its SHA-256
    META-INF/signature.p7s          detached CAdES signature over the manifest's bytes (`cades`)

Whoever verifies checks the signature over the manifest, and the digest of every file against it.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import zipfile
from collections.abc import Callable, Mapping
from xml.sax.saxutils import quoteattr

MIMETYPE = "application/vnd.etsi.asic-e+zip"
MANIFEST, SIGNATURE = "META-INF/ASiCManifest.xml", "META-INF/signature.p7s"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_NAMESPACES = 'xmlns:asic="http://uri.etsi.org/02918/v1.2.1#" xmlns:ds="http://www.w3.org/2000/09/xmldsig#"'
_SHA256 = "http://www.w3.org/2001/04/xmlenc#sha256"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def asic_container(files: Mapping[str, tuple[str, bytes]], sign: Callable[[bytes], bytes]) -> bytes:
    """The container of `files`: name to media type and content, held in memory. `sign` gets the manifest's bytes and
    gives a detached signature. Raises ValueError for no file and for a name that is not 1 to 100 of A-Za-z0-9._-."""
    if not files or not all(_NAME.fullmatch(name) and name != "mimetype" for name in files):
        raise ValueError("a container has one file or more, and names of 1 to 100 letters, digits, dots, _ and -")
    manifest = asic_manifest(files)
    entries = {"mimetype": MIMETYPE.encode()} | {name: content for name, (_, content) in files.items()}
    entries |= {MANIFEST: manifest, SIGNATURE: sign(manifest)}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as container:
        for name, content in entries.items():
            container.writestr(zipfile.ZipInfo(name, _EPOCH), content)
    return packed.getvalue()


def asic_manifest(files: Mapping[str, tuple[str, bytes]]) -> bytes:
    """The manifest that names `files`, in their order, and the signature."""
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', f"<asic:ASiCManifest {_NAMESPACES}>"]
    lines.append(f'<asic:SigReference URI="{SIGNATURE}" MimeType="application/x-pkcs7-signature"/>')
    for name, (media_type, content) in files.items():
        digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
        lines.append(f"<asic:DataObjectReference URI={quoteattr(name)} MimeType={quoteattr(media_type)}>")
        lines.append(f'<ds:DigestMethod Algorithm="{_SHA256}"/><ds:DigestValue>{digest}</ds:DigestValue>')
        lines.append("</asic:DataObjectReference>")
    return "\n".join([*lines, "</asic:ASiCManifest>", ""]).encode()
