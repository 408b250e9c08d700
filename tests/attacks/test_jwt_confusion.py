"""JWT confusion: algorithm, key, type and critical headers (RFC 8725 §2, §3). Each case names its attack."""

from __future__ import annotations

import hashlib
import hmac
import json
import warnings
from collections.abc import Mapping
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from app.keys.jwk import VerificationKey, choose_key
from app.keys.signer import SigningKey, sign
from app.keys.verifier import NO_TYP, JWTRefused, VerifiedJWT, verify
from app.vocabulary import SigningAlg
from tests.forge import encode, forge, pair

CLAIMS = {"iss": "https://as.example", "sub": "human", "exp": 1797840300}
AT = frozenset({"at+jwt"})
EVERY_ALG = frozenset(SigningAlg)
PAIRS = {alg: pair(alg) for alg in SigningAlg}


def header(alg: SigningAlg = SigningAlg.ES256, **members: Any) -> dict[str, Any]:
    return {"typ": "at+jwt", "alg": alg.value, "kid": PAIRS[alg][0].kid} | members


def check(token: str, *, typ: frozenset[str] = AT, algorithms: frozenset[SigningAlg] = EVERY_ALG) -> VerifiedJWT:
    known = {public.kid: public for _private, public, _jwk in PAIRS.values()}
    return verify(token, find_key=lambda h: known.get(h.get("kid")), typ=typ, algorithms=algorithms)


def refused(token: str, **options: Any) -> str:
    with pytest.raises(JWTRefused) as refusal:
        check(token, **options)
    return refusal.value.reason


@pytest.mark.parametrize("alg", SigningAlg)
def test_an_honest_token_of_each_algorithm_is_accepted_without_a_warning(alg: SigningAlg) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        verified = check(sign(CLAIMS, "at+jwt", PAIRS[alg][0]))
    assert verified.claims == CLAIMS
    assert dict(verified.header) == header(alg)


@pytest.mark.parametrize("alg", ["none", "None", "nOnE", "NONE", "", None, 0, True, [], ["ES256"], {"a": 1}, "es256"], ids=repr)
def test_alg_none_in_any_spelling_or_type_is_refused(alg: object) -> None:
    private = PAIRS[SigningAlg.ES256][0]
    assert refused(forge(header() | {"alg": alg}, CLAIMS, private)) == "alg is not acceptable"
    unsigned = forge(header() | {"alg": alg}, CLAIMS)
    refused(unsigned)
    refused(unsigned.rpartition(".")[0] + ".")


def test_a_missing_alg_is_refused() -> None:
    bare = header()
    del bare["alg"]
    assert refused(forge(bare, CLAIMS, PAIRS[SigningAlg.ES256][0])) == "alg is not acceptable"


@pytest.mark.parametrize("name", ["HS256", "HS384", "HS512", "ES256K", "ES384", "RS512", "Ed448", "RSA-OAEP"])
def test_an_algorithm_we_do_not_use_is_refused_whatever_the_signature(name: str) -> None:
    token = forge(header() | {"alg": name}, CLAIMS, PAIRS[SigningAlg.ES256][0])
    assert refused(token) == "alg is not acceptable"


@pytest.mark.parametrize("alg", [SigningAlg.ES256, SigningAlg.RS256, SigningAlg.EDDSA])
def test_our_public_key_is_no_hmac_secret_in_any_encoding(alg: SigningAlg) -> None:
    _private, public, jwk = PAIRS[alg]
    native: Any = public.key.raw_value
    secrets = [
        native.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        native.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        native.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
        json.dumps(jwk).encode(),
        b"",
    ]
    for secret in secrets:
        for name in ("HS256", alg.value):
            unsigned = forge(header(alg) | {"alg": name}, CLAIMS).rpartition(".")[0]
            mac = hmac.new(secret, unsigned.encode(), hashlib.sha256).digest()
            refused(f"{unsigned}.{encode(mac)}")


def test_a_key_signs_with_its_own_algorithm_only() -> None:
    rs, ps = PAIRS[SigningAlg.RS256][0], PAIRS[SigningAlg.PS256][0]
    as_pss = SigningKey(rs.kid, SigningAlg.PS256, rs.key)
    assert refused(sign(CLAIMS, "at+jwt", as_pss)) == "alg is not this key's"
    assert refused(forge(header(SigningAlg.RS256), CLAIMS, ps)) == "bad signature"
    for alg in SigningAlg:
        for other in EVERY_ALG - {alg}:
            refused(forge(header(alg) | {"alg": other.value}, CLAIMS, PAIRS[alg][0]))


def test_an_algorithm_the_caller_did_not_list_is_refused() -> None:
    token = sign(CLAIMS, "at+jwt", PAIRS[SigningAlg.RS256][0])
    assert refused(token, algorithms=frozenset({SigningAlg.ES256})) == "alg is not acceptable"
    assert refused(token, algorithms=frozenset()) == "alg is not acceptable"


def test_a_key_in_the_header_is_never_used() -> None:
    thief, _public, jwk = pair(SigningAlg.ES256)
    injected: list[dict[str, Any]] = [
        {"jwk": jwk},
        {"jku": "https://evil.example/jwks"},
        {"x5u": "https://evil.example/cert"},
        {"x5c": ["MIIB"]},
        {"jwk": {"kty": "oct", "k": "AA"}},
        {"jku": 7, "x5c": "not a list", "jwk": None},
    ]
    for members in injected:
        assert refused(forge(header(**members), CLAIMS, thief)) == "bad signature"
        unknown = forge(header(**members) | {"kid": thief.kid}, CLAIMS, thief)
        assert refused(unknown) == "no key for this header"
        # Ignored, not refused: an honest client may send them.
        assert check(forge(header(**members), CLAIMS, PAIRS[SigningAlg.ES256][0])).claims == CLAIMS


@pytest.mark.parametrize(
    "members",
    [
        {"crit": ["exp"]},
        {"crit": ["exp"], "exp": 1},
        {"crit": []},
        {"crit": ["b64", "b64"], "b64": True},
        {"crit": "b64"},
        {"crit": None},
        {"crit": {"b64": True}},
        {"b64": False},
        {"b64": False, "crit": ["b64"]},
        {"b64": True},
        {"zip": "DEF"},
        {"zip": None},
    ],
    ids=str,
)
def test_critical_unencoded_and_compressed_are_refused(members: dict[str, Any]) -> None:
    reason = refused(forge(header(**members), CLAIMS, PAIRS[SigningAlg.ES256][0]))
    assert reason.endswith("is not supported")


@pytest.mark.parametrize(
    "kid",
    ["../../dev/null", "' OR 1=1 --", "x" * 129, "x" * 5000, 7, None, True, ["a"], {"a": 1}, "", "é" * 64],
)
def test_a_hostile_kid_finds_nothing(kid: object) -> None:
    reason = refused(forge(header() | {"kid": kid}, CLAIMS, PAIRS[SigningAlg.ES256][0]))
    assert reason in {"kid is not acceptable", "no key for this header"}


def test_a_kid_with_nul_or_surrogate_is_refused_before_any_look_up() -> None:
    for kid in (r"a\u0000", r"\ud800"):
        raw = f'{{"typ":"at+jwt","alg":"ES256","kid":"{kid}"}}'.encode()
        assert "NUL or a lone surrogate" in refused(forge(raw, CLAIMS, PAIRS[SigningAlg.ES256][0]))


def test_without_a_kid_nothing_is_tried_in_turn() -> None:
    one, another = pair(SigningAlg.ES256), pair(SigningAlg.ES256)
    rsa = pair(SigningAlg.RS256)
    bare = {"alg": "ES256"}
    assert choose_key([one[1]], bare) is one[1]
    assert choose_key([one[1], rsa[1]], bare) is one[1]
    assert choose_key([one[1], another[1]], bare) is None
    assert choose_key([one[1]], bare | {"kid": another[0].kid}) is None
    assert choose_key([one[1]], {"alg": "RS256", "kid": one[0].kid}) is None
    assert choose_key([], bare) is None


TYPES = [
    "at+jwt",
    "handover+jwt",
    "JWT",
    "client-authentication+jwt",
    "token-introspection+jwt",
    "checkpoint+jwt",
    "dpop+jwt",
    "logout+jwt",
    "oauth-authz-req+jwt",
    "txntoken+jwt",
]


@pytest.mark.parametrize("sent", TYPES)
def test_one_kind_of_token_never_passes_as_another(sent: str) -> None:
    token = sign(CLAIMS, sent, PAIRS[SigningAlg.ES256][0])
    for wanted in TYPES:
        if wanted == sent:
            assert check(token, typ=frozenset({wanted})).claims == CLAIMS
        else:
            assert refused(token, typ=frozenset({wanted})) == "wrong typ"


@pytest.mark.parametrize("typ", ["at+jwt", "AT+JWT", "application/at+jwt", "Application/At+JWT"])
def test_typ_is_compared_as_a_media_type(typ: str) -> None:
    assert check(sign(CLAIMS, typ, PAIRS[SigningAlg.ES256][0])).claims == CLAIMS


@pytest.mark.parametrize(
    "typ",
    [
        "at+jwt ",
        " at+jwt",
        "at+jwt;v=1",
        "text/at+jwt",
        "application/application/at+jwt",
        "application/x/at+jwt",
        "application/",
        "at",
        "",
        None,
        1,
        ["at+jwt"],
        {"at+jwt": 1},
    ],
)
def test_a_typ_that_is_only_similar_is_refused(typ: object) -> None:
    reason = refused(forge(header() | {"typ": typ}, CLAIMS, PAIRS[SigningAlg.ES256][0]))
    assert reason == "wrong typ"


def test_a_missing_typ_is_accepted_only_where_the_caller_says_so() -> None:
    bare = header()
    del bare["typ"]
    token = forge(bare, CLAIMS, PAIRS[SigningAlg.ES256][0])
    assert refused(token) == "wrong typ"
    assert check(token, typ=frozenset({NO_TYP, "JWT"})).claims == CLAIMS
    null = forge(header() | {"typ": None}, CLAIMS, PAIRS[SigningAlg.ES256][0])
    assert refused(null, typ=frozenset({NO_TYP})) == "wrong typ"


def test_the_name_of_rfc_9864_is_the_same_algorithm() -> None:
    private = PAIRS[SigningAlg.EDDSA][0]
    token = forge(header(SigningAlg.EDDSA) | {"alg": "Ed25519"}, CLAIMS, private)
    assert check(token, algorithms=frozenset({SigningAlg.EDDSA})).claims == CLAIMS
    assert refused(token, algorithms=frozenset({SigningAlg.ES256})) == "alg is not acceptable"


def test_find_key_sees_only_headers_that_passed_the_rules() -> None:
    seen: list[Mapping[str, Any]] = []

    def find(found: Mapping[str, Any]) -> VerificationKey | None:
        seen.append(found)
        return None

    for members in ({"crit": ["x"]}, {"alg": "none"}, {"kid": 5}, {"typ": "JWT"}):
        with pytest.raises(JWTRefused):
            verify(forge(header() | members, CLAIMS), find_key=find, typ=AT, algorithms=EVERY_ALG)
    assert seen == []
