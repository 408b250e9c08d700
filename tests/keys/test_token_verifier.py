"""Our own tokens, signatures remembered; signing before and after the commit; the small checks of claims."""

from __future__ import annotations

import threading
from types import MappingProxyType
from typing import Any

import pytest

from app.keys import verifier as verifier_module
from app.keys.jwk import VerificationKey
from app.keys.signer import MAX_TOKEN, TokenTooLarge, prepare, sign
from app.keys.verifier import (
    JWTRefused,
    TokenVerifier,
    check_times,
    require_str,
    require_time,
    sole_audience,
)
from app.vocabulary import JWTType, SigningAlg
from tests.forge import forge, pair

AT = frozenset({"at+jwt"})
CLAIMS: dict[str, Any] = {
    "iss": "https://as.example",
    "aud": "https://calendar.example",
    "sub": "human",
    "client_id": "client",
    "act": {"iss": "https://as.example", "sub": "agent", "sub_profile": "ai_agent"},
    "scope": "calendar:read",
    "iat": 1797840000,
    "exp": 1797840300,
    "jti": "identifier",
    "txn": "task",
    "ratio": 0.5,
}


class Keys:
    """Keys in memory, counted."""

    def __init__(self) -> None:
        self.private, public, _jwk = pair(SigningAlg.ES256)
        self.known: dict[str, VerificationKey] = {self.private.kid: public}

    def verification_key(self, kid: str) -> VerificationKey | None:
        return self.known.get(kid)


@pytest.fixture
def keys() -> Keys:
    return Keys()


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every token whose signature was really checked."""
    checked: list[str] = []
    original = verifier_module._verified

    def counting(token: str, *rest: Any) -> Any:
        checked.append(token)
        return original(token, *rest)

    monkeypatch.setattr(verifier_module, "_verified", counting)
    return checked


def test_a_signature_is_checked_once(keys: Keys, verified: list[str]) -> None:
    tokens = TokenVerifier(keys)
    token = sign(CLAIMS, "at+jwt", keys.private)
    results = [tokens.verify_own(token, AT) for _ in range(5)]
    assert len(verified) == 1
    assert all(result.claims == CLAIMS for result in results)
    assert all(dict(result.header) == {"typ": "at+jwt", "alg": "ES256", "kid": keys.private.kid} for result in results)


def test_what_one_caller_does_with_the_claims_another_never_sees(keys: Keys) -> None:
    tokens = TokenVerifier(keys)
    token = sign(CLAIMS, "at+jwt", keys.private)
    for _ in range(3):
        claims: Any = tokens.verify_own(token, AT).claims
        claims["sub"] = "admin"
        claims["act"]["sub"] = "admin"
    result = tokens.verify_own(token, AT)
    assert result.claims == CLAIMS
    with pytest.raises(TypeError):
        result.header["typ"] = "x"  # type: ignore[index]


def test_a_remembered_token_of_one_type_never_passes_as_another(keys: Keys) -> None:
    tokens = TokenVerifier(keys)
    token = sign(CLAIMS, "handover+jwt", keys.private)
    tokens.verify_own(token, frozenset({"handover+jwt"}))
    with pytest.raises(JWTRefused, match="typ"):
        tokens.verify_own(token, AT)
    assert tokens.verify_own(token, AT | {"handover+jwt"}).claims == CLAIMS


def test_a_remembered_token_dies_with_its_key(keys: Keys, verified: list[str]) -> None:
    tokens = TokenVerifier(keys)
    token = sign(CLAIMS, "at+jwt", keys.private)
    tokens.verify_own(token, AT)
    public = keys.known.pop(keys.private.kid)
    for _ in range(2):
        with pytest.raises(JWTRefused, match="no key"):
            tokens.verify_own(token, AT)
    keys.known[keys.private.kid] = public
    tokens.verify_own(token, AT)
    assert len(verified) == 3


def test_a_refused_token_is_not_remembered(keys: Keys, verified: list[str]) -> None:
    tokens = TokenVerifier(keys)
    token = sign(CLAIMS, "at+jwt", keys.private)[:-4] + "AAAA"
    for _ in range(2):
        with pytest.raises(JWTRefused, match="signature"):
            tokens.verify_own(token, AT)
    assert len(verified) == 2


def test_memory_is_bounded_and_forgets_the_longest_unused(keys: Keys, verified: list[str]) -> None:
    tokens = TokenVerifier(keys, size=3)
    made = [sign(CLAIMS | {"jti": str(number)}, "at+jwt", keys.private) for number in range(5)]
    for token in made[:3]:
        tokens.verify_own(token, AT)
    tokens.verify_own(made[0], AT)
    tokens.verify_own(made[3], AT)
    assert len(verified) == 4
    tokens.verify_own(made[0], AT)
    assert len(verified) == 4
    tokens.verify_own(made[1], AT)
    assert len(verified) == 5


@pytest.mark.parametrize("kid", [None, "", 5, ["a"]])
def test_an_own_token_names_its_key(keys: Keys, kid: object) -> None:
    header = {"typ": "at+jwt", "alg": "ES256"} | ({} if kid is None else {"kid": kid})
    with pytest.raises(JWTRefused):
        TokenVerifier(keys).verify_own(forge(header, CLAIMS, keys.private), AT)


def test_any_text_is_only_refused(keys: Keys) -> None:
    tokens = TokenVerifier(keys)
    for text in ("", "a.b.c", "\ud800", "é" * 10_000, "\0", "x" * 100_000):
        with pytest.raises(JWTRefused):
            tokens.verify_own(text, AT)


def test_many_threads_share_one_memory(keys: Keys) -> None:
    tokens = TokenVerifier(keys, size=5)
    made = [sign(CLAIMS | {"jti": str(number)}, "at+jwt", keys.private) for number in range(10)]
    trouble: list[BaseException] = []

    def work(offset: int) -> None:
        try:
            for turn in range(200):
                number = (turn * 7 + offset) % 10
                assert tokens.verify_own(made[number], AT).claims["jti"] == str(number)
        except BaseException as error:
            trouble.append(error)

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert trouble == []


def test_what_fails_fails_before_the_signature(keys: Keys) -> None:
    ready = prepare(CLAIMS, JWTType.ACCESS_TOKEN, keys.private)
    assert TokenVerifier(keys).verify_own(ready.sign(), AT).claims == CLAIMS
    with pytest.raises(TokenTooLarge):
        prepare(CLAIMS | {"authorization_details": ["x" * 7000]}, "at+jwt", keys.private)
    for bad in ({"sub": object()}, {"sub": "\ud800"}, {"exp": 2**70}, {5: "x"}):
        with pytest.raises(TypeError):
            prepare(bad, "at+jwt", keys.private)  # type: ignore[arg-type]
    assert CLAIMS["sub"] not in repr(ready)


@pytest.mark.parametrize("alg", SigningAlg)
def test_the_largest_token_that_can_be_signed_can_be_verified(alg: SigningAlg) -> None:
    keys = Keys()
    private, public, _jwk = pair(alg)
    keys.known = {private.kid: public}
    low, high = 0, MAX_TOKEN
    while low + 1 < high:
        middle = (low + high) // 2
        try:
            prepare({"x": "y" * middle}, "at+jwt", private)
            low = middle
        except TokenTooLarge:
            high = middle
    token = sign({"x": "y" * low}, "at+jwt", private)
    assert MAX_TOKEN - 4 <= len(token) <= MAX_TOKEN
    assert TokenVerifier(keys).verify_own(token, AT).claims == {"x": "y" * low}


def test_claims_may_be_any_mapping(keys: Keys) -> None:
    frozen = MappingProxyType({"sub": "human", "act": MappingProxyType({"sub": "agent"}), "amr": ("pwd", "otp")})
    token = sign(frozen, "at+jwt", keys.private)
    expected = {"sub": "human", "act": {"sub": "agent"}, "amr": ["pwd", "otp"]}
    assert TokenVerifier(keys).verify_own(token, AT).claims == expected


NOW = 1_000_000


def times(**claims: Any) -> dict[str, Any]:
    return {"exp": NOW + 60, "iat": NOW} | claims


@pytest.mark.parametrize(
    ("claims", "leeway"),
    [
        (times(), 5),
        (times(exp=NOW - 4), 5),
        (times(exp=NOW + 1), 0),
        (times(iat=NOW + 5, nbf=NOW + 5), 5),
        (times(exp=NOW + 0.5 + 1), 0),
        ({"exp": NOW + 1}, 0),
        (times(nbf=NOW), 0),
    ],
)
def test_times_within_their_bounds_pass(claims: dict[str, Any], leeway: int) -> None:
    check_times(claims, NOW, leeway)


@pytest.mark.parametrize(
    ("claims", "leeway"),
    [
        ({"iat": NOW}, 5),
        (times(exp=NOW), 0),
        (times(exp=NOW - 5), 5),
        (times(iat=NOW + 6), 5),
        (times(iat=NOW + 1), 0),
        (times(nbf=NOW + 6), 5),
        (times(exp=str(NOW + 60)), 5),
        (times(exp=None), 5),
        (times(exp=True), 5),
        (times(exp=[NOW + 60]), 5),
        (times(exp=-1), 5),
        (times(iat="now"), 5),
        (times(iat=None), 5),
        (times(nbf=False), 5),
        (times(nbf={}), 5),
    ],
)
def test_times_out_of_their_bounds_are_refused(claims: dict[str, Any], leeway: int) -> None:
    with pytest.raises(JWTRefused):
        check_times(claims, NOW, leeway)


def test_a_lifetime_has_a_limit_from_iat_and_from_now() -> None:
    check_times(times(exp=NOW + 300), NOW, max_lifetime=300)
    for claims in (times(exp=NOW + 301), {"exp": NOW + 306}, times(exp=NOW + 10**12)):
        with pytest.raises(JWTRefused, match="long"):
            check_times(claims, NOW, max_lifetime=300)
    with pytest.raises(JWTRefused, match="long"):
        check_times(times(iat=NOW - 299, exp=NOW + 2), NOW, max_lifetime=300)


@pytest.mark.parametrize("audience", ["https://as.example", ["https://as.example"]])
def test_one_audience_is_taken(audience: object) -> None:
    assert sole_audience({"aud": audience}) == "https://as.example"


@pytest.mark.parametrize(
    "audience",
    [None, "", [], [""], ["a", "b"], ["a", "a"], ["a", 5], [5], [["a"]], {"a": 1}, 5, True, [None]],
)
def test_any_other_audience_is_refused(audience: object) -> None:
    with pytest.raises(JWTRefused):
        sole_audience({"aud": audience})
    with pytest.raises(JWTRefused):
        sole_audience({})


def test_a_required_string_is_a_string_and_not_empty() -> None:
    assert require_str({"sub": "a"}, "sub") == "a"
    for value in (None, "", 5, ["a"], {"a": 1}, True, "x" * 3000):
        with pytest.raises(JWTRefused):
            require_str({"sub": value}, "sub")
    with pytest.raises(JWTRefused):
        require_str({"sub": "abc"}, "sub", max_length=2)
    assert require_time({"exp": 5.9}, "exp") == 5
