"""Whose certificates are trusted."""

import functools
import os
import ssl

import httpx


def trusted() -> ssl.SSLContext:
    """What httpx trusts by itself: those of SSL_CERT_FILE or SSL_CERT_DIR, or the public ones."""
    return _authorities(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@functools.cache
def _authorities(file: str | None, directory: str | None) -> ssl.SSLContext:
    # To read them takes longer than all else that a client is made of.
    return httpx.create_ssl_context()
