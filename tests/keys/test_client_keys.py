"""Which public keys of others we take, and how each of the rest is refused."""

from __future__ import annotations

import copy
from itertools import count
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from app.keys.jwk import (
    MAX_KEYS,
    generate_client_key,
    import_client_keys,
    import_public_key,
    public_part,
    thumbprint,
)
from app.keys.signer import import_signing_key, sign
from app.keys.verifier import JWTRefused, verify
from app.vocabulary import SigningAlg
from tests.forge import encode

PRIVATE = {alg: generate_client_key(alg) for alg in SigningAlg}
PUBLIC = {alg: public_part(private) for alg, private in PRIVATE.items()}
EC, OKP, RSA = PUBLIC[SigningAlg.ES256], PUBLIC[SigningAlg.EDDSA], PUBLIC[SigningAlg.RS256]


def without(jwk: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in jwk.items() if name not in names}


def rsa_jwk(bits: int, exponent: int = 65537) -> dict[str, str]:
    numbers = rsa.generate_private_key(exponent, bits).public_key().public_numbers()
    modulus = numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big")
    return {"kty": "RSA", "n": encode(modulus), "e": encode(exponent.to_bytes(3, "big").lstrip(b"\0"))}


@pytest.mark.parametrize("alg", SigningAlg)
def test_a_key_we_generate_registers_signs_and_verifies(alg: SigningAlg) -> None:
    private = PRIVATE[alg]
    assert private["kid"] == thumbprint(private) == thumbprint(PUBLIC[alg])
    assert not private["kid"].startswith("-")
    (key,) = import_client_keys({"keys": [PUBLIC[alg]]})
    assert key.algorithms == frozenset({alg})
    assert key.thumbprint == key.kid == private["kid"]
    token = sign({"iss": "client"}, "JWT", import_signing_key(private))
    options: Any = {"find_key": lambda _header: key, "typ": frozenset({"JWT"})}
    assert verify(token, algorithms=frozenset(SigningAlg), **options).claims == {"iss": "client"}
    with pytest.raises(JWTRefused):
        verify(token, algorithms=frozenset(SigningAlg) - {alg}, **options)


def test_without_alg_a_key_serves_what_its_type_allows() -> None:
    (ec, okp, rsa_key) = import_client_keys({"keys": [without(jwk, "alg") for jwk in (EC, OKP, RSA)]})
    assert ec.algorithms == frozenset({SigningAlg.ES256})
    assert okp.algorithms == frozenset({SigningAlg.EDDSA})
    assert rsa_key.algorithms == frozenset({SigningAlg.RS256, SigningAlg.PS256})


def test_the_name_of_rfc_9864_registers_too() -> None:
    assert import_public_key(OKP | {"alg": "Ed25519"}).algorithms == frozenset({SigningAlg.EDDSA})


def test_an_empty_set_means_no_key() -> None:
    assert import_client_keys({"keys": []}) == ()


@pytest.mark.parametrize("member", ["d", "p", "q", "dp", "dq", "qi", "oth", "k"])
def test_a_private_member_is_refused_even_when_empty(member: str) -> None:
    values: list[Any] = ["AQAB", "", None, []]
    for value in values:
        with pytest.raises(ValueError, match="private"):
            import_public_key(RSA | {member: value})


@pytest.mark.parametrize("alg", SigningAlg)
def test_a_private_key_is_refused_and_not_quoted(alg: SigningAlg) -> None:
    with pytest.raises(ValueError, match="private") as refusal:
        import_client_keys({"keys": [PRIVATE[alg]]})
    assert PRIVATE[alg]["d"] not in str(refusal.value)


@pytest.mark.parametrize(
    "jwk",
    [
        None,
        "key",
        [],
        {},
        {"kty": "oct"},
        {"kty": "oct", "alg": "HS256"},
        {"kty": ["EC"]},
        {"kty": "ec"} | without(EC, "kty"),
        {"kty": "AKP", "alg": "ML-DSA-44", "pub": "AA"},
        EC | {"use": "enc"},
        EC | {"use": ["sig"]},
        EC | {"use": None},
        EC | {"key_ops": ["sign"]},
        EC | {"key_ops": []},
        EC | {"key_ops": "verify"},
        EC | {"kid": 7},
        EC | {"kid": ""},
        EC | {"kid": "x" * 129},
        EC | {"kid": "a\nb"},
        EC | {"kid": "a\0"},
        EC | {"kid": "\ud800"},
        EC | {"kid": None},
        EC | {"alg": "ES384"},
        EC | {"alg": "RS256"},
        EC | {"alg": "none"},
        EC | {"alg": "HS256"},
        EC | {"alg": ["ES256"]},
        EC | {"alg": None},
        RSA | {"alg": "RSA-OAEP"},
        RSA | {"alg": "RS512"},
        OKP | {"alg": "ES256"},
        EC | {"crv": "P-384"},
        EC | {"crv": "secp256k1"},
        EC | {"crv": None},
        OKP | {"crv": "X25519"},
        OKP | {"crv": "Ed448"},
        without(EC, "x"),
        without(EC, "y"),
        without(EC, "crv"),
        without(OKP, "x"),
        without(RSA, "n"),
        without(RSA, "e"),
        EC | {"x": EC["x"] + "="},
        EC | {"x": EC["x"] + "AA"},
        EC | {"x": EC["x"][:-1]},
        EC | {"x": 5},
        EC | {"x": "é" * 43},
        EC | {"x": EC["y"], "y": EC["x"]},
        EC | {"x": "A" * 43, "y": "A" * 43},
        EC | {"y": encode(bytes(31) + b"\1")},
        EC | {"x": encode(b"\xff" * 32)},
        RSA | {"n": encode(b"\xff" * 2000)},
        RSA | {"n": ""},
        RSA | {"n": RSA["n"] + "\n"},
        RSA | {"n": encode(b"\xff" * 255 + b"\xfe")},
        RSA | {"e": "AQ"},
        RSA | {"e": "Aw"},
        RSA | {"e": "AQAC"},
        RSA | {"e": encode(b"\xff" * 5)},
        RSA | {"e": "AA"},
    ],
    ids=map(str, count()),
)
def test_a_key_that_is_not_wholly_sound_is_refused_in_a_sentence(jwk: Any) -> None:
    with pytest.raises(ValueError) as refusal:
        import_public_key(jwk)
    assert str(refusal.value).endswith(".")
    assert type(refusal.value) is ValueError


def test_rsa_below_2048_bits_is_refused_and_2048_is_not() -> None:
    for bits in (1024, 2040):
        with pytest.raises(ValueError, match="2048"):
            import_public_key(rsa_jwk(bits))
    assert import_public_key(rsa_jwk(2048)).algorithms


def test_a_small_exponent_is_refused() -> None:
    with pytest.raises(ValueError, match="exponent"):
        import_public_key(rsa_jwk(2048, exponent=3))


P = 2**255 - 19
ORDER_8 = int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little")
"""y of the points of order 8, as published with the attacks on low-order keys."""
LOW_ORDER_Y = [0, 1, P - 1, ORDER_8, P - ORDER_8]


@pytest.mark.parametrize("y", LOW_ORDER_Y, ids=["0", "1", "-1", "order 8", "-order 8"])
@pytest.mark.parametrize("sign_bit", [0, 1])
def test_an_ed25519_point_of_low_order_is_refused(y: int, sign_bit: int) -> None:
    encoded = (y | sign_bit << 255).to_bytes(32, "little")
    with pytest.raises(ValueError, match="Ed25519"):
        import_public_key({"kty": "OKP", "crv": "Ed25519", "x": encode(encoded)})


@pytest.mark.parametrize("y", [P, P + 1, P + 2, 2**255 - 1])
def test_an_ed25519_point_with_a_second_spelling_is_refused(y: int) -> None:
    for number in (y, y | 1 << 255):
        with pytest.raises(ValueError, match="Ed25519"):
            import_public_key({"kty": "OKP", "crv": "Ed25519", "x": encode(number.to_bytes(32, "little"))})


def test_an_ed25519_point_off_the_curve_is_refused_and_those_on_it_are_not() -> None:
    accepted = 0
    for y in range(2, 200):
        try:
            import_public_key({"kty": "OKP", "crv": "Ed25519", "x": encode(y.to_bytes(32, "little"))})
            accepted += 1
        except ValueError:
            pass
    # About half of all y belong to a point.
    assert 60 < accepted < 140


def test_honest_ed25519_keys_are_all_taken() -> None:
    for _ in range(50):
        assert import_public_key(public_part(generate_client_key(SigningAlg.EDDSA))).kid


@pytest.mark.parametrize("jwks", [{}, {"keys": None}, {"keys": {}}, {"keys": "x"}, {"keys": [EC] * (MAX_KEYS + 1)}])
def test_a_malformed_set_is_refused(jwks: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        import_client_keys(jwks)


def test_the_same_key_or_kid_twice_is_refused() -> None:
    for twice in (
        [EC, EC],
        [EC, EC | {"kid": "other"}],
        [EC, RSA | {"kid": EC["kid"]}],
        [without(EC, "kid"), EC],
    ):
        with pytest.raises(ValueError, match="twice"):
            import_client_keys({"keys": twice})


def test_the_set_given_is_left_as_it_was() -> None:
    jwks = {"keys": [EC, RSA]}
    before = copy.deepcopy(jwks)
    import_client_keys(jwks)
    assert jwks == before


def test_what_a_client_writes_beside_the_key_is_without_effect() -> None:
    beside = {"x5u": "https://evil.example", "x5c": ["MIIB"], "ext": True, "iat": 1, "oth2": {}}
    assert import_public_key(EC | beside).thumbprint == import_public_key(EC).thumbprint


@pytest.mark.parametrize("jwk", [{}, {"kty": "oct", "k": "AA"}, {"kty": "EC"}, EC | {"x": 1}, {"kty": []}])
def test_a_thumbprint_is_of_a_key_we_know_or_refused(jwk: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        thumbprint(jwk)


def test_a_public_key_does_not_sign() -> None:
    with pytest.raises(ValueError):
        import_signing_key(EC)
    with pytest.raises(ValueError):
        import_signing_key({"kty": "oct", "k": "AA", "d": "AA"})


def test_no_key_shows_itself() -> None:
    private = import_signing_key(PRIVATE[SigningAlg.ES256])
    public = import_public_key(EC)
    assert PRIVATE[SigningAlg.ES256]["d"] not in repr(private)
    assert "key=" not in repr(private)
    assert "key=" not in repr(public)
