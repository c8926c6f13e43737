"""Bearer tokens of an OpenID Connect issuer, beside keys: checked with its published keys, and read for who it is.

    who            `sub`, as `oidc:SUB` in the audit log
    owner          a claim, `sub` by default: whose jobs are submitted
    scopes         a claim, `scope` by default, of words or a list: those of ours, each behind a prefix

The issuer is asked for its keys when one is needed that is not known, and again after a while; never for a token.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import jwt
from jwt import PyJWK, PyJWKSet

from api.errors import IssuerUnreachable, Unauthenticated
from api.oidc_settings import OidcSettings, is_issuer_url
from storage.api_keys import RESERVED_OWNERS
from storage.records import SCOPES, Scope

# By the key's type, for keys that do not say theirs. Whoever has a public key could sign with a symmetric one.
ALGORITHMS: Mapping[str, tuple[str, ...]] = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "EC": ("ES256", "ES384", "ES512"),
    "OKP": ("EdDSA",),
}
ASYMMETRIC = tuple(name for names in ALGORITHMS.values() for name in names)
SKEW_SECONDS = 60.0  # between the issuer's clock and ours
ANSWER_SECONDS = 5.0
FRESH_SECONDS = 600.0  # keys are asked for again after this time
STALE_SECONDS = 3600.0  # and are good for so long, where the issuer does not answer
UNKNOWN_SECONDS = 5.0  # between two looks for a key that is not known
MAX_TOKEN, MAX_ANSWER, MAX_NAME = 16_384, 1 << 20, 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Bearer:
    """Whom a token is of."""

    name: str
    owner: str
    scopes: frozenset[Scope]
    expires_at: float
    """By `time.time`."""


def looks_like_one(token: str) -> bool:
    """Whether it has the form of a signed token, which no key has."""
    return token.count(".") == 2 and not token.startswith("rw_")


class Issuer:
    """One issuer. Thread-safe; `verify` may ask it over HTTP."""

    def __init__(self, settings: OidcSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: Mapping[str | None, PyJWK] = {}
        self._fetched_at = self._looked_at = float("-inf")
        self._failure: IssuerUnreachable | None = None

    @property
    def url(self) -> str:
        """What tokens name as theirs."""
        return self._settings.issuer

    def verify(self, token: str) -> Bearer:
        """Whom `token` is of.

        Raises:
            Unauthenticated: the token is not good; says why.
            IssuerUnreachable: nobody knows, because the issuer does not give its keys.
        """
        header = _header(token)
        key = self._key(header.get("kid"))
        return self._bearer(self._claims(token, key, str(header.get("alg"))))

    # -- the token -------------------------------------------------------------------------------------------------

    def _claims(self, token: str, key: PyJWK, algorithm: str) -> Mapping[str, Any]:
        wanted = self._settings
        try:
            return jwt.decode(
                token,
                key,
                algorithms=_algorithms(key),
                audience=wanted.audience,
                issuer=wanted.issuer,
                leeway=SKEW_SECONDS,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError as error:
            ended = _moment(token, "exp")
            raise Unauthenticated(
                f"the token must not have expired, but it ended at {ended}: get a new one from {wanted.issuer}"
            ) from error
        except (jwt.ImmatureSignatureError, jwt.InvalidIssuedAtError) as error:
            raise Unauthenticated(
                f"the token must be good already, but it begins at {_moment(token, 'nbf', 'iat')}: compare the clocks "
                "of the issuer and of this server"
            ) from error
        except jwt.InvalidAudienceError as error:
            raise Unauthenticated(
                f"the token must be for {wanted.audience}, but its audience is {_said(token, 'aud')}"
            ) from error
        except jwt.InvalidIssuerError as error:
            raise Unauthenticated(f"the token must be of {wanted.issuer}, but is of {_said(token, 'iss')}") from error
        except jwt.MissingRequiredClaimError as error:
            raise Unauthenticated(f"the token must have the claim {error.claim}, but has none") from error
        except jwt.InvalidAlgorithmError as error:
            raise Unauthenticated(
                f"the token must be signed as its key is for, but is signed with {algorithm}"
            ) from error
        except jwt.InvalidSignatureError as error:
            raise Unauthenticated(
                f"the token must be signed by {wanted.issuer}, but its signature is another"
            ) from error
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError) as error:
            raise Unauthenticated(f"the token must be readable, but {error}") from error

    def _bearer(self, claims: Mapping[str, Any]) -> Bearer:
        subject, owner = (_name(claims, claim) for claim in ("sub", self._settings.owner_claim))
        if owner in RESERVED_OWNERS or owner.startswith("key:"):
            raise Unauthenticated(f"the token must name an owner of its own, but it names {owner!r}")
        return Bearer(
            name=f"oidc:{subject}",
            owner=owner,
            scopes=scopes_of(claims.get(self._settings.scope_claim), self._settings.scope_prefix),
            expires_at=float(claims["exp"]) + SKEW_SECONDS,
        )

    # -- the issuer ------------------------------------------------------------------------------------------------

    def _key(self, kid: object) -> PyJWK:
        """The key of an id; of tokens that name none, the only one."""
        with self._lock:
            if (key := self._known(kid)) is None or self._clock() - self._fetched_at >= FRESH_SECONDS:
                self._refresh(is_known=key is not None)
                key = self._known(kid)
        if key is None:
            named = "name its key (kid)" if kid is None else f"be signed with a key of {self.url}"
            but = "names none of several" if kid is None else f"names the key {str(kid)[:60]!r}, which is not published"
            raise Unauthenticated(f"the token must {named}, but it {but}")
        return key

    def _known(self, kid: object) -> PyJWK | None:
        if kid is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(str(kid))

    def _refresh(self, *, is_known: bool) -> None:
        """Ask for the keys, unless that was done just now; one that is known stays good for a while without an answer.

        Raises:
            IssuerUnreachable.
        """
        now = self._clock()
        if now - self._looked_at >= UNKNOWN_SECONDS:
            self._looked_at, self._failure = now, None
            try:
                self._keys, self._fetched_at = self._fetch(), now
            except IssuerUnreachable as error:
                self._failure = error
        if self._failure is not None and not (is_known and now - self._fetched_at < STALE_SECONDS):
            raise IssuerUnreachable(str(self._failure))

    def _fetch(self) -> Mapping[str | None, PyJWK]:
        context = ssl.create_default_context()  # which follows SSL_CERT_FILE
        with httpx.Client(timeout=ANSWER_SECONDS, verify=context, follow_redirects=False) as http:
            found = self._ask(http, f"{self.url.rstrip('/')}/.well-known/openid-configuration")
            if found.get("issuer") != self.url:
                raise IssuerUnreachable(
                    f"the issuer must be the one that is set, {self.url}, but it is {found.get('issuer')!r:.100}"
                )
            place = found.get("jwks_uri")
            if not isinstance(place, str) or not is_issuer_url(place):
                raise IssuerUnreachable(f"{self.url} must say where its keys are, but its jwks_uri is {place!r:.100}")
            keys = self._ask(http, place)
        return usable_keys(keys)

    def _ask(self, http: httpx.Client, url: str) -> Mapping[str, Any]:
        try:
            answer = http.get(url)
            answer.raise_for_status()
            value = answer.json() if len(answer.content) <= MAX_ANSWER else None
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise IssuerUnreachable(f"{url} must answer, so that tokens can be checked, but: {reason}") from error
        if answer.is_redirect or not isinstance(value, dict):
            raise IssuerUnreachable(f"{url} must answer with a JSON object, but does not")
        return value


def usable_keys(document: Mapping[str, Any]) -> Mapping[str | None, PyJWK]:
    """The keys of a JWKS that signatures are checked with, by id; symmetric ones and others are left out."""
    keys: dict[str | None, PyJWK] = {}
    for one in document.get("keys", []):
        if not isinstance(one, dict) or one.get("kty") not in ALGORITHMS or one.get("use", "sig") != "sig":
            continue
        try:
            key = PyJWKSet([one]).keys[0]
        except jwt.PyJWTError:  # of a kind that is not known here
            continue
        keys[key.key_id] = key
    return keys


def scopes_of(claim: object, prefix: str) -> frozenset[Scope]:
    """Ours among what a token may do: words with spaces between them, or a list."""
    words = claim.split() if isinstance(claim, str) else claim if isinstance(claim, list) else []
    named = {word.removeprefix(prefix) for word in words if isinstance(word, str) and word.startswith(prefix)}
    return frozenset(scope for scope in SCOPES if scope in named)


def _name(claims: Mapping[str, Any], claim: str) -> str:
    """Somebody's, as the log of changes can hold it."""
    name = claims.get(claim)
    if not isinstance(name, str) or not name.strip() or not name.isprintable() or len(name) > MAX_NAME:
        raise Unauthenticated(
            f"the token must have a name of at most {MAX_NAME} printable characters in its claim {claim}, but it has "
            f"{name!r:.60}"
        )
    return name


def _header(token: str) -> Mapping[str, Any]:
    if len(token) > MAX_TOKEN:
        raise Unauthenticated(f"the token must have at most {MAX_TOKEN} characters, but it has {len(token)}")
    try:
        header = jwt.get_unverified_header(token)
    except jwt.PyJWTError as error:
        raise Unauthenticated(f"the token must be readable, but {error}") from error
    if header.get("alg") not in ASYMMETRIC:
        raise Unauthenticated(
            f"the token must be signed with one of {', '.join(ASYMMETRIC)}, but is with {header.get('alg')!r:.40}"
        )
    return header


def _algorithms(key: PyJWK) -> list[str]:
    """What the key may have signed with: what it says, or what its type can do."""
    said = key._jwk_data.get("alg")
    possible = ALGORITHMS[key.key_type or ""]
    return [name for name in possible if said in (None, name)]


def _unverified(token: str) -> Mapping[str, Any]:
    """For messages only."""
    return jwt.decode(token, options={"verify_signature": False})


def _said(token: str, claim: str) -> str:
    return f"{_unverified(token).get(claim)!r:.100}"


def _moment(token: str, *claims: str) -> str:
    found = next((value for name in claims if isinstance(value := _unverified(token).get(name), int | float)), 0)
    try:
        return datetime.fromtimestamp(found, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return str(found)
