"""The story of an executive assistant, step by step, against a running Deputy (`make run`). AUTO=1: without your hands."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

# Everything here is on this computer; a proxy has no business with it.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost,::1"

import httpx2
import mcp_client
import requests
from agent import RefusedByApi
from assistant import Assistant
from authlib.integrations.requests_client import OAuthError
from booking_agent import BookingAgent
from browsing import Chromium, Human, You
from configuration import DIRECTORY, SERVER
from introspecting import actors
from loopback import Loopback
from telling import NotAsExpected, Teller, claims_of, expect, expect_refusal

HERE = Path(__file__).resolve().parent
APIS = {"calendar": "calendar_api.py", "travel": "travel_api.py", "mail": "mail_mcp.py"}
START = 30
"""Seconds an API may take to start."""


class Story:
    """Who takes part, and what happens."""

    def __init__(self) -> None:
        self.assistant = Assistant()
        self.booking_agent = BookingAgent()
        names = {
            self.assistant.calendar: "the calendar",
            self.assistant.travel: "the travel agency",
            self.assistant.mail: "the mail service",
            self.assistant.uri: "the assistant",
            self.booking_agent.uri: "the booking agent",
        }
        self.tell = Teller(names)
        self.alice: Human = Chromium() if os.environ.get("AUTO", "") not in {"", "0"} else You(self.tell.say)

    def run(self) -> None:
        """All of it, in order."""
        self.tell.say(f"Deputy: {SERVER}. Three APIs of others:")
        for name in APIS:
            self.tell.quiet(f"{name:<9} {getattr(self.assistant, name)}")
        self.consent()
        calendar = self.one_api()
        self.book()
        self.mail()
        self.exception()
        self.hand_over()
        self.alone(calendar)
        self.withdraw()
        self.stock_client()

    def consent(self) -> None:
        """Alice says yes."""
        tell, assistant = self.tell, self.assistant
        tell.step("Alice's assistant asks her, once")
        tell.say("It sends her browser to Deputy. The page says who asks, for what, for how long, and how to stop it.")
        loopback = Loopback()
        self.alice.allow(assistant.ask(loopback.uri))
        answer = assistant.welcome(loopback.wait(self.alice.seconds))
        expect(
            answer["scope"].split() == ["calendar:read", "mail:read", "mail:send", "travel:book", "travel:search"]
            and assistant.refresh_token,
            "the story needs every box ticked, also the one for while you are away; please start again",
        )
        tell.done(f"Alice allowed it: {answer['scope']}")
        tell.say("What the assistant holds now is not good at any API. It gets a small token for each piece of work.")
        self.tell.names[claims_of(answer["access_token"])["sub"]] = "Alice"
        claims = tell.token("What the sign-in gave", answer["access_token"])
        expect(claims["aud"] == assistant.uri and claims["may_act"]["sub"] == assistant.uri, "the hand-over is not the assistant's")

    def one_api(self) -> str:
        """A token for one API, and nowhere else."""
        tell, assistant = self.tell, self.assistant
        tell.step("It reads her calendar")
        tell.say("It exchanges what it holds (RFC 8693), proving itself with its own key, and asks for one scope at one API.")
        token = assistant.token(assistant.calendar, "calendar:read")
        claims = tell.token("The token", token)
        expect(actors(claims) == [assistant.uri], "act is not the assistant")
        for event in assistant.agenda(token):
            tell.done(f"{event['day']} {event['time']}  {event['what']}, {event['where']}")
        tell.say("The calendar asked Deputy about the token before it answered. The travel agency does too:")
        expect_refusal(RefusedByApi, "invalid_token", lambda: assistant.offers(token, "Lisbon", "flight"), "the calendar's token elsewhere")
        tell.refused("the same token at the travel agency", "401 invalid_token")
        return token

    def book(self) -> None:
        """The trip."""
        tell, assistant = self.tell, self.assistant
        tell.step("It books her flight")
        token = assistant.token(assistant.travel, "travel:search travel:book")
        claims = tell.token("Another token, for another API", token)
        (offer,) = assistant.offers(token, "Lisbon", "flight")
        booking = assistant.book(token, offer["offer"])
        expect(booking["booked_by"] == [assistant.uri] and booking["for"] == claims["sub"], "the booking is in another name")
        tell.done(f"booked: {booking['what']}, for Alice, by the assistant")

    def mail(self) -> None:
        """What it was not allowed."""
        tell, assistant = self.tell, self.assistant
        tell.step("It reads her mail")
        token = assistant.token(assistant.mail, "mail:read")
        done, inbox = assistant.use_mail(token, "inbox")
        expect(done, "the mail could not be read")
        for message in inbox["messages"]:
            tell.done(f"{message['from']}: {message['text']}")
        tell.say("It would like to tidy up. That is above what its operator registered and what Alice allowed:")
        expect_refusal(OAuthError, "invalid_scope", lambda: assistant.token(assistant.mail, "mail:delete"), "a token for mail:delete")
        tell.refused("Deputy, asked for a token for mail:delete", "400 invalid_scope")
        tell.say("And a token is good for what it was asked for, and for nothing else the assistant may do:")
        done, said = assistant.use_mail(token, "send", to="Carol Chen", subject="Lisbon", text="Alice will be there.")
        expect(not done and "insufficient_scope" in said, f"sending with a token for mail:read: {said}")
        tell.refused("the mail service, asked to send with the token for mail:read", "insufficient_scope")

    def exception(self) -> None:
        """What is harmless alone, and not together; and a human who decides."""
        tell, assistant = self.tell, self.assistant
        tell.step("It wants to answer, and has read something confidential")
        tell.say(
            "Alice allowed it to read her calendar and to send mail. But the calendar is confidential, mail leaves the company, and "
            "a policy of the security team says: not both in one piece of work, unless she has seen it."
        )
        wanted = "mail:read mail:send"
        expect_refusal(OAuthError, "authorization_pending", lambda: assistant.token(assistant.mail, wanted), "a token for mail:send")
        asked = assistant.heard
        tell.refused("Deputy, asked for a token for mail:send", "400 authorization_pending")
        tell.quiet(f"policy: {asked['policy']}; what it may have without asking her: {asked['permitted_scope']}")
        tell.say("Nothing was issued. Alice finds the question under Approvals: who asks, for what exactly, and which rule says so.")
        self.alice.approve("Executive assistant")
        token = assistant.approved(asked, self.alice.seconds)
        tell.done("Alice allowed it, this once")
        tell.token("The token she was asked for", token)
        done, said = assistant.use_mail(token, "send", to="Carol Chen", subject="Lisbon", text="Alice will be there.")
        expect(done, f"the mail could not be sent: {said}")
        tell.done(f"sent to {said['to']}: {said['sent']}")
        tell.say("One yes is one token. The next mail needs another:")
        expect_refusal(OAuthError, "authorization_pending", lambda: assistant.token(assistant.mail, wanted), "a second token")
        tell.refused("Deputy, asked for another token for mail:send", "400 authorization_pending")

    def hand_over(self) -> None:
        """A narrower piece for another agent."""
        tell, assistant, booking_agent = self.tell, self.assistant, self.booking_agent
        tell.step("It hands a piece of the work to a booking agent")
        tell.say("Not its own token: one that only the booking agent can go on with, for booking alone.")
        handed_over = assistant.hand_over("travel:book")
        claims = tell.token("What it hands over", handed_over)
        expect(claims["may_act"]["sub"] == booking_agent.uri == claims["aud"], "the hand-over is not for the booking agent")
        tell.say("The booking agent exchanges that, with its own key, for a token of its own.")
        token = booking_agent.token(handed_over, "travel:book")
        claims = tell.token("Its token", token)
        expect(actors(claims) == [booking_agent.uri, assistant.uri], "act is not the path the work took")
        booking = booking_agent.book(token, "hotel-1")
        expect(booking["booked_by"] == [booking_agent.uri, assistant.uri], "the booking is in another name")
        tell.done(f"booked: {booking['what']}, for Alice, by the booking agent, which had it from the assistant")
        tell.say(
            "It may search by its registration, but that was not handed to it. And what was handed on is not the assistant’s any more:"
        )
        expect_refusal(OAuthError, "invalid_scope", lambda: booking_agent.token(handed_over, "travel:search"), "more than was handed over")
        tell.refused("the booking agent, asking for travel:search", "400 invalid_scope")
        elsewhere = assistant.calendar
        expect_refusal(OAuthError, "invalid_target", lambda: booking_agent.token(handed_over, "calendar:read", elsewhere), "another API")
        tell.refused("the booking agent, asking for the calendar", "400 invalid_target")
        expect_refusal(OAuthError, "invalid_request", lambda: assistant.exchange(handed_over), "the hand-over of another agent")
        tell.refused("the assistant, exchanging what it handed over", "400 invalid_request")

    def alone(self, before: str) -> None:
        """While Alice is away."""
        tell, assistant = self.tell, self.assistant
        tell.step("Alice signs out; the assistant goes on")
        self.alice.sign_out()
        tell.done("Alice is signed out")
        tell.say(
            "She ticked “Also while I am away”. So the assistant names her consent, which is no secret, and proves itself "
            "with its key. Nothing that could sign in as Alice is kept anywhere."
        )
        token = assistant.token(assistant.calendar, "calendar:read", alone=True)
        claims = tell.token("The token", token)
        expect(claims["auth_time"] == claims_of(before)["auth_time"], "auth_time moved without Alice")
        expect(claims["txn"] == claims_of(before)["txn"], "the piece of work is another")
        tell.say("auth_time and txn are what they were: Alice did not sign in again, and it is the same piece of work.")
        tell.done(f"read {len(assistant.agenda(token))} appointments")

    def withdraw(self) -> None:
        """She stops it."""
        tell, assistant, booking_agent = self.tell, self.assistant, self.booking_agent
        tell.step("Alice withdraws; all of it is dead at once")
        calendar = assistant.token(assistant.calendar, "calendar:read", alone=True)
        handed_over = assistant.hand_over("travel:book", alone=True)
        travel = booking_agent.token(handed_over, "travel:book")
        assistant.agenda(calendar)
        booking_agent.book(travel, "hotel-1")
        tell.done("a moment before: both have new tokens, and work")
        self.alice.withdraw("Executive assistant")
        tell.done("Alice withdrew on My agents")
        tell.say("Their tokens would be good for minutes more. The APIs ask, so they are not:")
        expect_refusal(RefusedByApi, "invalid_token", lambda: assistant.agenda(calendar), "the assistant at the calendar")
        tell.refused("the assistant at the calendar", "401 invalid_token")
        expect_refusal(RefusedByApi, "invalid_token", lambda: booking_agent.book(travel, "hotel-1"), "the booking agent at the agency")
        tell.refused("the booking agent at the travel agency", "401 invalid_token")
        tell.say("And there is no way to a new one:")
        for what, code, act in (
            ("the assistant, by the consent", "invalid_request", lambda: assistant.token(assistant.calendar, "calendar:read", alone=True)),
            ("the assistant, by what the sign-in gave", "invalid_request", lambda: assistant.token(assistant.calendar, "calendar:read")),
            ("the assistant, by its refresh token", "invalid_grant", assistant.refresh),
            ("the booking agent, by what was handed to it", "invalid_request", lambda: booking_agent.token(handed_over, "travel:book")),
        ):
            expect_refusal(OAuthError, code, act, what)
            tell.refused(what, f"400 {code}")

    def stock_client(self) -> None:
        """An MCP client off the shelf."""
        tell = self.tell
        tell.step("A stock MCP client signs in to the mail service")
        tell.say("Nothing but the address of the mail service is configured, and the client's own registration. The rest it finds:")
        challenge = requests.post(self.assistant.mail, json={}, timeout=10)
        expect(challenge.status_code == 401, "the mail service answered without a token")
        tell.quiet(f"WWW-Authenticate: {challenge.headers['WWW-Authenticate']}")
        seen: list[str] = []

        def hear(answer: httpx2.Response) -> None:
            line = f"{answer.request.method:<4} {answer.request.url.copy_with(query=None)}  {answer.status_code}"
            if not seen or seen[-1] != line:
                seen.append(line)
                tell.quiet(line)

        came = asyncio.run(mcp_client.use_mail(self.alice.allow, hear, self.alice.seconds))
        for path in ("/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-authorization-server", "/oauth/token"):
            expect(any(path + "  200" in line for line in seen), f"the client did not go by {path}")
        claims = tell.token("Its token", came["token"])
        expect("act" not in claims and claims["aud"] == self.assistant.mail, "the token is not Alice's own for the mail service")
        tell.done(f"tools: {', '.join(came['tools'])}; {len(came['inbox']['messages'])} messages read")
        expect(not came["sent"] and "insufficient_scope" in came["said"], f"sending with mail:read: {came['said']}")
        tell.refused("sending", "insufficient_scope")


@contextmanager
def apis(where: dict[str, str]) -> Iterator[None]:
    """The three APIs, each a process of its own with its own credential."""
    for name, uri in where.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(_address(uri))
            except OSError as trouble:
                raise NotAsExpected(f"the {name} API cannot listen at {uri} ({trouble.strerror}); is another demo running?") from None
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name in where:
            with (DIRECTORY / f"{name}.log").open("wb") as log:
                running[name] = subprocess.Popen([sys.executable, str(HERE / APIS[name])], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        for name, uri in where.items():
            _wait_for(name, uri, running[name])
        yield
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for(name: str, uri: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START
    while process.poll() is None and time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(_address(uri)) == 0:
                return
        time.sleep(0.05)
    raise NotAsExpected(f"the {name} API does not start; {DIRECTORY / name}.log says why")


def _address(uri: str) -> tuple[str, int]:
    where = urlsplit(uri)
    return where.hostname or "127.0.0.1", where.port or 80


def main() -> int:
    """Tell it. The exit code says whether all went as it should."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Stopped."))
    try:
        story = Story()
    except requests.RequestException:
        sys.exit(f"Deputy does not answer at {SERVER}. Start it with `make run`, or set DEPUTY_URL.")
    try:
        with apis({name: getattr(story.assistant, name) for name in APIS}):
            story.run()
    except (NotAsExpected, OAuthError, RefusedByApi, TimeoutError, requests.RequestException) as trouble:
        story.tell.wrong(str(trouble))
        return 1
    except KeyboardInterrupt:
        return 130
    story.tell.say("")
    story.tell.say("Every step, permitted or refused, is in the ledger: .venv/bin/deputy ledger tail")
    return 0


if __name__ == "__main__":
    sys.exit(main())
