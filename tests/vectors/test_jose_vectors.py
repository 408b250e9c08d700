"""The examples printed in RFC 7515 appendix A, RFC 7517 A.1, RFC 7638 §3.1, RFC 7797 §4.2, RFC 8037 A."""

from __future__ import annotations

import pytest
from joserfc import jwe as joserfc_jwe
from joserfc.jwk import OctKey

from app.keys.encryption import CannotOpen, KeyEncryption
from app.keys.jwk import import_client_keys, import_public_key, thumbprint
from app.keys.signer import Unsigned, import_signing_key
from app.keys.verifier import NO_TYP, JWTRefused, verify
from app.vocabulary import SigningAlg

ANY_TYP = frozenset({NO_TYP, "JWT"})
ANY_ALG = frozenset(SigningAlg)

JOE = {"iss": "joe", "exp": 1300819380, "http://example.com/is_root": True}
JOE_PART = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"

A2_KEY = {
    "kty": "RSA",
    "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-"
    "yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-"
    "KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_"
    "h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
    "e": "AQAB",
}
A2_TOKEN = (
    f"eyJhbGciOiJSUzI1NiJ9.{JOE_PART}."
    "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdb"
    "F9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383"
    "LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWy"
    "wlVmtVrBp0igcN_IoypGlUPQGe77Rw"
)
A3_KEY = {
    "kty": "EC",
    "crv": "P-256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
}
A3_TOKEN = f"eyJhbGciOiJFUzI1NiJ9.{JOE_PART}.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
ED25519_KEY = {
    "kty": "OKP",
    "crv": "Ed25519",
    "d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
    "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
}
ED25519_INPUT = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
ED25519_SIGNATURE = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
RFC7638_KEY = {
    "kty": "RSA",
    "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXj"
    "BZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZ"
    "gnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqb"
    "w0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
    "e": "AQAB",
    "alg": "RS256",
    "kid": "2011-04-29",
}


@pytest.mark.parametrize(("jwk", "token"), [(A2_KEY, A2_TOKEN), (A3_KEY, A3_TOKEN)], ids=["A.2", "A.3"])
def test_rfc_7515_examples_of_asymmetric_signatures_verify(jwk: dict[str, str], token: str) -> None:
    key = import_public_key(jwk)
    verified = verify(token, find_key=lambda _header: key, typ=ANY_TYP, algorithms=ANY_ALG)
    assert verified.claims == JOE


@pytest.mark.parametrize(
    "token",
    [
        f"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{JOE_PART}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        f"eyJhbGciOiJub25lIn0.{JOE_PART}.",
        f"eyJhbGciOiJub25lIn0.{JOE_PART}.AA",
    ],
    ids=["A.1 HS256", "A.5 none", "none with a signature"],
)
def test_rfc_7515_examples_of_symmetric_and_unsecured_are_refused(token: str) -> None:
    with pytest.raises(JWTRefused):
        verify(token, find_key=lambda _header: import_public_key(A3_KEY), typ=ANY_TYP, algorithms=ANY_ALG)


def test_rfc_7797_unencoded_payload_is_refused() -> None:
    header = "eyJhbGciOiJIUzI1NiIsImI2NCI6ZmFsc2UsImNyaXQiOlsiYjY0Il19"
    token = f"{header}..A5dxf2s96_n5FLueVuW1Z_vh161FwXZC4YLPff6dmDY"
    with pytest.raises(JWTRefused):
        verify(token, find_key=lambda _header: None, typ=ANY_TYP, algorithms=ANY_ALG)


def test_rfc_8037_a4_signature_is_made_exactly() -> None:
    key = import_signing_key(ED25519_KEY, SigningAlg.EDDSA)
    assert Unsigned(ED25519_INPUT.encode(), key).sign() == f"{ED25519_INPUT}.{ED25519_SIGNATURE}"


def test_rfc_8037_a4_signature_verifies_and_its_sentence_is_no_claims() -> None:
    public = import_public_key({name: ED25519_KEY[name] for name in ("kty", "crv", "x")})
    with pytest.raises(JWTRefused, match="payload: not JSON"):
        verify(
            f"{ED25519_INPUT}.{ED25519_SIGNATURE}",
            find_key=lambda _header: public,
            typ=ANY_TYP,
            algorithms=ANY_ALG,
        )
    broken = ED25519_SIGNATURE.replace("h", "i", 1)
    with pytest.raises(JWTRefused, match="bad signature"):
        verify(f"{ED25519_INPUT}.{broken}", find_key=lambda _header: public, typ=ANY_TYP, algorithms=ANY_ALG)


def test_rfc_7638_thumbprint() -> None:
    assert thumbprint(RFC7638_KEY) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
    assert import_public_key(RFC7638_KEY).thumbprint == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


def test_rfc_8037_a3_thumbprint_of_private_and_public_is_the_same() -> None:
    expected = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    assert thumbprint(ED25519_KEY) == expected
    assert thumbprint({name: ED25519_KEY[name] for name in ("kty", "crv", "x")}) == expected


def test_rfc_7517_a1_set_is_taken_without_its_encryption_key() -> None:
    for_encryption = {
        "kty": "EC",
        "crv": "P-256",
        "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
        "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
        "use": "enc",
        "kid": "1",
    }
    with pytest.raises(ValueError, match="sig"):
        import_client_keys({"keys": [for_encryption, RFC7638_KEY]})
    (key,) = import_client_keys({"keys": [RFC7638_KEY]})
    assert key.kid == "2011-04-29"
    assert key.algorithms == frozenset({SigningAlg.RS256})


def test_what_one_library_sealed_another_opens() -> None:
    kek = bytes(range(32))
    sealed = KeyEncryption(kek).seal(b'{"kty":"oct"}')
    opened = joserfc_jwe.decrypt_compact(sealed, OctKey.import_key(kek), algorithms=["A256KW", "A256GCM"])
    assert opened.plaintext == b'{"kty":"oct"}'
    assert opened.protected == {"alg": "A256KW", "enc": "A256GCM", "cty": "jwk+json"}
    with pytest.raises(CannotOpen):
        KeyEncryption(bytes(32)).open(sealed)
