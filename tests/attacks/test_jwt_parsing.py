"""Hostile JWT syntax: forms, encodings, sizes, signatures almost right. Never more than a refusal."""

from __future__ import annotations

import base64
import json
from itertools import count
from typing import Any

import jwt as pyjwt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jwcrypto.common import JWException
from jwcrypto.jwk import JWK
from jwcrypto.jws import JWS

from app.keys.jwk import VerificationKey
from app.keys.signer import MAX_TOKEN, sign
from app.keys.strict import base64url
from app.keys.verifier import JWTRefused, VerifiedJWT, read_unverified_header, verify
from app.vocabulary import SigningAlg
from tests.forge import encode, forge, pair

AT = frozenset({"at+jwt"})
CLAIMS: dict[str, Any] = {"iss": "https://as.example", "sub": "human", "exp": 4102444800, "act": {"sub": "a"}}
PAIRS = {alg: pair(alg) for alg in SigningAlg}
PRIVATE, PUBLIC, _JWK = PAIRS[SigningAlg.ES256]
HEADER = {"typ": "at+jwt", "alg": "ES256", "kid": PRIVATE.kid}
TOKEN = sign(CLAIMS, "at+jwt", PRIVATE)


def check(token: str, key: VerificationKey = PUBLIC, **options: Any) -> VerifiedJWT:
    return verify(token, find_key=lambda _header: key, typ=AT, algorithms=frozenset(SigningAlg), **options)


def refused(token: str, key: VerificationKey = PUBLIC, **options: Any) -> str:
    with pytest.raises(JWTRefused) as refusal:
        check(token, key, **options)
    return refusal.value.reason


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "...",
        "a.b",
        TOKEN + ".",
        "." + TOKEN,
        TOKEN + "." + "AAAA",
        TOKEN.rpartition(".")[0],
        TOKEN.rpartition(".")[0] + ".",
        TOKEN.split(".")[0] + ".." + TOKEN.split(".")[2],
        " " + TOKEN,
        TOKEN + " ",
        TOKEN + "\n",
        TOKEN + "\0",
        TOKEN + "=",
        TOKEN.replace(".", "=.", 1),
        TOKEN.replace(".", "\n.", 1),
        "Bearer " + TOKEN,
        TOKEN + "~",
        "\ufeff" + TOKEN,
        TOKEN.replace(".", "\uff0e"),
        TOKEN.replace("e", "\u0435", 1),
        "\ud800" + TOKEN,
    ],
    ids=map(str, count()),
)
def test_only_the_exact_compact_form_is_a_jwt(token: str) -> None:
    refused(token)


def test_the_json_serialisations_are_refused() -> None:
    protected, payload, signature = TOKEN.split(".")
    flattened = {"payload": payload, "protected": protected, "signature": signature}
    general = {"payload": payload, "signatures": [{"protected": protected, "signature": signature}]}
    for form in (flattened, general, {"payload": payload, "signatures": []}):
        refused(json.dumps(form))
        refused(encode(json.dumps(form).encode()))


def test_an_encrypted_jwt_is_refused() -> None:
    refused("eyJhbGciOiJkaXIiLCJlbmMiOiJBMTI4R0NNIn0..AAAA.AAAA.AAAA")


def test_a_token_too_long_is_refused_before_decoding() -> None:
    assert refused("*" * (MAX_TOKEN + 1)) == "too long"
    assert refused("\u00e9" * 10_000_000) == "too long"
    assert refused(TOKEN, max_bytes=len(TOKEN) - 1) == "too long"
    assert check(TOKEN, max_bytes=len(TOKEN)).claims == CLAIMS


@pytest.mark.parametrize(
    "payload",
    [
        b'{"sub":"human","sub":"admin"}',
        b'{"act":{"sub":"agent","sub":"admin"}}',
        b'{"sub":"human","s\\u0075b":"admin"}',
        '{"sub":"human"}'.encode("utf-16"),
        '{"sub":"human"}'.encode("utf-8-sig"),
        b'{"sub":"\xff"}',
        b'{"sub":"\\ud800"}',
        b'{"sub":"\\u0000"}',
        b'{"exp":NaN}',
        b'{"exp":Infinity}',
        b'{"exp":' + b"9" * 400 + b"}",
        b'["sub"]',
        b'"sub"',
        b"null",
        b"42",
        b"{",
        b"[" * 5000,
        b'{"a":' * 900 + b"1" + b"}" * 900,
        b"Example of Ed25519 signing",
    ],
    ids=map(str, count()),
)
def test_a_payload_that_another_parser_could_read_otherwise_is_refused(payload: bytes) -> None:
    assert refused(forge(HEADER, payload, PRIVATE)).startswith("payload: ")


@pytest.mark.parametrize(
    "header",
    [
        b'{"alg":"none","alg":"ES256","typ":"at+jwt"}',
        b'{"typ":"at+jwt","alg":"ES256","typ":"JWT"}',
        json.dumps(HEADER).encode("utf-16"),
        json.dumps(HEADER).encode("utf-8-sig"),
        b'["ES256"]',
        b'"ES256"',
        b"null",
        b"1",
        b"[" * 5000,
    ],
    ids=map(str, count()),
)
def test_a_header_that_another_parser_could_read_otherwise_is_refused(header: bytes) -> None:
    assert refused(forge(header, CLAIMS, PRIVATE)).startswith("header: ")


@pytest.mark.parametrize("alg", SigningAlg)
def test_each_bit_of_the_signature_matters(alg: SigningAlg) -> None:
    private, public, _jwk = PAIRS[alg]
    unsigned, _dot, signature = sign(CLAIMS, "at+jwt", private).rpartition(".")
    octets = base64url(signature)
    for bit in range(0, len(octets) * 8, 7):
        changed = bytearray(octets)
        changed[bit // 8] ^= 1 << bit % 8
        assert refused(f"{unsigned}.{encode(bytes(changed))}", public) == "bad signature"


@pytest.mark.parametrize("alg", SigningAlg)
def test_a_signature_of_the_wrong_length_is_refused(alg: SigningAlg) -> None:
    private, public, _jwk = PAIRS[alg]
    unsigned, _dot, signature = sign(CLAIMS, "at+jwt", private).rpartition(".")
    octets = base64url(signature)
    zeros = bytes(len(octets))
    for wrong in (b"\0", octets[:-1], octets[1:], octets + b"\0", b"\0" + octets, octets * 2, zeros):
        assert refused(f"{unsigned}.{encode(wrong)}", public) == "bad signature"


def test_stray_bits_at_the_end_of_the_signature_are_refused() -> None:
    # 64 octets are 86 characters: the last carries four bits that decode to nothing.
    last = TOKEN[-1]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    position = alphabet.index(last)
    for other in range(position - position % 16, position - position % 16 + 16):
        if alphabet[other] != last:
            assert refused(TOKEN[:-1] + alphabet[other]) == "base64url is not canonical"


ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@pytest.mark.parametrize(
    ("r", "s"),
    [(0, 0), (0, 1), (1, 0), (ORDER, 1), (1, ORDER), (ORDER, ORDER), (1, 1), (2**256 - 1, 2**256 - 1)],
)
def test_ecdsa_values_out_of_range_are_refused(r: int, s: int) -> None:
    unsigned = TOKEN.rpartition(".")[0]
    assert refused(f"{unsigned}.{encode(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}") == "bad signature"


def test_an_ecdsa_signature_in_der_is_refused() -> None:
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    unsigned, _dot, signature = TOKEN.rpartition(".")
    octets = base64url(signature)
    der = encode_dss_signature(int.from_bytes(octets[:32], "big"), int.from_bytes(octets[32:], "big"))
    assert refused(f"{unsigned}.{encode(der)}") == "bad signature"


def test_a_second_spelling_of_an_ed25519_signature_is_refused() -> None:
    private, public, _jwk = PAIRS[SigningAlg.EDDSA]
    unsigned, _dot, signature = sign(CLAIMS, "at+jwt", private).rpartition(".")
    octets = base64url(signature)
    order = 2**252 + 27742317777372353535851937790883648493
    s = int.from_bytes(octets[32:], "little") + order
    assert refused(f"{unsigned}.{encode(octets[:32] + s.to_bytes(32, 'little'))}", public) == "bad signature"


def test_a_refusal_and_a_result_say_nothing_of_the_token() -> None:
    verified = check(TOKEN)
    assert "human" not in repr(verified) and "as.example" not in repr(verified)
    reason = refused(forge(HEADER | {"typ": "secret-type"}, {"sub": "secret-subject"}, PRIVATE))
    assert "secret" not in reason
    with pytest.raises(JWTRefused) as refusal:
        check(forge(b'{"alg":"secret-alg", bad', CLAIMS))
    assert refusal.value.__cause__ is None and refusal.value.__suppress_context__
    assert "secret" not in repr(refusal.value)


def test_the_unverified_header_is_parsed_as_strictly() -> None:
    assert read_unverified_header(TOKEN) == HEADER
    for bad in (forge(b'{"alg":"a","alg":"b"}', CLAIMS), "a.b", TOKEN + "=", "x" * 9000):
        with pytest.raises(JWTRefused):
            read_unverified_header(bad)


def pyjwt_accepts(token: str, alg: SigningAlg, jwk: dict[str, Any]) -> Any:
    key = pyjwt.PyJWK(jwk, algorithm=alg.value).key
    options: Any = {"verify_exp": False, "verify_aud": False, "verify_iat": False, "verify_sub": False}
    options |= {"verify_jti": False, "verify_iss": False, "verify_nbf": False}
    return pyjwt.decode(token, key, algorithms=[alg.value], options=options)


def jwcrypto_accepts(token: str, alg: SigningAlg, jwk: dict[str, Any]) -> Any:
    jws = JWS()
    jws.allowed_algs = [alg.value]
    jws.deserialize(token, JWK(**jwk))
    return json.loads(jws.payload)


JSON_VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**53) + 1, 2**53 - 1),
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner, max_size=3),
    max_leaves=6,
)
CLAIM_SETS = st.dictionaries(st.text("abcdef_:é", min_size=1, max_size=6), JSON_VALUES, max_size=4)
MORE_HEADERS = st.dictionaries(st.sampled_from(["jku", "x", "cty"]), JSON_VALUES, max_size=2)


@settings(deadline=None)
@given(st.sampled_from(SigningAlg), CLAIM_SETS)
def test_what_we_sign_three_libraries_read_alike(alg: SigningAlg, claims: dict[str, Any]) -> None:
    private, public, jwk = PAIRS[alg]
    token = sign(claims, "at+jwt", private)
    assert check(token, public).claims == claims
    assert pyjwt_accepts(token, alg, dict(jwk)) == claims
    assert jwcrypto_accepts(token, alg, dict(jwk)) == claims


@st.composite
def mutations(draw: st.DrawFn) -> tuple[SigningAlg, str]:
    alg = draw(st.sampled_from([SigningAlg.ES256, SigningAlg.EDDSA]))
    token = sign(CLAIMS, "at+jwt", PAIRS[alg][0])
    at = draw(st.integers(0, len(token) - 1))
    text = draw(st.text("ABgwxyz019-_=.+/ \n\0é", max_size=3))
    kind = draw(st.sampled_from(["replace", "insert", "delete", "swap"]))
    if kind == "swap":
        parts = draw(st.permutations(token.split(".")))
        return alg, ".".join(parts)
    end = at + (0 if kind == "insert" else draw(st.integers(1, 3)))
    return alg, token[:at] + ("" if kind == "delete" else text) + token[end:]


@settings(deadline=None)
@given(mutations())
def test_a_token_changed_in_any_way_is_refused(case: tuple[SigningAlg, str]) -> None:
    alg, token = case
    try:
        claims = check(token, PAIRS[alg][1]).claims
    except JWTRefused:
        return
    # A "mutation" can be no change at all; ECDSA and EdDSA tokens have one spelling each.
    assert claims == CLAIMS
    assert base64url(token.split(".")[0])


@st.composite
def signed_garbage(draw: st.DrawFn) -> tuple[Any, bytes]:
    header = json.dumps(HEADER | draw(MORE_HEADERS))
    payload = bytearray(json.dumps(draw(st.dictionaries(st.text("ab", max_size=2), JSON_VALUES))).encode())
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(payload) - 1))
        payload[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=3))
        payload = payload or bytearray(b" ")
    return header.encode(), bytes(payload)


@settings(deadline=None)
@given(signed_garbage())
@example((json.dumps(HEADER).encode(), b'{"a":1,"a":2}'))
def test_where_we_accept_pyjwt_and_jwcrypto_accept_with_equal_claims(case: tuple[bytes, bytes]) -> None:
    header, payload = case
    token = forge(header, payload, PRIVATE)
    try:
        claims = check(token).claims
    except JWTRefused:
        return
    jwk = dict(PAIRS[SigningAlg.ES256][2])
    try:
        assert pyjwt_accepts(token, SigningAlg.ES256, jwk) == claims
        assert jwcrypto_accepts(token, SigningAlg.ES256, jwk) == claims
    except (pyjwt.PyJWTError, JWException):
        # Both also judge headers that we ignore; the payload must at least be what it seems.
        assert json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "==")) == claims


@settings(deadline=None)
@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda octets: octets.decode("latin-1")))
def test_no_text_at_all_is_more_than_refused(text: str) -> None:
    refused(text)


@settings(deadline=None)
@given(*[st.binary(min_size=1, max_size=70)] * 3)
def test_no_three_parts_at_all_are_more_than_refused(header: bytes, payload: bytes, signature: bytes) -> None:
    refused(".".join(map(encode, (header, payload, signature))))
